"""The ESP32-C3's core: what it executes, what it refuses, how exactly it counts; ROM habits; watchdogs."""

import hashlib
import random
import shutil
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import vdev_esp32c3 as c3
from vdev_esp32c3 import ENTRY, QUIET, call

from fota_vdev.machine import Machine, StopReason
from fota_vdev.snapshot import Snapshots

pytestmark = pytest.mark.skipif(
    shutil.which("riscv64-unknown-elf-gcc") is None, reason="no gcc-riscv64-unknown-elf: make toolchain"
)
RTC_RAM = 0x5000_0000
KEEP = "\n  li t0, 0x50000000\n  sw a0, 0(t0)\n1: wfi\n  j 1b\n"


@pytest.fixture
def boot(tmp_path):
    """boot(text) -> powered machine whose second stage is the program."""

    def start(text: str, **how) -> Machine:
        made = c3.machine(c3.stage((ENTRY, c3.assemble(text, tmp_path))), **how)
        made.power_on()
        return made

    return start


def kept(machine: Machine, time_ms: int = 100) -> int:
    """Run and return the word that the program left."""
    result = machine.run(time_ms=time_ms)
    assert result.reason is StopReason.TIME, result
    return machine.load32(RTC_RAM)


def test_instruction_count_is_exact_at_every_stop(boot):
    text = QUIET + "  li a0, 0\n2: addi a0, a0, 1\n  mul a1, a0, a0\n  csrr a2, 0x802\n  j 2b\n"
    whole, parts = boot(text), boot(text)
    whole.run(max_instructions=3000)
    dice = random.Random(5)
    while parts.instructions < 3000:
        parts.run(max_instructions=min(dice.randint(1, 70), 3000 - parts.instructions))
    assert (parts.instructions, parts.cpu.pc) == (whole.instructions, whole.cpu.pc)
    assert parts.cpu.register(10) == whole.cpu.register(10) >= 700


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (".word 0x00a5252f", "illegal"),  # amoadd.w
        (".word 0x1005252f", "illegal"),  # lr.w
        (".word 0x00052007", "illegal"),  # flw
        (".word 0x10502573", "illegal"),  # csrr stvec
        ("ecall", "ecall"),
        ("ebreak", "ebreak"),
        ("lw a1, 0(zero)", "load from 0x00000000"),
        ("li a0, 0x42000000\n lw a1, 0(a0)", "load from 0x42000000"),  # no page is mapped
        ("jr zero", "fetch from 0x00000000"),
        # the loader's own instructions, and flash, at their addresses as data
        ("la t0, _start\nli t1, 0x700000\nsub t0, t0, t1\njr t0", "fetch from 0x3fcd8000"),
        (
            "li t0, 0x600c5000\nsw zero, 0(t0)\nli t0, 0x3c000000\nlw t1, 0(t0)\njr t0",
            "fetch from 0x3c000000",
        ),
    ],
)
def test_what_the_chip_has_not_is_an_exception_that_says_what_and_where(boot, code, what):
    m = boot(QUIET + code)
    result = m.run(max_instructions=200)
    assert result.reason is StopReason.FAULT
    assert what in result.detail
    assert f"pc 0x{m.cpu.pc:08x}" in result.detail


@pytest.mark.parametrize("code", ["lw a1, 2(a0)", "sw a1, 2(a0)", "lh a1, 1(a0)", "sh a1, 3(a0)"])
def test_misaligned_access_ends_the_run(boot, code):
    result = boot(QUIET + f"  li a0, 0x3fc90000\n  {code}\n").run(max_instructions=200)
    assert result.reason is StopReason.FAULT
    assert "not aligned" in result.detail


def test_exception_goes_through_mtvec_with_its_cause(boot):
    m = boot(
        QUIET + "  la t0, vectors\n  ori t0, t0, 1\n  csrw mtvec, t0\nhere:\n  .word 0x00a5252f\n"
        ".balign 256\nvectors:\n  csrr a0, mcause\n  csrr a1, mepc\n  la a2, here\n"
        "  sub a1, a1, a2\n  slli a1, a1, 8\n  or a0, a0, a1\n" + KEEP
    )
    assert kept(m) == 2
    assert len(m.faults) == 1


def test_iram_and_dram_are_the_same_bytes(boot):
    m = boot(
        QUIET
        + "  li a0, 0x3fc90000\n  li a1, 0x1234\n  sw a1, 0(a0)\n  li a0, 0x40390000\n  lw a0, 0(a0)"
        + KEEP
    )
    assert kept(m) == 0x1234


