"""The table of chips for tools: what a row has, and the row by its name. CPython only.

A row is a module of `fota_wire.chips`. Sizes are in bytes. On an STM32 offsets are from the start of a
physical bank and addresses as mapped; on an ESP32 flash addresses are offsets in flash, and slots, journal
and stores are where the partition table says.
"""

from typing import Protocol

from fota_wire.chips import esp32c3, stm32l476, stm32u585
from fota_wire.errors import InputError


class Chip(Protocol):
    """What every chip has. ``NAME`` as ``--chip`` takes it; ``TITLE`` its maker's name; ``PORT`` the folder
    in ``bootloader/port``; ``FORM`` of images, ``mcuboot`` or ``espressif``; ``PAGE_SIZE`` is erased at once,
    ``WRITE_SIZE`` programmed at once. ``JOURNAL_STRIDE`` leads from one page of SPEC 3 to the other.
    ``SLOT_SIZE`` is the most that a slot has; ``SLOT_ADDRESS`` where the slot that boots is mapped.
    """

    NAME: str
    TITLE: str
    PORT: str
    FORM: str
    FLASH_BASE: int
    PAGE_SIZE: int
    WRITE_SIZE: int
    BOOTLOADER_OFFSET: int
    BOOTLOADER_SIZE: int
    SETTINGS_OFFSET: int
    SETTINGS_SIZE: int
    TRUST_STORE_OFFSET: int
    TRUST_STORE_SIZE: int
    JOURNAL_OFFSET: int
    JOURNAL_STRIDE: int
    AGENT_STORE_OFFSET: int
    AGENT_STORE_SIZE: int
    SLOT_SIZE: int
    SLOT_ADDRESS: int
    INACTIVE_SLOT_ADDRESS: int
    RAM_BASE: int
    RAM_SIZE: int
    BOOT_REPORT_ADDRESS: int
    HEALTH_ADDRESS: int


class Stm32(Chip, Protocol):
    """What an STM32 has beside: two banks.

    ``FACTORY_BANKS``: in which of them the factory writes bootloader, trust store and settings; all of these
    below ``SLOT_OFFSET`` is write-protected. A bootloader has ``BOOTLOADER_SIZE``, and as far as its build
    needs it what is from ``RECOVERY_OFFSET`` to the settings. One that runs from either bank has from
    ``TAIL_OFFSET`` on what changes banks, and at ``LAYOUT_OFFSET`` six words of layout. Both are SLOT_OFFSET
    where there is no such thing.
    """

    BANK_SIZE: int
    OTHER_BANK_BASE: int
    RECOVERY_OFFSET: int
    TAIL_OFFSET: int
    LAYOUT_OFFSET: int
    JOURNAL_BANK: int
    AGENT_STORE_BANK: int
    SLOT_OFFSET: int
    VECTOR_ADDRESS: int
    STACK_TOP_MAX: int

    @property
    def FACTORY_BANKS(self) -> tuple[int, ...]:
        """Physical banks, 1 and 2."""


class Espressif(Chip, Protocol):
    """What an ESP32 has beside: a partition table at ``TABLE_OFFSET``, and where segments of images may go,
    as (begin, end): ``DROM`` and ``IROM`` show flash in pages of ``MMU_PAGE``, ``IRAM`` and ``DRAM`` are the
    same RAM, ``RTC_RAM`` survives a reset. ``PLACES_OFFSET``: of the copy of the places in the settings;
    ``STORE_TYPE``, ``STORE_SUBTYPE``, ``STORE_LABEL``, ``STORE_SIZE``: of the partition with journal and
    stores; ``MAX_REVISION``: 100 * major + minor.
    """

    CHIP_ID: int
    ELF_MACHINE: int
    MAX_REVISION: int
    FLASH_SIZE: int
    PLACES_OFFSET: int
    TABLE_OFFSET: int
    TABLE_SIZE: int
    STORE_TYPE: int
    STORE_SUBTYPE: int
    STORE_LABEL: str
    STORE_SIZE: int
    SLOT_ALIGNMENT: int
    MMU_PAGE: int
    DROM: tuple[int, int]
    IROM: tuple[int, int]
    IRAM: tuple[int, int]
    DRAM: tuple[int, int]
    RTC_RAM: tuple[int, int]


STM32: dict[str, Stm32] = {row.NAME: row for row in (stm32l476, stm32u585)}
ESPRESSIF: dict[str, Espressif] = {esp32c3.NAME: esp32c3}
CHIPS: dict[str, Chip] = {**STM32, **ESPRESSIF}
DEFAULT = stm32l476.NAME
"""Of everything that names no chip, as was usual before there was a second one."""


def chip(name: str) -> Chip:
    """Return the row of a chip. Raises InputError: there is none of this name."""
    if name not in CHIPS:
        raise InputError(f"no chip {name!r} is known here: {', '.join(CHIPS)}")
    return CHIPS[name]


def stm32(name: str) -> Stm32:
    """Return the row of an STM32. Raises InputError: there is none of this name."""
    if name not in STM32:
        raise InputError(f"no STM32 {name!r} is known here: {', '.join(STM32)}")
    return STM32[name]
