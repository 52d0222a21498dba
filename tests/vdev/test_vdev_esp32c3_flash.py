"""The ESP32-C3's flash: SPI1 commands, power cuts, the MMU, a cache that forgets nothing; files."""

import hashlib
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import vdev_esp32c3 as c3

from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_vdev.parts.bus import PowerCutError
from fota_wire.errors import DeviceError, InputError

SPI, MMU, EXTMEM, DROM, IROM = 0x6000_2000, 0x600C_5000, 0x600C_4000, 0x3C00_0000, 0x4200_0000
WREN, PP, SE, RDSR = 1 << 30, 1 << 25, 1 << 24, 1 << 27
SPIN = bytes.fromhex("73005010f5bf0000")


@pytest.fixture
def chip() -> Machine:
    """A powered chip whose second stage only waits; tests drive its buses."""
    made = c3.machine(c3.stage((c3.ENTRY, SPIN)))
    made.power_on()
    return made


def program(m: Machine, offset: int, data: bytes) -> None:
    m.mem32[SPI] = WREN
    for at in range(0, len(data), 4):
        m.mem32[SPI + 0x58 + at] = int.from_bytes(data[at : at + 4], "little")
    m.mem32[SPI + 4] = len(data) << 24 | offset
    m.mem32[SPI] = PP
    settle(m)


def erase(m: Machine, offset: int) -> None:
    m.mem32[SPI] = WREN
    m.mem32[SPI + 4] = offset
    m.mem32[SPI] = SE
    settle(m)


def status(m: Machine) -> int:
    m.mem32[SPI] = RDSR
    return m.mem32[SPI + 0x2C]


def settle(m: Machine) -> None:
    while status(m) & 1:
        pass


def invalidate(m: Machine) -> None:
    m.mem32[EXTMEM + 0x2C] = m.mem32[EXTMEM + 0x30] = 0
    m.mem32[EXTMEM + 0x28] = 1


def test_program_clears_bits_erase_sets_a_sector_and_both_take_time(chip):
    start = chip.time_us
    program(chip, 0x5000, b"\x0f" * 8)
    assert 500 <= chip.time_us - start < 600
    program(chip, 0x5004, b"\xf1" * 4)
    assert chip.flash.read_phys(1, 0x5000, 8) == b"\x0f" * 4 + b"\x01" * 4
    chip.flash.write_phys(1, 0x4FFF, bytes(4098))  # the sector, and a byte of both beside it
    start = chip.time_us
    erase(chip, 0x5123)
    assert 50_000 <= chip.time_us - start < 50_100
    assert chip.flash.read_phys(1, 0x4FFF, 1) == chip.flash.read_phys(1, 0x6000, 1) == b"\0"
    assert chip.flash.read_phys(1, 0x5000, 4096) == b"\xff" * 4096
    assert chip.flash.counters.erases == {(1, 5): 1}
    assert chip.flash.counters.double_words == {1: 2}


def test_nothing_changes_without_write_enable_or_while_busy(chip):
    chip.mem32[SPI + 4] = 4 << 24 | 0x5000
    chip.mem32[SPI + 0x58] = 0
    chip.mem32[SPI] = PP
    assert chip.flash.operations == 0
    chip.mem32[SPI] = WREN
    assert status(chip) & 2
    chip.mem32[SPI + 4] = 0x5000
    chip.mem32[SPI] = SE
    chip.mem32[SPI] = WREN
    chip.mem32[SPI] = SE
    settle(chip)
    chip.mem32[SPI + 4] = 4 << 24 | 0x5000
    chip.mem32[SPI] = PP  # the erase has used up what the first one was allowed by
    assert [op.kind for op in chip.flash.log] == ["erase"]


