"""Campaign `power_cut`: the supply fails at every flash operation and every element command, twice in a
row.

Each scenario is one run of the real machine code (or of the agent's board code) from a known state. It
runs once undisturbed; then once more for each flash operation and each command of the crypto element,
cut there: right before it, and in its middle with several seeds (torn double words that fault on ECC,
half erased pages, counters that may have counted once more). Every state that such a cut leaves behind
is booted, undisturbed and again with a cut at every operation and command; what the second cut leaves
is booted undisturbed.

After each boot: an image runs that is verified and is the one that DESIGN's table wants, the journal
holds a record of the undisturbed run, no flash outside the journal was touched, and the floor is not
lower than before.

Two devices with the same readable journal, ECC marks and counters boot alike but for time and random
numbers, so the outcome of such a boot is remembered; one in `RECHECK` is run all the same.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import campaign_esp32c3 as c3
from campaign_device import (
    NONE,
    A,
    B,
    append,
    bootloader,
    chip_of,
    factory_machine,
    fill_journal,
    install,
    journal_pages,
    make_image,
    sample_image,
    slot_at,
    where,
)
from campaign_faults import SHOWN, SLOT_RANGES, CampaignError
from unicorn.unicorn_const import UC_HOOK_CODE

from fota_agent.boards.stm32 import Stm32Board
from fota_cli.boards import BOARDS
from fota_vdev.machine import Machine, RunResult, StopReason
from fota_vdev.snapshot import Snapshot, Snapshots
from fota_wire import esp_otadata, journal, status
from fota_wire.errors import DeviceError
from fota_wire.esp_otadata import INVALID, NEW, UNDEFINED, VALID
from fota_wire.esp_otadata import PENDING_VERIFY as PENDING
from fota_wire.host_chips import ESPRESSIF
from fota_wire.journal import REJECTED, REVERTED, STAGED, TRIAL

TRIES = 3
SECOND_SEEDS = 16
SEEDS = 64  # torn variants of one flash operation in the first cut
ERASE_SEEDS = 12  # of one page erase
COUNT_SEEDS = 8  # of one counter increment
RECHECK = 50
MOST_MS, MOST_INSTRUCTIONS = 60_000, 6_000_000
FAILURES = ("bad_boots", "bricks", "hangs", "lost_updates")


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that can be cut. ``at``: instructions executed by then since the start of the run."""

    kind: str  # "flash" or "element"
    number: int
    at: int
    what: str


@dataclass(frozen=True, slots=True)
class Cut:
    kind: str
    number: int
    torn: int | None

    def __str__(self) -> str:
        return f"{self.kind}{self.number}{'' if self.torn is None else f't{self.torn}'}"


@dataclass(slots=True)
class Result:
    """Cases and failures of one part of the campaign."""

    cases: int = 0
    boots: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)


# --- scenarios ---


@dataclass(frozen=True, slots=True)
class Scenario:
    """``prepare`` brings a machine (slot A: good, confirmed, floor 1; powered off) to the start.

    ``act`` None: the run is a boot, from power-up to the application in ``ends``. Otherwise it is what the
    application does (the agent's board code), from a machine whose application runs.
    """

    prepare: Callable[[Machine], None]
    ends: int = A
    act: Callable[[Stm32Board], None] | None = None
    good: tuple[int, ...] = (A, B)
    passes: tuple[int, ...] = ()  # slots whose application is not the end of the run
    secver: int = 2  # security counter of the image in slot B
    says: int = (
        PENDING  # OTA data's state of a trial by them: what ran before us has confirmed itself already
    )


def records(*content: tuple[int, ...]) -> Callable[[Machine], None]:
    def prepare(machine: Machine) -> None:
        for n, fields in enumerate(content):
            append(machine, journal.Record(n + 1, *fields))

    return prepare


CONFIRMED_A = (A, NONE, journal.NONE)


def with_free(left: int, *content: tuple[int, ...]) -> Callable[[Machine], None]:
    def prepare(machine: Machine) -> None:
        records(*content)(machine)
        fill_journal(machine, left)

    return prepare


