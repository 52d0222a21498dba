"""The plays of a rehearsal: what happens to one device, and what has to come of it."""

import random
from collections.abc import Callable
from typing import Any

from fota_agent.runner.runner import Runner
from fota_agent.transport.folder import FileReader, Folder
from fota_cli import rehearse_plan as plan
from fota_cli.crew import Crew
from fota_cli.rehearse_device import CONFIRMED, Device, Failed
from fota_vdev.places import places
from fota_vdev.view import reported
from fota_wire.errors import FotaError, TransportError
from fota_wire.layout import SLOT_A, other_slot

BREAKS = 3
VALUES, VALUE = 24, '"' + "v" * 70 + '"'
REFUSED_MS = 8_000
"""Virtual time in which a bootloader that refuses everything shows that nothing starts."""


class Watch:
    """Marks what a cut may fall on, while a device goes its way; at a place of ``cuts`` the ``crew`` splits,
    and in the copy the power fails there.
    """

    def __init__(
        self, device: Device, crew: "Crew | None" = None, cuts: "list[plan.Cut] | None" = None
    ) -> None:
        self._device, self._crew = device, crew
        self._due = list(reversed(cuts or []))
        self.marks: list[str] = []
        self.cut: plan.Cut | None = None
        of = places(device.machine)
        b, first, second = of.slots[other_slot(SLOT_A)], *of.journal
        self._slot = b.bank, b.offset, b.offset + b.size
        self._journal = first.bank, first.offset, second.offset + second.size
        self._store = of.agent_store.bank, of.agent_store.offset, of.agent_store.offset + of.agent_store.size
        machine = device.machine
        machine.flash.on_operation = self._flash
        device.element.on_command = lambda opcode, p1: self._note("c")

    def _flash(self, kind: str, bank: int, offset: int) -> None:
        for (where, begin, end), mark in (
            (self._slot, "e" if kind == "erase" else "p"),
            (self._journal, "j"),
            (self._store, "a"),
        ):
            if bank == where and begin <= offset < end:
                return self._note(mark)
        return self._note("o")

    def _note(self, mark: str) -> None:
        at = len(self.marks)
        self.marks.append(mark)
        while self.cut is None and self._crew is not None and self._due and self._due[-1].at == at:
            cut = self._due.pop()
            if self._crew.split(cut):
                self._take(cut, mark)

    def _take(self, cut: plan.Cut, mark: str) -> None:
        """In the copy: let the power fail now, and perhaps again."""
        self.cut = cut
        machine = self._device.machine
        if mark == "c":
            machine.cut_power_at(element_command=1, torn=cut.torn)
        else:
            machine.cut_power_at(flash_op=1, torn=cut.torn)
        if cut.again:
            self._device.after_cut = lambda: self._once_more(cut)

    def _once_more(self, cut: plan.Cut) -> None:
        self._device.after_cut = lambda: None
        self._device.machine.cut_power_at(flash_op=cut.again, torn=cut.torn)


class Flaky(Folder):
    """A card behind a bad line: one answer has a wrong byte, later ones break off, where dice say."""

    def __init__(self, source: Folder, size: int, seed: int) -> None:
        super().__init__(source._path)
        self._size = size
        self._dice = random.Random(f"network|{seed}")  # noqa: S311
        self.spoil, self.breaks = True, BREAKS

    def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> "tuple[int, dict[str, str], FileReader]":
        """As a card, with its faults."""
        status, said, reader = super().request(method, path, headers, body)
        left = reader.length
        if self.spoil:
            return status, said, _Faulty(reader, wrong=self._dice.randrange(left))
        if self.breaks:
            self.breaks -= 1
            return status, said, _Faulty(reader, ends=self._dice.randrange(left))
        return status, said, reader


class _Faulty(FileReader):
    def __init__(self, reader: FileReader, *, wrong: int = -1, ends: int = -1) -> None:
        super().__init__(reader._file, reader.length)
        self._at, self._wrong, self._ends = 0, wrong, ends

    def readinto(self, buf: memoryview) -> int:
        if self._ends >= 0:
            if self._at >= self._ends:
                self.close()
                raise TransportError("the line broke")
            buf = buf[: self._ends - self._at]
        count = super().readinto(buf)
        if 0 <= self._wrong - self._at < count:
            buf[self._wrong - self._at] ^= 0x40
        self._at += count
        return count


# -- plays: each returns what is to be told, and raises Failed --


def update(device: Device, source: Folder) -> str:
    """The agent brings the new release; it runs, is confirmed, and stays; nothing else is written."""
    kept = device.untouched()
    require(device.bring(source), CONFIRMED, "the update")
    floor = device.raise_floor(device.new)
    if device.untouched() != kept:
        raise Failed("flash was written outside of journal, agent's store and the other slot")
    return f"confirmed, floor {floor}"


