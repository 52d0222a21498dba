"""The virtual device: a chip with an ATECC608 on its I2C bus, power, time and faults included."""

import enum
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fota_vdev.atecc608 import Atecc608
from fota_vdev.chip import Chip
from fota_vdev.chips.stm32l4 import STM32L476
from fota_vdev.models import MODELS, with_rom
from fota_vdev.parts import state_file
from fota_vdev.parts.bus import BusFaultError, Peripheral, PowerCutError, UnmodelledError
from fota_vdev.parts.clock import PS_PER_MS, PS_PER_US
from fota_vdev.parts.elf import symbols
from fota_vdev.parts.emulator import Stop
from fota_vdev.parts.state_file import FileLock
from fota_vdev.wires.i2c_bus import I2CBus, Tamper
from fota_wire.bootreport import SIZE as BOOT_REPORT_SIZE
from fota_wire.errors import DeviceError, InputError
from fota_wire.host_chips import DEFAULT, ESPRESSIF

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
        """Read a word."""
        return self._machine.load32(address)

    def __setitem__(self, address: int, value: int) -> None:
        """Write a word."""
        self._machine.store32(address, value)


class Machine:
    """One device. It is made without power; its flash and its element survive `power_off`.

    ``chip`` is an STM32L476 unless said otherwise; `fota_vdev.models.MODELS` has all.
    ``element`` None leaves the I2C bus empty. ``seed`` feeds the chip's random numbers, its unique id and
    the contents of RAM at power-up; equal machines with equal seeds run equally.
    """

    def __init__(
        self,
        flash: bytes | None = None,
        element: Atecc608 | None = None,
        seed: int = 0,
        chip: Chip = STM32L476,
    ) -> None:
        self.chip = chip
        self.seed = seed
        self.element = element
        self.warnings: list[str] = []
        parts = chip.assemble(element, seed, self._warn, self._fault)
        self.cpu, self.flash, self.board = parts.cpu, parts.flash, parts.board
        self.space, self.traps = parts.space, parts.traps
        if flash is not None:
            size = self.flash.geometry.bank
            for bank in self.flash.banks:
                self.flash.write_phys(bank, 0, flash[(bank - 1) * size : bank * size])
        self.clock = self.board.clock
        self.i2c = self.board.host_i2c
        self.mem32 = Mem32(self)
        self.powered = False
        self.resets: list[tuple[int, str]] = []
        self.faults: list[tuple[int, str]] = []
        self.lock: FileLock | None = None
        self.last_report = b""
        self.missing: tuple[int, int] | None = None
        """(address, program counter) of the register that is not modelled and ended the last run so."""
        self.power_ups = 0
        self._request: str | None = None
        self._time_limit_ps: int | None = None
        self._until_line = False
        self.clock.on_jump = self._retarget
        self.i2c.on_cut = self.power_off
        self.board.request_reset = self._request_reset
        self.board.console.on_byte = self._uart_byte
        self.on_uart: Callable[[int], None] = lambda byte: None
        if element is not None:
            element.attach_clock(lambda: self.clock.ps)

    def _fault(self, text: str) -> None:
        self.faults.append((self.time_us, text))

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    # -- power and reset ---------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Give the supply: RAM holds rubbish, registers their reset values, the element sleeps."""
        if self.powered:
            return
        self.power_ups += 1
        self.space.scramble_ram(f"ram|{self.seed}|{self.power_ups}")
        self.powered = True
        if self.element is not None:
            self.element.power_on()
        self.reset("power")

    def power_off(self) -> None:
        """Take the supply away: RAM, registers and the element's volatile state are lost."""
        if self.powered:
            self.keep_report()
            self.powered = False
            if self.element is not None:
                self.element.power_off()
            self.flash.cut_in = None
            self.board.power_off()

    def reset(self, cause: str = "pin") -> None:
        """Reset the chip: "pin", "software", "power", or what else its board knows. The element goes on.

        RAM keeps what it has, unless this reset of this chip takes its supply away.

        Raises:
            DeviceError: the machine has no power.
        """
        self._need_power()
        self._request = None
        if cause == "pin" and self.chip.row.NAME in ESPRESSIF:  # EN takes the supply of all RAM away
            self.keep_report()
            self.space.scramble_ram(f"en|{self.seed}|{self.power_ups}|{len(self.resets)}")
        self.board.reset(cause)
        self.space.map_flash()
        self.resets.append((self.time_us, cause))
        self.traps.start()

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

        A flash operation is a double word (or page) programmed, or a page (or sector) erased. ``torn`` None
        cuts right before it; a number cuts in its middle, and seeds what is left in the cells.
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

        A limit that falls into an IT block takes effect after the block.
        ``until`` is asked between slices, after every line on the UART, and around every WFI. A run without
        any limit ends only by a fault, a power cut, too many resets or a sleep without end.

        Raises:
            DeviceError: the machine has no power.
        """
        self._need_power()
        first, start_ps = self.instructions, self.clock.ps
        self._time_limit_ps = None if time_ms is None else start_ps + int(time_ms * PS_PER_MS)
        self._until_line = until is not None
        end = None if max_instructions is None else first + max_instructions
        reason, detail = StopReason.ASLEEP, ""
        try:
            reason = self._run(end, until, len(self.resets) + max_resets)
        except PowerCutError as exc:
            self.power_off()
            reason, detail = StopReason.POWER_CUT, str(exc)
        except UnmodelledError as exc:
            self.missing = None if exc.address is None else (exc.address, self.cpu.pc)
            reason, detail = StopReason.FAULT, f"{exc} (pc 0x{self.cpu.pc:08x})"
        finally:
            self._time_limit_ps = None
            self._until_line = False
        time_us = (self.clock.ps - start_ps) // PS_PER_US
        return RunResult(
            reason=reason, detail=detail, instructions=self.instructions - first, time_us=time_us
        )

    def _run(
        self, end: int | None, until: "Callable[[Machine], bool | None] | None", last_reset: int
    ) -> StopReason:
        longest = SLICE_WITH_UNTIL if until is not None else LONGEST_SLICE
        while True:
            self._service()
            if until is not None and until(self):
                return StopReason.UNTIL
            if end is not None and self.instructions >= end:
                return StopReason.INSTRUCTIONS
            if self._time_limit_ps is not None and self.clock.ps >= self._time_limit_ps:
                return StopReason.TIME
            if len(self.resets) > last_reset:
                return StopReason.RESET_LIMIT
            if not self._step(longest if end is None else min(longest, end - self.instructions)):
                return StopReason.ASLEEP

    def _step(self, most: int) -> bool:
        """Run one slice and deal with its end; False if the core sleeps and nothing will wake it."""
        try:
            stop = self.cpu.slice(max(1, min(most, self._cycles_to_deadline(most))))
        except BusFaultError as exc:
            stop = Stop("fault", str(exc), exc.address)
        if stop.kind == "wfi":
            return self._sleep()
        if stop.kind != "count":
            self.traps.stopped(stop)
        return True

    def _deadlines(self) -> list[int]:
        limit = self._time_limit_ps
        return self.board.deadlines() + ([] if limit is None else [limit])

    def _cycles_to_deadline(self, most: int) -> int:
        return min([most] + [self.clock.cycles_until(d) for d in self._deadlines()])

    def _retarget(self) -> None:
        """Time jumped or a deadline moved while the core runs: end the slice in time."""
        if self.cpu.live:
            self.cpu.limit(self._cycles_to_deadline(LONGEST_SLICE))

    def _service(self) -> None:
        """Between two instructions: remap, watchdog, requested reset, exceptions."""
        self.space.service()
        cause = self.board.expired() or self._request
        if cause is not None:
            self.reset(cause)
        self.traps.deliver()

    def _sleep(self) -> bool:
        if self.traps.awake():
            return True
        deadlines = self._deadlines()
        if not deadlines:
            return False
        self.clock.sleep(max(0, min(deadlines) - self.clock.ps))
        return True

    def attach_modem(self, modem: Peripheral) -> None:
        """Put a modem where the board has it."""
        place = self.board.attach_modem(modem)
        if place is not None:
            self.cpu.map_registers(*place)

    def attach(self, base: int, size: int, peripheral: Peripheral) -> None:
        """Let ``peripheral`` answer in [base, base + size), in place of what was there; whole blocks of
        1 KiB, and of 4 KiB where no registers are mapped yet.
        """
        self.board.bus.attach(base, peripheral, size)
        self.board._by_name[peripheral.name] = peripheral
        ends = [(begin, last) for begin, last, _ in self.cpu.uc.mem_regions()]
        for page in range(base & ~0xFFF, base + size, 0x1000):
            if not any(begin <= page <= last for begin, last in ends):
                self.cpu.map_registers(page, 0x1000)

    # -- memory ------------------------------------------------------------------------------------------

    def load32(self, address: int) -> int:
        """Read a word as a bus master: RAM, flash through the mapping, or a register.

        Raises:
            DeviceError: no power, not aligned, or nothing answers there.
        """
        self._need_power()
        return self.space.load32(address)

    def store32(self, address: int, value: int) -> None:
        """Write a word as a bus master; flash obeys the same rules as for the core.

        Raises:
            PowerCutError: an armed power cut fell on this access; the machine is off now.
            DeviceError: no power, not aligned, or nothing answers there.
        """
        self._need_power()
        try:
            self.space.store32(address, value)
        except PowerCutError:
            self.power_off()
            raise
        if self._request is not None:
            self.reset(self._request)

    def read(self, address: int, n: int) -> bytes:
        """Return ``n`` bytes of RAM or flash as the chip sees them; a torn double word sets ECCD.

        Raises:
            DeviceError: no power, or the range is neither RAM nor flash.
        """
        self._need_power()
        return self.space.read(address, n)

    # -- what can be seen and done from outside ------------------------------------------------------------

    @property
    def uart(self) -> bytearray:
        """All that the console has sent since the machine was made."""
        return self.board.console.output

    def uart_input(self, data: bytes) -> None:
        """Type bytes into the console."""
        self.board.console.receive(data)

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
    def application_runs(self) -> bool:
        """True once the bootloader has jumped into the application, as far as a look between two slices can
        tell: one that calls the mask ROM just then is seen at the next.
        """
        return self.powered and self.chip.handed_over(self.cpu.pc, self.load32)

    @property
    def i2c_bus(self) -> I2CBus:
        """The bus between chip and element."""
        return self.board.i2c_bus

    @property
    def i2c_tamper(self) -> Tamper | None:
        """The adversary on the I2C bus, or None."""
        return self.board.i2c_bus.tamper

    @i2c_tamper.setter
    def i2c_tamper(self, tamper: Tamper | None) -> None:
        self.board.i2c_bus.tamper = tamper

    def keep_report(self) -> None:
        """Remember the boot report that lies in RAM now, if a bootloader left one (SPEC 4)."""
        if self.powered:
            raw = self.read(self.chip.row.BOOT_REPORT_ADDRESS, BOOT_REPORT_SIZE)
            if zlib.crc32(raw[:124]) == int.from_bytes(raw[124:], "little"):
                self.last_report = raw

    # -- snapshots and files -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, to go back to with `restore` on this same object."""
        return {
            "cpu": self.cpu.state(),
            "clock": self.clock.state(),
            "space": self.space.extra(),
            "ram": {base: bytes(ram) for base, ram in self.space.ram.items()},
            "flash": self.flash.state(),
            "board": self.board.state(),
            "element": self.element.state() if self.element is not None else None,
            "machine": (self.powered, self.power_ups, self._request, list(self.resets), bytes(self.uart)),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a `snapshot` of this object."""
        self.cpu.restore(snapshot["cpu"])
        self.clock.restore(snapshot["clock"])
        for base, ram in self.space.ram.items():
            ram[:] = snapshot["ram"][base]
        self.flash.restore(snapshot["flash"])
        self.board.restore(snapshot["board"])
        if self.element is not None:
            self.element.restore(snapshot["element"])
        self.powered, self.power_ups, self._request, resets, uart = snapshot["machine"]
        self.resets = list(resets)
        self.uart[:] = uart
        self.space.settle(snapshot["space"], stale=True)

    def save(self, path: Path | str) -> None:
        """Write all that survives without power into one file (see `fota_vdev.parts.state_file`).

        Raises:
            StorageError: the file cannot be written, or another process holds it.
        """
        self.keep_report()
        flash = self.flash.state()
        cells = b"".join(flash.pop(f"bank{bank}") for bank in self.flash.banks)
        header = {
            "chip": self.chip.row.NAME,
            "flash": flash,
            "element": self.element.persistent_state() if self.element is not None else None,
            "seed": self.seed,
            "power_ups": self.power_ups,
            "random_position": self.board.random.position,
            "last_report": self.last_report.hex(),
        }
        state_file.save(Path(path), header, cells, self.lock)

    @classmethod
    def load(cls, path: Path | str, rom: bytes | None = None) -> "Machine":
        """Return the machine in a file, without power, locked against a second process until `close`.

        ``rom``: a mask ROM to run from reset, in place of the model's own functions (ESP32-C3).

        Raises:
            InputError: no such file, or not one of ours, of a chip without a model here, or damaged; a ROM
                that is none, or for a chip that has none.
            StorageError: another process holds it.
        """
        with state_file.opened(Path(path)) as (header, cells, lock):
            kept = header["element"]
            name = header.get("chip", DEFAULT)  # the only one, when files did not say
            if name not in MODELS:
                raise InputError(f"{path}: no model of chip {name!r} is here: {', '.join(MODELS)}")
            machine = cls(
                element=None if kept is None else Atecc608.from_persistent_state(kept),
                seed=int(header["seed"]),
                chip=MODELS[name] if rom is None else with_rom(name, rom),
            )
            bank = machine.flash.geometry.bank
            if len(cells) != len(machine.flash.banks) * bank:
                raise ValueError(f"{len(cells)} bytes of flash")
            banks = {f"bank{n}": cells[(n - 1) * bank : n * bank] for n in machine.flash.banks}
            machine.flash.restore(header["flash"] | banks)
            machine.power_ups = int(header["power_ups"])
            machine.board.random.position = int(header["random_position"])
            machine.last_report = bytes.fromhex(header["last_report"])
        machine.lock = lock
        return machine

    def close(self) -> None:
        """Release the lock of the file that the machine was loaded from."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def __enter__(self) -> "Machine":
        """Return the machine; leaving the block releases the lock of its file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.close()

    def __del__(self) -> None:
        """Release the lock."""
        with suppress(Exception):
            self.close()

    @staticmethod
    def symbols(elf_path: Path | str) -> dict[str, int]:
        """Return name -> address of an ELF's symbols."""
        return symbols(Path(elf_path))
