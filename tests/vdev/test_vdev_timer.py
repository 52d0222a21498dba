"""TIM2 as a clock: what it counts, through sleep, wraps and a change of clocks."""

import pytest

from fota_vdev.cells import timer
from fota_vdev.machine import Machine
from fota_wire.errors import DeviceError

BASE, APB1ENR, TIM2EN = 0x4000_0000, 0x4002_1058, 1
SECOND = 1_000_000


class Driver:
    """TIM2 of a machine that has power; its core runs at 4 MHz."""

    def __init__(self) -> None:
        self.machine = Machine(seed=1)
        self.machine.power_on()
        self.machine.mem32[APB1ENR] |= TIM2EN

    def __getitem__(self, offset):
        return self.machine.mem32[BASE + offset]

    def __setitem__(self, offset, value):
        self.machine.mem32[BASE + offset] = value

    def start(self, prescaler):
        self[timer.PSC] = prescaler - 1
        self[timer.EGR] = timer.UG
        self[timer.SR] = 0
        self[timer.CR1] = timer.CEN


@pytest.fixture
def tim():
    made = Driver()
    yield made
    made.machine.power_off()


def test_counter_counts_the_prescaled_clock_and_asking_often_loses_nothing(tim):
    tim.start(4000)
    for _ in range(1000):
        tim.machine.sleep_us(1333)
        tim[timer.CNT]
    assert abs(tim[timer.CNT] - 1333) <= 1


def test_counter_wraps_after_49_days_and_says_so(tim):
    tim.start(4000)
    tim.machine.sleep_us((1 << 32) * 1000 - SECOND)
    assert tim[timer.SR] == 0
    assert 0xFFFF_FFFF - tim[timer.CNT] <= 1001
    tim.machine.sleep_us(3 * SECOND)
    assert (tim[timer.SR], abs(tim[timer.CNT] - 2000) <= 1) == (timer.UIF, True)
    tim[timer.SR] = 0
    assert tim[timer.SR] == 0


def test_new_prescaler_counts_from_the_next_update_on(tim):
    tim.start(4000)
    tim[timer.PSC] = 399
    tim.machine.sleep_us(SECOND)
    assert abs(tim[timer.CNT] - 1000) <= 1
    tim[timer.EGR] = timer.UG
    tim.machine.sleep_us(SECOND)
    assert abs(tim[timer.CNT] - 10_000) <= 1


def test_short_period_keeps_its_phase(tim):
    tim[timer.ARR] = 9
    tim.start(4000)
    tim.machine.sleep_us(1_003_500)
    assert tim[timer.CNT] == 3


def test_counter_without_its_clock_or_switched_off_stands_still(tim):
    tim.start(4000)
    tim[timer.CR1] = 0
    before = tim[timer.CNT]
    tim.machine.sleep_us(SECOND)
    assert tim[timer.CNT] == before
    tim.machine.mem32[APB1ENR] = 0
    tim[timer.CNT] = 7
    assert tim[timer.CNT] == 0  # nothing answers


def test_reset_switches_it_off(tim):
    tim.start(4000)
    tim.machine.sleep_us(SECOND)
    tim.machine.reset()
    tim.machine.mem32[APB1ENR] |= TIM2EN
    assert (tim[timer.CR1], tim[timer.CNT], tim[timer.ARR]) == (0, 0, timer.LONGEST)


@pytest.mark.parametrize(("offset", "value"), [(timer.CR1, 0x11), (timer.DIER, 1), (0x18, 0), (0x34, 5)])
def test_what_is_not_plain_counting_ends_the_run(tim, offset, value):
    with pytest.raises(DeviceError, match="TIM2"):
        tim[offset] = value


def test_snapshot_goes_back_in_its_time(tim):
    tim.start(4000)
    tim.machine.sleep_us(SECOND)
    snapshot = tim.machine.snapshot()
    tim.machine.sleep_us(SECOND)
    tim.machine.restore(snapshot)
    assert abs(tim[timer.CNT] - 1000) <= 1
