"""Clocks and resets of peripherals (SYSTEM 0x600C_0000), and the interrupt matrix as far as WFI needs it."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.bus import Gate, UnmodelledError
from fota_vdev.parts.clock import Clock

CPU_PER_CONF, CLK_EN0, CLK_EN1, RST_EN0, RST_EN1, SYSCLK_CONF = 0x08, 0x10, 0x14, 0x18, 0x1C, 0x58
XTAL_HZ, RC_FAST_HZ, PLL_APB_HZ = 40_000_000, 17_500_000, 80_000_000
PLL_CPU_HZ = {0: 80_000_000, 1: 160_000_000}
# peripheral: (register of its clock, bit); its reset register lies 8 above
CLOCKS = {"UART0": (CLK_EN0, 2), "UART1": (CLK_EN0, 5), "I2C0": (CLK_EN0, 7), "TIMG0": (CLK_EN0, 13),
          "TIMG1": (CLK_EN0, 15), "SYSTIMER": (CLK_EN0, 29), "SHA": (CLK_EN1, 2)}  # fmt: skip


class System(Plain, Gate):
    """The CPU clock changes at once; a PLL is always locked."""

    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self, clock: Clock) -> None:
        super().__init__(
            "SYSTEM",
            {
                CPU_PER_CONF: 0xC,
                CLK_EN0: 0xF9C1_E06F,
                CLK_EN1: 0x200,
                RST_EN0: 0,
                RST_EN1: 0x1FE,
                SYSCLK_CONF: 1,
            },
        )
        self._clock = clock
        self.on_peripheral_reset: Callable[[str], None] = lambda name: None
        self._apply()

    def reset(self) -> None:
        """Go back to the crystal."""
        super().reset()
        self._apply()

    def clocked(self, name: str) -> bool:
        """Return True if the peripheral has its clock and is not held in reset."""
        if name not in CLOCKS:
            return True
        register, bit = CLOCKS[name]
        return bool(self.regs[register] >> bit & 1 and not self.regs[register + 8] >> bit & 1)

    @property
    def cpu_hz(self) -> int:
        """The CPU clock by SOC_CLK_SEL."""
        source = self.regs[SYSCLK_CONF] >> 10 & 3
        if source == 1:
            period = self.regs[CPU_PER_CONF] & 3
            if period not in PLL_CPU_HZ:
                raise UnmodelledError(f"CPUPERIOD_SEL {period} does not exist")
            return PLL_CPU_HZ[period]
        if source == 3:
            raise UnmodelledError("SOC_CLK_SEL 3 does not exist")
        return (RC_FAST_HZ if source else XTAL_HZ) // ((self.regs[SYSCLK_CONF] & 0x3FF) + 1)

    @property
    def apb_hz(self) -> int:
        """The APB clock: 80 MHz with the PLL, else that of the CPU."""
        return PLL_APB_HZ if self.regs[SYSCLK_CONF] >> 10 & 3 == 1 else self.cpu_hz

    def _apply(self) -> None:
        if self.cpu_hz != self._clock.hz:
            self._clock.set_hz(self.cpu_hz)

    def read(self, offset: int) -> int:
        """Return a register; SYSCLK_CONF tells the crystal's MHz in [18:12]."""
        value = super().read(offset)
        return value & 0xFFF | XTAL_HZ // 1_000_000 << 12 if offset == SYSCLK_CONF else value

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        super().write(offset, value)
        for name, (register, bit) in CLOCKS.items():
            if register + 8 == offset and value >> bit & 1:
                self.on_peripheral_reset(name)
        if offset in (SYSCLK_CONF, CPU_PER_CONF):
            self._apply()


class InterruptMatrix(Plain):
    """INTERRUPT_CORE0, 0x600C_2000: settings are kept, so that an alarm can end a WFI; none is taken."""

    SYSTIMER_TARGET0 = 37
    ENABLE, THRESHOLD, PRIORITY = 0x104, 0x194, 0x114

    def __init__(self) -> None:
        super().__init__("INTERRUPT_CORE0")

    def line_on(self, source: int) -> bool:
        """Return True if a source reaches the core: mapped to a line that is enabled, above the threshold."""
        line = self.regs.get(4 * source, 0) & 31
        enabled = bool(line and self.regs.get(self.ENABLE, 0) >> line & 1)
        return enabled and self.regs.get(self.PRIORITY + 4 * line, 0) >= max(
            1, self.regs.get(self.THRESHOLD, 0)
        )
