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

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign_cores import ARM_NOPS, core_of
from campaign_device import NONE, journal_pages, slot_at
from elftools.elf.elffile import ELFFile
from unicorn.unicorn_const import UC_HOOK_CODE

from fota_vdev.machine import Machine
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.snapshot import Snapshot, Snapshots
from fota_wire.errors import DeviceError

SLOT_RANGES = {
    "stm32l476": ((0x08004000, 0x0807FFFF), (0x08084000, 0x080FFFFF), (0x4000, 0x7FFFF), (0x84000, 0xFFFFF)),
    "stm32u585": ((0x08004000, 0x080F3FFF), (0x08104000, 0x081F3FFF)),  # no alias of flash at 0
    "esp32c3": ((0x3C000000, 0x3C7FFFFF), (0x42000000, 0x427FFFFF)),
}
"""Where code of slots runs, by the chip's name."""
SHOWN = {"stm32l476": 0x08004000, "stm32u585": 0x08004000, "esp32c3": 0x3C7F0000}
"""Where the start of the image that was booted is mapped."""
# too small and too often called to be worth a look
LEAVES = {"memcpy", "memset", "memcmp", "strlen", "fota_sha256_blocks", "wait_for", "fota_flash_ecc_fault",
          "transfer", "fota_port_wait_us", "fota_port_put", "enter", "update", "begin", "run",
          "read", "read_timer", "fota_port_time_us", "fota_spi_read", "set_speed", "sar_bits",
          "set_field"}  # fmt: skip
# functions of other translation units, where the ABI says what is live: number of argument registers
COARSE = {"fota_policy_next": 2, "fota_element_open": 0, "fota_element_close": 0, "fota_journal_append": 2,
          "fota_element_counter": 2, "fota_element_verify": 2, "fota_element_increment": 1,
          "fota_image_parse": 3, "fota_settings_check": 1, "fota_journal_open": 2}  # fmt: skip
CLOSE_LOOKS = 16  # after so many functions that met no known state, only the coarse ones are looked at
# how much longer than the undisturbed boot a boot with a fault may take before it counts as stuck; three
# sessions with the element are 0.5 million instructions (and `Core.MORE_ACCESSES`)
MORE_INSTRUCTIONS = 800_000
RECHECK_PATIENCE = 3  # times as much again for an outcome that is checked: it was met with more time left
RECHECK = 400  # one remembered outcome in so many is run to its end
MOST_LAUNCHES = 3  # of a boot that has the banks change places
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


class Walk:
    """The decision path of one boot: ``machine`` stands with its power off, ready for the boot to attack.

    ``bad`` names the slots whose code must never run. The walk begins with the function ``start``;
    ``planted`` is the address that an application left in RAM wherever it could, 0 if it did not.
    """

    def __init__(
        self,
        machine: Machine,
        elf: Path,
        bad: tuple[int, ...],
        start: str = "fota_boot",
        planted: int = 0,
    ) -> None:
        self.machine = machine
        self._start_name = start
        self.cpu = machine.cpu
        self.core = core_of(machine, elf)
        self.uc = machine.cpu.uc
        self.bad = bad
        self.functions = functions(elf)
        self.by_name = {f.name: f for f in self.functions}
        self.snapshots = Snapshots(machine)
        self.known: dict[Any, str] = {}
        self.rechecks = self.hits = 0
        self.accesses = 0
        self._watching = self._starting = False
        self._verdict = ""
        self._trail: list[Any] = []
        self._expect = ""
        self._looks = 0
        self._parts: tuple[int, Any] = (-1, None)
        self.core.count_accesses(self._accessed)
        self._hook()
        machine.power_on()
        if planted:
            self.core.plant(planted)
        self._run_to_start()
        self.start = self.snapshots.take()
        self.first = machine.instructions
        self._home_version = self.snapshots._version
        self.recovered: dict[Any, bool] = {}

    def _accessed(self) -> None:
        self.accesses += 1

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
            elif f.name not in LEAVES and not f.name.startswith("__riscv_"):
                on(f.begin, f.begin, self._entered, f.name)
        self.uc.ctl_flush_tb()

    # -- what a run meets --------------------------------------------------------------------------------

    def _started(self, uc: Any, address: int, size: int, data: Any) -> None:
        if self._starting:
            self._starting = False
            uc.emu_stop()

    def _application(self, uc: Any, address: int, size: int, data: Any) -> None:
        """Good is what executes in the slot of a good image, and nothing else of flash."""
        self._end("bad" if slot_at(self.machine, address) in (*self.bad, NONE) else "good")

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
        core = self.core
        registers = self.uc.reg_read_batch([*core.ARGUMENTS[:arguments], *core.KEPT])
        return address, tuple(registers), *core.memory(), self._peripherals()

    def _peripherals(self) -> Any:
        if self._parts[0] == self.accesses:
            return self._parts[1]
        home = self.snapshots._version == self._home_version
        parts = self.core.peripherals(), b"" if home else b"".join(journal_pages(self.machine))
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
        last_access = self.accesses + self.usual_accesses + self.core.MORE_ACCESSES
        try:
            while not self._verdict:
                m._service()
                # a launch of the option bytes begins a boot anew
                more = len(m.resets) - resets + (RECHECK_PATIENCE if self._expect else 0)
                late = m.instructions > end + more * MORE_INSTRUCTIONS
                if self._is_over(resets):
                    self._verdict = "reset"
                elif late or self.accesses > last_access + more * self.core.MORE_ACCESSES:
                    self._verdict = "stuck"
                elif not m._step(50_000):
                    self._verdict = "lockup"
        except (UnmodelledError, DeviceError):
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

    def _is_over(self, resets: int) -> bool:
        """True if the chip was reset since it had been ``resets`` times, but for what belongs to a boot."""
        since = [cause for _, cause in self.machine.resets[resets:]]
        return len(since) > MOST_LAUNCHES or any(cause not in self.core.RESETS_ON for cause in since)

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

    def skip(self, pc: int) -> str:
        """Skip the instruction at ``pc``, where the machine stands; return the outcome."""
        size = self.core.size(pc)
        if self.cpu.pc != pc:
            raise CampaignError(f"the machine stands at 0x{self.cpu.pc:08x}, not at 0x{pc:08x}")
        self.core.jump(pc + size)
        self.cpu._done += 1  # a skipped instruction takes its time
        if self.cpu.pc != pc + size:
            raise CampaignError(f"the skip at 0x{pc:08x} had no effect")
        return self.finish()

    def skip_in_block(self, pc: int, victim: int) -> str:
        """Skip one instruction inside the IT block at ``pc``: a NOP stands there while the block runs."""
        size = self.core.size(victim)
        old = bytes(self.uc.mem_read(victim, size))
        self._patch(victim, ARM_NOPS[size])
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
