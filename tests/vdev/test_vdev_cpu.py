"""The core: counts, time, exceptions, resets, and what a program meets that asks for what is not there."""

import random
import sys

import pytest
from unicorn import UC_HOOK_CODE

from fota_vdev.machine import Machine, StopReason

BUSY_WORK = """
  ldr r0, =0x20000100
  movs r1, #0
  movs r2, #0
1:
  adds r1, #1
  cmp r1, #40
  itte lt
  addlt r2, #1
  strlt r2, [r0]
  addge r2, #3
  ittt ge
  ldrge r3, [r0]
  addge r3, r1
  strge r3, [r0, #4]
  ldr r4, =0x40022010
  ldr r5, [r4]
  movw r6, #2000
  cmp r1, r6
  bne 1b
  b .
"""


def trace_of(machine, n):
    seen = []
    machine.cpu.uc.hook_add(UC_HOOK_CODE, lambda uc, address, size, data: seen.append(address))
    machine.cpu.uc.ctl_flush_tb()
    machine.run(max_instructions=n)
    return seen


def test_instruction_count_matches_a_per_instruction_hook_at_every_stop(boot):
    reference = boot(BUSY_WORK)
    full = trace_of(reference, 3000)
    assert len(full) == reference.instructions >= 3000
    sliced = boot(BUSY_WORK)
    dice = random.Random(7)
    while sliced.instructions < 2900:
        sliced.run(max_instructions=dice.randint(1, 60))
        assert sliced.cpu.pc == full[sliced.instructions] & ~1
    assert sliced.instructions >= 2900


def test_equal_machines_run_equally(boot):
    first, second = boot(BUSY_WORK, seed=4), boot(BUSY_WORK, seed=4)
    a = first.run(max_instructions=5000)
    while second.instructions < first.instructions:
        second.run(max_instructions=min(50, first.instructions - second.instructions))
    assert (first.instructions, first.time_us, first.cpu.pc) == (
        second.instructions,
        second.time_us,
        second.cpu.pc,
    )
    assert a.reason is StopReason.INSTRUCTIONS
    assert first.read(0x20000000, 0x200) == second.read(0x20000000, 0x200)


def test_time_is_instructions_at_the_clock_of_the_moment(boot):
    m = boot("  nop\n" * 400 + "  b .\n")
    m.run(max_instructions=400)
    assert m.time_us == 100  # 4 MHz


SWITCH_TO_48 = """
  ldr r0, =0x40022000
  ldr r1, =0x602
  str r1, [r0]
  ldr r0, =0x40021000
  ldr r1, =0xB9
  str r1, [r0]
"""


def test_clock_switch_changes_the_rate(boot):
    m = boot(SWITCH_TO_48 + "  b .\n")
    m.run(max_instructions=6)
    start = m.time_us
    m.run(max_instructions=48_000)
    assert m.time_us - start in (1000, 1001)


def test_clock_too_fast_for_flash_latency_is_a_fault(boot):
    m = boot(SWITCH_TO_48.replace("0x602", "0x601") + "  b .\n")
    r = m.run(max_instructions=100)
    assert r.reason is StopReason.FAULT
    assert "wait states" in r.detail


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ldr r0, =0x40001000\n ldr r1, [r0]", "no peripheral is modelled"),
        ("ldr r0, =0x40022060\n ldr r1, [r0]", "FLASH+0x60"),
        ("ldr r0, =0x40022010\n ldrb r1, [r0]", "32-bit registers only"),
        ("ldr r0, =0xE000E100\n movs r1, #1\n str r1, [r0]", "NVIC"),
        ("ldr r0, =0xE000ED88\n movs r1, #1\n str r1, [r0]", "floating-point"),
    ],
)
def test_unmodelled_access_ends_the_run_and_names_place_and_pc(boot, code, text):
    m = boot(f"  {code}\n  b .\n")
    r = m.run(max_instructions=100)
    assert r.reason is StopReason.FAULT
    assert text in r.detail
    assert f"pc 0x{m.cpu.pc:08x}" in r.detail


def test_unclocked_peripheral_reads_zero_and_ignores_writes(machine):
    assert machine.mem32[0x4000_441C] == 0
    machine.mem32[0x4001_0000] = 0x100
    assert machine.mem32[0x4001_0000] == 0
    machine.mem32[0x4002_1058] = 1 << 17
    assert machine.mem32[0x4000_441C] & 0xC0 == 0xC0


def test_wild_access_goes_through_the_hardfault_vector(boot, registers):
    m = boot("""
  ldr r0, =0x60000000
  ldr r1, [r0]
  b .
hardfault:
  ldr r2, =0xE000ED38
  ldr r3, [r2]
  mrs r4, ipsr
  b .
""")
    m.run(max_instructions=50)
    assert registers(m, 3) == 0x60000000
    assert registers(m, 4) == 3
    assert "unmapped 0x60000000" in m.faults[0][1]


