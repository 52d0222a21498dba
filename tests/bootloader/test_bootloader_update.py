"""Booting, updating, confirming, rolling back and reverting, on the virtual device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

A, B, NONE = 0x5A, 0xA5, 0xC3
TRIAL, REJECTED, REVERTED = 0x3C, 0x55, 0x66


@pytest.fixture
def updated(device: Any, signed: Callable[..., bytes]) -> Any:
    """1.0.0 runs confirmed in A; 1.1.0 (security counter 2) lies in B, requested."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    device.request("B")
    return device


def test_factory_device_boots_slot_a_and_writes_first_record(
    device: Any, signed: Callable[..., bytes]
) -> None:
    report = device.boot()
    assert "fota-boot: slot A 1.0.0 confirmed" in device.said
    assert "app 1.0.0: slot A, confirmed" in device.said
    assert report.running == "A" or report.running == A
    state = device.state()
    assert (state.sequence, state.confirmed, state.candidate) == (1, A, NONE)
    assert device.floor == 1


def test_second_boot_writes_no_flash_and_no_counter(device: Any) -> None:
    device.boot()
    operations, counters = device.flash.operations, device.machine.element.counters
    device.restart()
    assert device.flash.operations == operations
    assert device.machine.element.counters == counters


def test_staged_image_boots_on_trial_with_watchdog(updated: Any) -> None:
    report = updated.restart()
    assert "fota-boot: slot B 1.1.0 trial" in updated.said
    assert (report.trial, report.tries) == (1, 2)
    assert (updated.state().state, updated.state().tries) == (TRIAL, 2)
    assert updated.floor == 1  # never before it is confirmed
    updated.boot(until="self-test passed")
    assert updated.machine.mem32[0x20017F80] == 0x600D600D


def test_confirmed_update_raises_floor_at_next_boot(updated: Any) -> None:
    updated.restart(until="self-test passed")
    updated.confirm("B")
    report = updated.restart()
    assert "fota-boot: slot B 1.1.0 confirmed" in updated.said
    assert updated.floor == 2
    assert updated.machine.element.counters[0] == 16
    assert (report.floor, report.sec_cnt) == (2, 2)


def test_update_costs_bootloader_one_record_and_no_erase(updated: Any) -> None:
    updated.flash.log.clear()
    updated.restart(until="self-test passed")
    updated.confirm("B")
    updated.restart()
    assert [op.kind for op in updated.flash.log] == ["program", "program"]
    assert {op.bank for op in updated.flash.log} == {2}


def test_rollback_to_other_slot_copies_nothing(device: Any, signed: Callable[..., bytes]) -> None:
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=1))
    device.request("B")
    device.restart(until="self-test passed")
    device.confirm("B")
    device.restart()
    device.flash.log.clear()
    device.request("A")
    device.restart(until="self-test passed")
    device.confirm("A")
    device.restart()
    assert "fota-boot: slot A 1.0.0 confirmed" in device.said
    assert all(op.offset < 4096 and op.bank == 2 for op in device.flash.log)


def test_rollback_below_floor_is_rejected(updated: Any) -> None:
    updated.restart(until="self-test passed")
    updated.confirm("B")
    updated.restart()
    updated.request("A")
    updated.restart()
    assert "fota-boot: slot A refused: PO1" in updated.said
    assert "slot B 1.1.0 confirmed" in updated.said
    assert (updated.state().state, updated.state().reason) == (REJECTED, 0x504F0001)


def test_failed_self_test_reverts_with_its_reason(device: Any, signed: Callable[..., bytes]) -> None:
    device.boot()
    device.install("B", signed("1.2.0", sec_cnt=2, fail=True))
    device.request("B")
    report = device.restart(until="app 1.0.0: journal: record")
    assert "self-test failed" in device.said
    assert "fota-boot: slot B reverted: AP1" in device.said
    assert device.machine.resets[-1][1] == "software"
    assert (device.state().state, device.state().reason) == (REVERTED, 0x41500001)
    assert (report.running, report.state, report.reason) == (A, REVERTED, 0x41500001)
    assert device.floor == 1


def test_unconfirmed_trial_boots_as_often_as_it_has_tries(updated: Any) -> None:
    for left in (2, 1, 0):
        updated.restart()
        assert f"tries left {left}" in updated.said
        assert "slot B 1.1.0 trial" in updated.said
    updated.restart()
    assert "fota-boot: slot B reverted: PO4" in updated.said
    assert "slot A 1.0.0 confirmed" in updated.said
    assert (updated.state().state, updated.state().reason) == (REVERTED, 0x504F0004)


def test_trial_that_hangs_is_ended_by_watchdog(updated: Any) -> None:
    updated.restart(until="self-test passed")
    # the application stops feeding the watchdog: put an endless loop where it would go on
    updated.machine.cpu.uc.mem_write(0x20000100, b"\xfe\xe7")
    from unicorn.arm_const import UC_ARM_REG_PC

    updated.machine.cpu.uc.reg_write(UC_ARM_REG_PC, 0x20000101)
    updated.boot(time_ms=40_000)
    assert updated.machine.resets[-1][1] == "iwdg"
    assert "tries left 1" in updated.said


def test_rejected_image_is_not_tried_again(updated: Any, signed: Callable[..., bytes], keys: Any) -> None:
    updated.install("B", signed("1.1.0", sec_cnt=2, key=keys.thief))
    updated.restart()
    assert "slot B refused: IM8" in updated.said
    operations = updated.flash.operations
    updated.restart()
    assert "slot B" not in updated.said
    assert updated.flash.operations == operations


