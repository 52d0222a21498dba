"""The STM32L476 wired together: USART2 on PA2/PA3, the bank remap in SYSCFG."""

from collections.abc import Callable

from fota_vdev.cells.board import Board
from fota_vdev.cells.flash import FlashController
from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.cells.rcc import Power, Rcc
from fota_vdev.chips.stm32l4.system import Syscfg, SystemMemory
from fota_vdev.parts.bus import Storage


class BoardL4(Board):
    """SYSCFG maps the banks, at once and while the chip runs."""

    def _make_system(self, array: FlashArray, warn: Callable[[str], None]) -> None:
        self.power = Power()
        self.controller = FlashController(array, self.clock, warn)
        self.rcc = Rcc(self.clock, self.power, lambda: self.controller.latency)
        self.syscfg = Syscfg()
        self.controller.on_acr = self.rcc.check_latency
        self.power.on_range = self.rcc.check_latency

    @property
    def swapped(self) -> bool:
        """True while bank 2 is mapped low."""
        return self.syscfg.fb_mode

    def watch_remap(self, on_remap: Callable[[], None]) -> None:
        """Have ``on_remap`` called when the banks change places while the chip runs."""
        self.syscfg.on_remap = on_remap

    def power_off(self) -> None:
        """Forget the remap, so that flash is mapped as a reader off-chip expects."""
        self.syscfg.reset()
        super().power_off()

    def _attach(self, seed: int) -> None:
        dbgmcu = Storage("DBGMCU", {0x00: 0x1000_6415, 0x04: 0, 0x08: 0, 0x0C: 0, 0x10: 0})
        self._by_name = {
            p.name: p
            for p in (self.power, self.controller, self.rcc, self.syscfg, self.scs, self.dwt, self.iwdg,
                      self.rng, self.i2c, self.usart, self.timer, dbgmcu, *self.gpio.values())
        }  # fmt: skip
        places = {"PWR": 0x4000_7000, "FLASH": 0x4002_2000, "RCC": 0x4002_1000, "SYSCFG": 0x4001_0000,
                  "IWDG": 0x4000_3000, "I2C1": 0x4000_5400, "USART2": 0x4000_4400,
                  "TIM2": 0x4000_0000}  # fmt: skip
        for name, base in places.items():
            self.bus.attach(base, self._by_name[name])
        for index, port in enumerate(self.gpio.values()):
            self.bus.attach(0x4800_0000 + 0x400 * index, port)
        self.bus.attach(0x5006_0800, self.rng)
        self.bus.attach(0xE000_E000, self.scs, 0x1000)
        self.bus.attach(0xE000_1000, self.dwt, 0x1000)
        self.bus.attach(0xE004_2000, dbgmcu)
        self.bus.attach(0x1FFF_0000, SystemMemory(self._array, seed), 0x10000)