def test_rom_leaves_the_state_that_it_leaves_on_the_chip(boot):
    m = boot("1: wfi\n  j 1b\n")
    assert (m.cpu.pc, m.cpu.sp, m.cpu.register(3), m.cpu.vector) == (ENTRY, 0x3FCDE560, 0, 0x40001D01)
    assert m.load32(0x600C_4000) & 1  # cache on
    assert m.load32(0x600C_4004) == 0  # both buses open
    assert {m.load32(0x600C_5000 + 4 * n) for n in range(128)} == {0x100}
    record = m.load32(0x3FCD_FFF0)
    assert struct.unpack("<6I", m.read(record, 24)) == (0xC84016, 2 << 20, 64 << 10, 4096, 256, 0xFFFF)
    assert m.load32(0x600C_0014) == 4
    assert m.clock.hz == 20_000_000
    assert m.load32(0x6000_8850) >> 18 & 7 == 4  # v0.4


@pytest.mark.parametrize(
    ("change", "said", "boots"),
    [
        (lambda b: b"\x00" + b[1:], "invalid header: 0x", False),
        (lambda b: b[:1] + b"\x11" + b[2:], "Invalid image block count", False),
        (lambda b: b[:12] + b"\x09" + b[13:], "Invalid chip id. Expected 5 read 9", False),
        (lambda b: b[:33] + bytes([b[33] ^ 1]) + b[34:], "Checksum", False),
        (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "Attempting to boot anyway", True),
    ],
)
def test_rom_has_its_habits_with_a_damaged_second_stage(tmp_path, change, said, boots):
    m = c3.machine(change(c3.stage((ENTRY, c3.assemble("1: wfi\n  j 1b\n", tmp_path)))))
    m.power_on()
    assert said in m.uart.decode()
    assert (m.cpu.pc == ENTRY) == boots
    m.run(time_ms=1500, max_resets=1)
    assert [cause for _, cause in m.resets][:2] == ["power", "timg0 watchdog"]


def test_load_range_over_the_rom_s_own_ram_is_refused_and_one_into_registers_is_not():
    code = bytes.fromhex("73005010f5bf0000")
    refused = c3.machine(c3.stage((ENTRY, code), (0x3FCD_E000, bytes(0x400))))
    refused.power_on()
    assert "Invalid load range" in refused.uart.decode()
    taken = c3.machine(c3.stage((ENTRY, code), (0x6000_8050, struct.pack("<I", 0xAFFE))))
    taken.power_on()
    assert taken.load32(0x6000_8050) == 0xAFFE


def test_call_of_a_rom_address_without_function_ends_the_run(boot):
    result = boot(QUIET + call(0x4000_0020)).run(max_instructions=200)
    assert result.reason is StopReason.FAULT
    assert "ROM address 0x40000020" in result.detail


PUT = """
  la a1, source
  li a0, {where}
  li a2, {n}
  li t0, 0x4000012c
  jalr t0
"""


@pytest.mark.parametrize(
    ("where", "n", "configured", "answer"),
    [(0x1000, 8, False, 0), (0x20_0000, 8, False, 1), (0x1F_FFFC, 8, False, 1), (0x1000, 6, False, 1),
     (0x1001, 8, False, 0), (0x20_0000, 8, True, 0), (0x3F_FFFC, 8, True, 1)],
)  # fmt: skip
def test_rom_write_refuses_what_lies_beyond_the_size_it_knows(boot, where, n, configured, answer):
    config = call(0x4000_0134, 0xC84016, 4 << 20, 0x10000, 0x1000, 0x100, 0xFFFF) if configured else ""
    m = boot(QUIET + config + PUT.format(where=where, n=n) + KEEP + "source: .word 0x11223344, 0x55667788\n")
    assert kept(m) == answer
    written = struct.pack("<2I", 0x11223344, 0x55667788)[:n]
    assert m.flash.read_phys(1, where, min(n, (4 << 20) - where)) == (
        written if answer == 0 else b"\xff" * min(n, (4 << 20) - where)
    )
    assert m.flash.operations == (0 if answer else 1)


def test_write_over_a_page_border_is_two_operations_and_clears_bits_only(boot):
    m = boot(QUIET + PUT.format(where=0x10FC, n=8) + KEEP + "source: .word 0x11223344, 0x55667788\n")
    m.flash.write_phys(1, 0x10FC, b"\x0f" * 8)
    kept(m)
    assert m.flash.read_phys(1, 0x10FC, 8) == bytes(
        b & 15 for b in struct.pack("<2I", 0x11223344, 0x55667788)
    )
    assert [op.offset for op in m.flash.log] == [0x10FC, 0x1100]


