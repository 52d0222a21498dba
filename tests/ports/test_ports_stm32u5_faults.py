"""Single faults on the STM32U5: nothing executes before the jump but the bootloader, and a seeded sample of
skipped instructions."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bootloader"))

from skips import places, skip_each, stray_jump, trace

from fota_wire import journal

A, B = 0x5A, 0xA5
SAMPLE = 60
MPU_CTRL, MPU_RNR, MPU_RBAR, MPU_RLAR = 0xE000ED94, 0xE000ED98, 0xE000ED9C, 0xE000EDA0
SLOT, SLOT_HIGH, RAM = 0x0800_4000, 0x0810_4000, 0x2000_2000


def test_bootloader_executes_in_its_own_flash_only_whatever_regions_were_left(device: Any) -> None:
    """Regions may not overlap on this core, so those of an application must be gone."""
    machine = device.machine
    machine.power_on()
    for region in range(8):
        machine.mem32[MPU_RNR] = region
        machine.mem32[MPU_RBAR] = SLOT | 2  # executable
        machine.mem32[MPU_RLAR] = 0x3FFF_FFE0 | 1
    machine.run(time_ms=100)
    assert machine.mem32[MPU_CTRL] & 1
    edges = {0x0800_0000: True, SLOT - 2: True, SLOT: False, SLOT_HIGH: False, RAM: False, 0x3FFF_FFFE: False}
    assert {address: machine.board.scs.mpu.executes(address) for address in edges} == edges
    enabled = [limit & 1 for _, limit in machine.board.scs.mpu.pairs]
    assert enabled == [1, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("address", [SLOT + 0x240, SLOT_HIGH + 0x240, RAM], ids=["low", "high", "ram"])
def test_stray_jump_before_the_decision_restarts_the_chip(staged: Any, address: int) -> None:
    machine = staged.machine
    machine.power_on()
    causes, fault = stray_jump(machine, address)
    assert causes == ["software"]
    assert f"MPU forbids to execute 0x{address:08x}" in fault


def test_application_finds_the_memory_protection_off(device: Any) -> None:
    device.boot()
    assert device.machine.mem32[MPU_CTRL] == 0
    assert [limit & 1 for _, limit in device.machine.board.scs.mpu.pairs] == [0] * 8


@pytest.mark.parametrize("case", ["signature", "key", "counter"])
def test_skipped_instruction_never_boots_a_bad_image(
    device: Any, signed: Callable[..., bytes], keys: Any, u5_bootloader: Any, case: str
) -> None:
    """The bad image lies in slot A, requested; nothing else does."""
    from fota_wire.cose import key_hash
    from fota_wire.host_crypto import public_xy

    stolen = signed("1.1.0", sec_cnt=2, key=keys.thief)
    images = {
        "signature": stolen.replace(key_hash(public_xy(keys.thief)), key_hash(public_xy(keys.root_a))),
        "key": stolen,
        "counter": signed("1.1.0", sec_cnt=1),
    }
    device.boot()
    device.install("A", images[case])
    device.append(journal.Record(device.state().sequence + 1, B, A, journal.STAGED))
    machine = device.machine
    if case == "counter":
        machine.element.nvm.counters[0] = 16
    machine.power_off()
    machine.power_on()
    said, resets = len(machine.uart), len(machine.resets)

    def over(m: Any) -> bool:
        text = bytes(m.uart[said:])
        return b"halt: " in text or b"app " in text or len(m.resets) > resets

    steps = trace(machine, over)
    skipped = 0
    for address in skip_each(machine, steps, places(steps, u5_bootloader, SAMPLE, len(case)), over):
        assert b"app " not in bytes(machine.uart[said:]), hex(address)
        assert not SLOT <= machine.cpu.pc < 0x0900_0000, hex(address)
        skipped += 1
    assert skipped > SAMPLE * 3 // 4  # the rest lies in IT blocks
