"""The flash controller's rules, driven over the bus as any master would."""

import pytest

from fota_vdev.parts.bus import PowerCutError
from fota_wire.errors import DeviceError

BASE = 0x4002_2000
KEYR, SR, CR, ECCR = BASE + 0x08, BASE + 0x10, BASE + 0x14, BASE + 0x18
PG, PER, BKER, STRT, EOPIE, LOCK = 1, 2, 1 << 11, 1 << 16, 1 << 24, 1 << 31
EOP, PROGERR, WRPERR, PGAERR, SIZERR, PGSERR, BSY = 1, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 16
PLACE = 0x0800_8000
BANK2 = 0x0808_0000


def unlock(m):
    m.mem32[KEYR], m.mem32[KEYR] = 0x4567_0123, 0xCDEF_89AB
    m.mem32[BASE] = 0x200  # caches: data cache off


def wait(m):
    while m.mem32[SR] & BSY:
        pass


def program(m, address, low, high):
    m.mem32[CR] = PG
    m.mem32[address] = low
    m.mem32[address + 4] = high
    wait(m)
    m.mem32[CR] = 0


def erase(m, page, bank=1):
    m.mem32[CR] = PER | page << 3 | (BKER if bank == 2 else 0)
    m.mem32[CR] = m.mem32[CR] | STRT
    wait(m)
    m.mem32[CR] = 0


def test_program_of_blank_double_word_lands_and_counts(machine):
    unlock(machine)
    program(machine, PLACE, 0x11223344, 0x55667788)
    assert machine.flash.read_phys(1, 0x8000, 8) == bytes.fromhex("4433221188776655")
    assert machine.flash.counters.double_words == {1: 1, 2: 0}
    assert machine.mem32[SR] == 0
    assert machine.warnings == []


def test_program_with_data_cache_on_warns(machine):
    unlock(machine)
    machine.mem32[BASE] = 0x600
    program(machine, PLACE, 1, 2)
    assert "data cache" in machine.warnings[0]


def test_locked_controller_takes_no_pg_and_program_is_a_sequence_error(machine):
    program(machine, PLACE, 1, 2)
    assert machine.mem32[SR] & PGSERR
    assert machine.flash.read_phys(1, 0x8000, 8) == b"\xff" * 8


def test_second_program_fails_with_progerr_and_leaves_cells(machine):
    unlock(machine)
    program(machine, PLACE, 1, 2)
    program(machine, PLACE, 1, 0)
    assert machine.mem32[SR] == PROGERR
    assert machine.flash.read_phys(1, 0x8000, 8) == bytes([1, 0, 0, 0, 2, 0, 0, 0])


def test_second_program_with_zero_is_allowed(machine):
    unlock(machine)
    program(machine, PLACE, 1, 2)
    program(machine, PLACE, 0, 0)
    assert machine.mem32[SR] == 0
    assert machine.flash.read_phys(1, 0x8000, 8) == bytes(8)


def test_first_word_not_aligned_fails_with_pgaerr(machine):
    unlock(machine)
    machine.mem32[CR] = PG
    machine.mem32[PLACE + 4] = 1
    assert machine.mem32[SR] == PGAERR


def test_second_word_elsewhere_fails_with_pgaerr(machine):
    unlock(machine)
    machine.mem32[CR] = PG
    machine.mem32[PLACE] = 1
    machine.mem32[PLACE + 12] = 1
    assert machine.mem32[SR] == PGAERR
    assert machine.flash.counters.total_double_words == 0


def test_any_error_flag_blocks_the_next_operation(machine):
    unlock(machine)
    machine.mem32[CR] = PG
    machine.mem32[PLACE + 4] = 1
    machine.mem32[PLACE] = 1
    assert machine.mem32[SR] == PGAERR | PGSERR
    machine.mem32[SR] = PGAERR | PGSERR
    program(machine, PLACE, 1, 2)
    assert machine.mem32[SR] == 0
    erase_blocked = machine.flash.counters.total_erases
    machine.mem32[CR] = PG
    machine.mem32[PLACE + 4] = 1
    erase(machine, 20)
    assert machine.mem32[SR] & PGSERR
    assert machine.flash.counters.total_erases == erase_blocked


