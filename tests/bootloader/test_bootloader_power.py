"""Power cuts on the virtual device: at every flash operation and element command, torn and clean."""

from collections.abc import Callable
from typing import Any

import pytest

from fota_vdev.machine import StopReason
from fota_wire import journal

A, B, NONE = 0x5A, 0xA5, 0xC3


@pytest.fixture
def staged(device: Any, signed: Callable[..., bytes]) -> Any:
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    device.request("B")
    device.machine.power_off()
    return device


def application_runs(device: Any) -> Callable[[Any], bool]:
    start = len(device.machine.uart)
    return lambda m: b"journal: record" in bytes(m.uart[start:])


def cut_run(device: Any, **cut: Any) -> None:
    """Power on with a cut armed; asserts that the cut came."""
    device.machine.power_on()
    device.machine.cut_power_at(**cut)
    result = device.machine.run(time_ms=30_000, until=application_runs(device))
    assert result.reason is StopReason.POWER_CUT, result


@pytest.mark.parametrize("operation", [1, 2])
@pytest.mark.parametrize("torn", [None, 0, 1, 2, 3, 4, 5])
def test_cut_while_a_try_is_booked_loses_at_most_that_try(
    staged: Any, operation: int, torn: int | None
) -> None:
    cut_run(staged, flash_op=operation, torn=torn)
    assert staged.state().state in (journal.STAGED, journal.TRIAL)
    staged.boot()
    assert "slot B 1.1.0 trial" in staged.said
    assert staged.state().state == journal.TRIAL


@pytest.mark.parametrize("operation", [1, 2, 3])
@pytest.mark.parametrize("torn", [None, *range(8)])
def test_cut_in_page_turn_over_keeps_old_or_new_state(staged: Any, operation: int, torn: int | None) -> None:
    while journal.scan(*staged.pages())[2] != 0:
        staged.append(journal.Record(staged.state().sequence + 1, A, B, journal.STAGED))
    last = staged.state().sequence
    cut_run(staged, flash_op=operation, torn=torn)
    assert staged.state().sequence in (last, last + 1)
    staged.machine.power_on()
    staged.machine.cut_power_at(flash_op=2, torn=torn)  # and a second time, in the recovery
    staged.machine.run(time_ms=30_000, until=application_runs(staged))
    assert staged.state().sequence >= last
    staged.boot()
    assert "slot B 1.1.0 trial" in staged.said


@pytest.mark.parametrize("command", range(1, 23))
def test_cut_at_any_element_command_of_floor_raising(staged: Any, command: int) -> None:
    staged.boot(until="self-test passed")
    staged.confirm("B")
    staged.machine.power_off()
    before = staged.machine.element.counters[0]
    cut_run(staged, element_command=command, torn=command)
    assert staged.machine.element.counters[0] >= before
    staged.boot()
    assert "slot B 1.1.0 confirmed" in staged.said
    assert staged.floor == 2


def test_torn_record_raises_nmi_and_is_absent(staged: Any) -> None:
    _, page, cell = journal.scan(*staged.pages())
    at = 2048 * page + 16 * cell
    staged.flash.write_phys(2, at, journal.pack(journal.Record(9, B, NONE, journal.NONE)))
    staged.flash.ecc_bad.add((2, at + 8))
    staged.boot()
    assert "slot B 1.1.0 trial" in staged.said  # and not slot B confirmed by the torn record
    assert staged.state().sequence == 3


def test_journal_full_of_torn_words_never_hangs(staged: Any) -> None:
    staged.flash.ecc_bad |= {(2, at) for at in range(0, 4096, 8)}
    report = staged.boot()
    assert "slot A 1.0.0 confirmed" in staged.said
    assert report.sequence == 1


def test_torn_word_in_a_slot_is_flash_ecc(staged: Any) -> None:
    staged.flash.ecc_bad.add((2, 0x4000 + 0x600))
    staged.boot()
    assert "slot B refused: FL3" in staged.said
    assert "slot A 1.0.0 confirmed" in staged.said


def test_journal_that_cannot_be_written_boots_the_confirmed_image(staged: Any) -> None:
    staged.flash.protect(2, 0, 1)
    staged.boot()
    assert "fota-boot: journal: JO1" in staged.said
    assert "slot A 1.0.0 confirmed" in staged.said
