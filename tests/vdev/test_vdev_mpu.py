"""The MPU, as far as it forbids execution: register by register on both architectures, and on the core."""

import pytest

from fota_vdev.cortex_m.mpu import Mpu, MpuV8
from fota_vdev.snapshot import Snapshots

CTRL, RNR, RBAR, RASR = 0xD94, 0xD98, 0xD9C, 0xDA0
RLAR, RBAR_A1 = RASR, 0xDA4
FLASH, RAM = 0x0800_0000, 0x2000_0000
XN, ENABLED = 1 << 28, 1


def v7(*regions: tuple[int, int, int], ctrl: int = 5) -> Mpu:
    """(base, log2 of size, further bits of RASR), numbered as given, written through RBAR.VALID."""
    mpu = Mpu()
    for number, (base, log2, bits) in enumerate(regions):
        mpu.write(RBAR, base | 0x10 | number)
        mpu.write(RASR, bits | (log2 - 1) << 1 | ENABLED)
    mpu.write(CTRL, ctrl)
    return mpu


def test_region_forbids_and_a_higher_one_permits_inside_it():
    mpu = v7((0, 30, XN), (FLASH, 14, 0))
    assert mpu.never(FLASH, FLASH + 0x10000) == [(FLASH + 0x4000, FLASH + 0x10000)]
    assert mpu.never(RAM, RAM + 0x2000) == [(RAM, RAM + 0x2000)]


def test_lower_region_does_not_permit_what_a_higher_one_forbids():
    assert v7((FLASH, 14, 0), (0, 30, XN)).never(FLASH, FLASH + 0x4000) == [(FLASH, FLASH + 0x4000)]


def test_mpu_that_is_off_forbids_nothing():
    assert v7((0, 30, XN), ctrl=4).never(FLASH, FLASH + 0x4000) == []


def test_without_default_map_nothing_executes_but_what_a_region_permits():
    mpu = v7((FLASH, 12, 0), ctrl=1)
    assert mpu.never(FLASH, FLASH + 0x2000) == [(FLASH + 0x1000, FLASH + 0x2000)]


def test_sub_region_that_is_taken_out_falls_through():
    mpu = v7((FLASH, 16, XN | 0b0000_0010 << 8))
    assert mpu.never(FLASH, FLASH + 0x8000) == [(FLASH, FLASH + 0x2000), (FLASH + 0x4000, FLASH + 0x8000)]


def test_page_that_is_permitted_in_part_counts_as_executable():
    mpu = v7((0, 30, XN), (RAM + 0x400, 8, 0))
    assert mpu.never(RAM, RAM + 0x2000) == [(RAM + 0x1000, RAM + 0x2000)]


def test_disabled_region_does_not_count():
    mpu = v7((0, 30, XN))
    mpu.write(RBAR, 0x10)
    mpu.write(RASR, 0)
    assert mpu.never(FLASH, FLASH + 0x1000) == []
    assert mpu.read(RASR) == 0


def test_v8_region_reaches_from_base_to_limit():
    mpu = MpuV8()
    mpu.write(RNR, 2)
    mpu.write(RBAR, FLASH + 0x4000 | 3)
    mpu.write(RLAR, 0x3FFF_FFE0 | 1)
    mpu.write(CTRL, 7)
    assert mpu.never(FLASH, FLASH + 0x6000) == [(FLASH + 0x4000, FLASH + 0x6000)]
    assert mpu.never(RAM, RAM + 0x1000) == [(RAM, RAM + 0x1000)]
    assert mpu.read(RBAR) == FLASH + 0x4000 | 3


def test_v8_alias_registers_name_the_neighbours_of_the_region():
    mpu = MpuV8()
    mpu.write(RBAR_A1, FLASH | 1)
    mpu.write(RBAR_A1 + 4, FLASH + 0x1000 - 32 | 1)
    mpu.write(CTRL, 5)
    assert mpu.never(FLASH, FLASH + 0x2000) == [(FLASH, FLASH + 0x1000)]
    mpu.write(RNR, 1)
    assert mpu.read(RBAR) == FLASH | 1


# --- on the core ---

FENCE = """
  ldr r0, =0xe000ed94
  ldr r1, =0x08004010
  ldr r2, =0x13020017    @ 4 KiB, execute-never
  str r1, [r0, #8]
  str r2, [r0, #12]
  movs r3, #5
  str r3, [r0]
  dsb
  isb
"""


@pytest.mark.parametrize("address", [0x0800_4001, 0x0800_4FFF], ids=["first", "last"])
def test_jump_into_forbidden_flash_is_a_hard_fault(boot, registers, address):
    machine = boot(
        FENCE + f"  movs r7, #1\n  ldr r4, ={address:#x}\n  bx r4\nhardfault:\n  movs r7, #9\n  b .\n"
    )
    machine.flash.write_phys(1, 0x4000, b"\x55\x27" * 0x800)  # movs r7, #0x55
    machine.run(max_instructions=100)
    assert registers(machine, 7) == 9
    assert "MPU forbids" in machine.faults[0][1]


def test_flash_beside_what_is_forbidden_executes(boot, registers):
    machine = boot(FENCE + "  ldr r4, =0x08005001\n  bx r4\n")
    machine.flash.write_phys(1, 0x5000, b"\x55\x27\xfe\xe7")
    machine.run(max_instructions=100)
    assert registers(machine, 7) == 0x55
    assert machine.faults == []


def test_what_was_forbidden_executes_once_the_mpu_is_off(boot, registers):
    machine = boot(FENCE + "  movs r3, #0\n  str r3, [r0]\n  ldr r4, =0x08004001\n  bx r4\n")
    machine.flash.write_phys(1, 0x4000, b"\x55\x27\xfe\xe7")
    machine.run(max_instructions=100)
    assert registers(machine, 7) == 0x55


@pytest.mark.parametrize(
    "address", [0x0800_3000, 0x0800_4000, 0x0800_5000], ids=["before", "inside", "behind"]
)
def test_store_beside_forbidden_flash_still_goes_through_the_controller(boot, address):
    """The emulator parts the mapping where protection changes; no part may become plain memory."""
    machine = boot(FENCE + f"  ldr r4, ={address:#x}\n  movs r5, #0\n  str r5, [r4]\n  b .\n")
    machine.run(max_instructions=100)
    assert machine.flash.read_phys(1, address - FLASH, 4) == b"\xff" * 4


def test_reset_switches_the_mpu_off(boot, registers):
    machine = boot(FENCE + "  b .\n")
    machine.run(max_instructions=50)
    assert machine.load32(0xE000_ED94) == 5
    machine.reset("pin")
    assert machine.load32(0xE000_ED94) == 0
    machine.flash.write_phys(1, 0, (0x2001_0000).to_bytes(4, "little") + (0x0800_4001).to_bytes(4, "little"))
    machine.flash.write_phys(1, 0x4000, b"\x55\x27\xfe\xe7")
    machine.reset("pin")
    machine.run(max_instructions=10)
    assert registers(machine, 7) == 0x55


def test_fault_after_a_restore_does_not_reach_into_the_snapshot(boot):
    machine = boot(FENCE + "  ldr r4, =0x08004001\n  bx r4\nhardfault:\n  b .\n")
    snapshots = Snapshots(machine)
    start = snapshots.take()
    for _ in range(3):
        machine.run(max_instructions=100)
        assert (len(machine.faults), machine.board.scs.active) == (1, [3])
        snapshots.restore(start)
        assert (machine.faults, machine.board.scs.active) == ([], [])
        assert machine.load32(0xE000_ED94) == 0
