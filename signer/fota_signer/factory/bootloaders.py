"""Reads the file given as ``--bootloader``, for whichever chip, and says what another one is."""

from contextlib import suppress

from fota_signer import elf
from fota_signer.factory import esp_flash, flash
from fota_signer.firmware import read_chunks
from fota_wire import esp_image
from fota_wire.errors import FotaError, InputError
from fota_wire.host_chips import CHIPS, ESPRESSIF, STM32, Chip
from fota_wire.status import IM13

_ESPRESSIF = bytes([esp_image.MAGIC])


def bootloader_image(data: bytes, name: str, chip: Chip) -> bytes:
    """Return the bootloader's bytes as they lie in the flash of ``chip``; ``name`` is for messages.

    Raises:
        InputError: it is another chip's (IM13), an application, damaged, or does not fit its room.
    """
    try:
        return _read(data, name, chip)
    except FotaError as exc:
        if data[:1] == _ESPRESSIF and chip.NAME in ESPRESSIF:
            raise  # says which ESP32, or what is wrong with it
        found = _what_is(data, name)
        if not found:
            raise
        raise InputError(f"{name}: is {found}, and not the bootloader of chip {chip.NAME}", IM13) from exc


def _read(data: bytes, name: str, chip: Chip) -> bytes:
    espressif = ESPRESSIF.get(chip.NAME)
    if espressif is not None:
        return esp_flash.bootloader_image(data, name, espressif)
    return flash.bootloader_image(data, name, STM32[chip.NAME])


def _what_is(data: bytes, name: str) -> str:
    """Return what a file is that is no bootloader of the chip that was meant; "" if that cannot be told."""
    for row in CHIPS.values():
        with suppress(FotaError):
            _read(data, name, row)
            return f"the bootloader of chip {row.NAME}"
    with suppress(FotaError):
        if data[:1] == _ESPRESSIF:
            return f"an image for {esp_image.Header(data).chip_name}"
        for address in _addresses(data, name):
            of_esp32 = (row.NAME for row in ESPRESSIF.values() if esp_image.flash_mapped(row, address))
            if any(address in (row.SLOT_ADDRESS, row.VECTOR_ADDRESS) for row in STM32.values()):
                return f"an application, linked for 0x{address:08x}"
            for chip in of_esp32:
                return f"an application of chip {chip}"
    return ""


def _addresses(data: bytes, name: str) -> list[int]:
    """Return where the parts of an ELF or HEX file go. FotaError: it is none."""
    if data[:4] == elf.MAGIC:
        return [chunk.address for chunk in elf.read(data, name, machine=elf.machine_of(data))]
    return [chunk.address for chunk in read_chunks(data, name) or ()]