TIMG0_OFF = "  li t0, 0x6001f000\n  li t1, 0x400000\n  sw t1, 0x48(t0)\n"
SWD_OFF = (
    "  li t0, 0x60008000\n  li t1, 0x8f1d312a\n  sw t1, 0xb0(t0)\n  li t1, 0x80000000\n  sw t1, 0xac(t0)\n"
)
RTC_1_S = (
    "  li t0, 0x60008000\n  li t1, 68000\n  sw t1, 0x94(t0)\n  li t1, 0x{:x}0000000\n  sw t1, 0x90(t0)\n"
)
TIMER = (  # 500 ticks of the crystal / 40,000; stage 0 does what the last digit says, with the update bit
    "  li t0, 0x{:x}\n  li t1, 0x9c400000\n  sw t1, 0x4c(t0)\n  li t1, 500\n  sw t1, 0x50(t0)\n"
    "  li t1, 0x{:x}0600000\n  sw t1, 0x48(t0)\n"
)
TIMG0, TIMG1 = 0x6001_F000, 0x6002_0000
OPTIONS0 = "  li t0, 0x60008000\n  li t1, {}\n  sw t1, 0(t0)\n"
CAUSES = [
    ("nothing is fed", "", "timg0 watchdog", 7, 1300),
    ("TIMG0 off", TIMG0_OFF, "super watchdog", 0x12, 1400),
    ("TIMG0 and super watchdog off", TIMG0_OFF + SWD_OFF, "rtc watchdog", 0x10, 1470),
    (
        "RTC watchdog of 1 s: stage 0 is twice what it says",
        QUIET + RTC_1_S.format(0xC),
        "rtc watchdog",
        0x10,
        1000,
    ),
    ("RTC watchdog, core", QUIET + RTC_1_S.format(0xB), "rtc watchdog core", 9, 1000),
    ("RTC watchdog, CPU", QUIET + RTC_1_S.format(0xA), "rtc watchdog cpu", 0x0D, 1000),
    ("TIMG0, system", QUIET + TIMER.format(TIMG0, 0xE), "timg0 watchdog", 7, 500),
    ("TIMG0, CPU", QUIET + TIMER.format(TIMG0, 0xC), "timg0 watchdog cpu", 0x0B, 500),
    ("TIMG1, system", QUIET + TIMER.format(TIMG1, 0xE), "timg1 watchdog", 8, 500),
    ("TIMG1, CPU", QUIET + TIMER.format(TIMG1, 0xC), "timg1 watchdog cpu", 0x11, 500),
    ("software", QUIET + OPTIONS0.format(1 << 31), "software", 3, 0),
    ("software, CPU only", QUIET + OPTIONS0.format(32), "software cpu", 12, 0),
]


@pytest.mark.parametrize(
    ("code", "cause", "number", "ms"), [c[1:] for c in CAUSES], ids=[c[0] for c in CAUSES]
)
def test_reset_has_its_cause_and_comes_in_its_time(boot, code, cause, number, ms):
    m = boot(code + "1: wfi\n  j 1b\n")
    m.run(time_ms=3000, until=lambda m: len(m.resets) > 1)
    at, why = m.resets[1]
    assert why == cause
    assert m.load32(0x6000_8038) & 0x3F == number
    assert abs((at - m.resets[0][0]) / 1000 - ms) < 20


def test_rtc_watchdog_that_is_fed_in_time_resets_nothing_and_begins_anew(boot):
    m = boot(QUIET + RTC_1_S.format(0xC) + "1: wfi\n  j 1b\n")
    for _ in range(3):
        m.run(time_ms=900)
        m.store32(0x6000_80A4, 1 << 31)
    m.run(time_ms=900)
    assert [cause for _, cause in m.resets] == ["power"]
    m.store32(0x6000_80A4, 1)  # not the bit that feeds
    m.run(time_ms=200)
    assert [cause for _, cause in m.resets] == ["power", "rtc watchdog"]


def test_timer_group_1_guards_no_boot_from_flash(boot):
    m = boot(QUIET + "1: wfi\n  j 1b\n")
    m.run(time_ms=30_000)
    assert [cause for _, cause in m.resets] == ["power"]


MARKS = {
    "a peripheral": (0x6000_4004, 0x15),
    "the RTC block": (0x6000_8034, 0x77),
    "a store": (0x6000_8050, 0x5709E),
    "RTC RAM": (RTC_RAM, 0x600D),
    "RAM": (0x3FC9_0000, 0x4A),
}
CPU_LOSES: set[str] = set()
CORE_LOSES = {"a peripheral"}
SYSTEM_LOSES = CORE_LOSES | {"the RTC block"}