def test_rotten_confirmed_image_falls_back_without_a_record(
    device: Any, signed: Callable[..., bytes]
) -> None:
    device.boot()
    device.install("B", signed("1.1.0"))
    good = device.flash.read_phys(1, 0x4400, 8)
    device.flash.write_phys(1, 0x4400, bytes(b ^ 1 for b in good))
    operations = device.flash.operations
    report = device.restart()
    assert "slot A refused: IM6" in device.said
    assert "fota-boot: slot B 1.1.0 fallback" in device.said
    assert device.flash.operations == operations
    assert (report.running, report.confirmed, report.trial) == (B, A, 0)


def test_nothing_bootable_halts_and_says_so(device: Any) -> None:
    device.boot()
    device.flash.write_phys(1, 0x4000, bytes(2048))
    report = device.restart(until="halt: PO3")
    assert (report.running, report.confirmed, report.reason) == (NONE, A, 0x504F0003)
    assert (report.status_a, report.status_b) == (0x494D0001, 0x494D0001)
    assert "slot A refused: IM1" in device.said
    assert "slot B refused: IM1" in device.said
    device.boot(until="halt: PO3", time_ms=20_000)  # the watchdog tries again, for ever
    assert device.machine.resets[-1][1] == "iwdg"


def test_damaged_settings_halt(device: Any) -> None:
    device.flash.write_phys(1, 0x3808, bytes(16))
    device.boot(until="halt: SE1")


def test_broken_random_number_generator_halts(device: Any) -> None:
    device.machine.power_on()
    device.machine.board.rng.broken = True
    device.boot(until="halt: RN1")
    assert device.state().sequence == 0


def test_application_commands_by_uart(device: Any) -> None:
    device.boot()
    device.machine.uart_input(b"s")
    device.boot(time_ms=2000)
    assert "app 1.0.0: slot A" in device.said
    device.machine.uart_input(b"r")
    device.boot(time_ms=5000)
    assert "fota-boot: slot A 1.0.0 confirmed" in device.said


def test_command_f_in_a_trial_reverts(updated: Any) -> None:
    updated.restart(until="self-test passed")
    updated.machine.uart_input(b"f")
    updated.boot(until="app 1.0.0: journal: record", time_ms=10_000)
    assert "slot B reverted: AP1" in updated.said


def test_chip_is_handed_over_as_after_reset(device: Any) -> None:
    device.boot(until="fota-boot: slot A 1.0.0 confirmed")
    machine = device.machine
    assert machine.run(max_instructions=200_000, until=lambda m: m.mem32[0xE000ED08] == 0x08004200)
    machine.run(max_instructions=400)
    mem = machine.mem32
    assert mem[0x40021000] & 0xFB == 0x6B  # MSI, range 6: 4 MHz
    assert mem[0x40021088] == 0  # kernel clocks
    assert mem[0x40022000] & 7 == 0  # no wait states


def press(device: Any, key: bytes, until: str) -> None:
    device.machine.uart_input(key)
    device.boot(until=until, time_ms=5000)


def test_application_side_in_c_requests_confirms_and_refuses(
    device: Any, signed: Callable[..., bytes]
) -> None:
    """The client library on the chip itself: from bank 1, and from bank 2 where the journal is mapped low."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    press(device, b"i", "install other slot: ok")
    device.restart(until="self-test passed")
    assert "slot B 1.1.0 trial" in device.said
    press(device, b"i", "install other slot: JO2")
    press(device, b"c", "confirm: ok")
    assert (device.state().confirmed, device.state().candidate) == (B, NONE)
    operations = device.flash.operations
    press(device, b"c", "confirm: ok")
    assert device.flash.operations == operations  # it was true already
    press(device, b"i", "install other slot: ok")
    press(device, b"r", "app 1.0.0: journal: record")
    assert "fota-boot: slot A 1.0.0 trial" in device.said
    assert device.state().confirmed == B


def test_application_of_mcuboot_updates_confirms_and_goes_back(
    device: Any, signed: Callable[..., bytes]
) -> None:
    """MCUboot's names and numbers (client/mcuboot.h), called on the chip from both banks."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    press(device, b"m", "confirmed 1")
    press(device, b"t", "swap type 1")
    press(device, b"P", "boot_set_pending(1): -1")  # nothing stays that did not prove itself
    press(device, b"t", "swap type 1")
    press(device, b"I", "boot_set_pending(0): 0")
    press(device, b"t", "swap type 2")
    device.restart(until="self-test passed")
    assert "slot B 1.1.0 trial" in device.said
    press(device, b"t", "swap type 4")
    press(device, b"m", "confirmed 0")
    press(device, b"I", "boot_set_pending(0): -1")  # a trial must end first
    press(device, b"C", "boot_set_confirmed: 0")
    press(device, b"m", "confirmed 1")
    press(device, b"t", "swap type 1")
    assert (device.state().confirmed, device.state().candidate) == (B, NONE)


def test_health_word_of_the_last_run_is_forgotten(device: Any) -> None:
    device.boot()
    device.machine.mem32[0x20017F80] = 0x600D600D
    device.restart()
    assert device.machine.mem32[0x20017F80] == 0


def test_chip_that_stops_in_a_confirmed_boot_is_started_again_by_the_watchdog(
    device: Any, bootloader_elf: Path
) -> None:
    device.boot()
    machine = device.machine
    stuck_at = machine.symbols(bootloader_elf)["fota_image_parse"] & ~1
    machine.flash.write_phys(1, stuck_at - 0x08000000, bytes.fromhex("fee7"))  # a branch to itself
    machine.reset("pin")
    machine.run(time_ms=20_000)
    assert machine.resets[-1][1] == "iwdg"
