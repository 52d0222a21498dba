"""The virtual device: an STM32L476 with an ATECC608 on its I2C1, power, time and faults included."""

import enum
import hashlib
import mmap
from collections.abc import Callable
from contextlib import suppress
from ctypes import addressof, c_char
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unicorn import UcError

from fota_vdev.board import Board
from fota_vdev.bus import BusFaultError, PowerCutError, UnmodelledError
from fota_vdev.clock import PS_PER_MS, PS_PER_US
from fota_vdev.cpu import Cpu, Stop
from fota_vdev.flash_array import BANK, PAGE, FlashArray
from fota_vdev.i2c_bus import Tamper
from fota_vdev.scs import HARDFAULT, NMI
from fota_wire.errors import DeviceError

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608

FLASH_BASE, FLASH_END, ALIAS_END = 0x0800_0000, 0x0810_0000, 0x0010_0000
SRAM1, SRAM1_SIZE = 0x2000_0000, 96 << 10
SRAM2, SRAM2_SIZE = 0x1000_0000, 32 << 10
REGISTER_AREAS = ((0x4000_0000, 0x30000), (0x4800_0000, 0x2000), (0x5006_0000, 0x1000), (0xE000_1000, 0x1000),
                  (0xE000_E000, 0x1000), (0xE004_2000, 0x1000), (0x1FFF_0000, 0x10000))  # fmt: skip
LONGEST_SLICE = 4_000_000
SLICE_WITH_UNTIL = 200_000


class StopReason(enum.Enum):
    """Why `Machine.run` came back."""

    TIME = "time"
    INSTRUCTIONS = "instructions"
    UNTIL = "until"
    POWER_CUT = "power cut"
    FAULT = "fault"
    RESET_LIMIT = "reset limit"
    ASLEEP = "asleep for ever"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Outcome of one run: instructions and virtual time are those of this run."""

    reason: StopReason
    detail: str
    instructions: int
    time_us: int


class Mem32:
    """32-bit bus master access, in the shape of MicroPython's ``machine.mem32``."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine

    def __getitem__(self, address: int) -> int:
        return self._machine.load32(address)

    def __setitem__(self, address: int, value: int) -> None:
        self._machine.store32(address, value)