def back(device: Device, way_back: bool) -> str:
    """After `update`: the fielded release is ordered again."""
    floor, counter = device.new.parsed.sec_cnt, device.old.parsed.sec_cnt
    outcome = device.go_to(device.old)
    fault = plan.judge_back(outcome, CONFIRMED, way_back, counter, floor)
    if fault:
        raise Failed(fault)
    if outcome == CONFIRMED:
        return "confirmed"
    _require_settled(device, device.new)
    return f"refused, as it has to be: {outcome}"


def self_test(device: Device, source: Folder) -> str:
    """The new release says that it has failed."""
    device.healthy = False
    outcome = device.bring(source)
    if not outcome.startswith("reverted: AP1"):
        raise Failed(f"a failed self-test ended so: {outcome}")
    _require_settled(device, device.old)
    return outcome


def hang(device: Device, source: Folder) -> str:
    """The new release never gets to say anything."""
    device.watchdog = True
    outcome = device.bring(source)
    if not outcome.startswith("reverted"):
        raise Failed(f"a trial that hangs ended so: {outcome}")
    _require_settled(device, device.old)
    return outcome


def network(device: Device, source: Folder, seed: int) -> str:
    """A wrong byte is refused, a line that breaks is taken up again."""
    flaky = Flaky(source, len(device.new.image), seed)
    outcome = device.bring(flaky)
    if not outcome.startswith("refused"):
        raise Failed(f"a wrong byte in the payload ended so: {outcome}")
    _require_settled(device, device.old, boots=1)
    flaky.spoil = False
    require(device.bring(flaky), CONFIRMED, f"an update whose line broke {BREAKS} times")
    return f"a wrong byte refused, {BREAKS - flaky.breaks} breaks, confirmed"


def full(device: Device, source: Folder) -> str:
    """Journal and agent's store are as full as they get."""
    device.fill_journal()

    def publish(runner: Runner) -> None:
        for number in range(VALUES):
            runner.publish((f"t/{number}", 0, VALUE))
        runner.save()

    require(device.bring(source, publish), CONFIRMED, "an update with a full store")
    return f"journal full, {VALUES} values in the store; confirmed"


def floor(device: Device) -> str:
    """The device's floor is above the new release, by any way that got it there."""
    machine, new = device.machine, device.new
    device.stage()
    device.element.nvm.counters[0] = 8 * (new.parsed.sec_cnt + 1)
    machine.power_on()
    machine.run(time_ms=REFUSED_MS, until=reported)
    if reported(machine):
        report = device.start(settle=False)
        if device.is_running(new, report) or report.sec_cnt <= new.parsed.sec_cnt:
            raise Failed(f"{report.version_text} boots below the floor {new.parsed.sec_cnt + 1}")
    said = bytes(machine.uart).decode("ascii", "replace").strip().splitlines()[-1:]
    return f"floor {new.parsed.sec_cnt + 1}: refused ({''.join(said)})"


def cut_everywhere(device: Device, source: Folder, crew: Crew, cuts: "list[plan.Cut]", marks: str) -> None:
    """Go the way of `update`, and at each cut let a copy go it without power; a copy answers and is gone."""
    watch = Watch(device, crew, cuts)

    def play() -> None:
        update(device, source)
        if watch.cut is None and "".join(watch.marks) != marks:
            raise Failed("the way of the update did not repeat itself")

    answer = told(play)
    if crew.is_copy:
        crew.answer(answer)
    if answer.get("fault"):
        raise Failed(answer["fault"])
    if "mistake" in answer:
        raise RuntimeError(answer["mistake"])


def told(play: Callable[[], Any]) -> dict[str, Any]:
    """Return what a play said, in the form of an answer; a mistake of ours is told as such."""
    try:
        return {"fault": "", "detail": play()}
    except (Failed, FotaError) as exc:
        return {"fault": str(exc)}
    except Exception as exc:
        return {"mistake": f"{type(exc).__name__}: {exc}"}


def require(outcome: str, wanted: str, what: str) -> None:
    """Return if a play ended as it has to. Raises Failed."""
    if outcome != wanted:
        raise Failed(f"{what} ended so: {outcome}")


def _require_settled(device: Device, release: Any, boots: int = 2) -> None:  # noqa: ANN401
    """Return if a release runs now, and after a reset."""
    for _ in range(boots):
        device.reset()
        report = device.start()
        if not device.is_running(release, report) or report.trial:
            raise Failed(f"{report.version_text} runs in the end, and not {release.version}")
