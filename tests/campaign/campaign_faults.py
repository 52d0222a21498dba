"""One fault, anywhere on the decision path: the engine behind the skip and the bit-flip campaigns.

The path of a boot is walked instruction by instruction. At each place the machine is put back, the
fault is injected, and the rest of the boot runs until something is decided: an application runs, the
bootloader halts, or the chip resets.

What makes it fast: two runs that enter the same function with the same registers, the same live memory
(the stack below the stack pointer is dead), the same peripherals, flash and element have the same
future. Such a state is met again and again, first of all that of the undisturbed boot, and its outcome
is remembered. Time and the boot report, which the bootloader writes and never reads, are left out of
the comparison; a sample of the remembered outcomes is run to its end all the same, and must agree.
"""

import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign_device import A, B, journal_pages
from elftools.elf.elffile import ELFFile
from unicorn.arm_const import (
    UC_ARM_REG_APSR,
    UC_ARM_REG_LR,
    UC_ARM_REG_PC,
    UC_ARM_REG_R0,
    UC_ARM_REG_SP,
)
from unicorn.unicorn_const import UC_HOOK_CODE

from fota_vdev.cells.address_space import CODE_IN_RAM
from fota_vdev.machine import Machine
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.snapshot import Snapshot, Snapshots

REGISTERS = [UC_ARM_REG_R0 + n for n in range(13)]
KEY_REGISTERS = [*REGISTERS[:12], UC_ARM_REG_SP, UC_ARM_REG_LR]
STACK_TOP = 0x20000400
SLOT_RANGES = {
    "stm32l476": ((0x08004000, 0x0807FFFF), (0x08084000, 0x080FFFFF), (0x4000, 0x7FFFF), (0x84000, 0xFFFFF)),
    "stm32u585": ((0x08004000, 0x080F3FFF), (0x08104000, 0x081F3FFF)),  # no alias of flash at 0
}
"""Where code of slots runs, by the chip's name."""
# too small and too often called to be worth a look
LEAVES = {"memcpy", "memset", "memcmp", "strlen", "fota_sha256_blocks", "wait_for", "fota_flash_ecc_fault",
          "transfer", "fota_port_wait_us", "fota_port_put", "enter"}  # fmt: skip
# functions of other translation units, where the ABI says what is live: number of argument registers
COARSE = {"fota_policy_next": 2, "fota_element_open": 0, "fota_element_close": 0, "fota_journal_append": 2,
          "fota_element_counter": 2, "fota_element_verify": 2, "fota_element_increment": 1,
          "fota_image_parse": 3, "fota_settings_check": 1, "fota_journal_open": 2}  # fmt: skip
CLOSE_LOOKS = 16  # after so many functions that met no known state, only the coarse ones are looked at
# how much longer than the undisturbed boot a boot with a fault may take before it counts as stuck; three
# sessions with the element are 0.5 million instructions and 10,000 accesses to registers
MORE_INSTRUCTIONS, MORE_ACCESSES = 800_000, 15_000
RECHECK_PATIENCE = 3  # times as much again for an outcome that is checked: it was met with more time left
RECHECK = 400  # one remembered outcome in so many is run to its end
NOPS = {2: b"\x00\xbf", 4: b"\xaf\xf3\x00\x80"}
SAFE = ("good", "halt", "reset", "lockup", "stuck")


class CampaignError(Exception):
    """The campaign itself is wrong: a fault had no effect on the machine, or an outcome did not repeat."""


