"""TIM2 as a clock: a 32-bit up counter behind a prescaler, in virtual time; it counts on in sleep."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.parts.bus import Peripheral, UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, Clock

CR1, CR2, SMCR, DIER, SR, EGR, CNT, PSC, ARR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x24, 0x28, 0x2C
CEN, UIF, UG = 1, 1, 1
LONGEST = 0xFFFF_FFFF


class Timer(Peripheral):
    """TIM2, base 0x4000_0000 (RM0351 chapter 31): counting up, and nothing else.

    Its clock is the core's, as long as APB1 (``bus_hz()``) has at least half of that. A new prescaler counts
    from the next update event on: an overflow, or EGR.UG.
    """

    name = "TIM2"
    STATE: ClassVar[tuple[str, ...]] = ("cr1", "sr", "psc", "arr", "_divider", "_count", "_anchor_ps")

    def __init__(self, clock: Clock, bus_hz: Callable[[], int]) -> None:
        self._clock = clock
        self._bus_hz = bus_hz
        self.reset()

    def reset(self) -> None:
        """Switch off."""
        self.cr1 = self.sr = self.psc = 0
        self.arr = LONGEST
        self._divider = 1
        self._count = 0
        self._anchor_ps = self._clock.ps

    def settle(self) -> None:
        """Bring counter and flag up to now; also before the timer clock changes."""
        now = self._clock.ps
        rate = self._clock.hz
        if not self.cr1 & CEN or not self.arr:
            self._anchor_ps = now
            return
        while ticks := (now - self._anchor_ps) * rate // (PS_PER_S * self._divider):
            left = self.arr + 1 - self._count  # to the overflow, from which on the prescaler may be another
            step = ticks if ticks < left or self._divider == self.psc + 1 else left
            self._anchor_ps += -(-step * PS_PER_S * self._divider // rate)
            self._count += step
            if self._count > self.arr:
                self._count %= self.arr + 1
                self._update()

    def _update(self) -> None:
        self._divider = self.psc + 1
        self.sr |= UIF

    def read(self, offset: int) -> int:
        """Return a register."""
        self.settle()
        plain = {CR1: self.cr1, CR2: 0, SMCR: 0, DIER: 0, SR: self.sr, CNT: self._count, PSC: self.psc,
                 ARR: self.arr}  # fmt: skip
        if offset not in plain:
            raise self.unmodelled(offset, "read of")
        return plain[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register; what is not plain counting ends the run."""
        self.settle()
        if offset == CR1:
            if value & ~CEN:
                raise UnmodelledError(f"TIM2 CR1 0x{value:x}: only CEN is modelled")
            if 2 * self._bus_hz() < self._clock.hz:
                raise UnmodelledError("TIM2 behind an APB1 that is more than halved")
            self.cr1 = value
        elif offset == DIER and not value:
            pass
        elif offset == SR:
            self.sr &= value
        elif offset == EGR:
            if value & UG:
                self._count = 0
                self._anchor_ps = self._clock.ps
                self._update()
        elif offset == CNT:
            self._count = value
        elif offset == PSC:
            self.psc = value & 0xFFFF
        elif offset == ARR:
            self.arr = value
        else:
            raise self.unmodelled(offset, "write to")