def test_quad_enable_is_kept_if_writing_was_enabled_and_nothing_else_of_that_register(chip):
    def user(command: int, *, read: bool = False, data: int = 0) -> int:
        chip.mem32[SPI + 0x18] = 1 << 31 | (1 << 28 if read else 1 << 27)
        chip.mem32[SPI + 0x20] = 7 << 28 | command
        chip.mem32[SPI + 0x24] = chip.mem32[SPI + 0x28] = 7
        chip.mem32[SPI + 0x58] = data
        chip.mem32[SPI] = 1 << 18
        return chip.mem32[SPI + 0x58] & 0xFF

    user(0x31, data=2)
    assert user(0x35, read=True) == 0, "without write enable"
    chip.mem32[SPI] = WREN
    user(0x31, data=0xFF)
    assert user(0x35, read=True) == 2
    chip.reset("pin")
    assert user(0x35, read=True) == 2, "the chip's reset is none of the flash's"


def test_bytes_beyond_the_end_of_a_page_go_to_its_beginning(chip):
    program(chip, 0x50FE, bytes(range(1, 5)))
    assert chip.flash.read_phys(1, 0x50FE, 4) == b"\x01\x02\xff\xff"
    assert chip.flash.read_phys(1, 0x5000, 2) == b"\x03\x04"


def test_user_command_reads_id_and_data(chip):
    chip.flash.write_phys(1, 0x123456, b"seen")
    chip.mem32[SPI + 0x18] = 1 << 31 | 1 << 28
    chip.mem32[SPI + 0x20] = 7 << 28 | 0x9F
    chip.mem32[SPI + 0x28] = 23
    chip.mem32[SPI] = 1 << 18
    assert chip.mem32[SPI + 0x58] & 0xFFFFFF == 0x1640C8
    chip.mem32[SPI + 0x18] = 1 << 31 | 1 << 30 | 1 << 28
    chip.mem32[SPI + 0x20] = 7 << 28 | 0xBB
    chip.mem32[SPI + 0x28] = 31
    chip.mem32[SPI + 4] = 0x123456
    chip.mem32[SPI] = 1 << 18
    assert struct.pack("<I", chip.mem32[SPI + 0x58]) == b"seen"


def test_power_cut_in_a_page_leaves_any_of_its_bits_and_no_others(chip):
    old, new = b"\xf3" * 32, b"\x5a" * 32
    outcomes = set()
    for seed in range(40):
        if not chip.powered:
            chip.power_on()
        chip.flash.write_phys(1, 0x5000, old * 8)
        chip.cut_power_at(flash_op=1, torn=seed)
        with pytest.raises(PowerCutError):
            program(chip, 0x5020, new)
        assert not chip.powered
        cells = chip.flash.read_phys(1, 0x5000, 256)
        assert cells[:32] + cells[64:] == old * 7
        left = cells[32:64]
        assert all(c & o == c and c | (o & n) == c for c, o, n in zip(left, old, new, strict=True))
        outcomes.add("old" if left == old else "new" if left == bytes(0x52 for _ in new) else "torn")
    assert outcomes == {"old", "new", "torn"}


def test_power_cut_in_an_erase_leaves_old_bits_or_ones(chip):
    old = hashlib.shake_128(b"sector").digest(4096)
    kinds = set()
    for seed in range(20):
        chip.power_on()
        chip.flash.write_phys(1, 0x5000, old)
        chip.cut_power_at(flash_op=1, torn=seed)
        with pytest.raises(PowerCutError):
            erase(chip, 0x5000)
        left = chip.flash.read_phys(1, 0x5000, 4096)
        assert all(c | o == c for c, o in zip(left, old, strict=True))
        kinds |= {"blank" if left == b"\xff" * 4096 else "old" if left == old else "torn"}
    assert "torn" in kinds


def test_power_cut_before_an_operation_leaves_all_as_it_was(chip):
    chip.flash.write_phys(1, 0x5000, b"\x00" * 4096)
    chip.cut_power_at(flash_op=1)
    with pytest.raises(PowerCutError):
        erase(chip, 0x5000)
    assert chip.flash.read_phys(1, 0x5000, 4096) == bytes(4096)
    assert chip.flash.operations == 0


