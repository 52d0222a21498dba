"""ADR 46 to the byte: what the driver of the ESP32-C3's flash hands on to the mask ROM, and what it does not,
at both ends of each area that it may write; as the bootloader has it, and as the agent's firmware points it.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from unicorn import UC_ARCH_RISCV, UC_HOOK_CODE, UC_MODE_RISCV32, Uc
from unicorn.riscv_const import UC_RISCV_REG_A0, UC_RISCV_REG_PC, UC_RISCV_REG_RA, UC_RISCV_REG_SP

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

import chip_world

from fota_wire import status
from fota_wire.chips import esp32c3 as row

WRITE, ERASE, UNLOCK = 0x4000012C, 0x40000128, 0x40000140
ROM, ROM_SIZE, RET = 0x40000000, 0x2000, b"\x82\x80"  # c.jr ra
BACK = ROM + 0x1000  # where calls of ours return to
SCRATCH, SCRATCH_SIZE = 0x70000000, 0x20000
STACK, DATA = SCRATCH + 0x10000, SCRATCH + 0x11000
PAGES = [(0x3C000000, 0x100000), (0x3FC80000, 0x60000), (0x40380000, 0x60000), (0x42000000, 0x100000)]
SECTOR = row.PAGE_SIZE
JOURNAL, OTADATA = 0x290000, 0xE000
LONGEST = 100_000  # instructions of one call; it takes some hundreds


class Code:
    """An ELF for this chip, whose functions are called one by one; of the ROM what writes flash is noted."""

    def __init__(self, elf: Path) -> None:
        self.uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
        for begin, size in [*PAGES, (ROM, ROM_SIZE), (SCRATCH, SCRATCH_SIZE)]:
            self.uc.mem_map(begin, size)
        self.uc.mem_write(ROM, RET * (ROM_SIZE // 2))
        with elf.open("rb") as f:
            file: Any = ELFFile(f)
            for part in file.iter_segments("PT_LOAD"):
                self.uc.mem_write(part["p_paddr"], part.data())
            names = file.get_section_by_name(".symtab").iter_symbols()
            self.names = {symbol.name: symbol["st_value"] for symbol in names}
        self.calls: list[tuple[int, ...]] = []
        self.raised = False
        self.uc.hook_add(UC_HOOK_CODE, self._rom, begin=ROM, end=ROM + ROM_SIZE - 1)
        if "mp_raise_OSError" in self.names:
            at = self.names["mp_raise_OSError"]
            self.uc.hook_add(UC_HOOK_CODE, self._raise, begin=at, end=at)

    def _rom(self, uc: Any, address: int, size: int, data: Any) -> None:
        words = [uc.reg_read(UC_RISCV_REG_A0 + n) for n in range(3)]
        if address in (WRITE, ERASE):
            self.calls.append((address, words[0], *([words[2]] if address == WRITE else [])))
        if address in (WRITE, ERASE, UNLOCK):
            uc.reg_write(UC_RISCV_REG_A0, 0)

    def _raise(self, uc: Any, address: int, size: int, data: Any) -> None:
        self.raised = True
        uc.reg_write(UC_RISCV_REG_PC, BACK)

    def word(self, name: str, value: int) -> None:
        self.uc.mem_write(self.names[name], value.to_bytes(4, "little"))

    def call(self, name: str, *arguments: int) -> tuple[int, list[tuple[int, ...]]]:
        """Call a function; return what it returns, and what the ROM was asked to write or erase."""
        self.calls, self.raised = [], False
        self.uc.reg_write(UC_RISCV_REG_RA, BACK)
        self.uc.reg_write(UC_RISCV_REG_SP, STACK)
        for number, value in enumerate(arguments):
            self.uc.reg_write(UC_RISCV_REG_A0 + number, value & 0xFFFFFFFF)
        self.uc.emu_start(self.names[name], BACK, count=LONGEST)
        assert self.uc.reg_read(UC_RISCV_REG_PC) == BACK
        return self.uc.reg_read(UC_RISCV_REG_A0), self.calls


# --- the bootloader's two areas: the sectors of the journal, and those of the OTA data ---


@pytest.fixture
def driver(c3_bootloader: Path) -> Code:
    code = Code(c3_bootloader)
    code.word("fota_journal_place", JOURNAL)
    code.word("fota_otadata_place", OTADATA)
    return code


ENDS = [(place + at, size) for place in (JOURNAL, OTADATA) for at, size in [
    (0, 16), (0, 2 * SECTOR), (2 * SECTOR - 16, 16), (2 * SECTOR - 4, 4), (SECTOR - 4, 8)]]  # fmt: skip
BEHIND = [(place + at, size) for place in (JOURNAL, OTADATA) for at, size in [
    (-4, 4), (-4, 8), (-16, 16), (0, 2 * SECTOR + 4), (4, 2 * SECTOR), (2 * SECTOR - 4, 8),
    (2 * SECTOR + 4, 4), (0, 0xFFFFFFFC), (4, 0xFFFFFFFC)]]  # fmt: skip
NEVER = [(0, 16), (0x6FFC, 4), (0x7000, 16), (0x8000, 16), (0x10000, 16), (0x3FFFFC, 4), (0xFFFFFFF0, 16)]


@pytest.mark.parametrize(("address", "size"), ENDS)
def test_bootloader_writes_in_its_two_areas_to_their_last_word(driver: Code, address: int, size: int) -> None:
    assert driver.call("fota_spi_write", address, DATA, size) == (status.OK, [(WRITE, address, size)])


@pytest.mark.parametrize(("address", "size"), BEHIND + NEVER)
def test_bootloader_writes_not_a_word_beside_them(driver: Code, address: int, size: int) -> None:
    assert driver.call("fota_spi_write", address, DATA, size) == (status.by_short("FL1"), [])


@pytest.mark.parametrize("place", [JOURNAL, OTADATA])
def test_bootloader_erases_their_sectors_and_no_other(driver: Code, place: int) -> None:
    for number in (0, 1):
        at = place + number * SECTOR
        assert driver.call("fota_spi_erase", at) == (status.OK, [(ERASE, at // SECTOR)])
    for at in (place - SECTOR, place + 2 * SECTOR, place - 1, 0, 0x7000, 0x8000, 0xFFFFF000):
        assert driver.call("fota_spi_erase", at) == (status.by_short("FL2"), []), hex(at)


@pytest.mark.parametrize(("known", "other"), [("journal", "otadata"), ("otadata", "journal")])
def test_area_that_nobody_named_is_none(driver: Code, known: str, other: str) -> None:
    place = {"journal": JOURNAL, "otadata": OTADATA}
    driver.word(f"fota_{other}_place", 0)
    assert driver.call("fota_spi_write", place[known], DATA, 16)[0] == status.OK
    for at in (place[other], 0, SECTOR):
        assert driver.call("fota_spi_write", at, DATA, 16) == (status.by_short("FL1"), [])
        assert driver.call("fota_spi_erase", at) == (status.by_short("FL2"), [])


# --- the agent's firmware: where Python says, behind the partition table ---


@pytest.fixture(scope="module")
def firmware() -> Code:
    if chip_world.why_not():
        pytest.skip(chip_world.why_not())
    code = Code(chip_world.firmware("1.0.0", row.NAME))
    code.word("fota_journal_place", 0)  # as reset leaves it
    return code


FIRST = row.TABLE_OFFSET + row.TABLE_SIZE


def small_int(value: int) -> int:
    """As MicroPython has it in a word."""
    return value << 1 | 1


def flash_write(code: Code, offset: int, size: int) -> list[tuple[int, ...]] | None:
    """``esp.flash_write(offset, bytes)``: what the ROM was asked; None, if OSError came before."""
    header = [code.names["mp_type_bytes"], 0, size, DATA]  # an object of type bytes: type, hash, length, data
    code.uc.mem_write(SCRATCH, b"".join(word.to_bytes(4, "little") for word in header))
    calls = code.call("esp_flash_write", small_int(offset), SCRATCH)[1]
    return None if code.raised and not calls else calls


@pytest.mark.parametrize("offset", [FIRST, FIRST + 4, 2 * FIRST - 4, 0x3FF000, row.FLASH_SIZE - 4])
def test_agent_s_firmware_writes_from_behind_the_table_to_the_end(firmware: Code, offset: int) -> None:
    assert flash_write(firmware, offset, 4) == [(WRITE, offset, 4)]
    assert not firmware.raised
    assert firmware.call("esp_flash_erase", small_int(offset // SECTOR))[1] == [(ERASE, offset // SECTOR)]


@pytest.mark.parametrize("size", [4, SECTOR, 2 * SECTOR])
def test_agent_s_firmware_writes_across_sectors_piece_by_piece(firmware: Code, size: int) -> None:
    calls = flash_write(firmware, FIRST + SECTOR - 4, size)
    assert calls is not None
    assert sum(length for _, _, length in calls) == size
    assert [at for _, at, _ in calls] == list(range(FIRST + SECTOR - 4, FIRST + SECTOR - 4 + size, SECTOR))


@pytest.mark.parametrize("offset", [0, 4, 0x6FFC, 0x7000, 0x7FFC, 0x8000, FIRST - SECTOR, FIRST - 4])
@pytest.mark.parametrize("size", [4, 8, SECTOR])
def test_agent_s_firmware_never_writes_loader_settings_or_table(
    firmware: Code, offset: int, size: int
) -> None:
    assert flash_write(firmware, offset, size) is None
    assert firmware.call("esp_flash_erase", small_int(offset // SECTOR))[1] == []
    assert firmware.raised
