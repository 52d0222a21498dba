"""Clocks of the STM32U5 (RCC, base 0x4602_0C00): MSIS, HSI16 and HSI48, and who gets them."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.cells.rcc import HSI_HZ, RMVF, Power, Rcc
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.parts.clock import PS_PER_US, Clock

CR, ICSCR1, CFGR1, CFGR2, CFGR3, CCIPR1, CCIPR2, CSR = 0x00, 0x08, 0x1C, 0x20, 0x24, 0xE0, 0xE4, 0xF4
MSISON, MSISRDY, HSION, HSIRDY, HSI48ON, HSI48RDY = 1, 1 << 2, 1 << 8, 1 << 10, 1 << 12, 1 << 13
MSI_HZ = (48_000_000, 24_000_000, 16_000_000, 12_000_000, 4_000_000, 2_000_000, 1_330_000, 1_000_000)
MSI_RESET_RANGE = 4
HSI_START_PS = 4 * PS_PER_US
# highest core clock in MHz by wait states in voltage range 4, that of reset; 16 with one is on the safe side
RANGE_4_MHZ = (8, 16, 25)
RESETS = {
    CR: 0x35, ICSCR1: 0x4400_0000, 0x0C: 0, 0x10: 0, 0x14: 0, CFGR1: 0, CFGR2: 0, CFGR3: 0,
    0x60: 0, 0x64: 0, 0x68: 0, 0x6C: 0, 0x74: 0, 0x78: 0, 0x7C: 0, 0x80: 0,
    0x88: 0xD020_0100, 0x8C: 0xC000_0000, 0x90: 0, 0x94: 0, 0x9C: 0, 0xA0: 0, 0xA4: 0, 0xA8: 0,
    CCIPR1: 0, CCIPR2: 0, 0xE8: 0, 0xF0: 0,
}  # fmt: skip
# peripheral: (enable register, bit)
CLOCKS = {
    **{f"GPIO{port}": (0x8C, bit) for bit, port in enumerate("ABCDEFGH")},
    "RNG": (0x8C, 18), "I2C1": (0x9C, 21), "TIM2": (0x9C, 0), "USART1": (0xA4, 14),
}  # fmt: skip


class RccU5(Rcc):
    """Oscillators that are not fitted and PLLs do not exist; the voltage range is that of reset."""

    _READ_ONLY: ClassVar[int] = MSISRDY | HSIRDY | HSI48RDY | 1 << 5
    CFGR: ClassVar[int] = CFGR1
    CSR: ClassVar[int] = CSR
    RESETS: ClassVar[dict[int, int]] = RESETS
    CLOCKS: ClassVar[dict[str, tuple[int, int]]] = CLOCKS
    RESET_BELOW: ClassVar[int] = 0x28

    def __init__(self, clock: Clock, latency: Callable[[], int]) -> None:
        super().__init__(clock, Power(), latency)

    @property
    def msi_hz(self) -> int:
        """MSIS, by ICSCR1.MSISRANGE once MSIRGSEL is set."""
        value = self.regs[ICSCR1]
        index = value >> 28 if value >> 23 & 1 else MSI_RESET_RANGE
        if index >= len(MSI_HZ):
            raise UnmodelledError(f"MSIS range {index} is not modelled")
        return MSI_HZ[index]

    @property
    def sysclk_hz(self) -> int:
        """SYSCLK by CFGR1.SW."""
        source = self.regs[CFGR1] & 3
        if source > 1:
            raise UnmodelledError("SYSCLK from HSE or PLL is not modelled")
        return HSI_HZ if source else self.msi_hz

    @property
    def hclk_hz(self) -> int:
        """AHB and core clock: prescalers are not modelled."""
        if self.regs[CFGR2] or self.regs[CFGR3]:
            raise UnmodelledError("bus prescalers (CFGR2, CFGR3) are not modelled")
        return self.sysclk_hz

    @property
    def pclk1_hz(self) -> int:
        """APB clocks."""
        return self.hclk_hz

    def kernel_hz(self, name: str) -> int:
        """Kernel clock of USART1 or I2C1 by CCIPR1; 0 if that oscillator is off."""
        source = self.regs[CCIPR1] >> {"USART1": 0, "I2C1": 10}[name] & 3
        if source == 3:
            raise UnmodelledError(f"{name} clocked by LSE or MSIK: not modelled")
        return (self.pclk1_hz, self.sysclk_hz, HSI_HZ if self._hsi_ready else 0)[source]

    @property
    def rng_hz(self) -> int:
        """HSI48, the choice of reset in CCIPR2.RNGSEL; 0 if it is off or another is selected."""
        ready = self.regs[CR] & HSI48ON and self._clock.ps >= self._hsi_ready_ps
        return 48_000_000 if ready and not self.regs[CCIPR2] >> 12 & 3 else 0

    def check_latency(self) -> None:
        """Raise UnmodelledError if flash has too few wait states: real reads would return rubbish."""
        latency = self._latency()
        limit = RANGE_4_MHZ[min(latency, 2)]
        if self.hclk_hz > limit * 1_000_000:
            raise UnmodelledError(
                f"{self.hclk_hz} Hz with {latency} wait states in range 4: limit {limit} MHz"
            )

    def read(self, offset: int) -> int:
        """Return a register, ready bits and SWS from the state of the oscillators."""
        if offset == CSR:
            return self.flags
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        value = self.regs[offset]
        if offset == CR:
            ready = self._clock.ps >= self._hsi_ready_ps
            value |= MSISRDY if value & MSISON else 0
            value |= HSIRDY if value & HSION and ready else 0
            value |= HSI48RDY if value & HSI48ON and ready else 0
            if value & (HSION | HSI48ON) and not ready:
                self._clock.wait_until(self._hsi_ready_ps)
        elif offset == CFGR1:
            value |= (value & 3) << 2
        return value

    def _write_csr(self, value: int) -> None:
        if value & RMVF:
            self.flags = 0

    def _write_cr(self, value: int) -> None:
        old = self.regs[CR]
        if value & ~old & (HSION | HSI48ON):
            self._hsi_ready_ps = self._clock.ps + HSI_START_PS
        keep = HSION if self.regs[CFGR1] & 3 else MSISON  # the oscillator in use cannot be stopped
        self.regs[CR] = value & ~self._READ_ONLY | keep

    def _write_cfgr(self, value: int) -> None:
        if value & 3 == 1 and not self._hsi_ready:
            raise UnmodelledError("SYSCLK switched to HSI16, which is not ready")
        self.regs[CFGR1] = value & ~0xC
