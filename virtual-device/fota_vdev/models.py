"""Which chips there is a model of, by their names in the table of chips (`fota_wire.host_chips`)."""

from fota_vdev.chip import Chip
from fota_vdev.chips.esp32c3 import ESP32C3
from fota_vdev.chips.stm32l4 import STM32L476
from fota_vdev.chips.stm32u5 import STM32U585

MODELS: dict[str, Chip] = {chip.row.NAME: chip for chip in (STM32L476, STM32U585, ESP32C3)}
