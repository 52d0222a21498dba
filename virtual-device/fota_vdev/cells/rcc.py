"""Reset and clock control, power control: what clocks core and peripherals, and why the last reset came."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.parts.bus import Gate, Peripheral, Storage, UnmodelledError
from fota_vdev.parts.clock import PS_PER_US, Clock

CR, CFGR, PLLCFGR, CCIPR, CSR = 0x00, 0x08, 0x0C, 0x88, 0x94
MSION, MSIRDY, MSIRGSEL, HSION, HSIRDY, HSEON, PLLON, PLLRDY = (
    1,
    2,
    8,
    1 << 8,
    1 << 10,
    1 << 16,
    1 << 24,
    1 << 25,
)
LSION, LSIRDY, RMVF = 1, 2, 1 << 23
RESET_FLAGS = {"fw": 24, "obl": 25, "pin": 26, "power": 27, "software": 28, "iwdg": 29, "wwdg": 30}
MSI_HZ = (100_000, 200_000, 400_000, 800_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000,
          16_000_000, 24_000_000, 32_000_000, 48_000_000)  # fmt: skip
HSI_HZ = 16_000_000
HSI_START_PS = 4 * PS_PER_US
RESETS = {
    CR: 0x63, 0x04: 0x1000_0000, CFGR: 0, PLLCFGR: 0x1000, 0x10: 0x1000, 0x14: 0x1000, 0x18: 0, 0x1C: 0,
    0x20: 0, 0x28: 0, 0x2C: 0, 0x30: 0, 0x38: 0, 0x3C: 0, 0x40: 0, 0x48: 0x100, 0x4C: 0, 0x50: 0,
    0x58: 0, 0x5C: 0, 0x60: 0, 0x68: 0x0001_1303, 0x6C: 0x0005_32FF, 0x70: 0x101, 0x78: 0xF2FE_CA3F,
    0x7C: 0x25, 0x80: 0x0167_5C01, CCIPR: 0, 0x90: 0, CSR: 0x600,
}  # fmt: skip
# peripheral: (enable register, bit)
CLOCKS = {
    "GPIOA": (0x4C, 0), "GPIOB": (0x4C, 1), "GPIOC": (0x4C, 2), "GPIOD": (0x4C, 3), "GPIOE": (0x4C, 4),
    "GPIOF": (0x4C, 5), "GPIOG": (0x4C, 6), "GPIOH": (0x4C, 7), "RNG": (0x4C, 18), "USART2": (0x58, 17),
    "I2C1": (0x58, 21), "PWR": (0x58, 28), "SYSCFG": (0x60, 0), "CRC": (0x48, 12), "TIM2": (0x58, 0),
}  # fmt: skip
# highest core clock in MHz by flash wait states, voltage range 1 and 2
FLASH_MHZ = {1: (16, 32, 48, 64, 80), 2: (6, 12, 18, 26, 26)}


class Power(Storage):
    """PWR: voltage range and back-up domain bits are remembered; no low-power mode stands behind them."""

    def __init__(self) -> None:
        super().__init__("PWR", {0x00: 0x200, 0x04: 0, 0x08: 0x8000, 0x0C: 0, 0x10: 0, 0x14: 0, 0x18: 0}
                         | dict.fromkeys(range(32, 96, 4), 0))  # fmt: skip
        self.on_range: Callable[[], None] = lambda: None

    @property
    def voltage_range(self) -> int:
        """1 (to 80 MHz) or 2 (to 26 MHz)."""
        return 2 if self.regs[0] >> 9 & 3 == 2 else 1

    def write(self, offset: int, value: int) -> None:
        """Remember ``value``; tells the clock tree when the voltage range changes."""
        super().write(offset, value)
        if offset == 0:
            self.on_range()


class Rcc(Peripheral, Gate):
    """RCC, base 0x4002_1000. Oscillators that are not fitted (HSE, LSE) never become ready."""

    name = "RCC"
    STATE = ("regs", "flags", "_hsi_ready_ps")
    _READ_ONLY: ClassVar[int] = MSIRDY | HSIRDY | 1 << 17 | PLLRDY | 1 << 27 | 1 << 29
    # what another chip has elsewhere
    CFGR: ClassVar[int] = CFGR
    CSR: ClassVar[int] = CSR
    RESETS: ClassVar[dict[int, int]] = RESETS
    CLOCKS: ClassVar[dict[str, tuple[int, int]]] = CLOCKS
    RESET_BELOW: ClassVar[int] = 0x20  # from a register that enables to the one that resets

    def __init__(self, clock: Clock, power: Power, latency: Callable[[], int]) -> None:
        self._clock = clock
        self._power = power
        self._latency = latency
        self.on_peripheral_reset: Callable[[str], None] = lambda name: None
        self.flags = 0
        self.regs = dict(self.RESETS)
        self._hsi_ready_ps = 0

    def reset(self) -> None:
        """Go back to MSI at 4 MHz; the reset flags in CSR stay until RMVF."""
        self.regs = dict(self.RESETS)
        self._apply()

    def mark_reset(self, cause: str) -> None:
        """Record why the chip was reset; the pin flag comes with every cause, as NRST is pulled low."""
        if cause == "power":
            self.flags = 0
        self.flags |= 1 << RESET_FLAGS[cause] | 1 << RESET_FLAGS["pin"]

    def clocked(self, name: str) -> bool:
        """Return True if the peripheral has its bus clock, or needs none."""
        if name not in self.CLOCKS:
            return True
        register, bit = self.CLOCKS[name]
        return bool(self.regs[register] >> bit & 1)

    # -- frequencies -------------------------------------------------------------------------------------

    @property
    def msi_hz(self) -> int:
        """MSI, from CR.MSIRANGE once MSIRGSEL is set, else from CSR.MSISRANGE."""
        cr = self.regs[CR]
        index = cr >> 4 & 15 if cr & MSIRGSEL else self.regs[CSR] >> 8 & 15
        if index >= len(MSI_HZ):
            raise UnmodelledError(f"MSI range {index} does not exist")
        return MSI_HZ[index]

    @property
    def sysclk_hz(self) -> int:
        """SYSCLK by CFGR.SW."""
        source = self.regs[CFGR] & 3
        if source == 0:
            return self.msi_hz
        if source == 1:
            return HSI_HZ
        if source == 3:
            return self._pll_hz()
        raise UnmodelledError("SYSCLK from HSE: no crystal is fitted")

    def _pll_hz(self) -> int:
        value = self.regs[PLLCFGR]
        sources = {1: self.msi_hz, 2: HSI_HZ}
        if value & 3 not in sources:
            raise UnmodelledError("PLL source is none or HSE: no crystal is fitted")
        if not value >> 24 & 1:
            raise UnmodelledError("SYSCLK from the PLL, whose R output is off (PLLCFGR.PLLREN)")
        return (
            sources[value & 3] // ((value >> 4 & 7) + 1) * (value >> 8 & 0x7F) // (2 * (value >> 25 & 3) + 2)
        )

    @property
    def hclk_hz(self) -> int:
        """AHB and core clock."""
        hpre = self.regs[CFGR] >> 4 & 15
        return self.sysclk_hz >> (0, 1, 2, 3, 4, 6, 7, 8, 9)[hpre - 7 if hpre >= 8 else 0]

    @property
    def pclk1_hz(self) -> int:
        """APB1 clock."""
        ppre = self.regs[CFGR] >> 8 & 7
        return self.hclk_hz >> (ppre - 3 if ppre >= 4 else 0)

    def kernel_hz(self, name: str) -> int:
        """Kernel clock of USART2 or I2C1 by CCIPR; 0 if that oscillator is off.

        Raises:
            UnmodelledError: LSE is selected.
        """
        shift = {"USART2": 2, "I2C1": 12}[name]
        source = self.regs[CCIPR] >> shift & 3
        if source == 3:
            raise UnmodelledError(f"{name} clocked by LSE: no crystal is fitted")
        hsi = HSI_HZ if self._hsi_ready else 0
        return (self.pclk1_hz, self.sysclk_hz, hsi)[source]

    @property
    def rng_hz(self) -> int:
        """48 MHz domain by CCIPR.CLK48SEL; 0 if nothing or something not modelled is selected."""
        return self.msi_hz if self.regs[CCIPR] >> 26 & 3 == 3 and self.regs[CR] & MSION else 0

    @property
    def _hsi_ready(self) -> bool:
        return bool(self.regs[CR] & HSION) and self._clock.ps >= self._hsi_ready_ps

    def _apply(self) -> None:
        """Give the core its clock, and refuse one that flash could not follow."""
        hclk = self.hclk_hz
        if hclk != self._clock.hz:
            self._clock.set_hz(hclk)
            self._clock.on_jump()
        self.check_latency()

    def check_latency(self) -> None:
        """Raise UnmodelledError if flash has too few wait states: real reads would return rubbish."""
        limits = FLASH_MHZ[self._power.voltage_range]
        latency = self._latency()
        if self.hclk_hz > limits[min(latency, 4)] * 1_000_000:
            raise UnmodelledError(
                f"{self.hclk_hz} Hz with {latency} flash wait states, range {self._power.voltage_range}: "
                f"the limit is {limits[min(latency, 4)]} MHz"
            )

    # -- registers ---------------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """Return a register, ready bits and SWS from the state of the oscillators."""
        if offset == CSR:
            lsi = self.regs[CSR] & LSION
            return self.regs[CSR] | lsi << 1 | self.flags
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        value = self.regs[offset]
        if offset == CR:
            value |= MSIRDY if value & MSION else 0
            value |= HSIRDY if self._hsi_ready else 0
            value |= PLLRDY if value & PLLON else 0
            if value & HSION and not self._hsi_ready:
                self._clock.wait_until(self._hsi_ready_ps)
        elif offset == CFGR:
            value |= (value & 3) << 2
        return value

    def write(self, offset: int, value: int) -> None:
        """Write a register; clocks change at once."""
        if offset == self.CSR:
            self._write_csr(value)
        elif offset not in self.regs:
            raise self.unmodelled(offset, "write to")
        elif offset == CR:
            self._write_cr(value)
        elif offset == self.CFGR:
            self._write_cfgr(value)
        else:
            self.regs[offset] = value
            self._reset_peripherals(offset, value)
        self._apply()

    def _write_csr(self, value: int) -> None:
        self.regs[CSR] = value & (0xF00 | LSION)
        if value & RMVF:
            self.flags = 0

    def _write_cr(self, value: int) -> None:
        old = self.regs[CR]
        if value & HSION and not old & HSION:
            self._hsi_ready_ps = self._clock.ps + HSI_START_PS
        source = self.regs[CFGR] & 3
        keep = {0: MSION, 1: HSION, 3: PLLON}.get(source, 0)  # the oscillator in use cannot be stopped
        self.regs[CR] = (value & ~self._READ_ONLY) | keep

    def _write_cfgr(self, value: int) -> None:
        ready = {0: self.regs[CR] & MSION, 1: self._hsi_ready, 3: self.regs[CR] & PLLON}
        source = value & 3
        if source == 2:
            raise UnmodelledError("SYSCLK from HSE: no crystal is fitted")
        if not ready[source]:
            raise UnmodelledError("SYSCLK switched to an oscillator that is not ready")
        self.regs[CFGR] = value & ~0xC

    def _reset_peripherals(self, offset: int, value: int) -> None:
        for name, (register, bit) in self.CLOCKS.items():
            if register - self.RESET_BELOW == offset and value >> bit & 1:
                self.on_peripheral_reset(name)
