"""The table of chips (`fota_wire.chips`) and the ports in C say the same: by compiler and linked ELF."""

import re
import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fota_signer.elf import read
from fota_wire import host_chips, layout
from fota_wire.errors import InputError
from fota_wire.host_chips import CHIPS, STM32

BOOTLOADER = Path(__file__).resolve().parents[2] / "bootloader"
BUILD = BOOTLOADER.parent / "build"
ROWS = {row.PORT: row for row in STM32.values()}
PORTS = tuple(ROWS)
NAMES = {
    "BANK_LOW": "FLASH_BASE",
    "BANK_HIGH": "OTHER_BANK_BASE",
    "SLOT_OFFSET": "SLOT_OFFSET",
    "SLOT_SIZE": "SLOT_SIZE",
    "SETTINGS_OFFSET": "SETTINGS_OFFSET",
    "LAYOUT_OFFSET": "LAYOUT_OFFSET",
    "JOURNAL_OFFSET": "JOURNAL_OFFSET",
    "PAGE_SIZE": "PAGE_SIZE",
    "FLASH_PAGE": "PAGE_SIZE",
    "QUAD_WORD": "WRITE_SIZE",
    "FOTA_REPORT_ADDRESS": "BOOT_REPORT_ADDRESS",
    "FOTA_HEALTH_ADDRESS": "HEALTH_ADDRESS",
}
"""What a port's headers call it, and what the table does."""
RECORD_FORMAT = {"JOURNAL_PAGE": 2048}
"""In a port's header too, and the same for all chips (SPEC 3)."""


def constants(port: str) -> list[str]:
    """Names of the constants in the two headers by which a port says where things are."""
    found = []
    for header in ("memory.h", "report_address.h"):
        text = re.sub(r"/\*.*?\*/", "", (BOOTLOADER / "port" / port / header).read_text(), flags=re.DOTALL)
        found += re.findall(r"\b([A-Z][A-Z0-9_]+)\s*=", text)
    return found


@pytest.mark.parametrize("port", PORTS)
def test_constants_of_a_port_are_those_of_its_row(port: str) -> None:
    row: Any = ROWS[port]
    wanted = {name: RECORD_FORMAT[name] if name in RECORD_FORMAT else getattr(row, NAMES[name])
              for name in constants(port)}  # fmt: skip
    assert {"SLOT_SIZE", "BANK_HIGH", "FOTA_REPORT_ADDRESS"} <= set(wanted)
    lines = ['#include "memory.h"', '#include "report_address.h"']
    lines += [f'_Static_assert({name} == {value:#x}, "{name}");' for name, value in wanted.items()]
    command = ["arm-none-eabi-gcc", "-fsyntax-only", "-xc", f"-I{BOOTLOADER / 'port' / port}", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def built(port: str) -> Path:
    command = ["make", "-C", str(BOOTLOADER), f"PORT={port}", "bootloader"]
    subprocess.run(command, check=True, capture_output=True)
    return BUILD / "bootloader" / port / "bootloader.elf"


@pytest.mark.parametrize("port", PORTS)
def test_linked_bootloader_is_where_its_row_says(port: str) -> None:
    row = ROWS[port]
    elf = built(port)
    listed = subprocess.run(["arm-none-eabi-nm", str(elf)], check=True, capture_output=True, text=True)
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in listed.stdout.splitlines()}
    assert symbols["fota_port_settings"] == row.FLASH_BASE + row.SETTINGS_OFFSET
    assert symbols["fota_port_report"] == row.BOOT_REPORT_ADDRESS
    assert symbols["fota_port_health"] == row.HEALTH_ADDRESS
    assert symbols["linker_stack_top"] <= row.RAM_BASE + row.RAM_SIZE
    chunks = read(elf.read_bytes(), "bootloader.elf")
    tail = range(row.TAIL_OFFSET, row.LAYOUT_OFFSET)
    for chunk in chunks:
        offset = chunk.address - row.FLASH_BASE
        assert offset + len(chunk.content) <= row.BOOTLOADER_SIZE or offset in tail, hex(chunk.address)
    if row.LAYOUT_OFFSET < row.SLOT_OFFSET:  # written by the factory: tests/ports boots by it
        assert symbols["fota_layout"] == row.FLASH_BASE + row.LAYOUT_OFFSET
        return
    at = symbols["fota_layout"]
    chunk = next(c for c in chunks if c.address <= at < c.address + len(c.content))
    words = struct.unpack_from("<6I", chunk.content, at - chunk.address)
    assert words == (row.SLOT_ADDRESS, row.INACTIVE_SLOT_ADDRESS, row.SLOT_SIZE, row.SLOT_ADDRESS,
                     row.RAM_BASE, row.STACK_TOP_MAX)  # fmt: skip


@pytest.mark.parametrize("name", list(STM32))
def test_what_a_row_says_fits_into_its_flash_and_its_pages(name: str) -> None:
    row = host_chips.stm32(name)
    slot = (row.SLOT_OFFSET, row.SLOT_SIZE)
    store = (row.AGENT_STORE_OFFSET, row.AGENT_STORE_SIZE)
    journal = (row.JOURNAL_OFFSET, 2 * row.JOURNAL_STRIDE)
    for offset, size in (slot, store, journal):
        assert offset % row.PAGE_SIZE == size % row.PAGE_SIZE == 0
    areas = sorted((slot, store, journal))
    assert row.JOURNAL_BANK == row.AGENT_STORE_BANK == 2
    assert all(a + size <= b for (a, size), (b, _) in pairwise(areas))
    assert sum(areas[-1]) <= row.BANK_SIZE
    factory = [
        (row.BOOTLOADER_OFFSET, row.BOOTLOADER_SIZE),
        (row.TRUST_STORE_OFFSET, row.TRUST_STORE_SIZE),
        (row.SETTINGS_OFFSET, row.SETTINGS_SIZE),
        (row.TAIL_OFFSET, row.LAYOUT_OFFSET - row.TAIL_OFFSET),
    ]
    assert all(sum(one) == two[0] for one, two in pairwise(factory))
    assert row.LAYOUT_OFFSET + 24 <= row.SLOT_OFFSET or row.LAYOUT_OFFSET == row.SLOT_OFFSET


def test_flash_of_the_model_is_that_of_the_row() -> None:
    from fota_vdev.chips.stm32l4 import STM32L476_FLASH
    from fota_vdev.chips.stm32u5.flash_array import STM32U585_FLASH

    for flash, row in ((STM32L476_FLASH, STM32["stm32l476"]), (STM32U585_FLASH, STM32["stm32u585"])):
        assert (flash.bank, flash.page, flash.word) == (row.BANK_SIZE, row.PAGE_SIZE, row.WRITE_SIZE)


def test_what_rows_say_is_said_nowhere_else() -> None:
    of_rows = {
        name
        for kind in (host_chips.Chip, host_chips.Stm32, host_chips.Espressif)
        for name in vars(kind)["__annotations__"]
    }
    assert of_rows & set(vars(layout)) == set()


def test_row_is_found_by_its_name_and_another_is_told() -> None:
    assert [CHIPS[name].NAME for name in CHIPS] == list(CHIPS)
    assert host_chips.chip("esp32c3").FORM == "espressif"
    with pytest.raises(InputError, match="no chip 'stm32f4' is known here: stm32l476, stm32u585, esp32c3"):
        host_chips.chip("stm32f4")
    with pytest.raises(InputError, match="no STM32 'esp32c3'"):
        host_chips.stm32("esp32c3")
