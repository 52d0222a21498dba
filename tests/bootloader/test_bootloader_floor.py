"""The rollback floor follows the confirmed image: sixteen steps a boot, said on the console, never back."""

from collections.abc import Callable
from typing import Any

import pytest

STEPS_PER_BOOT = 16  # SPEC 2
LONGEST_BOOT_US = 25_000_000  # of virtual time, with the slowest element
NOT_ASKED, OK = 0, 0x5A3C96E1
CE1, CE3 = 0x43450001, 0x43450003


@pytest.fixture
def far_ahead(device: Any, signed: Callable[..., bytes]) -> Any:
    """1.1.0, security counter 20, is confirmed in slot B; the floor is 1."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=20))
    device.request("B")
    device.restart(until="self-test passed")
    device.confirm("B")
    return device


def test_long_leap_of_the_floor_is_spread_over_boots_and_said(far_ahead: Any) -> None:
    for floor in (17, 20, 20):
        before, start = far_ahead.floor, far_ahead.machine.time_us
        report = far_ahead.restart()
        assert far_ahead.machine.time_us - start < LONGEST_BOOT_US
        assert far_ahead.floor == report.floor == floor
        assert [f"floor {n}" in far_ahead.said for n in range(before + 1, floor + 1)] == [True] * (
            floor - before
        )
        assert far_ahead.said.count("floor") - far_ahead.said.count(", floor") == floor - before
        assert (report.sec_cnt, report.status_element) == (20, OK)
        assert "slot B 1.1.0 confirmed" in far_ahead.said


def test_power_cut_while_the_floor_rises_takes_nothing_back(far_ahead: Any) -> None:
    far_ahead.machine.reset("pin")
    far_ahead.machine.cut_power_at(element_command=150, torn=1)
    far_ahead.boot(until=None)
    reached = far_ahead.floor
    assert 1 < reached < 1 + STEPS_PER_BOOT
    far_ahead.boot()
    assert far_ahead.floor == min(reached + STEPS_PER_BOOT, 20)


# --- what the report says of the element ---


class Traffic:
    """Counts what is sent to the element."""

    def __init__(self) -> None:
        self.messages = 0

    def on_write(self, _address: int, data: bytes) -> bytes:
        self.messages += 1
        return data

    def on_read(self, _address: int, data: bytes) -> bytes:
        return data


@pytest.mark.parametrize("wrong", ["class", "key"])
def test_image_refused_without_the_element_does_not_touch_its_bus(
    device: Any, signed: Callable[..., bytes], keys: Any, wrong: str
) -> None:
    how = {"class_id": bytes(16)} if wrong == "class" else {"key": keys.thief}
    for slot in "AB":
        device.install(slot, signed("1.0.0", **how))
    device.machine.i2c_tamper = traffic = Traffic()
    device.machine.power_on()
    start, used = device.machine.time_us, device.machine.instructions
    report = device.boot(until="halt: PO3")
    assert report.status_element == NOT_ASKED
    assert (report.element_us, traffic.messages) == (0, 0)
    assert device.machine.time_us - start < 200_000
    assert device.machine.instructions - used < 1_500_000


class Deaf:
    """The element's answers from the ``first``-th one on, ``count`` of them, come damaged."""

    def __init__(self, first: int, count: int) -> None:
        self.left, self.damaged = first, count

    def on_write(self, _address: int, data: bytes) -> bytes:
        return data

    def on_read(self, _address: int, data: bytes) -> bytes:
        self.left -= 1
        if self.left >= 0 or self.damaged <= 0:
            return data
        self.damaged -= 1
        return bytes(len(data))


@pytest.mark.parametrize("first", [3, 15], ids=["verifying", "raising-the-floor"])
def test_fault_of_the_element_that_was_got_over_is_not_reported(
    device: Any, signed: Callable[..., bytes], first: int
) -> None:
    device.boot()
    device.install("A", signed("1.0.0", sec_cnt=3))
    device.machine.i2c_tamper = Deaf(first, 1)
    report = device.restart()
    assert "element: CE2" in device.said
    assert device.machine.i2c_tamper.damaged == 0
    assert (report.status_element, device.floor) == (OK, 3)


def test_element_that_stops_answering_is_busy_and_one_that_never_did_is_absent(device: Any) -> None:
    device.boot()
    element = device.machine.element
    acknowledge = element.acknowledge
    try:
        element.acknowledge = lambda address, *, read: (
            len(element.commands) == done and acknowledge(address, read=read)
        )
        done = len(element.commands)
        report = device.restart(until="halt: ")
        assert (report.reason, report.status_element) == (CE3, CE3)
        element.acknowledge = lambda address, *, read: False
        report = device.restart(until="halt: ")
        assert (report.reason, report.status_element) == (CE1, CE1)
    finally:
        del element.acknowledge
