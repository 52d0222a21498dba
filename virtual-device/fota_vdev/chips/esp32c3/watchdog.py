"""The staged watchdogs of the ESP32-C3, in virtual time: RTC, two in timer groups, and the super watchdog."""

import copy
import functools
from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.clock import PS_PER_S, Clock

OFF, INTERRUPT = 0, 1
STAGES = 4


@functools.cache
def actions_of(config: int, mask: int, shifts: tuple[int, ...]) -> tuple[int, ...]:
    """Return the fields of a configuration register at these places: what the stages do at their ends."""
    return tuple(config >> shift & mask for shift in shifts)


class Watchdog:
    """Four stages of ``ticks`` each; at the end of a stage its action, then the next one, then the first.

    ``settings()`` gives (ticks, actions) of the four stages while it runs, None while it stands.
    """

    def __init__(
        self,
        clock: Clock,
        hz: Callable[[], int],
        settings: Callable[[], tuple[tuple[int, ...], tuple[int, ...]] | None],
    ) -> None:
        self._clock = clock
        self._hz = hz
        self._settings = settings
        self.feed()

    def feed(self) -> None:
        """Begin anew."""
        self.stage = self.count = 0
        self.anchor_ps = self._clock.ps

    def settle(self) -> None:
        """Bring the counter up to now; also before its clock changes."""
        now = self._clock.ps
        if self._settings() is not None:
            ticks = (now - self.anchor_ps) * self._hz() // PS_PER_S
            self.count += ticks
            self.anchor_ps += ticks * PS_PER_S // self._hz()
        else:
            self.anchor_ps = now

    def next_ps(self) -> int | None:
        """When the stage ends, or None if nothing will happen."""
        settings = self._settings()
        if settings is None or not any(action > INTERRUPT for action in settings[1]):
            return None
        left = max(settings[0][self.stage] - self.count, 0)
        return self.anchor_ps - (-left * PS_PER_S // self._hz())

    def due(self) -> int:
        """End all stages that are over; return the first action that is more than an interrupt, or 0."""
        while (at := self.next_ps()) is not None and at <= self._clock.ps:
            settings = self._settings()
            if settings is None:
                break
            action = settings[1][self.stage]
            self.stage, self.count = (self.stage + 1) % STAGES, 0
            self.anchor_ps = at
            if action > INTERRUPT:
                return action
        return OFF

    def __deepcopy__(self, memo: object) -> "Watchdog":
        """Return a copy for a snapshot: clock and settings are shared."""
        return copy.copy(self)


CONFIG0, CONFIG1, CONFIG2, FEED, WPROTECT = 0x48, 0x4C, 0x50, 0x60, 0x64
KEY = 0x50D8_3AA1
EN, UPDATE, FLASHBOOT = 1 << 31, 1 << 22, 1 << 14
RTC_CALIBRATION, CALIBRATION_VALUE = 0x68, 0x6C
CAL_READY, CAL_START = 1 << 15, 1 << 31
SLOW_HZ = {0: 136_000, 1: 17_500_000 // 256, 2: 32_768}
XTAL_HZ = 40_000_000


class TimerGroup(Plain):
    """TIMG0 (0x6001_F000) or TIMG1 (0x6002_0000): watchdog and the calibration of slow clocks.

    A change of the watchdog's settings takes effect with CONF_UPDATE_EN. In flash-boot mode stage 0 resets
    the system, whatever its action says. The timers of the group are not modelled.
    """

    STATE: ClassVar[tuple[str, ...]] = ("regs", "active", "watchdog")
    WRITE_PROTECTED = (CONFIG0, CONFIG1, CONFIG2, 0x54, 0x58, 0x5C, FEED)

    def __init__(self, name: str, clock: Clock, apb_hz: Callable[[], int], *, flashboot: bool) -> None:
        resets = {CONFIG0: 0x4C000 & ~FLASHBOOT | (FLASHBOOT if flashboot else 0), CONFIG1: 1 << 16,
                  CONFIG2: 26_000_000, 0x54: 0x7FF_FFFF, 0x58: 0xF_FFFF, 0x5C: 0xF_FFFF,
                  WPROTECT: KEY, RTC_CALIBRATION: 0x13000}  # fmt: skip
        super().__init__(name, resets)
        self._apb_hz = apb_hz
        self.active = self._taken()
        self.watchdog = Watchdog(clock, self._hz, self._settings)

    def reset(self) -> None:
        """Take the reset values; the watchdog begins anew."""
        super().reset()
        self.active = self._taken()
        self.watchdog.feed()

    def _taken(self) -> tuple[int, ...]:
        return tuple(self.regs[offset] for offset in (CONFIG0, CONFIG1, CONFIG2, 0x54, 0x58, 0x5C))

    def _hz(self) -> int:
        source = XTAL_HZ if self.active[0] >> 21 & 1 else self._apb_hz()
        return max(1, source // max(1, self.active[1] >> 16))

    def _settings(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        config = self.active[0]
        if not config & (FLASHBOOT | EN):
            return None
        actions = actions_of(config, 3, (29, 27, 25, 23))
        return self.active[2:], (3, *actions[1:]) if config & FLASHBOOT else actions

    def read(self, offset: int) -> int:
        """Return a register; a calibration is ready at once."""
        value = super().read(offset)
        if offset == RTC_CALIBRATION:
            return value | CAL_READY
        if offset == CALIBRATION_VALUE:
            slow = SLOW_HZ.get(self.regs[RTC_CALIBRATION] >> 13 & 3, 136_000)
            cycles = self.regs[RTC_CALIBRATION] >> 16 & 0x7FFF
            return (cycles * XTAL_HZ // slow & 0x1FF_FFFF) << 7 | 1
        return value

    def write(self, offset: int, value: int) -> None:
        """Write a register; those of the watchdog only with the key in WPROTECT."""
        if offset in self.WRITE_PROTECTED and self.regs[WPROTECT] != KEY:
            return
        if offset == FEED:
            self.watchdog.feed()
            return
        super().write(offset, value & ~UPDATE if offset == CONFIG0 else value)
        if offset == CONFIG0 and value & UPDATE:
            self.watchdog.settle()
            stopped = self._settings() is None
            self.active = self._taken()
            if stopped:
                self.watchdog.feed()
