"""Which chips there is a model of, by their names in the table of chips (`fota_wire.host_chips`)."""

from fota_vdev.chip import Chip
from fota_vdev.chips.esp32c3 import ESP32C3
from fota_vdev.chips.stm32l4 import STM32L476
from fota_vdev.chips.stm32u5 import STM32U585
from fota_wire.errors import InputError

MODELS: dict[str, Chip] = {chip.row.NAME: chip for chip in (STM32L476, STM32U585, ESP32C3)}


def with_rom(name: str, rom: bytes) -> Chip:
    """Return the chip that runs this mask ROM from reset.

    Raises:
        InputError: the chip has none, or this is none.
    """
    if name != ESP32C3.row.NAME:
        raise InputError(f"--rom is for the {ESP32C3.row.TITLE}: a virtual {name} has no mask ROM to run")
    return ESP32C3.with_rom(rom)
