"""What a rehearsal plays, where it cuts the power, and what it says in the end. No I/O.

A device's way through an update is a text of marks, one for each thing that a cut may fall on:

p  programs the slot of the new image     e  erases it           j  writes the journal
a  writes the agent's store               c  element command     o  anything else in flash
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

UPDATE, BACK, CUTS = "update", "back", "power cuts"
SELF_TEST, HANG, NETWORK, FULL, FLOOR = (
    "self-test fails",
    "trial hangs",
    "flaky network",
    "full store",
    "below the floor",
)
PLAYS = (UPDATE, BACK, SELF_TEST, HANG, NETWORK, FULL, FLOOR, CUTS)
MOST_CUTS = 1_000_000
TORN = 2
"""Torn variants of one operation, where all are cut."""
AGAIN_WITHIN = 24
SHOWN = 3


class Cut(NamedTuple):
    """The supply fails at the ``at``-th mark, from 0: right before it, or in its middle with the seed
    ``torn``. ``again``: and once more, at so many flash operations after it is back; 0: not.
    """

    at: int
    torn: int | None
    again: int

    def __str__(self) -> str:
        """Name the case."""
        torn = "" if self.torn is None else f"t{self.torn}"
        return f"cut {self.at + 1}{torn}" + (f", again {self.again}" if self.again else "")


def cuts_of(marks: str, number: "int | None", seed: int) -> list[Cut]:
    """Return where to cut, in order: ``number`` places drawn by ``seed``, or (None) everywhere.

    Half of those that are drawn fall on journal, store, erases and element, on each kind alike, and half
    anywhere: of an image's writes there are thousands, and they are all alike. Every second one is cut again
    while it recovers.
    """
    if number is None:
        return [_cut(at, torn, seed) for at in range(len(marks)) for torn in (None, *range(TORN))]
    dice = random.Random(f"cuts|{seed}|{len(marks)}")  # noqa: S311  a seed that repeats is the point
    kinds = [[at for at, mark in enumerate(marks) if mark == kind] for kind in sorted({*marks} - {"p"})]
    found: set[tuple[int, int | None]] = set()
    room = 1 + len(marks) * 4  # a short way has only so many cuts
    while marks and len(found) < min(number, room):
        rare = kinds and len(found) % 2 == 0
        at = dice.choice(dice.choice(kinds)) if rare else dice.randrange(len(marks))
        found.add((at, dice.choice((None, *(dice.randrange(1 << 16) for _ in range(2))))))
    ordered = sorted(found, key=lambda cut: (cut[0], -1 if cut[1] is None else cut[1]))
    return [_cut(at, torn, seed) for at, torn in ordered]


def _cut(at: int, torn: "int | None", seed: int) -> Cut:
    dice = random.Random(f"again|{seed}|{at}|{torn}")  # noqa: S311
    return Cut(at, torn, dice.randrange(1, AGAIN_WITHIN) if dice.random() < 0.5 else 0)


class Row(NamedTuple):
    """One line of the table: with which ``release`` it began, ``what`` was ``played`` how often, how often
    that ``failed``, and the first things that did, or what is worth knowing.
    """

    release: str
    what: str
    played: int
    failed: int
    detail: str

    @property
    def good(self) -> bool:
        """True if it was played, and nothing failed."""
        return self.played > 0 and self.failed == 0


class Tally:
    """Collects answers to rows, in the order of `PLAYS`."""

    def __init__(self, releases: Sequence[str]) -> None:
        self._releases = list(releases)
        self._found: dict[tuple[str, str], tuple[int, list[str], str]] = {}

    def note(self, release: str, what: str, fault: str, detail: str = "") -> None:
        """Count one thing that was played; ``fault`` is empty if it went as it has to."""
        played, faults, said = self._found.get((release, what), (0, [], ""))
        self._found[release, what] = played + 1, [*faults, fault] if fault else faults, detail or said

    def lacks(self, release: str, what: str, why: str) -> None:
        """Say that something could not be played at all, which is no success."""
        self._found.setdefault((release, what), (0, [], why))

    def rows(self) -> list[Row]:
        """Return all rows."""
        rows = []
        for release in self._releases:
            for what in PLAYS:
                if (release, what) in self._found:
                    played, faults, said = self._found[release, what]
                    shown = "; ".join(sorted(faults)[:SHOWN]) or said
                    rows.append(Row(release, what, played, len(faults), shown))
        return rows


def judge_back(outcome: str, confirmed: str, way_back: bool, old_counter: int, floor: int) -> str:
    """Return what is wrong with how going back ended; empty if it is as it has to be."""
    blocked = old_counter < floor
    if way_back:
        if outcome == confirmed:
            return ""
        why = f"the floor is {floor} now, and its security counter {old_counter}" if blocked else outcome
        return f"no way back: {why}" + (" (if that is meant: --no-way-back)" if blocked else "")
    if outcome == confirmed:
        return f"the way back is open, and --no-way-back says that it is not: security counter {old_counter}"
    return "" if blocked else f"no way back, and not for its security counter: {outcome}"


def predicate(
    *, made: dict[str, Any], inputs: dict[str, Any], setting: dict[str, Any], rows: list[Row]
) -> dict[str, Any]:
    """Return what an attestation says beside its subjects (SPEC 10): the same inputs give the same."""
    return {
        "rehearser": made,
        "inputs": inputs,
        "setting": setting,
        "result": "passed" if rows and all(row.good for row in rows) else "failed",
        "plays": [
            {"release": r.release, "play": r.what, "played": r.played, "failed": r.failed} for r in rows
        ],
    }