def test_fault_inside_hardfault_is_a_lockup(boot):
    m = boot("  udf #0\nhardfault:\n  udf #0\n")
    r = m.run(max_instructions=50)
    assert r.reason is StopReason.FAULT
    assert "lockup" in r.detail


def test_store_by_byte_to_flash_is_a_size_error_and_changes_nothing(boot, registers):
    m = boot("""
  ldr r0, =0x40022000
  ldr r1, =0x45670123
  str r1, [r0, #8]
  ldr r1, =0xCDEF89AB
  str r1, [r0, #8]
  movs r1, #1
  str r1, [r0, #0x14]
  ldr r2, =0x08010000
  strb r1, [r2]
  ldr r3, [r0, #0x10]
  ldrb r4, [r2]
  b .
""")
    m.run(max_instructions=50)
    assert registers(m, 3) == 1 << 6
    assert registers(m, 4) == 0xFF


def test_core_programs_code_and_runs_it(boot, registers):
    m = boot("""
  ldr r2, =0x08010001
  movs r5, #0
  ldr r0, =0x40022000
  ldr r1, =0x45670123
  str r1, [r0, #8]
  ldr r1, =0xCDEF89AB
  str r1, [r0, #8]
  movs r1, #1
  str r1, [r0, #0x14]
  ldr r3, =0x08010000
  ldr r1, =0x4770352A
  mov r4, r1
  strd r1, r4, [r3]
1: ldr r1, [r0, #0x10]
  lsrs r1, r1, #17
  bcs 1b
  blx r2
  b .
""")
    m.run(max_instructions=100)
    assert registers(m, 5) == 0x2A
    assert m.flash.counters.double_words[1] == 1


def test_systick_pending_wakes_wfi_with_interrupts_masked(boot, registers):
    m = boot("""
  cpsid i
  ldr r0, =0xE000E010
  ldr r1, =3999
  str r1, [r0, #4]
  str r1, [r0, #8]
  movs r1, #7
  str r1, [r0]
  movs r4, #0
1: wfi
  ldr r2, =0xE000ED04
  ldr r1, [r2]
  lsrs r3, r1, #27
  bcc bad
  ldr r1, =(1 << 25)
  str r1, [r2]
  adds r4, #1
  cmp r4, #10
  bne 1b
  b .
bad: udf #0
""")
    m.run(time_ms=10.5, max_instructions=5000)
    assert registers(m, 4) == 10
    assert m.faults == []
    assert 9_900 <= m.time_us <= 11_500


def test_systick_interrupt_runs_its_handler_and_returns(boot, registers):
    m = boot("""
  ldr r0, =0xE000E010
  ldr r1, =999
  str r1, [r0, #4]
  str r1, [r0, #8]
  movs r1, #7
  str r1, [r0]
  movs r4, #0
1: adds r5, #1
  cmp r4, #20
  bne 1b
  b .
systick:
  adds r4, #1
  bx lr
""")
    m.run(max_instructions=30_000)
    assert registers(m, 4) >= 20
    assert m.board.scs.active == []
    assert m.cpu.sp == 0x2001_0000


def test_sleep_without_wake_up_source_ends_the_run(boot):
    assert boot("1: wfi\n b 1b\n").run(time_ms=None).reason is StopReason.ASLEEP


START_WATCHDOG = """
  ldr r0, =0x40003000
  ldr r1, =0xCCCC
  str r1, [r0]
  ldr r1, =0x5555
  str r1, [r0]
  movs r1, #1
  str r1, [r0, #4]
  movs r1, #99
  str r1, [r0, #8]
1: ldr r1, [r0, #12]
  cmp r1, #0
  bne 1b
  ldr r1, =0xAAAA
  str r1, [r0]
"""


def test_unfed_watchdog_resets_with_its_cause_and_keeps_ram(boot):
    m = boot(
        """
  ldr r0, =0x40021000
  ldr r1, [r0, #0x94]
  ldr r0, =0x20000000
  str r1, [r0]
  ldr r2, [r0, #4]
  adds r2, #1
  str r2, [r0, #4]
"""
        + START_WATCHDOG
        + "2: wfi\n b 2b\n"
    )
    m.mem32[0x2000_0004] = 0
    r = m.run(time_ms=200, max_resets=3)
    assert r.reason is StopReason.RESET_LIMIT
    assert [cause for _, cause in m.resets] == ["power", "iwdg", "iwdg", "iwdg", "iwdg"]
    assert m.mem32[0x2000_0004] == 4
    flags = m.mem32[0x2000_0000]
    assert flags >> 29 & 1
    assert flags >> 26 & 1
    gaps = [b - a for (a, _), (b, _) in zip(m.resets[1:], m.resets[2:], strict=False)]
    assert all(gap == pytest.approx(25_000, rel=0.05) for gap in gaps)  # 100 * 8 / 32 kHz