@pytest.mark.parametrize(
    ("cause", "number", "loses"),
    [
        ("software cpu", 0x0C, CPU_LOSES),
        ("rtc watchdog cpu", 0x0D, CPU_LOSES),
        ("timg0 watchdog cpu", 0x0B, CPU_LOSES),
        ("timg1 watchdog cpu", 0x11, CPU_LOSES),
        ("software", 3, CORE_LOSES),
        ("timg0 watchdog", 7, CORE_LOSES),
        ("timg1 watchdog", 8, CORE_LOSES),
        ("rtc watchdog core", 9, CORE_LOSES),
        ("brown-out", 0x0F, SYSTEM_LOSES),
        ("rtc watchdog", 0x10, SYSTEM_LOSES),
        ("super watchdog", 0x12, SYSTEM_LOSES),
        ("pin", 1, set(MARKS)),
    ],
)
def test_reset_reaches_as_far_as_its_kind_and_says_its_cause(boot, cause, number, loses):
    m = boot(QUIET + "1: wfi\n  j 1b\n")
    m.run(time_ms=10)
    for address, value in MARKS.values():
        m.store32(address, value)
    m.reset(cause)
    assert m.load32(0x6000_8038) & 0x3F == number
    lost = {name for name, (address, value) in MARKS.items() if m.load32(address) != value}
    assert lost == loses


def test_watchdog_setting_takes_effect_with_its_update_bit_only_and_behind_its_key(boot):
    locked = (
        "  li t0, 0x6001f000\n  sw zero, 0x64(t0)\n  li t1, 0x400000\n  sw t1, 0x48(t0)\n1: wfi\n  j 1b\n"
    )
    without_update = "  li t0, 0x6001f000\n  sw zero, 0x48(t0)\n1: wfi\n  j 1b\n"
    for text in (locked, without_update):
        m = boot(text)
        m.run(time_ms=2000, until=lambda m: len(m.resets) > 1)
        assert m.resets[1][1] == "timg0 watchdog"


@pytest.mark.parametrize(
    ("register", "protection", "key"), [(0x90, 0xA8, 0x50D8_3AA1), (0xAC, 0xB0, 0x8F1D_312A)]
)
def test_watchdogs_of_the_rtc_take_a_setting_behind_their_key_only(boot, register, protection, key):
    m = boot("1: wfi\n  j 1b\n")
    rtc = 0x6000_8000
    before = m.load32(rtc + register)
    m.store32(rtc + register, before ^ 1 << 18)
    assert m.load32(rtc + register) == before
    m.store32(rtc + protection, key)
    m.store32(rtc + register, before ^ 1 << 18)
    assert m.load32(rtc + register) == before ^ 1 << 18


def test_rtc_ram_and_stores_survive_a_software_reset_and_not_the_en_pin(boot):
    m = boot(QUIET + "1: wfi\n  j 1b\n")
    m.store32(RTC_RAM, 0x600D)
    m.store32(0x6000_8050, 0x5709E)
    m.reset("software")
    assert (m.load32(RTC_RAM), m.load32(0x6000_8050)) == (0x600D, 0x5709E)
    m.reset("pin")
    assert m.load32(RTC_RAM) != 0x600D
    assert m.load32(0x6000_8050) == 0


def test_alarm_of_the_system_timer_ends_a_wfi(boot):
    m = boot(
        QUIET + "  li t0, 0x600c2000\n  li t1, 5\n  sw t1, 0x94(t0)\n  li t1, 32\n  sw t1, 0x104(t0)\n"
        "  li t1, 1\n  sw t1, 0x128(t0)\n  sw t1, 0x194(t0)\n"
        "  li t0, 0x60023000\n  li t1, 0x40000000\n  sw t1, 4(t0)\n  lw a1, 0x44(t0)\n"
        "  li a2, 800000\n  add a1, a1, a2\n  sw zero, 0x1c(t0)\n  sw a1, 0x20(t0)\n  sw zero, 0x34(t0)\n"
        "  li t1, 1\n  sw t1, 0x50(t0)\n  sw t1, 0x64(t0)\n  li t1, 0x41000000\n  sw t1, 0(t0)\n"
        "2: wfi\n  lw a0, 0x68(t0)\n  beqz a0, 2b\n" + KEEP
    )
    start = m.time_us
    m.run(time_ms=200, until=lambda m: m.load32(RTC_RAM) == 1)
    assert abs(m.time_us - start - 50_000) < 1000  # 800,000 ticks at 16 MHz


