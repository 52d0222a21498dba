"""The STM32U5 bootloader on its own model: banks that change places by an option byte and a reset."""

from collections.abc import Callable
from typing import Any

import pytest

from fota_wire import journal

A, B, NONE = 0x5A, 0xA5, 0xC3
SWAP_BANK = 1 << 20


@pytest.fixture
def confirmed_b(staged: Any) -> Any:
    """1.1.0 runs confirmed in B; 1.0.0 still lies in A."""
    staged.boot("self-test passed")
    staged.append(journal.confirm(staged.state(), B))
    staged.restart()
    return staged


def test_factory_device_boots_slot_a_without_an_option_write(device: Any) -> None:
    device.flash.log.clear()
    report = device.boot()
    assert "fota-boot: slot A 1.0.0 confirmed" in device.said
    assert "app 1.0.0: slot A, confirmed" in device.said
    assert (report.running, device.low_bank) == (A, 1)
    assert (device.state().sequence, device.state().confirmed) == (1, A)
    assert device.operations() == ["erase", "program"]
    assert device.floor == 1


def test_staged_update_boots_slot_b_after_one_swap_and_one_try(staged: Any) -> None:
    report = staged.boot("self-test passed")
    assert staged.said.count("fota-boot: slot B 1.1.0 trial") == 1
    assert staged.operations() == ["options", "program"]
    assert [cause for _, cause in staged.machine.resets[-2:]] == ["power", "obl"]
    assert (staged.low_bank, staged.flash.options["optr"] & SWAP_BANK) == (2, SWAP_BANK)
    assert (report.running, report.trial, report.tries, staged.state().tries) == (B, 1, 2, 2)
    assert staged.floor == 1


def test_second_boot_of_a_trial_swaps_nothing(staged: Any) -> None:
    staged.boot("self-test passed")
    staged.flash.log.clear()
    staged.restart("self-test passed")
    assert "tries left 1" in staged.said
    assert staged.operations() == ["program"]
    assert staged.low_bank == 2


def test_confirmed_update_raises_floor(confirmed_b: Any) -> None:
    assert "fota-boot: slot B 1.1.0 confirmed" in confirmed_b.said
    assert (confirmed_b.floor, confirmed_b.low_bank) == (2, 2)
    confirmed_b.flash.log.clear()
    confirmed_b.restart()
    assert confirmed_b.operations() == []


def test_whole_update_by_client_library_on_the_chip(device: Any, signed: Callable[..., bytes]) -> None:
    """The application requests, confirms and goes back by itself, from either bank."""
    device.boot()
    device.install("B", signed("1.1.0"))
    device.type("i", "install other slot: ok")
    device.type("r", "self-test passed")
    assert device.low_bank == 2
    device.type("c", "confirm: ok")
    assert (device.state().confirmed, device.state().candidate) == (B, NONE)
    device.type("i", "install other slot: ok")
    device.type("r", "self-test passed")
    device.type("c", "confirm: ok")
    assert (device.state().confirmed, device.low_bank) == (A, 1)
    device.restart()
    assert "fota-boot: slot A 1.0.0 confirmed" in device.said


def test_rollback_by_request_copies_nothing(device: Any, signed: Callable[..., bytes]) -> None:
    device.boot()
    device.install("B", signed("1.1.0"))
    slots = [device.flash.read_phys(bank, 0x4000, 0xF0000) for bank in (1, 2)]
    for slot, running in ((B, A), (A, B)):
        device.append(journal.request(device.state(), running, slot))
        device.restart("self-test passed")
        device.append(journal.confirm(device.state(), slot))
    device.flash.log.clear()
    device.restart()
    assert "fota-boot: slot A 1.0.0 confirmed" in device.said
    assert device.operations() == []
    assert [device.flash.read_phys(bank, 0x4000, 0xF0000) for bank in (1, 2)] == slots