def test_fed_watchdog_does_not_reset(boot):
    m = boot(START_WATCHDOG + "2: str r1, [r0]\n b 2b\n")
    m.run(time_ms=40)
    assert [cause for _, cause in m.resets] == ["power"]


def test_locked_watchdog_registers_ignore_writes(machine):
    machine.mem32[0x4000_3000] = 0xCCCC
    machine.mem32[0x4000_3008] = 7
    machine.sleep_us(1000)
    assert machine.mem32[0x4000_3008] == 0xFFF
    machine.mem32[0x4000_3000] = 0x5555
    machine.mem32[0x4000_3008] = 7
    assert machine.mem32[0x4000_300C] == 2
    assert machine.mem32[0x4000_300C] == 0
    assert machine.mem32[0x4000_3008] == 7


def test_rmvf_clears_the_reset_flags(machine):
    assert machine.mem32[0x4002_1094] >> 26 & 3 == 3
    machine.mem32[0x4002_1094] = 1 << 23
    assert machine.mem32[0x4002_1094] >> 24 == 0


REMAP = """
  ldr r0, =0x40021000
  movs r1, #1
  str r1, [r0, #0x60]
  ldr r0, =0x40022000
  movs r1, #0
  str r1, [r0]
  adr r0, in_ram
  ldr r1, =0x20000000
  movs r2, #24
1: ldr r3, [r0], #4
  str r3, [r1], #4
  subs r2, #1
  bne 1b
  ldr r1, =0x20000001
  bx r1
.balign 4
in_ram:
  ldr r0, =0x40010000
  mov r1, #0x100
  str r1, [r0]
  ldr r2, =0x08000800
  ldr r4, [r2]
  ldr r2, =0x08000801
  bx r2
.pool
"""


def test_bank_swap_from_ram_shows_the_other_bank_to_loads_and_fetches(boot, registers, assemble):
    m = boot(REMAP)
    code = bytes.fromhex("3725fee7")  # movs r5, #0x37 ; b .
    m.flash.write_phys(2, 0x800, code)
    m.run(max_instructions=200)
    assert registers(m, 5) == 0x37
    assert registers(m, 4) == int.from_bytes(code, "little")
    assert m.warnings == []
    m.reset()
    assert m.read(0x0808_0800, 4) == code


REWRITTEN = """
  ldr r0, =0x20000100
  ldr r2, =0x20000101
  mov r7, #3
1: ldr r3, =0x47702507
  str r3, [r0]
  str r7, [r0, #0x40]
  blx r2
  ldr r3, =0x4770350a
  str r7, [r0, #0x44]
  str r3, [r0]
  blx r2
  subs r7, #1
  bne 1b
  b .
.pool
"""


def test_code_that_is_written_anew_in_ram_runs_as_it_is(boot, registers):
    m = boot(REWRITTEN)  # each time: movs r5, #7 ; bx lr, and over it adds r5, #10 ; bx lr
    m.run(max_instructions=60)
    assert registers(m, 7) == 0
    assert registers(m, 5) == 17


OVER_THE_EDGES = """
  movs r5, #0
  movs r6, #0
  .rept 400
  cmp r6, r6
  itee eq
  addeq r5, #1
  addne r5, #2
  addne r5, #4
  .endr
  b .
"""


def test_it_block_goes_on_in_a_page_that_was_not_met_before(boot, registers):
    m = boot(OVER_THE_EDGES)
    m.run(max_instructions=2000)
    assert registers(m, 5) == 400


NMI_PROGRAM = """
  ldr r0, =0x08081000
  movs r5, #0
  movs r6, #0
  cmp r0, r0
  itt eq
  ldreq r1, [r0]
  addeq r5, #1
  adds r6, #1
  b .
nmi:
  ldr r2, =0x40022000
  ldr r3, [r2, #0x18]
  str r3, [r2, #0x18]
  mov r4, r3
  mrs r7, ipsr
  bx lr
"""


def test_read_of_torn_word_enters_nmi_and_returns_even_inside_an_it_block(boot, registers):
    m = boot(NMI_PROGRAM)
    m.flash.mark_torn(2, 0x1000)
    m.run(max_instructions=100)
    assert registers(m, 4) >> 31 == 1
    assert registers(m, 4) & 0xF_FFFF == 1 << 19 | 0x1000
    assert registers(m, 7) == 2
    assert (registers(m, 5), registers(m, 6)) == (1, 1)
    assert m.cpu.sp == 0x2001_0000