def with_bad_b(machine: Machine) -> None:
    install(machine, B, make_image(2, sec_cnt=2, bad_signature=True, chip=machine.chip.row.NAME))
    records(CONFIRMED_A, (A, B, STAGED))(machine)


def with_failing_sample(machine: Machine) -> None:
    install(machine, B, sample_image("1.2.0", fail=True, chip=machine.chip.row.NAME))
    records(CONFIRMED_A, (A, B, STAGED))(machine)


def second_page(left: int, *content: tuple[int, ...]) -> Callable[[Machine], None]:
    """Like `with_free`, after one turn-over: the next one erases page 0, which holds old records."""

    def prepare(machine: Machine) -> None:
        records(CONFIRMED_A)(machine)
        fill_journal(machine, 0)
        for fields in content:
            sequence = journal.scan(*journal_pages(machine))[0].sequence + 1
            append(machine, journal.Record(sequence, *fields))
        fill_journal(machine, left)

    return prepare


def asked(prepare: Callable[[Machine], None], *ota: tuple[int, int, int]) -> Callable[[Machine], None]:
    """Like ``prepare``, with records in the OTA data: sector, sequence number, state."""

    def prepare_all(machine: Machine) -> None:
        prepare(machine)
        for sector, sequence, state in ota:
            c3.write_ota(machine, sector, esp_otadata.Record(sequence, state))

    return prepare_all


def with_bad_b_asked(machine: Machine) -> None:
    install(machine, B, make_image(2, sec_cnt=2, bad_signature=True, chip=machine.chip.row.NAME))
    asked(records(CONFIRMED_A), RAN, (1, 2, NEW))(machine)


SCENARIOS: dict[str, Scenario] = {
    "install": Scenario(records(CONFIRMED_A, (A, B, STAGED)), ends=B),
    "next-try": Scenario(records(CONFIRMED_A, (A, B, TRIAL, 2)), ends=B),
    "floor": Scenario(records((B, NONE, journal.NONE)), ends=B),
    "floor-two-steps": Scenario(records((B, NONE, journal.NONE)), ends=B, secver=3),
    "revert-exhausted": Scenario(records(CONFIRMED_A, (A, B, TRIAL, 0))),
    "revert-rejected": Scenario(records(CONFIRMED_A, (A, B, TRIAL, 0, status.AP1))),
    "reject": Scenario(with_bad_b, good=(A,)),
    "first-boot": Scenario(lambda machine: None),
    "fallback": Scenario(records((B, NONE, journal.NONE)), good=(A,)),
    "install-turn-over": Scenario(with_free(0, CONFIRMED_A, (A, B, STAGED)), ends=B),
    "install-turn-back": Scenario(second_page(0, CONFIRMED_A, (A, B, STAGED)), ends=B),
    "next-try-turn-over": Scenario(with_free(0, CONFIRMED_A, (A, B, TRIAL, 2)), ends=B),
    "revert-turn-over": Scenario(with_free(0, CONFIRMED_A, (A, B, TRIAL, 0))),
    "self-reject-c": Scenario(with_failing_sample, good=(A, B), passes=(B,)),
    "request": Scenario(records(CONFIRMED_A), act=lambda board: board.request()),
    "request-turn-over": Scenario(with_free(0, CONFIRMED_A), act=lambda board: board.request()),
    "confirm": Scenario(
        records(CONFIRMED_A, (A, B, TRIAL, 2)), ends=B, act=lambda board: board.confirm()
    ),
    "confirm-turn-over": Scenario(
        with_free(1, CONFIRMED_A, (A, B, TRIAL, 2)), ends=B, act=lambda board: board.confirm()
    ),
    "reject-own-trial": Scenario(
        records(CONFIRMED_A, (A, B, TRIAL, 2)), ends=B, act=lambda board: board.reject(status.AP2)
    ),
}  # fmt: skip
RAN, TRIED = (0, 1, VALID), (A, B, TRIAL, 2, status.OD1)
OTA_SCENARIOS: dict[str, Scenario] = {
    "ota-request": Scenario(asked(records(CONFIRMED_A), RAN, (1, 2, NEW)), ends=B),
    "ota-request-first": Scenario(asked(records(CONFIRMED_A), (0, 2, UNDEFINED)), ends=B),
    "ota-request-turn-over": Scenario(asked(with_free(0, CONFIRMED_A), RAN, (1, 2, NEW)), ends=B),
    "ota-request-again": Scenario(
        asked(records(CONFIRMED_A, (A, B, REVERTED, 0, status.AP1)), (0, 3, VALID), (1, 4, NEW)), ends=B
    ),
    "ota-next-try": Scenario(asked(records(CONFIRMED_A, TRIED), RAN, (1, 2, PENDING)), ends=B),
    "ota-confirm": Scenario(asked(records(CONFIRMED_A, TRIED), RAN, (1, 2, VALID)), ends=B),
    "ota-confirm-turn-over": Scenario(
        asked(with_free(0, CONFIRMED_A, TRIED), RAN, (1, 2, VALID)), ends=B
    ),
    "ota-give-up": Scenario(asked(records(CONFIRMED_A, TRIED), RAN, (1, 2, INVALID))),
    "ota-go-back": Scenario(asked(records(CONFIRMED_A, TRIED), (0, 3, NEW), (1, 2, PENDING))),
    "ota-exhausted": Scenario(
        asked(records(CONFIRMED_A, (A, B, TRIAL, 0, status.OD1)), RAN, (1, 2, PENDING))
    ),
    "ota-reject": Scenario(with_bad_b_asked, good=(A,)),
    "ota-from-stock": Scenario(asked(records(), (0, 2, VALID)), ends=B, says=VALID),
}  # fmt: skip
"""Asked for by OTA data, on the ESP32-C3."""


