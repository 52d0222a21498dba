"""The chip's clock, however rarely it is asked: check-ins come when they are due, over days and weeks of
virtual time, and the watchdog is fed meanwhile.

The rest of the time nothing is open, so it takes no real time to let it pass.
"""

from itertools import pairwise

import pytest

pytestmark = pytest.mark.slow
MINUTE, HOUR, DAY = 60, 3600, 86_400
HANDSHAKE_S = 6  # of virtual time: handshake, answer, signature checks


@pytest.fixture
def checkins(chip):
    """A function that has the chip check in ``count`` times at ``interval_s``, and returns when it did."""

    def run(interval_s, count):
        chip.set_interval(interval_s)
        connections = len(chip.modem.connections)
        chip.machine.run(until=lambda m: len(chip.modem.connections) > connections)
        chip.run_chip("agent 1.0.0: settled")  # it has heard of that
        before = len(chip.modem.connections)
        times = []
        for number in range(count):
            chip.machine.run(until=lambda m, n=number: len(chip.modem.connections) > before + n)
            times.append(chip.machine.time_us / 1e6)
        return times

    return run


@pytest.mark.parametrize(
    ("interval_s", "count"), [(5 * MINUTE, 4), (HOUR, 3), (DAY, 8)], ids=["5 min", "hour", "day"]
)
def test_check_ins_come_when_they_are_due(chip, checkins, interval_s, count):
    resets = len(chip.machine.resets)
    times = checkins(interval_s, count)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(0.8 * interval_s <= gap <= 1.2 * interval_s + HANDSHAKE_S for gap in gaps), gaps
    assert len(chip.machine.resets) == resets
    assert chip.machine.faults == []