def test_rollback_below_floor_is_rejected_without_a_swap(confirmed_b: Any) -> None:
    confirmed_b.append(journal.request(confirmed_b.state(), B, A))
    confirmed_b.flash.log.clear()
    confirmed_b.restart()
    assert "fota-boot: slot A refused: PO1" in confirmed_b.said
    assert "slot B 1.1.0 confirmed" in confirmed_b.said
    assert (confirmed_b.state().state, confirmed_b.state().reason) == (journal.REJECTED, 0x504F0001)
    assert confirmed_b.operations() == ["program"]


def test_exhausted_tries_revert_to_slot_a(staged: Any) -> None:
    for left in (2, 1, 0):
        staged.boot("self-test passed") if left == 2 else staged.restart("self-test passed")
        assert f"tries left {left}" in staged.said
    staged.flash.log.clear()
    staged.restart()
    assert "fota-boot: slot B reverted: PO4" in staged.said
    assert "fota-boot: slot A 1.0.0 confirmed" in staged.said
    assert staged.operations() == ["program", "options"]
    assert (staged.state().state, staged.low_bank) == (journal.REVERTED, 1)


def test_single_try_is_enough_although_the_chip_resets_to_swap(
    device: Any, signed: Callable[..., bytes]
) -> None:
    """The try is booked after the swap: else one try would be none."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    device.append(journal.Record(device.state().sequence + 1, A, B, journal.TRIAL, 1))
    device.restart("self-test passed")
    assert "fota-boot: slot B 1.1.0 trial" in device.said
    assert device.state().tries == 0


def test_failed_self_test_reverts_with_its_reason(device: Any, signed: Callable[..., bytes]) -> None:
    device.boot()
    device.install("B", signed("1.2.0", sec_cnt=2, fail=True))
    device.append(journal.request(device.state(), A, B))
    device.restart("app 1.0.0: journal: record")
    assert "self-test failed" in device.said
    assert "fota-boot: slot B reverted: AP1" in device.said
    assert (device.state().state, device.state().reason, device.low_bank) == (journal.REVERTED, 0x41500001, 1)


def test_trial_that_hangs_is_ended_by_watchdog(staged: Any) -> None:
    from unicorn.arm_const import UC_ARM_REG_PC

    staged.boot("self-test passed")
    staged.machine.cpu.uc.mem_write(0x20000100, b"\xfe\xe7")
    staged.machine.cpu.uc.reg_write(UC_ARM_REG_PC, 0x20000101)
    staged.boot(time_ms=40_000)
    assert staged.machine.resets[-1][1] == "iwdg"
    assert "tries left 1" in staged.said


@pytest.mark.parametrize("how", ["signature", "key", "flipped"])
def test_bad_image_is_refused_and_no_bank_is_swapped(
    staged: Any, signed: Callable[..., bytes], keys: Any, how: str
) -> None:
    image = bytearray(signed("1.1.0", sec_cnt=2, key=keys.thief if how == "key" else None))
    if how == "signature":
        image[-1] ^= 1
    elif how == "flipped":
        image[0x400] ^= 1
    staged.install("B", bytes(image))
    staged.boot()
    status = {"signature": "IM10", "key": "IM8", "flipped": "IM6"}[how]
    assert f"fota-boot: slot B refused: {status}" in staged.said
    assert "slot A 1.0.0 confirmed" in staged.said
    assert (staged.low_bank, staged.state().state) == (1, journal.REJECTED)
    assert staged.operations() == ["program"]


def test_rotten_confirmed_image_falls_back_to_the_other_bank(confirmed_b: Any) -> None:
    """Slot B rots; 1.0.0 in A is below the floor, so nothing boots; raised again, it does."""
    good = confirmed_b.flash.read_phys(2, 0x4400, 16)
    confirmed_b.flash.write_phys(2, 0x4400, bytes(b ^ 1 for b in good))
    confirmed_b.restart("halt: PO3")
    assert confirmed_b.low_bank == 2
    confirmed_b.flash.write_phys(2, 0x4400, good)
    confirmed_b.restart()
    assert "slot B 1.1.0 confirmed" in confirmed_b.said


def test_dead_element_boots_nothing_and_swaps_nothing(staged: Any) -> None:
    class Cut:
        def on_write(self, address: int, data: bytes) -> bytes:
            return data

        def on_read(self, address: int, data: bytes) -> bytes:
            return bytes(len(data))

    staged.machine.i2c_tamper = Cut()
    staged.boot("halt: CE")
    assert (staged.low_bank, staged.state().state) == (1, journal.STAGED)
    assert staged.operations() == []


def test_swapped_banks_do_not_mislead_an_erase(confirmed_b: Any) -> None:
    """BKER is physical: a full journal page is erased in bank 2 although that is mapped low."""
    while journal.scan(*confirmed_b.pages())[2] != 0:
        confirmed_b.append(journal.Record(confirmed_b.state().sequence + 1, B, A, journal.STAGED))
    last = confirmed_b.state().sequence
    confirmed_b.flash.log.clear()
    confirmed_b.restart()
    assert "slot A refused: PO1" in confirmed_b.said
    assert confirmed_b.low_bank == 2
    assert [(op.kind, op.bank) for op in confirmed_b.flash.log] == [("erase", 2), ("program", 2)]
    assert (confirmed_b.state().sequence, confirmed_b.state().state) == (last + 1, journal.REJECTED)


# --- option bytes ---


@pytest.mark.parametrize("keeps_request", [True, False])
def test_reset_between_option_write_and_load_does_not_fool_the_bootloader(
    staged: Any, keeps_request: bool
) -> None:
    """OPTR may name bank 2 while bank 1 is still mapped: the layout in flash tells the truth."""
    controller = staged.machine.board.controller
    launch, seen = controller.on_launch, []

    def watchdog_is_first() -> None:
        controller.on_launch = launch
        staged.machine.board.request_reset("iwdg")
        seen.append(staged.flash.options["optr"] ^ staged.flash.loaded["optr"])

    controller.keeps_request = keeps_request
    controller.on_launch = watchdog_is_first
    staged.boot("self-test passed")
    assert seen == [SWAP_BANK]
    assert [cause for _, cause in staged.machine.resets[-3:]] == ["power", "iwdg", "obl"]
    assert "slot B 1.1.0 trial" in staged.said
    assert (staged.low_bank, staged.state().tries) == (2, 2)


def test_mismatched_option_bytes_are_repaired_and_the_update_goes_on(staged: Any) -> None:
    """All that a cut can leave at worst: bank 1 low, everything write-protected."""
    from fota_vdev.chips.stm32u5.flash_array import MISMATCH, RDP

    staged.flash.options = dict(MISMATCH)
    staged.boot("self-test passed")
    assert "slot B 1.1.0 trial" in staged.said
    assert staged.flash.options["optr"] & RDP == MISMATCH["optr"] & RDP  # going back would erase all
    assert staged.flash.protected(1, 1)
    assert staged.flash.protected(2, 1)
    assert not staged.flash.protected(2, 126)


def test_bootloader_protects_itself_if_the_factory_did_not(device: Any) -> None:
    from fota_vdev.chips.stm32u5.flash_array import FACTORY

    device.flash.options = dict(FACTORY)
    device.boot()
    assert [device.flash.protected(bank, page) for bank in (1, 2) for page in (0, 1, 2)] == 2 * [
        True,
        True,
        False,
    ]
    assert device.flash.options["optr"] == FACTORY["optr"]


def test_option_bytes_that_cannot_be_changed_end_the_trial(staged: Any, monkeypatch: Any) -> None:
    """SWAP_BANK never takes effect: tries run out, the confirmed image boots, nothing hangs."""
    monkeypatch.setattr(staged.flash, "program_options", lambda values: None)
    staged.boot(time_ms=120_000)
    assert "fota-boot: slot B reverted: PO4" in staged.said
    assert "slot A 1.0.0 confirmed" in staged.said
    assert staged.low_bank == 1


def test_both_banks_hold_the_same_bootloader_and_nobody_writes_it(confirmed_b: Any) -> None:
    flash = confirmed_b.flash
    assert flash.read_phys(1, 0, 0x3FE0) == flash.read_phys(2, 0, 0x3FE0)
    assert flash.read_phys(1, 0x3FE0, 24) != flash.read_phys(2, 0x3FE0, 24)
    assert {(op.bank, op.offset // 8192) for op in flash.log if op.kind != "options"} <= {(2, 126), (2, 127)}


# --- power cuts ---


def update_with_cut(device: Any, operation: int, torn: int | None) -> bool:
    """Boot a staged update and confirm it, with a cut at the n-th flash operation; True if it came."""
    device.machine.power_on()
    device.machine.cut_power_at(flash_op=operation, torn=torn)
    device.boot("self-test passed")
    return not device.machine.powered


@pytest.mark.parametrize("torn", [None, *range(6)])
@pytest.mark.parametrize("operation", [1, 2])
def test_cut_at_every_operation_of_an_update_leaves_old_or_new(
    staged: Any, operation: int, torn: int | None
) -> None:
    """Option write and TRIAL record; then a second cut in the recovery, then it must go through."""
    assert update_with_cut(staged, operation, torn)
    assert staged.state().state in (journal.STAGED, journal.TRIAL)
    again = update_with_cut(staged, 1, torn)
    staged.flash.cut_in = None
    staged.boot("self-test passed") if again else None
    assert "slot B 1.1.0 trial" in staged.said
    assert staged.low_bank == 2
    staged.append(journal.confirm(staged.state(), B))
    staged.restart()
    assert "slot B 1.1.0 confirmed" in staged.said
    assert staged.floor == 2


@pytest.mark.parametrize("torn", [None, *range(6)])
@pytest.mark.parametrize("operation", [1, 2])
def test_cut_at_every_operation_of_a_revert_comes_back_to_the_old_image(
    staged: Any, operation: int, torn: int | None
) -> None:
    staged.boot("self-test passed")
    staged.append(journal.reject(staged.state(), B, 0x41500001))
    staged.machine.power_off()
    staged.machine.power_on()
    staged.machine.cut_power_at(flash_op=operation, torn=torn)
    staged.boot()
    assert not staged.machine.powered
    staged.boot()
    assert "slot A 1.0.0 confirmed" in staged.said
    assert (staged.state().state, staged.low_bank) == (journal.REVERTED, 1)


@pytest.mark.parametrize("operation", [1, 2, 3])
@pytest.mark.parametrize("torn", [None, 0, 1, 2, 3])
def test_cut_in_page_turn_over_keeps_old_or_new_state(staged: Any, operation: int, torn: int | None) -> None:
    while journal.scan(*staged.pages())[2] != 0:
        staged.append(journal.Record(staged.state().sequence + 1, A, B, journal.STAGED))
    last = staged.state().sequence
    assert update_with_cut(staged, operation, torn)
    assert staged.state().sequence in (last, last + 1)
    staged.boot("self-test passed")
    assert "slot B 1.1.0 trial" in staged.said
    assert staged.low_bank == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_torn_record_raises_nmi_and_is_absent(staged: Any, swapped: bool) -> None:
    """Whichever bank is mapped low."""
    if swapped:
        staged.boot("self-test passed")
        staged.machine.power_off()
    before = staged.state()
    _, page, cell = journal.scan(*staged.pages())
    at = 0xFC000 + 8192 * page + 16 * cell
    staged.flash.write_phys(2, at, journal.pack(journal.Record(99, A, NONE, journal.NONE)))
    staged.flash.mark_torn(2, at)
    staged.boot("self-test passed")
    assert "slot B 1.1.0 trial" in staged.said
    assert staged.state().sequence == before.sequence + 1