def scenarios(build: str) -> tuple[str, ...]:
    """The scenarios of a build's chip. The agent's board on the ESP32-C3 is not of this campaign: it writes
    through the application's own flash driver.
    """
    if chip_of(build).NAME not in ESPRESSIF:
        return tuple(SCENARIOS)
    return (*(name for name, s in SCENARIOS.items() if s.act is None), *OTA_SCENARIOS)


@dataclass(frozen=True, slots=True)
class Path:
    """An undisturbed run: its start, its operations, the journal's records on its way by sequence number, and
    for each operation a moment shortly before it, with the operations of its kind done by then."""

    start: Snapshot
    acts: bool
    operations: list[Operation]
    records: dict[int, journal.Record]
    wishes: set[tuple[int, int, int]]
    moments: list[tuple[Snapshot, int]]


class Rig:
    """One scenario on one build, ready to be cut."""

    def __init__(self, build: str, name: str) -> None:
        self.name, self.scenario = name, (SCENARIOS | OTA_SCENARIOS)[name]
        self.row = chip_of(build)
        self.espressif = self.row.NAME in ESPRESSIF
        first = make_image(1, chip=self.row.NAME)
        self.machine = m = factory_machine(bootloader(build), first, self.row.NAME)
        assert m.element is not None
        self.element = m.element
        install(m, B, make_image(2, sec_cnt=self.scenario.secver, chip=self.row.NAME))
        self.scenario.prepare(m)
        if self.scenario.good == (A,) and name == "fallback":
            b = where(m).slots[B]
            m.flash.write_phys(b.bank, b.offset + 0x210, b"\x55")
        self.slots = {slot: region.read(m)[:0x4000] for slot, region in where(m).slots.items()}
        self.operations: list[Operation] = []
        self.records: dict[int, journal.Record] = {}
        self.wishes: list[tuple[int, int, int]] = []
        self.entered = self._origin = 0
        self.judged: dict[Any, tuple[str, str]] = {}
        self.boots = self.hits = 0
        self._hook()
        self.snapshots = Snapshots(m)
        m.flash.log.clear()
        if self.scenario.act is not None:
            self.boot()
            if self.entered != self.scenario.ends:
                raise CampaignError(f"{name}: the application to act does not run")
            self.board = BOARDS[self.row.NAME](
                m.mem32, m.i2c, m.read, m.sleep_us, lambda: m.time_us // 1000, lambda n: 0
            )
        self.floor = self.element.counters[0] // 8
        self.path = self.explore(self.snapshots.take(), acts=self.scenario.act is not None)

    # -- hooks -------------------------------------------------------------------------------------------

    def _hook(self) -> None:
        m = self.machine
        for begin, last in SLOT_RANGES[self.row.NAME]:
            m.cpu.uc.hook_add(UC_HOOK_CODE, self._application, begin=begin, end=last)
        m.cpu.uc.ctl_flush_tb()
        m.flash.on_operation = lambda kind, bank, offset: self._note(
            "flash", f"{kind} bank {bank} {offset:x}"
        )
        self.element.on_command = lambda opcode, p1: self._note("element", f"{opcode:02x}{p1:02x}")

    def _application(self, uc: Any, address: int, size: int, data: Any) -> None:
        slot = slot_at(self.machine, address)
        if slot not in self.scenario.passes:
            self.entered = slot
            uc.emu_stop()

    def _note(self, kind: str, what: str) -> None:
        number = 1 + sum(op.kind == kind for op in self.operations)
        self.operations.append(Operation(kind, number, self.machine.instructions - self._origin, what))
        self._note_record()

    def _note_record(self) -> None:
        record = self.record()
        self.records[record.sequence] = record
        self.wishes.append(self.wish(record))

    def record(self) -> journal.Record:
        return journal.scan(*journal_pages(self.machine))[0]

    def joined(self, record: journal.Record) -> journal.Record:
        """The record with what the OTA data say, where there are any."""
        return c3.joined(record, c3.read_ota(self.machine)) if self.espressif else record

    def wish(self, record: journal.Record) -> tuple[int, int, int]:
        """What somebody asked for, and has not got yet: lost if no undisturbed boot has it on its way."""
        r = self.joined(record)
        return r.confirmed, r.candidate, r.state

    # -- running -----------------------------------------------------------------------------------------

    def boot(self) -> RunResult:
        """Switch on if need be, and run to the application."""
        self.machine.power_on()
        return self._resume()

    def _resume(self) -> RunResult:
        self.entered = 0
        self.boots += 1
        return self.machine.run(
            time_ms=MOST_MS, max_instructions=MOST_INSTRUCTIONS, until=lambda m: bool(self.entered)
        )

    def _go(self, acts: bool) -> bool:
        """Run the scenario from where the machine stands; True if its power was cut."""
        if not acts:
            return self.boot().reason is StopReason.POWER_CUT
        assert self.scenario.act is not None
        try:
            self.scenario.act(self.board)
        except DeviceError:
            if self.machine.powered:
                raise
            return True
        return False

    def explore(self, start: Snapshot, *, acts: bool) -> Path:
        """Run undisturbed from ``start``, then once more, stopping shortly before every operation."""
        m = self.machine
        self.snapshots.restore(start)
        self.operations, self.records, self.wishes = [], {}, []
        self._note_record()
        self._origin = m.instructions
        if self._go(acts):
            raise CampaignError(f"{self.name}: a cut that nobody armed")
        self._note_record()
        operations, found = self.operations, dict(self.records)
        ends = self.wishes[0], self.wishes[-1]  # in between, what was asked for may not be forgotten
        wishes = {wish for wish in self.wishes if wish[2] != journal.NONE or wish in ends}
        moments = [(start, 0)] * len(operations) if acts else self._stops(start, operations)
        return Path(start, acts, operations, found, wishes, moments)

    def _stops(self, start: Snapshot, operations: list[Operation]) -> list[tuple[Snapshot, int]]:
        m = self.machine
        self.snapshots.restore(start)
        self.operations = []
        self._origin = m.instructions
        m.power_on()
        moments = []
        for op in operations:
            ahead = self._origin + op.at - 30 - m.instructions
            if ahead > 0:
                m.run(max_instructions=ahead)
            done = sum(o.kind == op.kind for o in self.operations)
            moments.append((self.snapshots.take(), done))
        return moments

    # -- cutting -----------------------------------------------------------------------------------------

    def variants(self, op: Operation, seeds: int) -> Iterator[Cut]:
        """The cuts at one operation: before it, and torn with several seeds."""
        yield Cut(op.kind, op.number, None)
        if op.kind == "element":  # only an increment changes what survives
            seeds = COUNT_SEEDS if op.what == "2401" else 1
        elif op.what.startswith("erase"):
            seeds = min(seeds, ERASE_SEEDS)
        for seed in range(seeds):
            yield Cut(op.kind, op.number, seed)

    def cut(self, path: Path, index: int, cut: Cut) -> None:
        """Run into the cut; the machine is without power after it.

        Raises:
            CampaignError: the cut did not come, or not at its operation.
        """
        m, op = self.machine, path.operations[index]
        moment, done = path.moments[index]
        self.snapshots.restore(moment)
        self.operations = []
        ahead = cut.number - done
        if cut.kind == "flash":
            m.cut_power_at(flash_op=ahead, torn=cut.torn)
        else:
            m.cut_power_at(element_command=ahead, torn=cut.torn)
        came = self._go(path.acts)
        last = next((o for o in reversed(self.operations) if o.kind == cut.kind), None)
        if not came or m.powered or last is None or last.what != op.what or last.number != ahead:
            raise CampaignError(f"{self.name}: cut {cut} at '{op.what}' did not come; last was {last}")

    # -- judging -----------------------------------------------------------------------------------------

    def persistent(self) -> Any:
        """What decides the next boot: the journal as far as it can be read, marks, option bytes, counters."""
        m = self.machine
        kept = tuple(sorted(m.flash.ecc_bad)), tuple(sorted(m.flash.options.items()))
        messages = c3.raw_ota(m) if self.espressif else ()
        return b"".join(journal_pages(m)), messages, *kept, tuple(self.element.counters)

    def judge(self, path: Path) -> tuple[str, str]:
        """Judge what a cut on ``path`` left, by the journal and by booting it: ("", "") or (kind, why)."""
        record = self.record()
        if path.records.get(record.sequence) != record:
            return "lost_updates", f"after the cut the journal says {record}"
        if self.wish(record) not in path.wishes:
            return "lost_updates", f"after the cut {self.wish(record)} is what is asked for"
        key = self.persistent()
        known = self.judged.get(key)
        if known is not None:
            self.hits += 1
            if self.hits % RECHECK:
                return known
        verdict = self._judge_boot(record)
        if known is not None and known != verdict:
            raise CampaignError(f"{self.name}: an outcome did not repeat: {known}, then {verdict}")
        self.judged[key] = verdict
        return verdict

    def _judge_boot(self, before: journal.Record) -> tuple[str, str]:
        floor = self.element.counters[0] // 8
        if floor < self.floor:
            return "bad_boots", f"floor {floor}, was {self.floor}"
        expected = self.expected(self.joined(before))
        result = self.boot()
        if result.reason is StopReason.POWER_CUT:
            raise CampaignError(f"{self.name}: a cut that nobody armed")
        if not self.entered:
            kind = "hangs" if result.reason is StopReason.INSTRUCTIONS else "bricks"
            return kind, f"{result}: {bytes(self.machine.uart[-60:])!r}"
        return self._judge_end(before, *expected)

    def _judge_end(
        self, before: journal.Record, slot: int, wanted: tuple[int, int, int, int]
    ) -> tuple[str, str]:
        """The image that runs, the record and the floor are those that DESIGN's table wants."""
        m = self.machine
        end, mapped = self.record(), m.read(SHOWN[self.row.NAME], 0x4000)
        if self.entered not in self.scenario.good or mapped != self.slots[self.entered]:
            return "bad_boots", f"slot {self.entered:#x} runs, which does not verify or was changed"
        if self.entered != slot or (end.confirmed, end.candidate, end.state, end.tries) != wanted:
            return "lost_updates", f"from {before} slot {self.entered:#x} runs, and the journal says {end}"
        secver = {A: 1, B: self.scenario.secver}[self.entered]
        confirmed = end.confirmed == self.entered and end.state != TRIAL
        if confirmed and self.element.counters[0] // 8 < secver:
            return (
                "bad_boots",
                f"a confirmed image with counter {secver} runs above floor {self.element.counters}",
            )
        work = [op for op in m.flash.log if op.kind != "options"]
        if any(not self.may_change(op.bank, op.offset) for op in work):
            return "bad_boots", "flash outside the journal was changed"
        return self._judge_messages(end)

    def may_change(self, bank: int, offset: int) -> bool:
        """True in the journal, and in the OTA data."""
        first, second = where(self.machine).journal
        begin = first.offset
        messages = self.espressif and 0 <= offset - c3.OTADATA < 2 * self.row.PAGE_SIZE
        return messages or (bank == first.bank and begin <= offset < second.offset + second.size)

    def _judge_messages(self, end: journal.Record) -> tuple[str, str]:
        """The application hears what became of what it asked for."""
        if not self.espressif:
            return "", ""
        ota = c3.read_ota(self.machine)
        at = esp_otadata.active(ota)
        state = None if at is None else ota[at].state  # type: ignore[union-attr]
        by_message = end.state == TRIAL and end.reason == status.OD1
        if state in (NEW, UNDEFINED) or (by_message and state not in (PENDING, self.scenario.says)):
            return "lost_updates", f"the OTA data say {state} in the end"
        return "", ""

    def expected(self, r: journal.Record) -> tuple[int, tuple[int, int, int, int]]:
        """DESIGN's table: from a record to the slot that boots and (confirmed, candidate, state, tries)."""
        good = self.scenario.good
        if self.scenario.passes:  # its application ends its own trial
            return A, (A, B, REVERTED, 0)
        if r.confirmed == NONE and r.state == journal.NONE:
            return A, (A, NONE, journal.NONE, 0)
        tries = TRIES if r.state == STAGED else r.tries
        if r.state in (STAGED, TRIAL) and tries:
            if r.candidate in good:
                return r.candidate, (r.confirmed, r.candidate, TRIAL, tries - 1)
            state = REJECTED if r.state == STAGED else REVERTED
            return r.confirmed, (r.confirmed, r.candidate, state, 0)
        if r.state == TRIAL:
            return r.confirmed, (r.confirmed, r.candidate, REVERTED, 0)
        slot = r.confirmed if r.confirmed in good else A
        return slot, (r.confirmed, r.candidate, r.state, r.tries)


