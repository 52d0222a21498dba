"""Campaigns `agent_power`, of each chip: the supply fails at every flash operation of the agent on the chip,
while it writes an update: its own store, every unit (double word, quad-word, page of SPI flash) of the new
image, the journal record that asks for the trial.

One whole update is done once with a real server over real TLS, by a ROOT with CAMPAIGN keys and a document
that reaches the device (SPEC 5.8), and what the network answered is kept on a tape. Each part replays the
tape on the same device, to the same instruction, and goes through the flash operations one by one: right
before each of them, and in its middle (torn double word, half erased page), the power is cut. After each
cut: no flash but the inactive slot, the agent's store and the journal has changed, the journal holds the
record of before or the request, and the device boots: the old image, or, once it was asked for, the new
one.

What the bootloader does depends on the journal, on the slots that it names and on the counters only, so
the outcome of a boot is remembered by these; one cut in `RECHECK` is booted all the same.
"""

import fcntl
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign_device import BUILD, journal_pages, where
from campaign_faults import CampaignError

from fota_vdev.machine import Machine, StopReason
from fota_vdev.modem import peripheral as modem
from fota_vdev.modem.network import HostNetwork, Recorder, Replay, Tape
from fota_vdev.places import untouched
from fota_vdev.snapshot import Snapshots
from fota_wire import journal
from fota_wire.bootreport import unpack
from fota_wire.errors import FormatError
from fota_wire.host_chips import DEFAULT, ESPRESSIF
from fota_wire.journal import STAGED
from fota_wire.layout import BOOT_REPORT_SIZE, SLOT_A, SLOT_B

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

RECHECK = 2_000
MOST_INSTRUCTIONS = 60_000_000  # of a boot; a guard against hanging, some six boots long
STILL = (
    1_000_000_000  # without a flash operation; before the first one come signatures and a handshake, 282 M
)
PARTS = 4
MOST_AT_ONCE = 64  # flash operations between two stops: a call of the ROM programs page after page
TORN_SEED = 1


@dataclass(slots=True)
class Result:
    """Cases and failures of one part; failures are (kind, id, why)."""

    cases: int = 0
    boots: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recording:
    """Where the recorded update of a chip lies."""

    chip: str

    @property
    def folder(self) -> Path:
        return BUILD / ("agent" if self.chip == DEFAULT else f"agent-{self.chip}")

    @property
    def device(self) -> Path:
        return self.folder / "device.vdev"

    @property
    def tape(self) -> Path:
        return self.folder / "tape.json"


# -- recording -----------------------------------------------------------------------------------------------


def why_not() -> str:
    """Return why there is nothing to attack, or an empty string."""
    import chip_world

    return chip_world.why_not()


def prepare(chip: str = DEFAULT) -> None:
    """Have one update of a chip on tape, made by one process at a time and only once for each firmware."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _record(Recording(chip))


def _record(to: Recording) -> None:
    """Do one update with a real server; keep the device as it was before, and the network's answers."""
    import chip_world

    elves = [chip_world.firmware(version, to.chip) for version in ("1.0.0", "1.1.0")]
    stamp = to.folder / "stamp"
    made = "by a CAMPAIGN\n" + "".join(f"{elf.stat().st_mtime_ns}\n" for elf in elves)
    if stamp.exists() and stamp.read_text() == made:
        return
    shutil.rmtree(to.folder, ignore_errors=True)
    world = chip_world.ChipWorld(to.folder / "world", to.chip)
    try:
        world.make_keys()
        world.start_server()
        world.provision(world.sign("1.0.0", 2, elf=elves[0]))
        world.release_chip("1.0.0", 1)
        world.switch_on()
        world.run_chip("settled")
        world.ask_for_campaigns()
        while world.twin()["root_version"] != 2:
            world.run_chip("settled")
        world.machine.power_off()
        world.machine.save(world.device)
        world.machine.close()
        world.release_chip("1.1.0", 2)
        world.let_reach("1.1.0", f"100% {chip_world.ALWAYS}")
        world.fota("rollout", "start", "1.1.0", "--device", world.device_id)
        shutil.copy(world.device, to.device)
        tape = Tape()
        machine = loaded(to.device)
        modem.attach(machine, Recorder(HostNetwork(), tape))
        machine.power_on()
        result = machine.run(until=lambda m: len(m.resets) > 1)
        machine.power_off()
        machine.close()
        if result.reason is not StopReason.UNTIL:
            raise CampaignError(f"the update to be recorded did not come: {result}")
    finally:
        world.stop()
        world._lock.close()
    answers = [[kind, value.hex() if isinstance(value, bytes) else value] for kind, value in tape.answers]
    to.tape.write_text(json.dumps(answers))
    stamp.write_text(made)


def loaded(device: Path) -> Machine:
    """Load a device; its loads and stores are checked elsewhere."""
    machine = Machine.load(device)
    if machine.chip.row.NAME in ESPRESSIF:
        machine.cpu.check_alignment(on=False)  # type: ignore[attr-defined]
    return machine


def recorded(tape: Path) -> Replay:
    """Return the network of the recorded update."""
    answers = [
        (kind, bytes.fromhex(value) if isinstance(value, str) else value)
        for kind, value in json.loads(tape.read_text())
    ]
    return Replay(Tape(answers))


# -- the device, operation by operation ----------------------------------------------------------------------