def test_program_with_erase_selected_fails_with_pgserr(machine):
    unlock(machine)
    machine.mem32[CR] = PG | PER
    machine.mem32[PLACE] = 1
    assert machine.mem32[SR] == PGSERR


@pytest.mark.parametrize(("eopie", "flag"), [(0, 0), (EOPIE, EOP)])
def test_eop_shows_only_with_eopie(machine, eopie, flag):
    unlock(machine)
    machine.mem32[CR] = PG | eopie
    machine.mem32[PLACE], machine.mem32[PLACE + 4] = 1, 2
    wait(machine)
    assert machine.mem32[SR] == flag


def test_wrong_key_locks_until_reset(machine):
    with pytest.raises(DeviceError, match="wrong flash key"):
        machine.mem32[KEYR] = 0x12345678
    with pytest.raises(DeviceError, match="wrong flash key"):
        machine.mem32[KEYR] = 0x4567_0123
    machine.flash.write_phys(1, 0, (0x20010000).to_bytes(4, "little") + (0x08000101).to_bytes(4, "little"))
    machine.reset()
    unlock(machine)
    assert not machine.mem32[CR] & LOCK


def test_program_and_erase_take_their_time(machine):
    unlock(machine)
    start = machine.time_us
    program(machine, PLACE, 1, 2)
    assert machine.time_us - start == pytest.approx(82, abs=1)
    start = machine.time_us
    erase(machine, 16)
    assert machine.time_us - start == pytest.approx(22_020, abs=1)
    assert machine.flash.counters.erases == {(1, 16): 1}
    assert machine.flash.read_phys(1, 0x8000, 8) == b"\xff" * 8


@pytest.mark.parametrize("fb_mode", [0, 1])
def test_bker_names_the_physical_bank_whatever_is_mapped(machine, fb_mode):
    machine.mem32[0x4002_1060] = 1  # SYSCFG clock
    machine.mem32[0x4001_0000] = fb_mode << 8
    machine.flash.write_phys(1, 0x8000, b"one")
    machine.flash.write_phys(2, 0x8000, b"two")
    assert machine.read(PLACE, 3) == (b"two" if fb_mode else b"one")
    unlock(machine)
    erase(machine, 16, bank=2)
    assert machine.flash.read_phys(1, 0x8000, 3) == b"one"
    assert machine.flash.read_phys(2, 0x8000, 3) == b"\xff" * 3


@pytest.mark.parametrize("fb_mode", [0, 1])
def test_programming_goes_by_the_mapped_address(machine, fb_mode):
    machine.mem32[0x4002_1060] = 1
    machine.mem32[0x4001_0000] = fb_mode << 8
    unlock(machine)
    program(machine, PLACE, 1, 2)
    assert machine.flash.counters.double_words == ({1: 0, 2: 1} if fb_mode else {1: 1, 2: 0})


def test_write_protected_page_refuses_program_and_erase(machine):
    machine.flash.protect(1, 0, 7)
    unlock(machine)
    program(machine, 0x0800_3FF8, 1, 2)
    assert machine.mem32[SR] == WRPERR
    machine.mem32[SR] = WRPERR
    erase(machine, 7)
    assert machine.mem32[SR] == WRPERR
    machine.mem32[SR] = WRPERR
    program(machine, 0x0800_4000, 1, 2)
    assert machine.mem32[SR] == 0
    assert machine.mem32[BASE + 0x2C] == 7 << 16


def test_write_protection_also_stops_a_mass_erase(machine):
    machine.flash.write_phys(1, 0, b"boot")
    machine.flash.protect(1, 0, 7)
    unlock(machine)
    machine.mem32[CR] = 1 << 2
    machine.mem32[CR] = 1 << 2 | STRT
    assert machine.mem32[SR] & WRPERR
    assert machine.flash.read_phys(1, 0, 4) == b"boot"


def test_option_programming_is_refused_not_ignored(machine):
    unlock(machine)
    with pytest.raises(DeviceError, match="not modelled"):
        machine.mem32[CR] = 1 << 17


