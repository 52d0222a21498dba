"""One virtual device in a rehearsal: its machine code, and the agent's code beside it, in virtual time alone.

What is real: the bootloader's and the applications' machine code; the agent's engine, its download, its
store and its journal, on the emulated flash and crypto element. What is not: no server, no TLS, no radio. The
update lies on a card, and going back is the order that an agent gives to its board.
"""

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from fota_agent import Hooks
from fota_agent.runner.runner import Runner
from fota_agent.transport.folder import Folder
from fota_cli.boards import BOARDS
from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine, RunResult, StopReason
from fota_vdev.names import name_of
from fota_vdev.parts.elf import function_at
from fota_vdev.places import places, untouched
from fota_vdev.view import journal_pages, report_of, reported
from fota_wire import journal, status
from fota_wire.bootreport import BootReport
from fota_wire.errors import DeviceError, FotaError, InputError, TransportError, VerifyError
from fota_wire.host_crypto import verify
from fota_wire.image import Image
from fota_wire.journal import REJECTED, REVERTED, STATE_NAMES
from fota_wire.layout import HEALTH_BAD, HEALTH_GOOD, SLOT_A, SLOT_NAMES, other_slot
from fota_wire.version import format_version

BOOT_MS, SETTLE_MS, SLICE_MS = 20_000, 1_500, 500
GLANCE_MS = 50
"""An application that is confirmed is looked at for so long, after `SETTLE_MS` at its first boot."""
PATIENCE_MS = 3_600_000
"""Virtual time that a device has for one update."""
HANG_US = 31_000_000
"""Longer than the longest watchdog."""
MOST_STARTS, MOST_LIVES, FLOOR_BOOTS = 40, 60, 64
CONFIRMED = "confirmed"
UNMAPPED = re.compile(r"(read|write|fetch) (?:of|to|from) unmapped 0x([0-9a-f]{8}) \(pc 0x([0-9a-f]{8})\)")


class Failed(Exception):
    """A device did not do what it has to: one line that says what."""


class Release(NamedTuple):
    """What is rehearsed with: ``image`` as it is signed, and what it says of itself."""

    name: str
    image: bytes
    parsed: Image

    @property
    def version(self) -> str:
        """Its version in words."""
        return format_version(self.parsed.version)


class Symbols(NamedTuple):
    """Functions of the ELF file ``name``: (address, bytes, name)."""

    name: str
    functions: list[tuple[int, int, str]]


class Nowhere:
    """A way to no server."""

    valid_until = 0

    def request(self, *_: object) -> NoReturn:
        """Say that there is no network."""
        raise TransportError("a rehearsal has no server")

    def close(self) -> None:
        """Do nothing."""


class Verdict(Hooks):
    """Hooks of a device whose application's self-test has failed, or (None) that ask the application."""

    def __init__(self, healthy: "bool | None") -> None:
        self._healthy = healthy

    def health_check(self) -> "bool | None":
        """Return False, or True: then the application's own word counts."""
        return True if self._healthy is None else self._healthy


