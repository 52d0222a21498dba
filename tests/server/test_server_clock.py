"""A clock that jumps: what it says has passed since has not."""

from fota_server.clock import JUMP_S, Watch


class Clocks:
    """A clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0
        self.watch = Watch(lambda: self.wall, lambda: self.steady)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def since(self, then: int) -> int:
        return self.watch.lasts_since(then, int(self.wall))


def test_what_lasts_has_begun_when_it_began_while_the_clock_goes_well() -> None:
    clocks = Clocks()
    for _ in range(100):
        clocks.passes(86400)
        clocks.wall += JUMP_S - 1  # as NTP moves it
        assert [clocks.since(999_000), clocks.since(0)] == [999_000, 0]


def test_clock_that_is_put_forward_has_let_no_time_pass() -> None:
    clocks = Clocks()
    clocks.wall += 7200
    assert [clocks.since(0), clocks.since(1_000_000)] == [1_007_200, 1_007_200]
    clocks.passes(600)
    assert [clocks.since(0), clocks.since(1_007_500)] == [1_007_200, 1_007_500]


def test_what_began_by_a_clock_that_was_put_back_lasts_since_then() -> None:
    clocks = Clocks()
    clocks.wall += 7200
    assert clocks.since(0) == 1_007_200
    clocks.wall -= 7200
    clocks.passes(10)
    assert clocks.since(1_007_300) == 1_000_010
    clocks.passes(60)
    assert clocks.since(1_007_300) == 1_000_010


def test_machine_that_slept_could_not_be_called() -> None:
    """Its steady clock stood still meanwhile."""
    clocks = Clocks()
    clocks.wall += 8 * 3600
    assert clocks.since(1_000_000) == 1_000_000 + 8 * 3600
