"""The RTC block (0x6000_8000): reset causes, RTC and super watchdog, slow time, what survives a reset."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.chips.esp32c3.watchdog import Watchdog, actions_of
from fota_vdev.parts.clock import PS_PER_MS, PS_PER_S, Clock

OPTIONS0, TIME_UPDATE, TIME_LOW, TIME_HIGH, ANA_CONF, RESET_STATE = 0x00, 0x0C, 0x10, 0x14, 0x34, 0x38
WDT_CONFIG0, WDT_CONFIG1, WDT_FEED, WDT_WPROTECT = 0x90, 0x94, 0xA4, 0xA8
SWD_CONF, SWD_WPROTECT, SENSOR_CTRL = 0xAC, 0xB0, 0x11C
STORES = (0x50, 0x54, 0x58, 0x5C, 0xB8, 0xBC, 0xC0, 0xC4)
SW_SYS_RST, SW_CPU_RST = 1 << 31, 1 << 5
WDT_KEY, SWD_KEY = 0x50D8_3AA1, 0x8F1D_312A
EN, FLASHBOOT, FEED = 1 << 31, 1 << 12, 1 << 31
SWD_AUTO_FEED, SWD_DISABLE, SWD_FEED = 1 << 31, 1 << 30, 1 << 29
SLOW_HZ = 136_000
FLASHBOOT_CONFIG = 0x1_3214 & ~0x1F00 | FLASHBOOT | 1 << 9  # reset: nothing but flash-boot mode
SWD_PS = 1400 * PS_PER_MS
CPU, CORE, SYSTEM = 2, 3, 4  # actions of a stage


class Rtc(Plain):
    """Registers of the RTC domain. A core reset leaves them as they are, but for flash-boot mode.

    ``delay_shift()``: eFuse WDT_DELAY_SEL + 1, by which stage 0 is longer than its register says, except in
    flash-boot mode.
    """

    STATE: ClassVar[tuple[str, ...]] = ("regs", "cause", "watchdog", "swd_fed_ps")

    def __init__(self, clock: Clock, delay_shift: Callable[[], int]) -> None:
        super().__init__(
            "RTC_CNTL",
            {WDT_CONFIG0: FLASHBOOT_CONFIG, WDT_CONFIG1: 200_000, 0x98: 80_000, 0x9C: 0xFFF, 0xA0: 0xFFF,
             SWD_CONF: 300 << 18, OPTIONS0: 0x1C00_A000},
        )  # fmt: skip
        self._clock = clock
        self._delay_shift = delay_shift
        self.cause = 1
        self.request_reset: Callable[[str], None] = lambda cause: None
        self.on_watchdog: Callable[[], None] = lambda: None
        self.swd_fed_ps = 0
        self.watchdog = Watchdog(clock, lambda: SLOW_HZ, self._settings)

    # -- resets ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """System reset: all but the STORE registers, which only the supply clears."""
        kept = {offset: self.regs[offset] for offset in STORES if offset in self.regs}
        super().reset()
        self.regs |= kept
        self.rearm()

    def clear_stores(self) -> None:
        """The supply came."""
        for offset in STORES:
            self.regs.pop(offset, None)

    def rearm(self) -> None:
        """Core reset: the watchdogs guard the boot from flash again."""
        self.regs[WDT_CONFIG0] |= FLASHBOOT
        self.regs[WDT_WPROTECT] = self.regs[SWD_WPROTECT] = 0
        self.regs[SWD_CONF] &= ~(SWD_AUTO_FEED | SWD_DISABLE)
        self.watchdog.feed()
        self.swd_fed_ps = self._clock.ps

    # -- watchdogs ---------------------------------------------------------------------------------------

    def _settings(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        config = self.regs[WDT_CONFIG0]
        if not config & (FLASHBOOT | EN):
            return None
        r = self.regs
        ticks = r[WDT_CONFIG1], r[WDT_CONFIG1 + 4], r[WDT_CONFIG1 + 8], r[WDT_CONFIG1 + 12]
        actions = actions_of(config, 7, (28, 25, 22, 19))
        if config & FLASHBOOT:
            return ticks, (SYSTEM, *actions[1:])
        return (ticks[0] << self._delay_shift(), *ticks[1:]), actions

    @property
    def swd_expires_ps(self) -> int | None:
        """When the super watchdog resets the chip."""
        if self.regs[SWD_CONF] & (SWD_AUTO_FEED | SWD_DISABLE):
            return None
        return self.swd_fed_ps + SWD_PS

    # -- registers ---------------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == RESET_STATE:
            return super().read(offset) & ~0x3F | self.cause
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register; those of the watchdogs only with their key."""
        if WDT_CONFIG0 <= offset <= WDT_FEED:
            self._write_watchdog(offset, value)
        elif offset == SWD_CONF:
            self._write_swd(value)
        elif offset == OPTIONS0 and value & (SW_SYS_RST | SW_CPU_RST):
            self.request_reset("software" if value & SW_SYS_RST else "software cpu")
        elif offset == TIME_UPDATE:
            now = self._clock.ps * SLOW_HZ // PS_PER_S
            self.regs[TIME_LOW], self.regs[TIME_HIGH] = now & 0xFFFF_FFFF, now >> 32 & 0xFFFF
        else:
            super().write(offset, value)

    def _write_watchdog(self, offset: int, value: int) -> None:
        if self.regs.get(WDT_WPROTECT) != WDT_KEY:
            return
        self.watchdog.settle()
        if offset == WDT_FEED:
            if value & FEED:
                self.watchdog.feed()
        else:
            stood = self._settings() is None
            super().write(offset, value)
            if stood:
                self.watchdog.feed()
        self.on_watchdog()

    def _write_swd(self, value: int) -> None:
        if self.regs.get(SWD_WPROTECT) != SWD_KEY:
            return
        if value & SWD_FEED or self.swd_expires_ps is None:
            self.swd_fed_ps = self._clock.ps
        super().write(SWD_CONF, value & ~SWD_FEED)
        self.on_watchdog()

    @property
    def entropy(self) -> bool:
        """True while the SAR ADC feeds the random number generator."""
        return self.regs.get(SENSOR_CTRL, 0) >> 30 == 3