class Walk:
    """The recorded update, stopped after one flash operation after the other."""

    def __init__(self, chip: str = DEFAULT) -> None:
        of = Recording(chip)
        shutil.copy(of.device, copy := of.folder / f"device-{os.getpid()}.vdev")
        self.machine = m = loaded(copy)
        copy.unlink()
        modem.attach(m, recorded(of.tape))
        self.kept = untouched(m, SLOT_B)
        self.operations = 0
        self._stopped = False

        def noted(kind: str, bank: int, offset: int) -> None:
            self.operations += 1
            self._stopped = True
            m.cpu.limit(0)

        m.flash.on_operation = noted
        m.power_on()
        m.run(until=lambda m: m.application_runs)
        self.operations = 0
        self.before = self.flash()
        self.floor = self.counters()
        self.first = self.record()
        self.snapshots = Snapshots(m)
        self.judged: dict[Any, tuple[str, str]] = {}
        self.boots = 0

    def flash(self) -> list[bytes]:
        """What must not change: bootloader, factory data, the running slot, messages to the bootloader."""
        return [self.machine.flash.read_phys(bank, at, end - at) for bank, at, end in self.kept]

    def counters(self) -> tuple[int, ...]:
        assert self.machine.element is not None
        return tuple(self.machine.element.counters)

    def record(self) -> journal.Record:
        return journal.scan(*journal_pages(self.machine))[0]

    def step(self) -> bool:
        """Run until one more flash operation is done, or all those of one call of the ROM; False once the
        chip was reset."""
        self._stopped = False
        resets = len(self.machine.resets)
        result = self.machine.run(
            max_instructions=STILL,
            until=lambda m: self._stopped or len(m.resets) != resets,
        )
        if result.reason is not StopReason.UNTIL:
            raise CampaignError(f"the replay stands still at operation {self.operations}: {result}")
        return len(self.machine.resets) == resets

    # -- cutting -----------------------------------------------------------------------------------------

    def cut(self, torn: int | None, ahead: int = 1) -> None:
        """Cut the power at the next flash operation, or at one further ahead."""
        self.machine.cut_power_at(flash_op=ahead, torn=torn)
        done = self.operations
        result = self.machine.run(max_instructions=STILL)
        self.operations = done
        if result.reason is not StopReason.POWER_CUT:
            raise CampaignError(f"no cut at operation {done + ahead}: {result}")

    def judge(self, recheck: bool) -> tuple[str, str]:
        """Return (kind of failure, why) of the device that the cut left, or two empty strings."""
        if self.flash() != self.before:
            return "bricks", "flash of the bootloader, the factory or the running slot has changed"
        if self.counters() != self.floor:
            return "bad_boots", "a counter of the element has moved"
        found = self.record()
        asked = journal.request(self.first, SLOT_A, SLOT_B)
        if found not in (self.first, asked):
            return "lost_updates", f"the journal holds {found}"
        pages = journal_pages(self.machine)
        of = where(self.machine)
        ends = [(page.bank, page.offset, page.offset + page.size) for page in of.journal]
        marks = frozenset(
            (bank, at)
            for bank, at in self.machine.flash.ecc_bad
            if any(bank == of_bank and begin <= at < end for of_bank, begin, end in ends)
        )
        candidate = of.slots[SLOT_B].read(self.machine) if found == asked else b""
        key = (pages, marks, candidate)
        verdict = self.judged.get(key)
        if verdict is None or recheck:
            anew = self.boot(SLOT_B if found.state == STAGED else SLOT_A)
            if verdict not in (None, anew):
                raise CampaignError(f"a boot came out as {anew}, and before as {verdict}")
            verdict = self.judged[key] = anew
        return verdict

    def boot(self, wanted: int) -> tuple[str, str]:
        """Switch on; tell whether the wanted slot runs."""
        m = self.machine
        self.boots += 1
        m.power_on()
        result = m.run(
            max_instructions=MOST_INSTRUCTIONS,
            until=lambda m: m.application_runs or b"halt" in m.uart[-60:],
        )
        if result.reason is not StopReason.UNTIL:
            return "hangs", f"the boot after the cut: {result.reason.value} {result.detail}"
        m.run(max_instructions=2_000)  # out of the bootloader
        try:
            running = unpack(m.read(m.chip.row.BOOT_REPORT_ADDRESS, BOOT_REPORT_SIZE)).running
        except FormatError:
            return "bricks", "nothing boots"
        if running != wanted:
            return "lost_updates", f"slot {running:02x} runs instead of {wanted:02x}"
        return "", ""


def campaign(low: int, high: int, *, only: str = "", limit: int = 0, chip: str = DEFAULT) -> Result:
    """Cut at the operations of part ``low`` of ``high``; ``only``: at "operation" or "operation t"."""
    walk = Walk(chip)
    result = Result()
    chosen = None if not only else int(only.rpartition("/")[2].rstrip("t"))
    more = True
    while more and not (limit and result.cases >= limit) and (chosen is None or walk.operations < chosen):
        before = walk.operations
        mine = (before + 1) % high == low if chosen is None else chosen <= before + MOST_AT_ONCE
        start = walk.snapshots.take() if mine else None
        more = walk.step()
        if start is not None:
            after, done = walk.snapshots.take(), walk.operations
            for number in range(before + 1, done + 1):
                if chosen not in (None, number):
                    continue
                for torn in (None, TORN_SEED):
                    name = f"update/{number}{'' if torn is None else 't'}"
                    if only and only.rpartition("/")[2].endswith("t") != (torn is not None):
                        continue
                    walk.snapshots.restore(start)
                    walk.cut(torn, number - before)
                    kind, why = walk.judge(number % RECHECK == low)
                    result.cases += 1
                    if kind:
                        result.failures.append((kind, name, why))
            walk.snapshots.restore(after)
            walk.operations = done
    result.boots = walk.boots
    walk.machine.close()
    return result