def test_power_cut_before_operation_leaves_cells_and_switches_off(machine):
    unlock(machine)
    machine.cut_power_at(flash_op=2)
    program(machine, PLACE, 1, 2)
    with pytest.raises(PowerCutError):
        program(machine, PLACE + 8, 3, 4)
    assert not machine.powered
    assert machine.flash.read_phys(1, 0x8008, 8) == b"\xff" * 8
    with pytest.raises(DeviceError, match="no power"):
        machine.mem32[SR]


def test_torn_program_leaves_only_legal_cells_and_ecc_marks(machine):
    outcomes = set()
    for seed in range(40):
        machine.power_on()
        machine.flash.write_phys(1, 0x8000, b"\xff" * 8)
        unlock(machine)
        machine.cut_power_at(flash_op=1, torn=seed)
        with pytest.raises(PowerCutError):
            program(machine, PLACE, 0x12345678, 0)
        cells = machine.flash.read_phys(1, 0x8000, 8)
        new = (0x12345678).to_bytes(8, "little")
        torn = (1, 0x8000) in machine.flash.ecc_bad
        assert all(c & n == n for c, n in zip(cells, new, strict=True)), "a bit fell that must not"
        assert torn or cells in (new, b"\xff" * 8)
        outcomes.add("torn" if torn else "new" if cells == new else "old")
    assert outcomes == {"torn", "new", "old"}


def test_torn_word_read_reports_bank_and_address_until_acknowledged(machine):
    machine.flash.mark_torn(2, 0x1008)
    machine.read(BANK2 + 0x1000, 4)
    assert machine.mem32[ECCR] == 0
    machine.read(BANK2 + 0x1008, 4)
    assert machine.mem32[ECCR] == 1 << 31 | 1 << 19 | 0x1008
    machine.mem32[ECCR] = 1 << 31
    assert not machine.mem32[ECCR] & 1 << 31


def test_torn_word_cannot_be_programmed_but_erased(machine):
    machine.flash.mark_torn(2, 0x1008)
    unlock(machine)
    program(machine, BANK2 + 0x1008, 1, 2)
    assert machine.mem32[SR] == PROGERR
    machine.mem32[SR] = PROGERR
    erase(machine, 2, bank=2)
    assert machine.flash.ecc_bad == set()


def test_torn_erase_leaves_a_mixture(machine):
    unlock(machine)
    machine.flash.write_phys(2, 0x1000, bytes(range(256)) * 8)
    machine.cut_power_at(flash_op=1, torn=3)
    with pytest.raises(PowerCutError):
        erase(machine, 2, bank=2)
    old = bytes(range(256)) * 8
    now = machine.flash.read_phys(2, 0x1000, 2048)
    assert machine.flash.ecc_bad
    assert now not in (old, b"\xff" * 2048)
    assert all(n & o == o for n, o in zip(now, old, strict=True)), "an erase only sets bits"


REWRITE = """
  ldr r4, ={execute:#x}+1
  blx r4
  ldr r0, =0x40022000
  ldr r1, =0x45670123
  str r1, [r0, #8]
  ldr r1, =0xCDEF89AB
  str r1, [r0, #8]
  movs r1, #1
  str r1, [r0, #0x14]
  ldr r2, ={store:#x}
  movs r3, #0
  str r3, [r2]
  str r3, [r2, #4]
  blx r4
  b .
"""


@pytest.mark.parametrize(("bank", "low"), [(1, 0), (1, 0x0800_0000), (2, 0x0800_0000), (2, 0)])
def test_code_that_is_programmed_away_after_it_ran_is_gone(boot, registers, bank, low):
    """Zeros are no-operations. The rest of the routine, in the same page, is as it was."""
    at = 0x4010 + (bank - 1) * 0x8_0000
    machine = boot(REWRITE.format(execute=low + at, store=0x0800_0000 + at))
    code = b"\x01\x37" * 4 + b"\x10\x37" + b"\x70\x47"  # r7 += 1, four times; r7 += 16
    machine.flash.write_phys(bank, 0x4010, code)
    machine.run(max_instructions=100)
    assert machine.flash.read_phys(bank, 0x4010, 8) == bytes(8)
    assert registers(machine, 7) == 4 + 16 + 16
