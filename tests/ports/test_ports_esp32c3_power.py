"""Power cuts at every flash operation of an update on the ESP32-C3: no request is lost, an image boots."""

from collections.abc import Callable
from typing import Any

import pytest
from esp32c3_world import A, B, Device
from espressif_forms import NEW, PENDING, VALID

from fota_vdev.machine import StopReason
from fota_wire import journal


@pytest.fixture(scope="module")
def moments(c3_factory: Any, c3_signed: Callable[..., bytes]) -> dict[str, Any]:
    """Snapshots, power off. "asked": 1.0.0 confirmed in A, 1.1.0 in B, asked for by OTA data; "tried": and
    its trials are used up.
    """
    device = Device(c3_factory.machine)
    device.machine.restore(c3_factory.fresh)
    device.boot()
    device.set_ota(0, 1, VALID)
    device.install("B", c3_signed("1.1.0", sec_cnt=2))
    device.set_ota(1, 2, NEW)
    device.machine.power_off()
    found = {"asked": device.machine.snapshot()}
    assert [device.boot().running, device.restart().running, device.restart().running] == [B, B, B]
    device.machine.power_off()
    return found | {"tried": device.machine.snapshot()}


@pytest.fixture
def asked(moments: dict[str, Any], c3: Any) -> Any:
    c3.machine.restore(moments["asked"])
    return c3


@pytest.fixture
def tried(moments: dict[str, Any], c3: Any) -> Any:
    c3.machine.restore(moments["tried"])
    return c3


def cut(device: Any, operation: int, torn: int | None) -> bool:
    """Boot with a cut at the n-th flash operation; True if it came."""
    device.machine.power_on()
    device.machine.cut_power_at(flash_op=operation, torn=torn)
    start = len(device.machine.uart)
    result = device.machine.run(time_ms=30_000, until=lambda m: b"journal: record" in bytes(m.uart[start:]))
    device.flash.cut_in = None
    came = result.reason is StopReason.POWER_CUT
    if not came:
        device.machine.power_off()
    return came


@pytest.mark.parametrize("torn", [None, 1, 2, 3])
@pytest.mark.parametrize("operation", [1, 2, 3])
def test_cut_in_the_boot_that_begins_a_trial_loses_no_request(
    asked: Any, operation: int, torn: int | None
) -> None:
    """TRIAL record, erase, PENDING; a second cut in the recovery; then a trial that can be confirmed."""
    assert cut(asked, operation, torn)
    cut(asked, 1, torn)
    report = asked.boot("self-test passed")
    assert (report.running, report.trial, report.confirmed) == (B, True, A)
    sector = next(i for i, (_, state) in enumerate(asked.ota()) if state == PENDING)
    asked.mark(sector)
    report = asked.restart()
    assert (report.running, report.confirmed, report.trial) == (B, B, False)


@pytest.mark.parametrize("torn", [None, 5, 6])
def test_cut_while_the_confirmation_is_noted_keeps_it(asked: Any, torn: int | None) -> None:
    asked.boot()
    asked.mark(1)
    asked.machine.power_off()
    assert cut(asked, 1, torn)
    report = asked.boot()
    assert (report.running, report.confirmed, report.trial) == (B, B, False)
    assert asked.state().confirmed == B


@pytest.mark.parametrize("torn", [None, 7, 8])
@pytest.mark.parametrize("operation", [1, 2, 3])
def test_cut_in_the_boot_that_goes_back_still_goes_back(tried: Any, operation: int, torn: int | None) -> None:
    """REVERTED record, erase, ABORTED."""
    assert cut(tried, operation, torn)
    report = tried.boot()
    assert (report.running, report.confirmed) == (A, A)
    assert tried.state().state == journal.REVERTED


@pytest.mark.parametrize("torn", [None, 9])
@pytest.mark.parametrize("operation", [1, 2])
def test_cut_in_page_turn_over_keeps_the_request(asked: Any, operation: int, torn: int | None) -> None:
    for _ in range(127):
        asked.append(journal.Record(asked.state().sequence + 1, A, 0xC3, journal.NONE))
    assert cut(asked, operation, torn)
    report = asked.boot()
    assert (report.running, report.trial) == (B, True)