@cache
def rig(build: str, name: str) -> Rig:
    return Rig(build, name)


def campaign(build: str, name: str, part: int = 0, parts: int = 1, seeds: int = SEEDS,
             second_seeds: int = SECOND_SEEDS, only: str = "", sample: float = 1.0) -> Result:  # fmt: skip
    """Cut scenario ``name`` everywhere, twice. ``part`` of ``parts`` splits the states for the second cut.

    ``only`` replays one case, ``sample`` takes that part of the second cuts, seeded.
    """
    r = rig(build, name)
    result = Result()
    once: dict[Any, tuple[Snapshot, str]] = {}
    for index, op in enumerate(r.path.operations):
        for cut in r.variants(op, seeds):
            case = f"{name}/{cut}"
            r.cut(r.path, index, cut)
            once.setdefault(r.persistent(), (r.snapshots.take(), case))
            if part == 0 and (not only or only == case):
                result.cases += 1
                kind, why = r.judge(r.path)
                if kind:
                    result.failures.append((kind, case, why))
    for number, (start, case) in enumerate(once.values()):
        if number % parts == part and (not only or only.startswith(case + "/")):
            _second(r, result, start, case, second_seeds, only, sample)
    result.boots = r.boots
    return result


def _second(
    r: Rig, result: Result, start: Snapshot, first: str, seeds: int, only: str, sample: float
) -> None:
    """Cut the boot after a first cut, everywhere."""
    path = r.explore(start, acts=False)
    dice = random.Random(first)
    for index, op in enumerate(path.operations):
        for cut in r.variants(op, seeds):
            case = f"{first}/{cut}"
            if only not in ("", case) or dice.random() >= sample:
                continue
            r.cut(path, index, cut)
            result.cases += 1
            kind, why = r.judge(path)
            if kind:
                result.failures.append((kind, case, why))
