"""The random number generator (base 0x5006_0800), fed by a seeded generator so that runs repeat."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.parts.bus import Peripheral
from fota_vdev.parts.clock import PS_PER_US, Clock
from fota_vdev.parts.stream import Stream

CR, SR, DR = 0x00, 0x04, 0x08
RNGEN = 1 << 2
DRDY, CECS, SECS = 1, 2, 4
READY_PS = 3 * PS_PER_US  # four words per 213 RNG clocks; one word after about 3 us


class Rng(Peripheral):
    """RNG: needs its bus clock, and the 48 MHz domain from MSI at 48 MHz (CCIPR.CLK48SEL = 3)."""

    name = "RNG"
    STATE: ClassVar[tuple[str, ...]] = ("cr", "ready_ps", "stream", "broken")
    RESET: ClassVar[int] = 0
    WRITABLE: ClassVar[int] = 0x2C

    def __init__(self, clock: Clock, rng_hz: Callable[[], int], seed: int) -> None:
        self._clock = clock
        self._rng_hz = rng_hz
        self.stream = Stream("mcu-rng", seed)
        self.broken = False  # set by a test: the seed error of a failing noise source
        self.reset()

    def reset(self) -> None:
        """Switch off."""
        self.cr = self.RESET
        self.ready_ps = 0

    @property
    def _clock_ok(self) -> bool:
        return self._rng_hz() == 48_000_000

    @property
    def _ready(self) -> bool:
        running = bool(self.cr & RNGEN) and self._clock_ok and not self.broken
        return running and self._clock.ps >= self.ready_ps

    def read(self, offset: int) -> int:
        """Return a register; polling SR lets time run on to the next word."""
        if offset == CR:
            return self.cr
        if offset == SR:
            if not self.cr & RNGEN:
                return 0
            value = (
                (DRDY if self._ready else 0) | (0 if self._clock_ok else CECS) | (SECS if self.broken else 0)
            )
            if not value:
                self._clock.wait_until(self.ready_ps)
            return value
        if offset == DR:
            if not self._ready:
                return 0
            self.ready_ps = self._clock.ps + READY_PS
            return int.from_bytes(self.stream.take(4), "little")
        raise self.unmodelled(offset, "read of")

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == CR:
            if value & RNGEN and not self.cr & RNGEN:
                self.ready_ps = self._clock.ps + READY_PS
            self.cr = value & self.WRITABLE
        elif offset != SR:
            raise self.unmodelled(offset, "write to")