@dataclass(slots=True)
class Device:
    """A device without power, whose slot A holds the fielded release ``old``, confirmed; ``new`` is what it
    is to take. ``watchdog``: the trial's application is kept from running, so that the watchdog has to bite.
    """

    machine: Machine
    old: Release
    new: Release
    seed: int
    symbols: list[Symbols] = field(default_factory=list)
    healthy: "bool | None" = None
    watchdog: bool = False
    cuts: int = 0
    after_cut: Callable[[], None] = lambda: None
    report: BootReport = field(default_factory=BootReport)
    _seen: set[bytes] = field(default_factory=set)
    _dice: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        """Make what is drawn repeatable."""
        self._dice = random.Random(self.seed)  # noqa: S311

    @property
    def element(self) -> Atecc608:
        """Its crypto element. DeviceError: there is none."""
        if self.machine.element is None:
            raise DeviceError("a device without a crypto element")
        return self.machine.element

    # -- looking -----------------------------------------------------------------------------------------

    def record(self) -> journal.Record:
        """Return what the journal says."""
        return journal.scan(*journal_pages(self.machine, places(self.machine)))[0]

    def untouched(self) -> "tuple[str, ...]":
        """Return digests of all flash that nobody may write while slot B is the other one."""
        of = untouched(self.machine, other_slot(SLOT_A))
        return tuple(
            hashlib.sha256(self.machine.flash.read_phys(bank, at, end - at)).hexdigest()
            for bank, at, end in of
        )

    def holds(self, slot: int, release: Release) -> bool:
        """Tell whether a slot holds the whole image of a release."""
        seen = places(self.machine).slots[slot].read(self.machine)
        return seen[: len(release.image)] == release.image

    def is_running(self, release: Release, report: BootReport) -> bool:
        """Tell whether that is what has booted."""
        return report.image_hash == release.parsed.image_hash

    def settled_in(self, release: Release, report: BootReport) -> bool:
        """Tell whether a release runs, confirmed."""
        record = self.record()
        return self.is_running(release, report) and not report.trial and record.confirmed == report.running

    # -- running -----------------------------------------------------------------------------------------

    def start(self, *, settle: bool = True) -> BootReport:
        """Boot, whatever the power does, until the application runs, and has had time to judge itself; return
        the boot report.

        Raises:
            Failed: nothing starts, or something that may not.
        """
        machine = self.machine
        for _ in range(MOST_STARTS):
            self._power()
            result = machine.run(time_ms=BOOT_MS, until=reported)
            if self._cut(result):
                continue
            if result.reason is not StopReason.UNTIL:
                raise Failed(f"no application starts: {self._why(result)}")
            report = report_of(machine)
            if not any(self.is_running(one, report) for one in (self.old, self.new)):
                raise Failed(f"an image runs that is none of both: {report.image_hash.hex()[:16]}")
            if not settle or (report.trial and (self.healthy is not None or self.watchdog)):
                return report
            self.report = report
            if self._settle(report):
                return report
        raise Failed("the device keeps resetting itself")

    def _settle(self, report: BootReport) -> bool:
        """Let the application judge itself; False if it was reset or lost its power meanwhile."""
        machine, resets = self.machine, len(self.machine.resets)
        seen = report.image_hash in self._seen and not report.trial
        self._seen.add(report.image_hash)
        result = machine.run(
            time_ms=GLANCE_MS if seen else SETTLE_MS,
            until=lambda m: len(m.resets) != resets or self._health() == HEALTH_GOOD,
        )
        if self._cut(result):
            return False
        if result.reason is StopReason.FAULT:
            raise Failed(f"the application stops: {self._why(result)}")
        return len(machine.resets) == resets

    def _power(self) -> None:
        if not self.machine.powered:
            self.machine.power_on()
            if self.cuts:
                self.after_cut()

    def _cut(self, result: RunResult) -> bool:
        if result.reason is StopReason.POWER_CUT:
            self.cuts += 1
            return True
        return False

    def _health(self) -> int:
        return self.machine.mem32[self.machine.chip.row.HEALTH_ADDRESS]

    def _why(self, result: RunResult) -> str:
        """Say why a run ended, with names for addresses."""
        machine = self.machine
        if result.reason is not StopReason.FAULT:
            line = bytes(machine.uart).decode("ascii", "replace").strip().splitlines()[-1:]
            said = "".join(f"; last line on the console: {text}" for text in line)
            return f"nothing after {BOOT_MS // 1000} s{said}{self._missed()}"
        if machine.missing is None:
            return f"{result.detail}{self._in_function(machine.cpu.pc)}"
        return f"{result.detail}; {self._named(*machine.missing)}"

    def _missed(self) -> str:
        """Return what the application was told that it does not exist, perhaps since no model has it."""
        found = [seen for _, text in self.machine.faults if (seen := UNMAPPED.search(text))]
        if not found:
            return ""
        what, address, pc = found[-1].groups()
        named = self._named(int(address, 16), int(pc, 16))
        return f"; {what} of 0x{address}, where nothing is modelled: {named}"

    def _named(self, address: int, pc: int) -> str:
        """Say what a register is called, and who wanted it."""
        name = name_of(self.machine.chip.row.NAME, address) or "a register that has no name here"
        return f"{name}{self._in_function(pc)}; a stand-in may answer: --stand-in"

    def _in_function(self, pc: int) -> str:
        found = ((one.name, function_at(one.functions, pc)) for one in self.symbols)
        return next((f", in {function}() of {name}" for name, function in found if function), "")

    def reset(self) -> None:
        """Press the reset button, if there is power."""
        if self.machine.powered:
            self.machine.reset("pin")

    def _board(self) -> "object":
        machine = self.machine
        return BOARDS[machine.chip.row.NAME](
            machine.mem32,
            machine.i2c,
            machine.read,
            machine.sleep_us,
            lambda: machine.time_us // 1000,
            self._dice.randrange,
        )

    # -- the agent ---------------------------------------------------------------------------------------

    def bring(self, source: Folder, prepare: Callable[[Runner], None] = lambda runner: None) -> str:
        """Have the agent take the update in ``source``, through as many boots as that needs; return
        `CONFIRMED`, or how it ended. ``prepare`` is given each life's agent before it begins.

        Raises:
            Failed: the device got stuck.
        """
        end = self.machine.time_us // 1000 + PATIENCE_MS
        for _ in range(MOST_LIVES):
            report = self.start()
            over = self._outcome(report)
            if over:
                return over if over == CONFIRMED else over + self._missed()
            if report.trial and self.watchdog:
                self._hang()
                continue
            said = self._live(report, source, prepare, end)
            if said:
                return said
        raise Failed(f"no end after {MOST_LIVES} boots; the journal says {self._journal_text()}")

    def _outcome(self, report: BootReport) -> str:
        """Return what has become of the update, "" if it is under way."""
        if self.settled_in(self.new, report):
            return CONFIRMED
        record = self.record()
        if self.is_running(self.old, report) and record.state in (REJECTED, REVERTED):
            return f"{STATE_NAMES[record.state]}: {status.describe(record.reason)}"
        return ""

    def _hang(self) -> None:
        """Let time pass in which nobody feeds the watchdog."""
        resets = len(self.machine.resets)
        self.machine.sleep_us(HANG_US)
        self.machine.run(time_ms=1, until=lambda m: len(m.resets) != resets)
        if len(self.machine.resets) == resets:
            raise Failed("the watchdog does not bite in a trial that hangs")

    def _live(self, report: BootReport, source: Folder, prepare: Callable[[Runner], None], end: int) -> str:
        """Let the agent work for one boot; return how the update ended, if that is certain now."""
        machine, resets = self.machine, len(self.machine.resets)
        try:
            runner = Runner(self._board(), Nowhere(), Verdict(self.healthy), verify)  # type: ignore[arg-type]
            if not report.trial:
                prepare(runner)
                refusal = self._offer(runner, source)
                if refusal is not None:
                    return refusal
        except FotaError as exc:
            if not machine.powered:
                self.cuts += 1
                return ""
            return f"the agent does not start: {exc}"
        while machine.time_us // 1000 < end:
            wait_ms = 0 if self.confirmed_itself(report) else runner.step()
            if not machine.powered:
                self.cuts += 1
                return ""
            if runner.rebooting or len(machine.resets) != resets:
                return ""
            if self.confirmed_itself(report):
                self.reset()
                return ""
            error = runner.engine.error
            if wait_ms and isinstance(error, VerifyError | InputError):
                return f"refused: {error}"
            result = machine.run(time_ms=max(1, min(wait_ms, SLICE_MS)))
            if self._cut(result):
                return ""
            if result.reason is StopReason.FAULT:
                raise Failed(f"the application stops: {self._why(result)}")
            if len(machine.resets) != resets:
                return ""
        raise Failed(f"not done in {PATIENCE_MS // 60_000} minutes: {runner.engine.outcome}")

    def confirmed_itself(self, report: BootReport) -> bool:
        """Tell whether this boot was a trial, and is none any more."""
        record = self.record()
        return report.trial and record.confirmed == report.running

    def _offer(self, runner: Runner, source: Folder) -> "str | None":
        """Offer the update; return why it is refused, None if it is taken, "" if another boot is needed.

        A power cut between the agent's store and its request leaves a card that is not newer any more: a
        server would order the same again, and that is what happens here.
        """
        try:
            runner.offer(source)
        except FotaError as exc:
            slot = other_slot(report_of(self.machine).running) if self.machine.powered else 0
            if (
                not self.machine.powered
                or exc.code != "rollback"
                or not self.cuts
                or not self.holds(slot, self.new)
            ):
                if not self.machine.powered:
                    raise
                return f"refused: {exc}"
            self._board().request()  # type: ignore[attr-defined]
            self.reset()
            return ""
        return None

    # -- without the agent -------------------------------------------------------------------------------

    def go_to(self, release: Release) -> str:
        """Have the other slot tried and, if its application is healthy, confirmed, as a server's order does;
        return `CONFIRMED`, or how it ended.

        Raises:
            Failed: the device got stuck, or the application does not say whether it is healthy.
        """
        self._board().request()  # type: ignore[attr-defined]
        self.reset()
        report = self.start()
        if self.is_running(release, report) and report.trial:
            if not self.confirmed_itself(report):
                word = self._health()
                if word == HEALTH_BAD:
                    return "its self-test failed"
                if word != HEALTH_GOOD:
                    raise Failed(f"{release.version} does not say whether it is healthy, nor confirms itself")
                self._board().confirm()  # type: ignore[attr-defined]
            self.reset()
            report = self.start()
        if self.settled_in(release, report):
            return CONFIRMED
        record = self.record()
        return f"{STATE_NAMES[record.state]}: {status.describe(record.reason)}"

    def raise_floor(self, release: Release) -> int:
        """Boot until the floor is that of the confirmed ``release``; return it.

        Raises:
            Failed: it does not follow.
        """
        for _ in range(FLOOR_BOOTS):
            if not self.settled_in(release, self.report):
                raise Failed(f"{release.version} was confirmed, and does not stay: {self._journal_text()}")
            if self.report.floor >= release.parsed.sec_cnt:
                return self.report.floor
            self.reset()
            self.start()
        raise Failed(f"the floor stays at {self.report.floor}, below {release.parsed.sec_cnt}")

    def _journal_text(self) -> str:
        r = self.record()
        return (
            f"confirmed {SLOT_NAMES[r.confirmed]}, candidate {SLOT_NAMES[r.candidate]},"
            f" {STATE_NAMES[r.state]}, {r.tries} tries"
        )

    # -- states to begin in ------------------------------------------------------------------------------

    def stage(self) -> None:
        """Put ``new`` into slot B and ask for it, as a finished download does."""
        slot, page = places(self.machine).slots[other_slot(SLOT_A)], self.machine.chip.row.PAGE_SIZE
        size = -(-len(self.new.image) // page) * page
        self.machine.flash.write_phys(slot.bank, slot.offset, self.new.image.ljust(size, b"\xff"))
        self._append(journal.request(self.record(), SLOT_A, other_slot(SLOT_A)))

    def fill_journal(self) -> None:
        """Repeat the journal's last record until no cell of its page is free."""
        while journal.scan(*journal_pages(self.machine, places(self.machine)))[2] != 0:
            r = self.record()
            self._append(journal.Record(r.sequence + 1, r.confirmed, r.candidate, r.state, r.tries, r.reason))

    def _append(self, record: journal.Record) -> None:
        of = places(self.machine)
        _, page, cell = journal.scan(*journal_pages(self.machine, of))
        where = of.journal[page]
        if cell == 0:
            self.machine.flash.write_phys(where.bank, where.offset, b"\xff" * journal.PAGE_SIZE)
        at = where.offset + cell * journal.RECORD_SIZE
        self.machine.flash.write_phys(where.bank, at, journal.pack(record))
