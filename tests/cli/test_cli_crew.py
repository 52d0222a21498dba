"""Copies of a process, and the pure part of a rehearsal: where it cuts, and what it counts."""

import os
import signal
from typing import Any

import pytest

from fota_cli import rehearse_plan as plan
from fota_cli.crew import Crew, Lost
from fota_cli.rehearse_plan import Row, Tally, cuts_of


def heard_of(jobs: int, works: list[Any]) -> dict[Any, Any]:
    """What copies answered, which called their work."""
    heard: dict[Any, Any] = {}
    with Crew(jobs, lambda tag, answer: heard.update({tag: answer})) as crew:
        for tag, work in enumerate(works):
            if crew.split(tag):
                crew.answer(work())
        crew.finish()
    return heard


@pytest.mark.parametrize("jobs", [1, 3])
def test_each_copy_answers_once_and_knows_what_was_before_it(jobs: int) -> None:
    heard = heard_of(jobs, [lambda n=n: {"n": n, "long": "x" * 200_000} for n in range(7)])
    assert {tag: answer["n"] for tag, answer in heard.items()} == {n: n for n in range(7)}


def test_copy_that_is_killed_or_breaks_off_is_told_as_lost() -> None:
    def broken() -> None:
        raise ValueError("nobody sees this")

    heard = heard_of(2, [lambda: os.kill(os.getpid(), signal.SIGKILL), broken, lambda: 1])
    assert (str(heard[0]), str(heard[1]), heard[2]) == (
        "its process was ended by signal 9",
        "its process broke off",
        1,
    )
    assert isinstance(heard[0], Lost)


def test_block_that_is_left_by_an_error_leaves_no_copy() -> None:
    pids: list[int] = []

    def stopped() -> None:
        with Crew(2, lambda tag, answer: None) as crew:
            if crew.split("sleeper"):
                signal.pause()
            pids.extend(key.data[0] for key in crew._selector.get_map().values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


MARKS = "c" * 5 + "e" * 3 + "p" * 4000 + "jajcj"


def test_cuts_are_drawn_by_the_seed_and_half_of_them_where_it_matters() -> None:
    cuts = cuts_of(MARKS, 200, 7)
    assert cuts == cuts_of(MARKS, 200, 7) != cuts_of(MARKS, 200, 8)
    assert len(cuts) == len(set(cuts)) == 200
    assert [cut.at for cut in cuts] == sorted(cut.at for cut in cuts)
    assert sum(MARKS[cut.at] != "p" for cut in cuts) >= 90
    assert 60 < sum(cut.again > 0 for cut in cuts) < 140


def test_short_way_gives_as_many_cuts_as_it_has_room_for() -> None:
    assert cuts_of("", 5, 1) == []
    assert 1 <= len(cuts_of("j", 1000, 1)) <= 5


def test_all_cuts_are_before_and_in_the_middle_of_everything() -> None:
    cuts = cuts_of(MARKS, None, 1)
    assert {(cut.at, cut.torn) for cut in cuts} == {(at, t) for at in range(len(MARKS)) for t in (None, 0, 1)}


def test_row_is_good_only_if_it_was_played_and_nothing_failed() -> None:
    tally = Tally(["1.0.0"])
    tally.note("1.0.0", plan.CUTS, "")
    tally.note("1.0.0", plan.CUTS, "cut 3: bricked")
    tally.lacks("1.0.0", plan.BACK, "not played")
    tally.note("1.0.0", plan.UPDATE, "", "confirmed")
    assert tally.rows() == [
        Row("1.0.0", "update", 1, 0, "confirmed"),
        Row("1.0.0", "back", 0, 0, "not played"),
        Row("1.0.0", "power cuts", 2, 1, "cut 3: bricked"),
    ]
    assert [row.good for row in tally.rows()] == [True, False, False]


@pytest.mark.parametrize(
    ("outcome", "way_back", "counter", "floor", "good"),
    [
        ("confirmed", True, 1, 1, True),
        ("rejected: PO1", True, 1, 2, False),
        ("reverted: AP1", True, 1, 1, False),
        ("rejected: PO1", False, 1, 2, True),
        ("confirmed", False, 1, 1, False),
        ("reverted: AP1", False, 1, 1, False),
    ],
)
def test_way_back_is_judged_by_what_was_meant(
    outcome: str, way_back: bool, counter: int, floor: int, good: bool
) -> None:
    assert (plan.judge_back(outcome, "confirmed", way_back, counter, floor) == "") is good