@dataclass(slots=True)
class Tally:
    """What came out: number of cases by outcome, and the ids of those that are failures."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    bricks: int = 0

    def add(self, outcome: str, name: str) -> None:
        self.outcomes[outcome] += 1
        if outcome not in SAFE:
            self.failures.append(f"{name}:{outcome}")


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    begin: int
    end: int


def functions(elf: Path) -> list[Function]:
    """All functions of the bootloader, those that run from RAM included."""
    with elf.open("rb") as f:
        table: Any = ELFFile(f).get_section_by_name(".symtab")
        return [
            Function(s.name, s["st_value"] & ~1, (s["st_value"] & ~1) + s["st_size"])
            for s in table.iter_symbols()
            if s["st_info"]["type"] == "STT_FUNC"
        ]


def frozen(value: Any) -> Any:
    """A state of a peripheral as something that can be a key."""
    if isinstance(value, dict):
        return tuple(value.items())
    return (
        tuple(value) if isinstance(value, list) else bytes(value) if isinstance(value, bytearray) else value
    )


def condition_holds(condition: int, apsr: int) -> bool:
    """Evaluate an ARM condition code 0..15 with the flags of APSR."""
    n, z, c, v = (bool(apsr >> bit & 1) for bit in (31, 30, 29, 28))
    table = (z, c, n, v, c and not z, n == v, n == v and not z, True)
    return table[condition >> 1] != bool(condition & 1) or condition == 15


class Walk:
    """The decision path of one boot: ``machine`` stands with its power off, ready for the boot to attack.

    ``bad`` names the slots whose code must never run. The walk begins with the function ``start``;
    ``planted`` is what an application left in RAM where the bootloader's function there goes.
    """

    def __init__(
        self,
        machine: Machine,
        elf: Path,
        bad: tuple[int, ...],
        start: str = "fota_boot",
        planted: bytes = b"",
    ) -> None:
        self.machine = machine
        self._start_name = start
        self.cpu = machine.cpu
        self.uc = machine.cpu.uc
        self.bad = bad
        self.functions = functions(elf)
        self.by_name = {f.name: f for f in self.functions}
        self.snapshots = Snapshots(machine)
        self.known: dict[Any, str] = {}
        self.known_free: dict[Any, str] = {}  # the same without a forger on the bus
        self.rechecks = self.hits = 0
        self.accesses = 0
        self._watching = self._starting = False
        self._verdict = ""
        self._trail: list[Any] = []
        self._expect = ""
        self._looks = 0
        self._parts: tuple[int, Any] = (-1, None)
        self._bss = self._bss_range(elf)
        self._count_accesses()
        self._hook()
        machine.power_on()
        at = CODE_IN_RAM - 0x20000000
        machine.space.ram[0x20000000][at : at + len(planted)] = planted
        self._run_to_start()
        self.start = self.snapshots.take()
        self.first = machine.instructions
        self._home_version = self.snapshots._version
        self.recovered: dict[bytes, bool] = {}

    def _bss_range(self, elf: Path) -> tuple[int, int]:
        s = self.machine.symbols(elf)
        return s["linker_data_start"], s["linker_bss_end"]

    def _count_accesses(self) -> None:
        read, write, store = self.cpu._read, self.cpu._write, self.cpu.on_store

        def counted_read(address: int, size: int) -> int:
            self.accesses += 1
            return read(address, size)

        def counted_write(address: int, value: int, size: int) -> None:
            self.accesses += 1
            write(address, value, size)

        def counted_store(address: int, size: int, value: int) -> None:
            self.accesses += 1  # the flash controller took it
            store(address, size, value)

        self.cpu._read, self.cpu._write, self.cpu.on_store = counted_read, counted_write, counted_store

    def _hook(self) -> None:
        def on(address: int, last: int, call: Callable[..., None], argument: Any = None) -> None:
            self.uc.hook_add(UC_HOOK_CODE, call, user_data=argument, begin=address, end=last)

        for begin, last in SLOT_RANGES[self.machine.chip.row.NAME]:
            on(begin, last, self._application)
        for f in self.functions:
            if f.name == "fota_port_halt":
                on(f.begin, f.begin, self._halted)
            elif f.name == self._start_name:
                on(f.begin, f.begin, self._started)
            elif f.name not in LEAVES:
                on(f.begin, f.begin, self._entered, f.name)
        self.uc.ctl_flush_tb()

    # -- what a run meets --------------------------------------------------------------------------------

    def _started(self, uc: Any, address: int, size: int, data: Any) -> None:
        if self._starting:
            self._starting = False
            uc.emu_stop()

    def _application(self, uc: Any, address: int, size: int, data: Any) -> None:
        place = self.machine.space.physical(address)
        slot = A if place is not None and place[0] == 1 else B
        self._end("bad" if slot in self.bad else "good")

    def _halted(self, uc: Any, address: int, size: int, data: Any) -> None:
        self._end("halt")

    def _end(self, verdict: str) -> None:
        self._verdict = self._verdict or verdict
        self.uc.emu_stop()

    def _entered(self, uc: Any, address: int, size: int, name: str) -> None:
        if not self._watching or self._verdict:
            return
        self._looks -= 1
        arguments = COARSE.get(name)
        if arguments is None and self._looks < 0:
            return
        key = self._state(address, 4 if arguments is None else arguments)
        outcome = self.known.get(key)
        if outcome is None:
            self._trail.append(key)
            return
        self.hits += 1
        if self._expect:
            return
        if self.hits % RECHECK == 0:
            self._expect = outcome
            return
        self._end(outcome)

    # -- the state that decides the future ----------------------------------------------------------------

    def _state(self, address: int, arguments: int) -> Any:
        """Key of the state at the entry of a function: equal keys, equal futures."""
        registers = self.uc.reg_read_batch(KEY_REGISTERS)
        sp = registers[12]
        low = sp if 0x20000000 <= sp <= STACK_TOP else 0x20000000
        ram = self.machine.space.ram[0x20000000]
        return (
            address,
            tuple(registers[:arguments]),
            tuple(registers[4:]),
            ram[low - 0x20000000 : STACK_TOP - 0x20000000],
            ram[self._bss[0] - 0x20000000 : self._bss[1] - 0x20000000],
            self._peripherals(),
        )

    def _peripherals(self) -> Any:
        if self._parts[0] == self.accesses:
            return self._parts[1]
        m, b = self.machine, self.machine.board
        now = m.clock.ps
        e = m.element
        assert e is not None
        tick = b.scs.systick
        i2c, flash = b.i2c, b.controller
        parts = (
            tuple(b.rcc.regs.values()), b.swapped, tuple(m.flash.options.items()), flash.busy_until_ps > now,
            *(frozen(getattr(flash, name)) for name in flash.STATE if name != "busy_until_ps"),
            *(tuple(b.gpio[p].regs.values()) for p in "AB"),
            tuple(i2c.regs.values()), i2c.flags, i2c._left, bytes(i2c._out), bytes(i2c._in), i2c._step,
            i2c._address, i2c._txdr, tuple(b.usart.regs.values()),
            b.iwdg.pr, b.iwdg.rlr, b.iwdg.unlocked, b.iwdg.expires_ps is not None, tuple(b.iwdg._pending),
            b.rng.cr, b.rng.stream.position, b.scs.vtor, tuple(b.scs.active), b.scs.mpu_state,
            tick.csr & 7, tick.reload, tick.pending, b.dwt.ctrl, tuple(b.scs.regs.values()),
            e._status, bytes(e._fifo), e._output, e._pointer, e._busy_until_ps > now, e._stream.position,
            tuple(e._nvm.counters), e._after is None or tuple(e._after.counters),
            e._executor.sram.message, e._executor.sram.temp_key.value,
            b"" if self.snapshots._version == self._home_version else b"".join(journal_pages(m)),
        )  # fmt: skip
        self._parts = (self.accesses, parts)
        return parts

    # -- running -----------------------------------------------------------------------------------------

    def _run_to_start(self) -> None:
        self._starting = True
        while self._starting:
            self.machine._service()
            self.machine._step(100_000)

    def step(self) -> None:
        """Execute one instruction, or one whole IT block, of the undisturbed boot."""
        self.machine._service()
        self.machine._step(1)

    def finish(self, looks: int = CLOSE_LOOKS, anew: bool = False) -> str:
        """Run on until the outcome is known; return it. ``anew``: a whole boot is ahead."""
        self._watching, self._looks, self._expect = True, looks, ""
        self._trail.clear()
        m = self.machine
        resets = len(m.resets)
        usual_end = m.instructions + len(self.trace) if anew else self.last
        end = usual_end + MORE_INSTRUCTIONS
        last_access = self.accesses + self.usual_accesses + MORE_ACCESSES
        try:
            while not self._verdict:
                m._service()
                more = RECHECK_PATIENCE if self._expect else 0
                late = m.instructions > end + more * MORE_INSTRUCTIONS
                if len(m.resets) > resets:
                    self._verdict = "reset"
                elif late or self.accesses > last_access + more * MORE_ACCESSES:
                    self._verdict = "stuck"
                elif not m._step(50_000):
                    self._verdict = "lockup"
        except UnmodelledError:
            self._verdict = self._verdict or "lockup"
        finally:
            self._watching = False
            self.accesses += 1  # a fault changes registers without an access: restore them all
        verdict, self._verdict = self._verdict, ""
        if self._expect and (self._expect in SAFE) != (verdict in SAFE):
            # a watchdog that runs out sooner or later makes a reset of a halt: the time is not in the key
            raise CampaignError(f"an outcome did not repeat: remembered {self._expect}, now {verdict}")
        self.rechecks += bool(self._expect)
        for key in self._trail:
            self.known[key] = verdict
        return verdict

    def golden(self) -> str:
        """Run the undisturbed boot twice: trace it, then note its states. Return its outcome; the machine is
        put back."""
        self.trace = array("I")
        handle = self.uc.hook_add(
            UC_HOOK_CODE, lambda uc, address, size, trace: trace.append(address), self.trace
        )
        self.uc.ctl_flush_tb()
        self.back(self.start)
        before = self.accesses
        while not self._verdict and self.machine._step(200_000):
            self.machine._service()
        self.usual_accesses = self.accesses - before
        self.uc.hook_del(handle)
        self.uc.ctl_flush_tb()
        self.back(self.start)
        outcome = self.finish(looks=1 << 30, anew=True)
        self.last = self.machine.instructions
        self.back(self.start)
        return outcome

    def back(self, s: Snapshot) -> None:
        """Restore, peripherals included only if they were touched."""
        self.snapshots.restore(s)
        self._verdict = ""
        self._parts = (-1, None)

    # -- faults ------------------------------------------------------------------------------------------

    def places(self, indices: Sequence[int]) -> Iterator[tuple[Snapshot, int, int]]:
        """Stop before the instructions of these ascending numbers; yield (state, number, address).

        The number counts executed instructions from the first of fota_boot(). Numbers inside an IT block are
        passed over: the block is dealt with at its IT. The machine may be used for anything meanwhile.
        """
        self.back(self.start)
        m, here, touched = self.machine, self.start, self.accesses
        for index in indices:
            if index:
                self.restore_light(here, touched)
                before = self.accesses
                while m.instructions < self.first + index and not self._verdict:
                    m._service()
                    m._step(self.first + index - m.instructions)
                if m.instructions != self.first + index:
                    continue  # inside an IT block
                m._service()
                untouched = self.accesses == before and not m.space._stale_code
                here = self.snapshots.take_core(here) if untouched else self.snapshots.take()
            touched = self.accesses
            pc = self.cpu.pc
            if pc != self.trace[index]:
                raise CampaignError(f"instruction {index} is at 0x{pc:08x}, was at 0x{self.trace[index]:08x}")
            yield here, index, pc

    def restore_light(self, s: Snapshot, touched: int) -> None:
        if self.accesses == touched:
            self.snapshots.restore_core(s)
        else:
            self.snapshots.restore(s)
            self.accesses += 1
        self._verdict = ""

    def opcode(self, address: int) -> tuple[int, int]:
        """(first half-word, size) of the instruction at ``address``."""
        half = struct.unpack("<H", bytes(self.uc.mem_read(address, 2)))[0]
        return half, 4 if half >> 11 in (0x1D, 0x1E, 0x1F) else 2

    def skip(self, pc: int) -> str:
        """Skip the instruction at ``pc``, where the machine stands; return the outcome."""
        _, size = self.opcode(pc)
        if self.cpu.pc != pc:
            raise CampaignError(f"the machine stands at 0x{self.cpu.pc:08x}, not at 0x{pc:08x}")
        self.uc.reg_write(UC_ARM_REG_PC, pc + size)
        self.cpu._done += 1  # a skipped instruction takes its time
        if self.cpu.pc != pc + size:
            raise CampaignError(f"the skip at 0x{pc:08x} had no effect")
        return self.finish()

    def block(self, pc: int) -> list[int]:
        """Addresses of the instructions in the IT block at ``pc`` that will be executed."""
        half, _ = self.opcode(pc)
        first, mask = half >> 4 & 15, half & 15
        apsr = self.uc.reg_read(UC_ARM_REG_APSR)
        length = 4 - (mask & -mask).bit_length() + 1
        executed, at = [], pc + 2
        for n in range(length):
            bit = first & 1 if n == 0 else mask >> (4 - n) & 1
            if condition_holds(first & 14 | bit, apsr):
                executed.append(at)
            at += self.opcode(at)[1]
        return executed

    def skip_in_block(self, pc: int, victim: int) -> str:
        """Skip one instruction inside the IT block at ``pc``: a NOP stands there while the block runs."""
        _, size = self.opcode(victim)
        old = bytes(self.uc.mem_read(victim, size))
        self._patch(victim, NOPS[size])
        try:
            self.step()
        except UnmodelledError:
            self.accesses += 1
            return "lockup"
        finally:
            self._patch(victim, old)
        if self.cpu.pc == pc:
            raise CampaignError(f"the IT block at 0x{pc:08x} did not run")
        return self.finish()

    def _patch(self, address: int, data: bytes) -> None:
        self.uc.mem_write(address, data)
        self.uc.ctl_remove_cache(address & ~3, (address & ~3) + 8)

    def flip(self, register: int, bit: int) -> str:
        """Flip a register bit where the machine stands; return the outcome."""
        old = self.uc.reg_read(register)
        self.uc.reg_write(register, old ^ 1 << bit)
        if self.uc.reg_read(register) == old:
            raise CampaignError("the bit flip had no effect")
        return self.finish()


def is_it(half: int) -> bool:
    return half >> 8 == 0xBF and bool(half & 15)