class Machine:
    """One device. It is made without power; its flash and its element survive `power_off`.

    ``element`` None leaves the I2C bus empty. ``seed`` feeds the chip's random numbers, its unique id and
    the contents of RAM at power-up; equal machines with equal seeds run equally.
    """

    def __init__(self, flash: bytes | None = None, element: "Atecc608 | None" = None, seed: int = 0) -> None:
        self.cpu = Cpu(self._cpu_read, self._cpu_write)
        self.flash = FlashArray()
        if flash is not None:
            for bank in (1, 2):
                self.flash.write_phys(bank, 0, flash[(bank - 1) * BANK : bank * BANK])
        self.seed = seed
        self.element = element
        self.warnings: list[str] = []
        self.board = Board(self.cpu, self.flash, element, seed, self._warn)
        self.clock = self.board.clock
        self.i2c = self.board.host_i2c
        self.mem32 = Mem32(self)
        self.powered = False
        self.resets: list[tuple[int, str]] = []
        self.faults: list[tuple[int, str]] = []
        self.lock: Any = None
        self._power_ups = 0
        self._request: str | None = None
        self._remap_due = self._stale_code = False
        self._time_limit_ps: int | None = None
        self._until_line = False
        self._ram = {SRAM1: mmap.mmap(-1, SRAM1_SIZE), SRAM2: mmap.mmap(-1, SRAM2_SIZE)}
        self._map()
        self._wire()
        if element is not None:
            element.attach_clock(lambda: self.clock.ps)

    def _map(self) -> None:
        for base, ram in self._ram.items():
            self.cpu.map_ram(base, len(ram), addressof(c_char.from_buffer(ram)))
        for base, size in REGISTER_AREAS:
            self.cpu.map_registers(base, size)
        self._map_flash()

    def _wire(self) -> None:
        board = self.board
        self.cpu.on_store = self._store_to_flash
        self.cpu.on_read = self._check_ecc
        self.clock.on_jump = self._retarget
        self.i2c.on_cut = self.power_off
        board.scs.on_reset_request = lambda: self._request_reset("software")
        board.scs.on_pend = lambda: self.cpu.limit(0)
        board.syscfg.on_remap = self._remap
        board.controller.on_change = self._flash_changed
        board.usart.on_byte = self._uart_byte
        self.on_uart: Callable[[int], None] = lambda byte: None

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    # -- power and reset ---------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Give the supply: RAM holds rubbish, registers their reset values, the element sleeps."""
        if self.powered:
            return
        self._power_ups += 1
        for base, ram in self._ram.items():
            seed = f"ram|{self.seed}|{self._power_ups}|{base}".encode()
            ram[:] = hashlib.shake_128(seed).digest(len(ram))
        self.powered = True
        if self.element is not None:
            self.element.power_on()
        self.reset("power")

    def power_off(self) -> None:
        """Take the supply away: RAM, registers and the element's volatile state are lost."""
        if self.powered:
            self.powered = False
            if self.element is not None:
                self.element.power_off()
            self.flash.cut_in = None
            self._map_flash()

    def reset(self, cause: str = "pin") -> None:
        """Reset the chip ("pin", "software", "iwdg", "power"). RAM and the element keep what they have.

        Raises:
            DeviceError: the machine has no power.
        """
        self._need_power()
        self._request = None
        self.board.reset(cause)
        self._remap_due = False
        self._map_flash()
        self.resets.append((self.time_us, cause))
        self.cpu.reset(self.load32(0, count_ecc=False), self.load32(4, count_ecc=False))

    def _need_power(self) -> None:
        if not self.powered:
            raise DeviceError("the device has no power: switch it on first")

    def _request_reset(self, cause: str) -> None:
        self._request = cause
        self.cpu.limit(0)

    def cut_power_at(
        self, *, flash_op: int | None = None, element_command: int | None = None, torn: int | None = None
    ) -> None:
        """Arm a power cut at the n-th flash operation or element command from now (1 = the next one).

        A flash operation is a double word programmed or a page erased. ``torn`` None cuts right before it;
        a number cuts in its middle, and seeds what is left in the cells.
        """
        if flash_op is not None:
            self.flash.arm_cut(flash_op, torn)
        if element_command is not None:
            if self.element is None:
                raise DeviceError("there is no crypto element whose commands could be cut")
            self.element.arm_cut(element_command, torn)

    # -- running -----------------------------------------------------------------------------------------

    def run(
        self,
        *,
        time_ms: float | None = None,
        max_instructions: int | None = None,
        until: "Callable[[Machine], bool | None] | None" = None,
        max_resets: int = 64,
    ) -> RunResult:
        """Run the chip until a limit is met; resets and watchdog resets happen inside.

        ``until`` is asked between slices, after every line on the UART, and around every WFI. A run without
        any limit ends only by a fault, a power cut, too many resets or a sleep without end.

        Raises:
            DeviceError: the machine has no power.
        """
        self._need_power()
        first, start_ps, resets = self.instructions, self.clock.ps, len(self.resets)
        self._time_limit_ps = None if time_ms is None else start_ps + int(time_ms * PS_PER_MS)
        end = None if max_instructions is None else first + max_instructions
        self._until_line = until is not None
        reason, detail = StopReason.TIME, ""
        try:
            while True:
                self._service()
                if until is not None and until(self):
                    reason = StopReason.UNTIL
                elif end is not None and self.instructions >= end:
                    reason = StopReason.INSTRUCTIONS
                elif self._time_limit_ps is not None and self.clock.ps >= self._time_limit_ps:
                    reason = StopReason.TIME
                elif len(self.resets) - resets > max_resets:
                    reason = StopReason.RESET_LIMIT
                else:
                    left = LONGEST_SLICE if end is None else end - self.instructions
                    if self._step(min(left, SLICE_WITH_UNTIL if until else LONGEST_SLICE)):
                        continue
                    reason = StopReason.ASLEEP
                break
        except PowerCutError as exc:
            self.power_off()
            reason, detail = StopReason.POWER_CUT, str(exc)
        except UnmodelledError as exc:
            reason, detail = StopReason.FAULT, f"{exc} (pc 0x{self.cpu.pc:08x})"
        finally:
            self._time_limit_ps = None
            self._until_line = False
        spent = self.instructions - first
        return RunResult(
            reason=reason, detail=detail, instructions=spent, time_us=(self.clock.ps - start_ps) // PS_PER_US
        )

    def _step(self, most: int) -> bool:
        """Run one slice and deal with its end; False if the core sleeps and nothing will wake it."""
        try:
            stop = self.cpu.slice(max(1, min(most, self._cycles_to_deadline(most))))
        except BusFaultError as exc:
            stop = Stop("fault", str(exc), exc.address)
        if stop.kind == "wfi":
            return self._sleep()
        if stop.kind == "return":
            self._leave_exception()
        elif stop.kind == "svc":
            self.board.scs.svcall = True
        elif stop.kind == "fault":
            self._hard_fault(stop)
        return True

    def _deadlines(self) -> list[int]:
        tick = self.board.scs.systick.next_ps()
        return [d for d in (self.board.iwdg.expires_ps, tick, self._time_limit_ps) if d is not None]

    def _cycles_to_deadline(self, most: int) -> int:
        return min([most] + [self.clock.cycles_until(d) for d in self._deadlines()])

    def _retarget(self) -> None:
        """Time jumped or a deadline moved while the core runs: end the slice in time."""
        if self.cpu.live:
            self.cpu.limit(self._cycles_to_deadline(LONGEST_SLICE))

    def _service(self) -> None:
        """Between two instructions: remap, watchdog, requested reset, exceptions."""
        if self._remap_due:
            self._remap_due = False
            self._map_flash()
        if self._stale_code:
            self._stale_code = False
            self.cpu.forget_code()
            self._watch_torn_words()
        if self.board.iwdg.expires_ps is not None and self.clock.ps >= self.board.iwdg.expires_ps:
            self.reset("iwdg")
        elif self._request is not None:
            self.reset(self._request)
        number = self.board.scs.next_exception(masked=self.cpu.masked)
        if number is not None:
            self._enter_exception(number)

    def _sleep(self) -> bool:
        scs = self.board.scs
        if scs.regs[0xD10] & 4:
            raise UnmodelledError("WFI with SLEEPDEEP: the stop and standby modes are not modelled")
        if scs.pending() is not None:
            return True
        deadlines = self._deadlines()
        if not deadlines:
            return False
        self.clock.sleep(max(0, min(deadlines) - self.clock.ps))
        return True

    # -- exceptions --------------------------------------------------------------------------------------

    def _enter_exception(self, number: int) -> None:
        scs = self.board.scs
        try:
            vector = self.load32(scs.vtor + 4 * number, count_ecc=False)
            self.cpu.enter(number, vector, nested=bool(scs.active))
        except (UcError, BusFaultError) as exc:
            raise UnmodelledError(f"lockup: exception {number} cannot be taken ({exc})") from exc
        if not vector & 1:
            raise UnmodelledError(f"lockup: the vector of exception {number} is 0x{vector:08x}")
        scs.take(number)

    def _leave_exception(self) -> None:
        if not self.board.scs.active:
            self._hard_fault(Stop("fault", "exception return in thread mode"))
            return
        self.board.scs.active.pop()
        try:
            self.cpu.leave()
        except UcError as exc:
            raise UnmodelledError(f"lockup: no stack to return from an exception ({exc})") from exc

    def _hard_fault(self, stop: Stop) -> None:
        """Escalate every fault to HardFault, as with SHCSR = 0; a fault inside one is a lockup."""
        scs = self.board.scs
        text = f"{stop.detail} (pc 0x{self.cpu.pc:08x})"
        self.faults.append((self.time_us, text))
        if HARDFAULT in scs.active or NMI in scs.active:
            raise UnmodelledError(f"lockup: {text}")
        scs.regs[0xD2C] |= 1 << 30
        if stop.address:
            scs.regs[0xD28] |= 1 << 15 | 1 << 9
            scs.regs[0xD38] = stop.address
        self._enter_exception(HARDFAULT)

    # -- memory ------------------------------------------------------------------------------------------

    def _cpu_read(self, address: int, size: int) -> int:
        return self.board.bus.read(address, size)

    def _cpu_write(self, address: int, value: int, size: int) -> None:
        self.board.bus.write(address, value, size)

    def physical(self, address: int) -> tuple[int, int] | None:
        """Bank and offset that a mapped flash address means now (FB_MODE), or None outside flash."""
        if address < ALIAS_END:
            address += FLASH_BASE
        if not FLASH_BASE <= address < FLASH_END:
            return None
        upper = address - FLASH_BASE >= BANK
        return (2 if upper != self.board.syscfg.fb_mode else 1), (address - FLASH_BASE) % BANK

    def _map_flash(self) -> None:
        banks = (2, 1) if self.powered and self.board.syscfg.fb_mode else (1, 2)
        low, high = (self.flash.pointer(bank) for bank in banks)
        self.cpu.map_flash({0: low, BANK: high, FLASH_BASE: low, FLASH_BASE + BANK: high}, BANK)
        self._watch_torn_words()

    def _remap(self) -> None:
        if self.board.controller.acr & 0x600:
            self._warn(
                "FB_MODE changed with flash caches on: they would serve the other bank (clear ICEN and DCEN)"
            )
        if self.cpu.live:
            self._remap_due = True
            self.cpu.limit(0)
        elif self.powered:
            self._map_flash()

    def _flash_changed(self) -> None:
        if self.cpu.live:
            self._stale_code = True
            self.cpu.limit(0)
        else:
            self.cpu.forget_code()
            self._watch_torn_words()

    def _watch_torn_words(self) -> None:
        """Have the core report reads of pages that hold torn double words."""
        pages = {(bank, offset // PAGE) for bank, offset in self.flash.ecc_bad}
        starts = {(1, 0, BANK)} if not pages else set()
        ranges = []
        if not starts:
            for _, page in sorted(pages):
                for base in (0, BANK, FLASH_BASE, FLASH_BASE + BANK):
                    ranges.append((base + page * PAGE, base + page * PAGE + PAGE - 1))
        self.cpu.watch_reads(sorted(set(ranges)))

    def _check_ecc(self, address: int, size: int) -> None:
        place = self.physical(address)
        if place is None:
            return
        bad = self.flash.bad_in(place[0], place[1], size)
        if bad is not None:
            self.board.controller.ecc_fault(place[0], bad)
            self.cpu.limit(0)

    def _store_to_flash(self, address: int, size: int, value: int) -> None:
        place = self.physical(address)
        if place is None or address < ALIAS_END:
            raise BusFaultError(address, "store to memory that cannot be written")
        self.board.controller.store(place[0], place[1], size, value)

    def _ram_at(self, address: int, n: int) -> tuple[mmap.mmap, int] | None:
        for base, ram in self._ram.items():
            if base <= address and address + n <= base + len(ram):
                return ram, address - base
        return None

    def load32(self, address: int, *, count_ecc: bool = True) -> int:
        """Read a word as a bus master: RAM, flash through the mapping, or a register.

        Raises:
            DeviceError: no power, not aligned, or nothing answers there.
        """
        if address % 4:
            raise DeviceError(f"0x{address:08x} is not aligned to 4 bytes")
        if self.physical(address) is not None or self._ram_at(address, 4) is not None:
            return int.from_bytes(self.read(address, 4, count_ecc=count_ecc), "little")
        self._need_power()
        try:
            return self.board.bus.read(address)
        except (UnmodelledError, BusFaultError) as exc:
            raise DeviceError(str(exc)) from exc

    def store32(self, address: int, value: int) -> None:
        """Write a word as a bus master; flash obeys the same rules as for the core.

        Raises:
            PowerCutError: an armed power cut fell on this access; the machine is off now.
            DeviceError: no power, not aligned, or nothing answers there.
        """
        self._need_power()
        if address % 4:
            raise DeviceError(f"0x{address:08x} is not aligned to 4 bytes")
        value &= 0xFFFF_FFFF
        ram = self._ram_at(address, 4)
        try:
            if ram is not None:
                ram[0][ram[1] : ram[1] + 4] = value.to_bytes(4, "little")
                self._stale_code = True
            elif self.physical(address) is not None:
                self._store_to_flash(address, 4, value)
            else:
                self.board.bus.write(address, value)
        except PowerCutError:
            self.power_off()
            raise
        except (UnmodelledError, BusFaultError) as exc:
            raise DeviceError(str(exc)) from exc
        if self._request is not None:
            self.reset(self._request)

    def read(self, address: int, n: int, *, count_ecc: bool = True) -> bytes:
        """Return ``n`` bytes of RAM or flash as the chip sees them; a torn double word sets ECCD.

        Raises:
            DeviceError: no power, or the range is neither RAM nor flash.
        """
        self._need_power()
        ram = self._ram_at(address, n)
        if ram is not None:
            return ram[0][ram[1] : ram[1] + n]
        out = bytearray()
        while len(out) < n:
            place = self.physical(address + len(out))
            if place is None:
                raise DeviceError(f"0x{address:08x} + {n} bytes is neither RAM nor flash")
            bank, offset = place
            take = min(n - len(out), BANK - offset)
            bad = self.flash.bad_in(bank, offset, take) if count_ecc else None
            if bad is not None:
                self.board.controller.ecc_fault(bank, bad)
            out += self.flash.read_phys(bank, offset, take)
        return bytes(out)

    # -- what can be seen and done from outside ------------------------------------------------------------

    @property
    def uart(self) -> bytearray:
        """All that USART2 has sent since the machine was made."""
        return self.board.usart.output

    def uart_input(self, data: bytes) -> None:
        """Type bytes into USART2."""
        self.board.usart.receive(data)

    def _uart_byte(self, byte: int) -> None:
        self.on_uart(byte)
        if byte == 0x0A and self._until_line:
            self.cpu.limit(0)

    @property
    def instructions(self) -> int:
        """Instructions executed since the machine was made; exact."""
        return self.cpu.executed

    @property
    def time_us(self) -> int:
        """Virtual time since the machine was made, microseconds."""
        return self.clock.us

    def sleep_us(self, us: int) -> None:
        """Let virtual time pass while the program waits off-chip (the agent's board)."""
        self.clock.advance(us * PS_PER_US)

    @property
    def i2c_tamper(self) -> Tamper | None:
        """The adversary on the I2C bus, or None."""
        return self.board.i2c_bus.tamper

    @i2c_tamper.setter
    def i2c_tamper(self, tamper: Tamper | None) -> None:
        self.board.i2c_bus.tamper = tamper

    # -- snapshots and files -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, to go back to with `restore` on this same object."""
        return {
            "cpu": self.cpu.state(),
            "clock": self.clock.state(),
            "ram": {base: bytes(ram) for base, ram in self._ram.items()},
            "flash": self.flash.state(),
            "board": self.board.state(),
            "element": self.element.state() if self.element is not None else None,
            "machine": (self.powered, self._power_ups, self._request, list(self.resets), bytes(self.uart)),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a `snapshot` of this object."""
        self.cpu.restore(snapshot["cpu"])
        self.clock.restore(snapshot["clock"])
        for base, ram in self._ram.items():
            ram[:] = snapshot["ram"][base]
        self.flash.restore(snapshot["flash"])
        self.board.restore(snapshot["board"])
        if self.element is not None:
            self.element.restore(snapshot["element"])
        self.powered, self._power_ups, self._request, resets, uart = snapshot["machine"]
        self.resets = list(resets)
        self.uart[:] = uart
        self._remap_due = self._stale_code = False
        self._map_flash()

    def save(self, path: Path | str) -> None:
        """Write all that survives without power into one file (see `fota_vdev.state_file`)."""
        from fota_vdev.state_file import save

        save(self, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> "Machine":
        """Read a machine from a file and lock it against a second process until `close`."""
        from fota_vdev.state_file import load

        return load(Path(path))

    def close(self) -> None:
        """Release the lock of the file that the machine was loaded from."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    @staticmethod
    def symbols(elf_path: Path | str) -> dict[str, int]:
        """Return name -> address of an ELF's symbols."""
        from fota_vdev.elf import symbols

        return symbols(Path(elf_path))
