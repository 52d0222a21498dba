"""One rehearsal: devices are made, plays are handed to copies of this process, and answers are counted."""

from pathlib import Path
from typing import Any

import click

from fota_agent.transport.folder import Folder
from fota_cli import net
from fota_cli import rehearse_plan as plan
from fota_cli import rehearse_plays as plays
from fota_cli.crew import Crew, Lost
from fota_cli.rehearse_device import Device, Failed, Release
from fota_cli.rehearse_twin import Kit, device


class Run:
    """``cuts``: how many from each release, None for all; ``jobs``: copies at a time."""

    def __init__(
        self, kit: Kit, new: Release, folder: Path, jobs: int, cuts: "int | None", *, way_back: bool
    ) -> None:
        self._kit, self._new, self._jobs, self._cuts = kit, new, jobs, cuts
        self._source = Folder(str(folder))
        self._way_back = way_back
        self._tally = plan.Tally([])
        self._marks: str | None = None
        self._label = ""
        self._cut_done = self._cut_count = 0
        self._live = net.live()

    def rows(self, olds: list[Release]) -> list[plan.Row]:
        """Play all, from each of ``olds``; return the table."""
        labels = _labels(olds)
        self._tally = plan.Tally(labels)
        with Crew(self._jobs, self._hear) as crew:
            for label, old in zip(labels, olds, strict=True):
                self._label = label
                self._from(crew, old)
                crew.finish()
        return self._tally.rows()

    def _from(self, crew: Crew, old: Release) -> None:
        try:
            start = device(self._kit, old, self._new)
            start.start()
            start.machine.power_off()
        except Failed as exc:
            self._tally.note(self._label, plan.UPDATE, f"{old.version} does not run: {exc}")
            return
        self._marks = None
        for what in plan.PLAYS:
            if what not in (plan.BACK, plan.CUTS) and crew.split((self._label, what)):
                crew.answer(self._one(start, what))
        while self._marks is None and crew.running:
            crew.listen()
        if self._cuts != 0:
            self._cut(crew, start)

    def _one(self, start: Device, what: str) -> dict[str, Any]:
        """In a copy: play one thing; what follows from an update is played there, too."""
        source, seed = self._source, self._kit.seed
        if what == plan.UPDATE:
            watch = plays.Watch(start)
            answer = plays.told(lambda: plays.update(start, source))
            if not answer.get("fault") and "mistake" not in answer:
                answer["marks"] = "".join(watch.marks)
                answer["back"] = plays.told(lambda: plays.back(start, self._way_back))
            return answer
        play = {
            plan.SELF_TEST: lambda: plays.self_test(start, source),
            plan.HANG: lambda: plays.hang(start, source),
            plan.NETWORK: lambda: plays.network(start, source, seed),
            plan.FULL: lambda: plays.full(start, source),
            plan.FLOOR: lambda: plays.floor(start),
        }[what]
        return plays.told(play)

    def _cut(self, crew: Crew, start: Device) -> None:
        """Walk the way of the update once more, here, with a copy for each cut."""
        if not self._marks:
            self._tally.lacks(self._label, plan.CUTS, "not played: the update fails without them")
            return
        cuts = plan.cuts_of(self._marks, self._cuts, self._kit.seed)
        self._cut_done, self._cut_count = 0, len(cuts)
        try:
            plays.cut_everywhere(start, self._source, crew, cuts, self._marks)
        except Failed as exc:
            self._tally.note(self._label, plan.CUTS, str(exc))
        crew.finish()
        if self._live:
            click.echo(err=True)

    # -- answers -----------------------------------------------------------------------------------------

    def _hear(self, tag: Any, answer: Any) -> None:  # noqa: ANN401
        if isinstance(tag, plan.Cut):
            self._count(self._label, plan.CUTS, answer, str(tag))
            self._cut_done += 1
            self._say_cuts()
            return
        label, what = tag
        fault = self._count(label, what, answer)
        click.echo(f"{label}: {what}: {fault or 'good'}", err=True)
        if what == plan.UPDATE:
            self._marks = "" if isinstance(answer, Lost) else answer.get("marks", "")
            if "back" in (answer if isinstance(answer, dict) else {}):
                fault = self._count(label, plan.BACK, answer["back"])
                click.echo(f"{label}: {plan.BACK}: {fault or 'good'}", err=True)
            else:
                self._tally.lacks(label, plan.BACK, "not played: the update fails")

    def _count(self, label: str, what: str, answer: Any, case: str = "") -> str:  # noqa: ANN401
        """Note an answer; return what was wrong. RuntimeError: a mistake of ours."""
        if isinstance(answer, Lost):
            answer = {"fault": str(answer)}
        if "mistake" in answer:
            raise RuntimeError(f"{label}: {what}: {answer['mistake']}")
        fault = str(answer["fault"])
        self._tally.note(
            label, what, f"{case}: {fault}" if fault and case else fault, answer.get("detail") or ""
        )
        return fault

    def _say_cuts(self) -> None:
        done, count = self._cut_done, self._cut_count
        line = f"{self._label}: {done} of {count} power cuts"
        if self._live:
            click.echo(f"\r\x1b[K{line}", err=True, nl=False)
        elif done == count or done % max(1, count // 4) == 0:
            click.echo(line, err=True)


def _labels(olds: list[Release]) -> list[str]:
    """Return the version of each, with its digest where two have the same."""
    versions = [old.version for old in olds]
    return [
        v if versions.count(v) == 1 else f"{v} {old.parsed.file_digest.hex()[:8]}"
        for v, old in zip(versions, olds, strict=True)
    ]
