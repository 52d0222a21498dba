"""Rules of the STM32U5's flash controller in the model, met off-chip through the same registers."""

from typing import Any

import pytest

from fota_vdev.chips.stm32u5 import STM32U585
from fota_vdev.machine import Machine
from fota_wire.errors import DeviceError

NSKEYR, OPTKEYR, NSSR, NSCR, ECCR, OPTR, WRP1AR = (
    0x40022000 + o for o in (8, 0x10, 0x20, 0x28, 0x30, 0x40, 0x58)
)
PG, PER, BKER, STRT, OPTSTRT, OBL_LAUNCH, OPTLOCK, LOCK = (
    1,
    2,
    1 << 11,
    1 << 16,
    1 << 17,
    1 << 27,
    1 << 30,
    1 << 31,
)
PROGERR, WRPERR, PGAERR, SIZERR, PGSERR, WDW = 8, 16, 32, 64, 128, 1 << 17
SWAP_BANK, ECCD = 1 << 20, 1 << 31
LOW, HIGH = 0x08000000, 0x08100000


@pytest.fixture
def chip() -> Machine:
    machine = Machine(chip=STM32U585)
    machine.flash.write_phys(1, 0, bytes.fromhex("0000022001020008"))
    machine.power_on()
    return machine


def unlock(chip: Machine, *, options: bool = False) -> None:
    chip.mem32[NSKEYR], chip.mem32[NSKEYR] = 0x45670123, 0xCDEF89AB
    if options:
        chip.mem32[OPTKEYR] = 0x08192A3B
        chip.mem32[OPTKEYR] = 0x4C5D6E7F


def settle(chip: Machine) -> int:
    while chip.mem32[NSSR] & 1 << 16:
        pass
    return chip.mem32[NSSR]


def program(chip: Machine, address: int, *words: int) -> int:
    chip.mem32[NSCR] = PG | OPTLOCK
    for i, word in enumerate(words):
        chip.mem32[address + 4 * i] = word
    return settle(chip)


def swap(chip: Machine, wanted: int) -> None:
    unlock(chip, options=True)
    chip.mem32[OPTR] = chip.mem32[OPTR] & ~SWAP_BANK | wanted
    chip.mem32[NSCR] = OPTSTRT
    assert settle(chip) == 0
    chip.mem32[NSCR] = OBL_LAUNCH


def test_quad_word_is_written_with_its_fourth_word(chip: Machine) -> None:
    unlock(chip)
    assert program(chip, LOW + 0x8000, 1, 2, 3) == WDW
    assert chip.flash.read_phys(1, 0x8000, 16) == b"\xff" * 16
    chip.mem32[LOW + 0x800C] = 4
    assert settle(chip) == 0
    assert chip.flash.read_phys(1, 0x8000, 16) == b"".join(n.to_bytes(4, "little") for n in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("address", "words", "error"),
    [(LOW + 0x8008, (1, 2, 3, 4), PGAERR | PGSERR), (LOW + 0x9000, (1, 2, 3, 4), PROGERR)],
)
def test_quad_word_rules(chip: Machine, address: int, words: tuple[int, ...], error: int) -> None:
    chip.flash.write_phys(1, 0x9000, bytes(4))
    unlock(chip)
    assert program(chip, address, *words) == error
    assert chip.flash.operations == 0


def test_store_without_pg_is_a_sequence_error_that_blocks_the_next(chip: Machine) -> None:
    unlock(chip)
    chip.mem32[LOW + 0x8000] = 1
    assert settle(chip) == PGSERR
    assert program(chip, LOW + 0x8000, 1, 2, 3, 4) == PGSERR
    chip.mem32[NSSR] = PGSERR
    assert program(chip, LOW + 0x8000, 1, 2, 3, 4) == 0


@pytest.mark.parametrize("swapped", [0, SWAP_BANK])
def test_bker_is_physical_and_programming_follows_the_mapping(chip: Machine, swapped: int) -> None:
    chip.flash.write_phys(2, 0, chip.flash.read_phys(1, 0, 8))
    swap(chip, swapped)
    low = 2 if swapped else 1
    unlock(chip)
    program(chip, LOW + 0x8000, 1, 2, 3, 4)
    assert [chip.flash.read_phys(bank, 0x8000, 1) for bank in (low, 3 - low)] == [b"\x01", b"\xff"]
    chip.mem32[NSCR] = PER | BKER | 5 << 3 | OPTLOCK
    chip.mem32[NSCR] = PER | BKER | 5 << 3 | STRT | OPTLOCK
    assert settle(chip) == 0
    assert dict(chip.flash.counters.erases) == {(2, 5): 1}


def test_written_option_bytes_wait_for_launch_or_power_up(chip: Machine) -> None:
    chip.flash.write_phys(2, 0, chip.flash.read_phys(1, 0, 8))
    unlock(chip, options=True)
    chip.mem32[OPTR] |= SWAP_BANK
    chip.mem32[NSCR] = OPTSTRT
    settle(chip)
    chip.reset("pin")
    assert not chip.board.swapped
    chip.power_off()
    chip.power_on()
    assert chip.board.swapped


def test_launch_resets_and_says_so(chip: Machine) -> None:
    chip.flash.write_phys(2, 0, chip.flash.read_phys(1, 0, 8))
    swap(chip, SWAP_BANK)
    assert chip.board.swapped
    assert chip.resets[-1][1] == "obl"
    assert chip.mem32[0x46020CF4] & 1 << 25


def test_option_registers_are_locked(chip: Machine) -> None:
    unlock(chip)
    with pytest.raises(DeviceError, match="OPTLOCK"):
        chip.mem32[OPTR] = 0
    with pytest.raises(DeviceError, match="wrong option key"):
        chip.mem32[OPTKEYR] = 1


def test_protected_page_is_neither_programmed_nor_erased(chip: Machine) -> None:
    chip.flash.protect(1, 0, 1)
    chip.power_off()
    chip.power_on()
    unlock(chip)
    assert program(chip, LOW + 0x2000, 1, 2, 3, 4) == WRPERR
    chip.mem32[NSSR] = WRPERR
    chip.mem32[NSCR] = PER | 1 << 3 | OPTLOCK
    chip.mem32[NSCR] = PER | 1 << 3 | STRT | OPTLOCK
    assert settle(chip) == WRPERR
    assert chip.flash.operations == 0


def test_torn_quad_word_reads_as_ecc_fault_with_physical_bank(chip: Machine) -> None:
    chip.flash.mark_torn(2, 0xFC010)
    chip.read(HIGH + 0xFC01F, 1)
    assert chip.mem32[ECCR] == ECCD | 1 << 21 | 0xFC010
    chip.mem32[ECCR] = ECCD
    assert not chip.mem32[ECCR] & ECCD


def test_a_file_keeps_the_chip_its_cells_and_its_option_bytes(chip: Machine, tmp_path: Any) -> None:
    chip.flash.write_phys(2, 0x1234, b"kept")
    chip.flash.protect(1, 0, 3)
    chip.save(tmp_path / "device")
    with Machine.load(tmp_path / "device") as back:
        assert back.chip is chip.chip
        assert back.flash.state() == chip.flash.state()
