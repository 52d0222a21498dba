"""The parts of the chip wired together: which block lies where, and who tells whom."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from fota_vdev.bus import Bus, Peripheral, Storage
from fota_vdev.clock import Clock
from fota_vdev.cpu import Cpu
from fota_vdev.flash import FlashController
from fota_vdev.flash_array import FlashArray
from fota_vdev.gpio import Gpio
from fota_vdev.i2c import I2c
from fota_vdev.i2c_bus import HostI2C, I2CBus
from fota_vdev.iwdg import Iwdg
from fota_vdev.rcc import Power, Rcc
from fota_vdev.rng import Rng
from fota_vdev.scs import DEMCR, Dwt, SystemControl
from fota_vdev.system import Syscfg, SystemMemory
from fota_vdev.timer import Timer
from fota_vdev.usart import Usart

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608

IWDG_SW = 1 << 16
TRCENA = 1 << 24


class Board:
    """STM32L476 peripherals at their addresses; USART2 on PA2/PA3, I2C1 on PB8/PB9 or PB6/PB7.

    Boards of other chips are subclasses: they make another system (flash, clocks, banks) and attach the
    same peripheral cells elsewhere.
    """

    CORE: ClassVar[dict[str, int]] = {}
    USART: ClassVar[str] = "USART2"
    RNG: ClassVar[type[Rng]] = Rng

    def __init__(
        self, cpu: Cpu, array: FlashArray, element: "Atecc608 | None", seed: int, warn: Callable[[str], None]
    ) -> None:
        self._array = array
        self.clock = clock = Clock(lambda: cpu.executed)
        self.request_reset: Callable[[str], None] = lambda cause: None
        self._make_system(array, warn)
        self.scs = SystemControl(clock, lambda: self.controller.nmi, **self.CORE)
        self.dwt = Dwt(clock, lambda: bool(self.scs.regs[DEMCR] & TRCENA))
        self.iwdg = Iwdg(clock)
        self.rng = self.RNG(clock, lambda: self.rcc.rng_hz, seed)
        self.gpio = {name: Gpio(f"GPIO{name}") for name in "ABCDEFGH"}
        self.timer = Timer(clock, lambda: self.rcc.pclk1_hz)
        self.i2c_bus = I2CBus(element)
        self.host_i2c = HostI2C(self.i2c_bus, clock)
        self.i2c = I2c(self.i2c_bus, clock, lambda: self.rcc.kernel_hz("I2C1"), self._i2c_pins)
        self.usart = Usart(lambda: self.rcc.kernel_hz(self.USART), self._uart_pin, self.USART)
        self.bus = Bus(self.rcc)
        self._by_name: dict[str, Peripheral] = {}
        self._attach(seed)
        self.rcc.on_peripheral_reset = self._reset_one
        clock.before_rate = self._before_rate

    def _make_system(self, array: FlashArray, warn: Callable[[str], None]) -> None:
        """Make flash controller, clock and power control, and what maps the banks."""
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
        """Forget what only the supply keeps, so that flash is mapped as a reader off-chip expects."""
        self.syscfg.reset()
        if "MODEM" in self._by_name:
            self._by_name["MODEM"].reset()

    def attach_modem(self, base: int, size: int, modem: Peripheral) -> None:
        """Put a modem on the external bus."""
        self.bus.attach(base, modem, size)
        self._by_name[modem.name] = modem

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

    def _i2c_pins(self) -> bool:
        port = self.gpio["B"]
        return any(all(port.alternate(pin, 4, open_drain=True) for pin in pair) for pair in ((8, 9), (6, 7)))

    def _uart_pin(self) -> bool:
        return self.gpio["A"].alternate(2, 7)

    def _before_rate(self) -> None:
        self.scs.systick.settle()
        self.dwt.settle()
        self.timer.settle()

    def _reset_one(self, name: str) -> None:
        if name in self._by_name:
            self._by_name[name].reset()

    def reset(self, cause: str) -> None:
        """Reset every block; RCC last to first, so that time keeps its old rate until the clock changes."""
        self._before_rate()
        for name, peripheral in self._by_name.items():
            if name != "RCC":
                peripheral.reset()
        self.rcc.reset()
        self.rcc.mark_reset(cause)
        if not self._array.options["optr"] & IWDG_SW:
            self.iwdg.start()

    def state(self) -> dict[str, Any]:
        """Return the state of all blocks."""
        return {name: peripheral.state() for name, peripheral in self._by_name.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        for name, peripheral in self._by_name.items():
            peripheral.restore(state[name])
