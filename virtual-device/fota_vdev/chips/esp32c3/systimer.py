"""The system timer (0x6002_3000): two counters at 16 MHz, and the first alarm."""

from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, Clock

CONF, UNIT0_OP, UNIT1_OP, TARGET0_HI, TARGET0_LO, TARGET0_CONF = 0x00, 0x04, 0x08, 0x1C, 0x20, 0x34
UNIT0_HI, UNIT0_LO, COMP0_LOAD = 0x40, 0x44, 0x50
INT_ENA, INT_RAW, INT_CLR, INT_ST = 0x64, 0x68, 0x6C, 0x70
HZ = 16_000_000
UPDATE, VALID = 1 << 30, 1 << 29
TARGET0_WORK, UNIT0_WORK = 1 << 24, 1 << 30
PERIODIC = 1 << 30


class Systimer(Plain):
    """Unit 0 counts from the last reset on; unit 1 is the same. Of the alarms only target 0, one shot."""

    STATE: ClassVar[tuple[str, ...]] = ("regs", "started_ps", "alarm", "raised")

    def __init__(self, clock: Clock) -> None:
        super().__init__("SYSTIMER", {CONF: 1 << 30})
        self._clock = clock
        self.started_ps = clock.ps
        self.alarm: int | None = None
        self.raised = False

    def reset(self) -> None:
        """Count from 0."""
        super().reset()
        self.started_ps = self._clock.ps
        self.alarm = None
        self.raised = False

    @property
    def value(self) -> int:
        """The count, 52 bits."""
        return (self._clock.ps - self.started_ps) * HZ // PS_PER_S

    def _at_ps(self, value: int) -> int:
        return self.started_ps - (-value * PS_PER_S // HZ)

    def next_ps(self) -> int | None:
        """When the alarm goes off, if it is set and has not."""
        if self.alarm is None or self.raised or not self.regs[CONF] & TARGET0_WORK:
            return None
        return self._at_ps(self.alarm)

    def settle(self) -> None:
        """Raise the alarm that is due."""
        at = self.next_ps()
        if at is not None and self._clock.ps >= at:
            self.raised = True

    @property
    def interrupting(self) -> bool:
        """True while the alarm is raised and enabled."""
        self.settle()
        return self.raised and bool(self.regs.get(INT_ENA, 0) & 1)

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset in (INT_RAW, INT_ST):
            self.settle()
            return int(self.raised and (offset == INT_RAW or self.interrupting))
        if offset in (UNIT0_OP, UNIT1_OP):
            return VALID
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset in (UNIT0_OP, UNIT1_OP):
            if value & UPDATE:
                now, high = self.value, UNIT0_HI if offset == UNIT0_OP else UNIT0_HI + 8
                self.regs[high], self.regs[high + 4] = now >> 32 & 0xF_FFFF, now & 0xFFFF_FFFF
            return  # to look at the time moves no deadline
        if offset == COMP0_LOAD:
            if self.regs.get(TARGET0_CONF, 0) & PERIODIC:
                raise UnmodelledError("periodic alarms of the system timer are not modelled")
            self.alarm = (self.regs.get(TARGET0_HI, 0) & 0xF_FFFF) << 32 | self.regs.get(TARGET0_LO, 0)
            self.raised = False
        elif offset == INT_CLR:
            if value & 1 and self.raised:
                self.raised, self.alarm = False, None
        else:
            super().write(offset, value)
        self._clock.on_jump()
