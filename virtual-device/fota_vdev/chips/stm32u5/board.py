"""The STM32U585 wired together: USART1 on PA9/PA10, I2C1 on PB8/PB9 or PB6/PB7."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.cells.board import Board
from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.cells.rng import Rng
from fota_vdev.chips.stm32u5.flash import FlashControllerU5
from fota_vdev.chips.stm32u5.flash_array import FlashArrayU5
from fota_vdev.chips.stm32u5.rcc import RccU5
from fota_vdev.cortex_m.scs import CORTEX_M33
from fota_vdev.parts.bus import Peripheral, UnmodelledError

BOOT_ADDRESS = 0x0800_0000
PLACES = {"FLASH": 0x4002_2000, "RCC": 0x4602_0C00, "IWDG": 0x4000_3000, "I2C1": 0x4000_5400,
          "USART1": 0x4001_3800, "RNG": 0x420C_0800, "ICACHE": 0x4003_0400,
          "TIM2": 0x4000_0000}  # fmt: skip


class RngU5(Rng):
    """A newer cell: more configuration, none of it modelled."""

    RESET: ClassVar[int] = 0x0080_0D00
    WRITABLE: ClassVar[int] = 0x3FFF_FFAC


class Icache(Peripheral):
    """ICACHE: off, as after reset."""

    name = "ICACHE"

    def reset(self) -> None:
        """Nothing to reset: it is off."""

    def read(self, offset: int) -> int:
        """Return CR or SR: off and idle."""
        if offset > 4:
            raise self.unmodelled(offset, "read of")
        return 0

    def write(self, offset: int, value: int) -> None:
        """Take CR = 0."""
        if offset or value & 1:
            raise UnmodelledError("the instruction cache was enabled; it is not modelled")


class BoardU5(Board):
    """Option bytes map the banks, in a reset; which of them are in force, the flash array knows."""

    CORE: ClassVar[dict[str, int]] = {"cpuid": CORTEX_M33, "boot_address": BOOT_ADDRESS}
    USART: ClassVar[str] = "USART1"
    USART_PINS: ClassVar[tuple[int, int]] = (9, 10)
    RNG: ClassVar[type[Rng]] = RngU5

    def _make_system(self, array: FlashArray, warn: Callable[[str], None]) -> None:
        if not isinstance(array, FlashArrayU5):
            raise TypeError("an STM32U5 needs its own flash")
        self.u5_array = array
        self.u5_controller = FlashControllerU5(array, self.clock, warn)
        self.controller = self.u5_controller
        self.rcc = RccU5(self.clock, lambda: self.controller.latency)
        self.controller.on_acr = self.rcc.check_latency
        self.u5_controller.on_launch = lambda: self.request_reset("obl")

    def _attach(self, seed: int) -> None:
        blocks: tuple[Peripheral, ...] = (self.controller, self.rcc, self.iwdg, self.i2c, self.usart,
                                          self.rng, self.timer, Icache())  # fmt: skip
        self._by_name = {p.name: p for p in (*blocks, self.scs, self.dwt, *self.gpio.values())}
        for name, base in PLACES.items():
            self.bus.attach(base, self._by_name[name])
        for index, port in enumerate(self.gpio.values()):
            self.bus.attach(0x4202_0000 + 0x400 * index, port)
        self.bus.attach(0xE000_E000, self.scs, 0x1000)
        self.bus.attach(0xE000_1000, self.dwt, 0x1000)

    @property
    def swapped(self) -> bool:
        """True while bank 2 is mapped low."""
        return self.u5_array.swapped

    def reset(self, cause: str) -> None:
        """Reset every block; power-up and an option byte launch load the option bytes."""
        if cause in ("power", "obl"):
            self.u5_controller.load()
        super().reset(cause)
