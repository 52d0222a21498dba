"""What the factory writes into the flash of an STM32U5 (bootloader/port/stm32u5/memory.h)."""

import struct
from pathlib import Path

from fota_vdev.chips.stm32u5.flash_array import FlashArrayU5
from fota_vdev.parts.elf import segments
from fota_wire.errors import InputError
from fota_wire.layout import (
    BOOT_REPORT_ADDRESS,
    RAM_BASE,
    SETTINGS_OFFSET,
    SLOT_OFFSET,
    TRUST_STORE_OFFSET,
)

BANK_LOW, BANK_HIGH = 0x0800_0000, 0x0810_0000
LAYOUT_OFFSET = 0x3FE0
SLOT_SIZE = 960 << 10
JOURNAL_BANK, JOURNAL_OFFSETS = 2, (0xFC000, 0xFE000)
PROTECTED_PAGES = 2


def layout(bank: int) -> bytes:
    """Return the bootloader's fota_layout as it is while ``bank`` (1 or 2) is mapped low.

    ``slot A u32 | slot B u32 | slot size u32 | run address u32 | RAM low u32 | RAM high u32``.
    """
    low, high = BANK_LOW + SLOT_OFFSET, BANK_HIGH + SLOT_OFFSET
    slots = (low, high) if bank == 1 else (high, low)
    return struct.pack("<6I", *slots, SLOT_SIZE, low, RAM_BASE, BOOT_REPORT_ADDRESS)


def write_flash(flash: FlashArrayU5, bootloader: Path, store: bytes, settings: bytes, image: bytes) -> None:
    """Write bootloader (an ELF), trust store, settings and layout into both banks, the image into slot A.

    Raises:
        InputError: not an ELF file, or one of another layout.
    """
    parts = segments(bootloader)
    for address, data in parts:
        if not BANK_LOW <= address <= BANK_LOW + LAYOUT_OFFSET - len(data):
            raise InputError(f"{bootloader}: 0x{address:08x} + {len(data)} bytes is outside the bootloader")
    for bank in (1, 2):
        for address, data in parts:
            flash.write_phys(bank, address - BANK_LOW, data)
        flash.write_phys(bank, TRUST_STORE_OFFSET, store)
        flash.write_phys(bank, SETTINGS_OFFSET, settings)
        flash.write_phys(bank, LAYOUT_OFFSET, layout(bank))
        flash.protect(bank, 0, PROTECTED_PAGES - 1)
    flash.write_phys(1, SLOT_OFFSET, image)