def test_nmi_that_does_not_acknowledge_never_ends(boot, registers):
    m = boot(NMI_PROGRAM.replace("  str r3, [r2, #0x18]\n", ""))
    m.flash.mark_torn(2, 0x1000)
    m.run(max_instructions=10_000)
    assert registers(m, 6) == 0


def test_software_reset_restarts_inside_the_run_with_its_flag(boot):
    m = boot("""
  ldr r0, =0x40021000
  ldr r1, [r0, #0x94]
  lsrs r2, r1, #29
  bcs done
  ldr r0, =0xE000ED0C
  ldr r1, =0x05FA0004
  str r1, [r0]
  udf #0
done: b .
""")
    m.run(max_instructions=100)
    assert [cause for _, cause in m.resets] == ["power", "software"]
    assert m.faults == []


def test_snapshot_goes_back_to_the_same_future(boot):
    m = boot(BUSY_WORK)
    m.run(max_instructions=1000)
    snapshot = m.snapshot()
    m.run(max_instructions=2000)
    first = (m.cpu.pc, m.instructions, m.time_us, m.read(0x20000000, 0x200))
    m.restore(snapshot)
    assert m.instructions == 1000
    m.run(max_instructions=2000)
    assert (m.cpu.pc, m.instructions, m.time_us, m.read(0x20000000, 0x200)) == first


def test_uart_prints_only_when_port_pin_and_rate_are_set_up(machine):
    m = machine
    m.mem32[0x4002_104C], m.mem32[0x4002_1058] = 1, 1 << 17
    m.mem32[0x4000_440C], m.mem32[0x4000_4400] = 35, 9
    m.mem32[0x4000_4428] = ord("x")
    assert m.uart == b""
    m.mem32[0x4800_0000], m.mem32[0x4800_0020] = 0xABFF_FFEF, 7 << 8
    m.mem32[0x4000_4428] = ord("y")
    assert m.uart == b"y"
    m.mem32[0x4000_440C] = 70
    with pytest.raises(Exception, match="baud"):
        m.mem32[0x4000_4428] = ord("z")


def test_uart_hears_only_with_its_pin(machine):
    m = machine
    m.mem32[0x4002_104C], m.mem32[0x4002_1058] = 1, 1 << 17
    m.mem32[0x4000_4400] = 5  # receives
    m.uart_input(b"x")
    assert not m.mem32[0x4000_441C] & 1 << 5
    m.mem32[0x4800_0000], m.mem32[0x4800_0020] = 0xABFF_FFBF, 7 << 12  # PA3
    m.uart_input(b"y")
    assert m.mem32[0x4000_441C] & 1 << 5
    assert m.mem32[0x4000_4424] == ord("y")


def test_input_follows_what_drives_it_then_its_pull(machine):
    m = machine
    m.mem32[0x4002_104C] = 1 << 2
    m.mem32[0x4800_0800] = 0xFFFF_FFFF & ~(3 << 26)  # PC13: input
    assert m.mem32[0x4800_0810] >> 13 & 1 == 1
    m.mem32[0x4800_080C] = 2 << 26  # pulled down
    assert m.mem32[0x4800_0810] >> 13 & 1 == 0
    m.board.gpio["C"].driven[13] = 1
    assert m.mem32[0x4800_0810] >> 13 & 1 == 1
    del m.board.gpio["C"].driven[13]


def test_rng_needs_its_clock_and_never_repeats(machine):
    m = machine
    m.mem32[0x4002_104C] = 1 << 18
    m.mem32[0x5006_0800] = 4
    assert m.mem32[0x5006_0804] & 2, "clock error"
    m.sleep_us(100)
    assert m.mem32[0x5006_0808] == 0
    m.mem32[0x4002_2000] = 0x602
    m.mem32[0x4002_1000] = 0xB9
    m.mem32[0x4002_1088] = 3 << 26
    words = []
    for _ in range(8):
        while not m.mem32[0x5006_0804] & 1:
            pass
        words.append(m.mem32[0x5006_0808])
    assert len(set(words)) == 8
    m.board.rng.broken = True
    assert m.mem32[0x5006_0804] == 4


def test_instructions_run_without_a_step_of_ours_for_each(boot):
    m = boot("  ldr r0, =0x08000000\n1: ldr r1, [r0]\n  eors r2, r1\n  adds r3, #1\n  b 1b\n")
    calls = []
    sys.setprofile(lambda _frame, event, _what: calls.append(event))
    try:
        m.run(max_instructions=10_000_000)
    finally:
        sys.setprofile(None)
    assert len(calls) < 100_000, "Python runs between instructions, not at each"


def test_host_access_without_power_says_so():
    with pytest.raises(Exception, match="no power"):
        Machine().run(time_ms=1)