def test_windows_show_what_the_table_says_and_nothing_after_reset(chip):
    chip.flash.write_phys(1, 0x30004, b"page three")
    with pytest.raises(DeviceError, match="mapped"):
        chip.read(DROM + 4, 4)
    chip.mem32[MMU + 4 * 7] = 3
    invalidate(chip)
    assert chip.read(DROM + 0x70004, 10) == chip.read(IROM + 0x70004, 10) == b"page three"
    assert chip.mem32[MMU + 4 * 7] == 3
    chip.mem32[EXTMEM + 4] = 1  # SHUT_IBUS
    with pytest.raises(DeviceError, match="mapped"):
        chip.read(IROM + 0x70004, 4)
    assert chip.read(DROM + 0x70004, 4) == b"page"
    chip.reset("software")
    assert chip.mem32[MMU + 4 * 7] == 0x100


def test_what_is_not_invalidated_stays_as_it_was(chip):
    chip.flash.write_phys(1, 0x30000, b"old.")
    chip.mem32[MMU] = 3
    invalidate(chip)
    assert chip.read(DROM, 4) == b"old."
    erase(chip, 0x30000)
    program(chip, 0x30000, b"new.")
    assert chip.read(DROM, 4) == b"old."
    chip.mem32[MMU] = 4
    assert chip.read(DROM, 4) == b"old."
    assert any("MMU" in text for text in chip.warnings)
    chip.mem32[MMU] = 3
    invalidate(chip)
    assert chip.read(DROM, 4) == b"new."


def test_cache_that_was_off_goes_on_with_what_it_held(chip):
    for number in (3, 4):
        chip.flash.write_phys(1, number << 16, b"no %d" % number)
    chip.mem32[MMU] = 3
    invalidate(chip)
    on = chip.mem32[EXTMEM]
    chip.mem32[EXTMEM] = 0
    chip.mem32[MMU] = 4
    chip.mem32[EXTMEM] = on
    assert chip.read(DROM, 4) == b"no 3"
    invalidate(chip)
    assert chip.read(DROM, 4) == b"no 4"


def test_range_that_is_invalidated_is_fresh_and_the_rest_is_not(chip):
    chip.mem32[MMU] = 3
    invalidate(chip)
    program(chip, 0x30000, b"here")
    program(chip, 0x38000, b"ther")
    chip.mem32[EXTMEM + 0x2C], chip.mem32[EXTMEM + 0x30] = DROM, 4096
    chip.mem32[EXTMEM + 0x28] = 1
    assert (chip.read(DROM, 4), chip.read(DROM + 0x8000, 4)) == (b"here", b"\xff" * 4)


def test_store_to_a_window_changes_nothing(tmp_path):
    m = c3.machine(c3.stage((c3.ENTRY, c3.assemble(
        c3.QUIET + "  li a0, 0x600c5000\n  li a1, 3\n  sw a1, 0(a0)\n  li a0, 0x3c000000\n  sw a1, 0(a0)\n",
        tmp_path))))  # fmt: skip
    m.power_on()
    assert "store to 0x3c000000" in m.run(max_instructions=200).detail
    assert m.flash.read_phys(1, 0x30000, 4) == b"\xff" * 4


def test_file_keeps_flash_wear_efuses_and_element(tmp_path, chip):
    program(chip, 0x5000, b"kept")
    chip.flash.options["repeat_data3"] = 1 << 14
    chip.power_off()
    chip.save(tmp_path / "d")
    with Machine.load(tmp_path / "d") as back:
        assert back.chip is MODELS["esp32c3"]
        assert back.flash.state() == chip.flash.state()
        assert back.element.serial == chip.element.serial
        back.power_on()
        assert back.load32(0x6000_883C) == 1 << 14


def test_rom_of_another_size_or_for_another_chip_is_refused(tmp_path, chip):
    chip.save(tmp_path / "d")
    with pytest.raises(InputError, match="393216 bytes"):
        Machine.load(tmp_path / "d", rom=b"short")
    Machine().save(tmp_path / "l4")
    with pytest.raises(InputError, match="no mask ROM"):
        Machine.load(tmp_path / "l4", rom=bytes(393216))
