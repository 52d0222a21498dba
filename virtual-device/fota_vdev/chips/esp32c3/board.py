"""The ESP32-C3 wired together: which block lies where, and who tells whom.

The crypto element is on GPIO5 (SDA) and GPIO6 (SCL), the console on UART0, a modem, if any, on UART1.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fota_vdev.chips.esp32c3.cpu import Cpu
from fota_vdev.chips.esp32c3.efuse import Efuse
from fota_vdev.chips.esp32c3.flash_array import NorFlash
from fota_vdev.chips.esp32c3.flash_chip import FlashChip
from fota_vdev.chips.esp32c3.gpio import Gpio
from fota_vdev.chips.esp32c3.i2c import I2c
from fota_vdev.chips.esp32c3.mmu import Cache, MmuTable
from fota_vdev.chips.esp32c3.modem_line import ModemLine
from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.chips.esp32c3.rtc import CORE, CPU, SYSTEM, Rtc
from fota_vdev.chips.esp32c3.sha import Sha
from fota_vdev.chips.esp32c3.spi import Spi1
from fota_vdev.chips.esp32c3.system import InterruptMatrix, System
from fota_vdev.chips.esp32c3.systimer import Systimer
from fota_vdev.chips.esp32c3.uart import Random, Uart, UsbSerial
from fota_vdev.chips.esp32c3.watchdog import TimerGroup
from fota_vdev.parts.bus import Bus, Peripheral
from fota_vdev.parts.clock import PS_PER_S, PS_PER_US, Clock
from fota_vdev.parts.stream import Stream
from fota_vdev.wires.i2c_bus import HostI2C, I2CBus

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608

SDA, SCL = (54, 5), (53, 6)  # signal of the matrix, pin
SUPPLY, SYSTEM_RESET, CORE_RESET, CPU_RESET = range(4)  # what a reset reaches, each all that the next does
# cause: (code in RESET_STATE, reach)
RESETS = {
    "power": (0x01, SUPPLY), "pin": (0x01, SUPPLY), "software": (0x03, CORE_RESET),
    "timg0 watchdog": (0x07, CORE_RESET), "timg1 watchdog": (0x08, CORE_RESET),
    "rtc watchdog core": (0x09, CORE_RESET), "timg0 watchdog cpu": (0x0B, CPU_RESET),
    "software cpu": (0x0C, CPU_RESET), "rtc watchdog cpu": (0x0D, CPU_RESET),
    "brown-out": (0x0F, SYSTEM_RESET), "rtc watchdog": (0x10, SYSTEM_RESET),
    "timg1 watchdog cpu": (0x11, CPU_RESET), "super watchdog": (0x12, SYSTEM_RESET),
}  # fmt: skip
RTC_ACTIONS = {CPU: "rtc watchdog cpu", CORE: "rtc watchdog core", SYSTEM: "rtc watchdog"}
REPEATED_CYCLES = 16  # two readings of the cycle counter this close are a loop that waits
UART1 = 0x6001_0000
# blocks that real second stages set up and nothing here depends on
PLAIN = {"SPI0": 0x6000_3000, "FE2": 0x6000_5000, "FE": 0x6000_6000, "IO_MUX": 0x6000_9000,
         "RTC_I2C": 0x6000_E000, "UHCI0": 0x6001_4000, "BB": 0x6001_D000, "APB_SARADC": 0x6004_0000,
         "SENSITIVE": 0x600C_1000, "EXTMEM2": 0x600C_6000, "ASSIST_DEBUG": 0x600C_E000,
         "LEDC": 0x6001_9000, "UART1": UART1, "GDMA": 0x6003_F000,
         "NRX": 0x6001_CC00, "DEDICATED_GPIO": 0x600C_F000, "WORLD": 0x600D_0000,
         "RADIO": 0x6003_5000}  # fmt: skip


class Board:
    """All blocks, and what a reset of which kind reaches."""

    def __init__(
        self, cpu: Cpu, flash: NorFlash, element: "Atecc608 | None", seed: int, warn: Callable[[str], None]
    ) -> None:
        self.flash = flash
        self.clock = clock = Clock(lambda: cpu.executed)
        self.request_reset: Callable[[str], None] = lambda cause: None
        self.system = System(clock)
        self.efuse = Efuse(lambda: flash.options, seed)
        self.rtc = Rtc(clock, lambda: self.efuse.delay_shift)
        self.timers = tuple(
            TimerGroup(f"TIMG{n}", clock, lambda: self.system.apb_hz, flashboot=n == 0) for n in (0, 1)
        )
        self.systimer = Systimer(clock)
        self.interrupts = InterruptMatrix()
        self.flash_chip = FlashChip(flash, clock)
        self.mmu = MmuTable()
        self.cache = Cache(self.mmu, warn)
        self.gpio = Gpio()
        self.i2c_bus = I2CBus(element)
        self.host_i2c = HostI2C(self.i2c_bus, clock)
        self.i2c = I2c(self.i2c_bus, clock, self._i2c_pins)
        self.console = Uart(lambda: self.system.apb_hz)
        self.usb = UsbSerial()
        self.syscon = Random(Stream("mcu-rng", seed), lambda: self.rtc.entropy, warn)
        self.bus = Bus(self.system)
        self._by_name: dict[str, Peripheral] = {}
        self._attach()
        self._cycles(cpu)
        self.system.on_peripheral_reset = self._reset_one
        self.rtc.request_reset = lambda cause: self.request_reset(cause)
        self.rtc.on_watchdog = lambda: clock.on_jump()
        clock.before_rate = self._settle

    def _attach(self) -> None:
        for name, base, block in (
            ("UART0", 0x6000_0000, self.console), ("SPI1", 0x6000_2000, Spi1(self.flash_chip)),
            ("GPIO", 0x6000_4000, self.gpio), ("RTC_CNTL", 0x6000_8000, self.rtc),
            ("EFUSE", 0x6000_8800, self.efuse), ("I2C0", 0x6001_3000, self.i2c),
            ("TIMG0", 0x6001_F000, self.timers[0]), ("TIMG1", 0x6002_0000, self.timers[1]),
            ("SYSTIMER", 0x6002_3000, self.systimer), ("SYSCON", 0x6002_6000, self.syscon),
            ("SHA", 0x6003_B000, Sha(self.clock)), ("USB", 0x6004_3000, self.usb),
            ("SYSTEM", 0x600C_0000, self.system), ("INTERRUPT_CORE0", 0x600C_2000, self.interrupts),
            ("EXTMEM", 0x600C_4000, self.cache), ("MMU", 0x600C_5000, self.mmu),
            *((name, base, Plain(name)) for name, base in PLAIN.items()),
        ):  # fmt: skip
            self.bus.attach(base, block, 0x400 if name == "NRX" else 0x800 if base == 0x6000_8000 else 0x1000)
            self._by_name[name] = block
        self.bus.attach(0x6000_8800, self.efuse, 0x800)
        self._by_name["SPI flash"] = self.flash_chip

    def attach_modem(self, modem: Peripheral) -> None:
        """Put a modem at the end of UART1: this chip has no external bus."""
        line = ModemLine(lambda: self.system.apb_hz, modem)
        self.bus.attach(UART1, line, 0x1000)
        self._by_name |= {line.name: line, modem.name: modem}

    def keep(self, block: Peripheral) -> None:
        """Have a block at no address be reset, and be part of every state, with the others."""
        self._by_name[block.name] = block

    def _cycles(self, cpu: Cpu) -> None:
        """Give the core its cycle counter; a loop that waits by it lets time run on, 1 us at a time."""

        def read(pc: int) -> None:
            since = cpu.executed - cpu.csrs["at"]
            if cpu.csrs["pc"] == pc and since < REPEATED_CYCLES:
                self.clock.advance(PS_PER_US)
            cpu.csrs |= {"pc": pc, "at": cpu.executed}

        cpu.cycles = lambda: self.clock.ps * (self.clock.hz // 1000) // (PS_PER_S // 1000)
        cpu.on_counter_read = read

    @property
    def random(self) -> Stream:
        """The stream behind the random numbers."""
        return self.syscon.stream

    def _i2c_pins(self) -> bool:
        return self.gpio.open_drain(*SDA) and self.gpio.open_drain(*SCL)

    def _settle(self) -> None:
        for timer in self.timers:
            timer.watchdog.settle()

    def _reset_one(self, name: str) -> None:
        self._by_name[name].reset()

    # -- time --------------------------------------------------------------------------------------------

    def deadlines(self) -> list[int]:
        """When something will happen by itself."""
        times = [timer.watchdog.next_ps() for timer in self.timers]
        times += [self.rtc.watchdog.next_ps(), self.rtc.swd_expires_ps]
        if self.systimer_wakes:
            times.append(self.systimer.next_ps())
        return [at for at in times if at is not None]

    def expired(self) -> str | None:
        """Return the reset that a watchdog asks for now, or None."""
        for n, timer in enumerate(self.timers):
            action = timer.watchdog.due()
            if action:
                return f"timg{n} watchdog{' cpu' if action == CPU else ''}"
        action = self.rtc.watchdog.due()
        if action:
            return RTC_ACTIONS[action]
        swd = self.rtc.swd_expires_ps
        return "super watchdog" if swd is not None and self.clock.ps >= swd else None

    @property
    def systimer_wakes(self) -> bool:
        """True if the alarm reaches the core."""
        return self.interrupts.line_on(InterruptMatrix.SYSTIMER_TARGET0)

    @property
    def interrupting(self) -> bool:
        """True while the alarm is raised and reaches the core."""
        return self.systimer_wakes and self.systimer.interrupting

    # -- reset and state ---------------------------------------------------------------------------------

    def power_off(self) -> None:
        """Nothing is kept that the supply keeps."""
        if "MODEM" in self._by_name:
            self._by_name["MODEM"].reset()

    def reset(self, cause: str) -> None:
        """Reset as far as the cause reaches; the CPU alone loses no register of a peripheral.

        The clock goes back last, so that time keeps its old rate until then.
        """
        code, reach = RESETS[cause]
        self._settle()
        if reach <= CORE_RESET:
            for name, block in self._by_name.items():
                if name not in ("SYSTEM", "RTC_CNTL", "SPI flash"):
                    block.reset()
            if reach <= SYSTEM_RESET:
                self.rtc.reset()
            else:
                self.rtc.rearm()
            self.system.reset()
        if reach == SUPPLY:
            self.rtc.clear_stores()
            self.flash_chip.reset()
        self.rtc.cause = code

    def state(self) -> dict[str, Any]:
        """Return the state of all blocks."""
        return {name: peripheral.state() for name, peripheral in self._by_name.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        for name, peripheral in self._by_name.items():
            peripheral.restore(state[name])