def test_machine_goes_back_to_a_snapshot_and_runs_on_the_same(boot):
    m = boot(QUIET + "  li a0, 0\n2: addi a0, a0, 1\n  csrr a1, 0x802\n  j 2b\n")
    m.run(max_instructions=500)
    moment = m.snapshot()
    m.run(max_instructions=700)
    first = (m.instructions, m.time_us, m.cpu.pc, m.cpu.register(10), m.cpu.register(11))
    m.restore(moment)
    m.run(max_instructions=700)
    assert (m.instructions, m.time_us, m.cpu.pc, m.cpu.register(10), m.cpu.register(11)) == first


def test_skip_leaves_out_one_instruction_of_either_size(boot):
    m = boot(QUIET + "  .option norvc\n  li a0, 1\n  .option rvc\n  c.addi a0, 2\n  c.addi a0, 4\n" + KEEP)
    while m.cpu.word(m.cpu.pc) & 0xFFFF != 0x0509:  # c.addi a0, 2
        m.run(max_instructions=1)
    m.cpu.skip()
    assert kept(m) == 5


def test_campaign_snapshot_brings_back_core_ram_flash_cache_and_time(boot):
    m = boot(QUIET + "  li a0, 0\n2: addi a0, a0, 1\n  j 2b\n")
    m.run(max_instructions=100)
    m.flash.write_phys(1, 0x5000, b"then")
    snapshots = Snapshots(m)
    moment = snapshots.take()
    m.run(max_instructions=50)
    ahead = (m.instructions, m.time_us, m.cpu.pc, m.cpu.register(10))
    m.store32(0x3FC9_0000, 1)
    m.store32(0x600C_5000, 3)
    m.flash.write_phys(1, 0x5000, b"now.")
    m.power_off()
    snapshots.restore(moment)
    assert m.powered
    assert m.flash.read_phys(1, 0x5000, 4) == b"then"
    assert m.load32(0x600C_5000) == 0x100
    m.run(max_instructions=50)
    assert (m.instructions, m.time_us, m.cpu.pc, m.cpu.register(10)) == ahead


MD5 = {name: 0x4000_0000 + offset for name, offset in (("init", 0x614), ("update", 0x618), ("final", 0x61C))}
CONTEXT, DATA, DIGEST = 0x3FC9_0000, 0x3FC9_1000, 0x3FC9_2000
BEGIN_MD5, END_MD5 = call(MD5["init"], CONTEXT), call(MD5["final"], DIGEST, CONTEXT) + KEEP
ADD_MD5 = f"  li t0, {DATA}\n  li t1, 0x64636261\n  sw t1, 0(t0)\n" + call(MD5["update"], CONTEXT, DATA, 4)


@pytest.mark.parametrize("kind", ["whole", "of a campaign"])
def test_snapshot_holds_a_digest_of_the_rom_that_is_under_way(boot, kind):
    m = boot(QUIET + BEGIN_MD5 + ADD_MD5 + "  csrr a5, 0x802\n" + END_MD5)
    while m.cpu.word(m.cpu.pc) != 0x8020_27F3:
        m.run(max_instructions=1)
    snapshots = Snapshots(m)
    back = m.restore if kind == "whole" else snapshots.restore
    moment = m.snapshot() if kind == "whole" else snapshots.take()
    for _ in range(2):
        m.run(time_ms=1)
        assert m.read(DIGEST, 16) == hashlib.md5(b"abcd", usedforsecurity=False).digest()
        m.store32(DIGEST, 0)
        back(moment)


def test_digest_of_the_rom_that_was_never_begun_is_another_one(boot):
    m = boot(QUIET + ADD_MD5 + END_MD5)
    m.store32(DIGEST, 0)
    assert m.run(time_ms=1).reason is StopReason.TIME
    assert m.load32(DIGEST) != 0
    assert m.read(DIGEST, 16) != hashlib.md5(b"abcd", usedforsecurity=False).digest()


@pytest.mark.parametrize(("high", "low"), [(0, 7), (3, 0x80000000), (0xFFFFFFFF, 31)])
def test_analogue_register_with_bits_that_nobody_has_ends_no_run(boot, high, low):
    write = call(0x40001960, 0x66, 0, 2, high, low, 0xFFFFFFFF)
    m = boot(QUIET + write + call(0x40001958, 0x66, 0, 2, high, low) + KEEP)
    assert kept(m) <= 0xFF
