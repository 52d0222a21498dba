"""The parts of the chip wired together: which block lies where, and who tells whom."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from fota_vdev.cells.flash import FlashController
from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.cells.gpio import Gpio
from fota_vdev.cells.i2c import I2c
from fota_vdev.cells.iwdg import Iwdg
from fota_vdev.cells.rcc import Rcc
from fota_vdev.cells.rng import Rng
from fota_vdev.cells.timer import Timer
from fota_vdev.cells.usart import Usart
from fota_vdev.cortex_m.cpu import Cpu
from fota_vdev.cortex_m.scs import DEMCR, Dwt, SystemControl
from fota_vdev.parts.bus import Bus, Peripheral
from fota_vdev.parts.clock import Clock
from fota_vdev.parts.stream import Stream
from fota_vdev.wires.i2c_bus import HostI2C, I2CBus

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608

MODEM_PLACE = (0x6000_0000, 0x1000)
IWDG_SW = 1 << 16
TRCENA = 1 << 24


class Board:
    """An STM32's peripherals; I2C1 on PB8/PB9 or PB6/PB7.

    Each chip's board is a subclass: it makes the system (flash, clocks, banks) and attaches the peripheral
    cells at its addresses.
    """

    CORE: ClassVar[dict[str, int]] = {}
    USART: ClassVar[str] = "USART2"
    USART_PINS: ClassVar[tuple[int, int]] = (2, 3)  # of port A, function 7: transmitter, receiver
    RNG: ClassVar[type[Rng]] = Rng
    controller: FlashController
    rcc: Rcc

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
        self.usart = Usart(lambda: self.rcc.kernel_hz(self.USART), self._uart_pins, self.USART)
        self.bus = Bus(self.rcc)
        self._by_name: dict[str, Peripheral] = {}
        self._attach(seed)
        self.rcc.on_peripheral_reset = self._reset_one
        clock.before_rate = self._before_rate

    def _make_system(self, array: FlashArray, warn: Callable[[str], None]) -> None:
        """Make `controller` and `rcc`: flash controller, clock and power control, and what maps the banks."""
        raise NotImplementedError

    @property
    def swapped(self) -> bool:
        """True while bank 2 is mapped low."""
        raise NotImplementedError

    def watch_remap(self, on_remap: Callable[[], None]) -> None:
        """Have ``on_remap`` called when the banks change places while the chip runs, if they ever do."""

    def power_off(self) -> None:
        """Forget what only the supply keeps, so that flash is mapped as a reader off-chip expects."""
        if "MODEM" in self._by_name:
            self._by_name["MODEM"].reset()

    def attach_modem(self, modem: Peripheral) -> tuple[int, int]:
        """Put a modem on the external bus, FMC bank 1; return where, as (base, size), for the core's map."""
        base, size = MODEM_PLACE
        self.bus.attach(base, modem, size)
        self._by_name[modem.name] = modem
        return MODEM_PLACE

    def _attach(self, seed: int) -> None:
        """Fill `_by_name` with all blocks, and put each at its address."""
        raise NotImplementedError

    def _i2c_pins(self) -> bool:
        port = self.gpio["B"]
        return any(all(port.alternate(pin, 4, open_drain=True) for pin in pair) for pair in ((8, 9), (6, 7)))

    def _uart_pins(self) -> tuple[bool, bool]:
        sends, receives = (self.gpio["A"].alternate(pin, 7) for pin in self.USART_PINS)
        return sends, receives

    @property
    def console(self) -> Usart:
        """The port that a terminal listens to."""
        return self.usart

    @property
    def random(self) -> Stream:
        """The stream behind the random numbers."""
        return self.rng.stream

    def deadlines(self) -> list[int]:
        """When the watchdog bites and when SysTick ticks, if they do."""
        return [at for at in (self.iwdg.expires_ps, self.scs.systick.next_ps()) if at is not None]

    def expired(self) -> str | None:
        """Return "iwdg" when its time is over."""
        at = self.iwdg.expires_ps
        return "iwdg" if at is not None and self.clock.ps >= at else None

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
