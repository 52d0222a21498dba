"""The pure core of rollouts in waves: policies that are refused, and what holds for every fleet and order."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fota_server.allowance import DAY, MINUTE, Allowance, Gate, Spent
from fota_server.decide import CLOSED, TargetState
from fota_server.wave_policy import LATE_S, TERMS, WHOLE, Kind, Policy, Size, parse_policy, share_text
from fota_server.waves import (
    EVERYBODY,
    Counts,
    Move,
    Pause,
    Phase,
    Wave,
    bounds,
    held_back,
    next_step,
    rank,
    wave_devices,
    why_failed,
)
from fota_wire.errors import InputError

REST = {"waves": ["rest"]}
NIGHT = {"days": ["fri"], "from": "22:00", "to": "04:00", "zone": "Europe/Berlin"}

# -- policies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "policy"),
        ({}, "waves"),
        ({"waves": []}, "waves"),
        ({"waves": "rest"}, "waves"),
        ({"waves": ["1%"]}, "waves"),
        ({"waves": ["rest", "1%"]}, "waves"),
        ({"waves": ["rest", "rest"]}, "waves"),
        ({"waves": ["0", "rest"]}, "waves"),
        ({"waves": ["0%", "rest"]}, "waves"),
        ({"waves": ["0.00%", "rest"]}, "waves"),
        ({"waves": ["1.234%", "rest"]}, "waves"),
        ({"waves": ["-5", "rest"]}, "waves"),
        ({"waves": ["\uff110", "rest"]}, "waves"),
        ({"waves": [10, "rest"]}, "waves"),
        ({"waves": ["group:", "rest"]}, "waves"),
        ({"waves": ["60%", "40.01%", "rest"]}, "waves"),
        ({"waves": ["101%", "rest"]}, "waves"),
        ({"waves": ["10", "group:a", "rest"]}, "waves"),
        ({"waves": ["group:a", "group:a", "rest"]}, "waves"),
        ({"waves": ["1"] * 100 + ["rest"]}, "waves"),
        ({"waves": [{"size": "1%", "window": NIGHT}, "rest"]}, "waves"),
        ({"waves": [{"confirmed": "100%"}, "rest"]}, "waves"),
        ({"waves": [{"size": {"size": "1%"}}, "rest"]}, "waves"),
        ({"waves": [{"size": "1%", "soak_s": -1}, "rest"]}, "soak_s"),
        ({"waves": [{"size": "1%", "confirmed": "0%"}, "rest"]}, "waves"),
        ({"waves": [{"size": "1%", "confirmed": "100%"}, "rest"]}, "waves"),  # 5% may fail, it inherits
        ({**REST, "wave": 1}, "wave"),
        ({**REST, "confirmed": "0%"}, "confirmed"),
        ({**REST, "confirmed": 95}, "confirmed"),
        ({**REST, "confirmed": "95"}, "confirmed"),
        ({**REST, "errors": "101%"}, "errors"),
        ({**REST, "confirmed": "99%", "errors": "1.01%"}, "errors"),
        ({**REST, "silence_s": 59}, "silence_s"),
        ({**REST, "soak_s": -1}, "soak_s"),
        ({**REST, "soak_s": True}, "soak_s"),
        ({**REST, "soak_s": 1.5}, "soak_s"),
        ({**REST, "approval": "yes"}, "approval"),
        ({**REST, "on_failure": "explode"}, "on_failure"),
        ({**REST, "per_minute": 0}, "per_minute"),
        ({**REST, "bytes_per_day": 0}, "bytes_per_day"),
        ({**REST, "holdback": "100%"}, "holdback"),
        ({**REST, "at_least": ""}, "at_least"),
        ({**REST, "start_at": 1000, "expedite_until": 1000}, "expedite_until"),
        ({**REST, "window": "night"}, "window"),
        ({**REST, "window": NIGHT | {"days": []}}, "window.days"),
        ({**REST, "window": NIGHT | {"days": ["Fri"]}}, "window.days"),
        ({**REST, "window": NIGHT | {"to": "24:00"}}, "window.to"),
        ({**REST, "window": NIGHT | {"to": "22:00"}}, "window"),
        ({**REST, "window": NIGHT | {"zone": "../../etc/passwd"}}, "window.zone"),
        ({**REST, "window": NIGHT | {"zone": "Middle/Earth"}}, "window.zone"),
    ],
)
def test_policy_that_cannot_hold_is_refused_and_its_field_named(body: Any, field: str) -> None:
    with pytest.raises(InputError) as told:
        parse_policy(body)
    assert (told.value.code, told.value.message.partition(":")[0]) == ("policy", field)
    assert told.value.message.isprintable()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    ),
    st.sampled_from(
        ["waves", "confirmed", "window", "start_at", "silence_s", "at_least", "approval", "on_failure"]
    ),
)
def test_policy_of_any_json_is_taken_or_refused_in_one_line(value: Any, field: str) -> None:
    told = ""
    try:
        parse_policy({**REST, field: value})
    except InputError as exc:
        told = exc.message
    assert told.isprintable()


shares = st.integers(0, WHOLE)
groups = st.lists(st.sampled_from("abcd"), unique=True, max_size=3).map(
    lambda names: [Size(kind=Kind.GROUP, group=name) for name in names]
)
others = st.lists(
    st.one_of(
        st.integers(1, 40).map(lambda n: Size(kind=Kind.COUNT, amount=n)),
        st.integers(1, WHOLE // 4).map(lambda n: Size(kind=Kind.SHARE, amount=n)),
    ),
    max_size=4,
)
sizes = st.builds(lambda a, b: (*a, *b, Size(kind=Kind.REST)), groups, others)
terms = st.fixed_dictionaries(
    {},
    optional={
        "soak_s": st.sampled_from([0, 7, 7200]),
        "silence_s": st.sampled_from([60, 600]),
        "approval": st.booleans(),
    },
)


@st.composite
def own_terms(draw: st.DrawFn) -> tuple[tuple[str, Any], ...]:
    """What a wave has of its own: both shares, or none, so that they fit each other."""
    confirmed = draw(st.integers(1, WHOLE))
    both = {"confirmed": confirmed, "errors": draw(st.integers(0, WHOLE - confirmed))}
    found = (both if draw(st.booleans()) else {}) | draw(terms)
    return tuple((name, found[name]) for name in TERMS if name in found)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    confirmed = draw(st.integers(1, WHOLE))
    return Policy(
        waves=tuple(replace(size, own=draw(own_terms())) for size in draw(sizes)),
        confirmed=confirmed,
        errors=draw(st.integers(0, WHOLE - confirmed)),
        soak_s=draw(st.sampled_from([0, 1, 3600])),
        approval=draw(st.booleans()),
        silence_s=draw(st.sampled_from([None, 60, 86400])),
        per_minute=draw(st.none() | st.integers(1, 20)),
        bytes_per_day=draw(st.none() | st.integers(1, 1 << 30)),
        holdback=draw(st.integers(0, WHOLE - 1)),
    )


@given(policies())
def test_policy_survives_its_own_json(policy: Policy) -> None:
    assert parse_policy(json.loads(json.dumps(policy.to_json()))) == policy


def test_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    window = parse_policy({**REST, "window": NIGHT}).window
    assert window is not None
    friday = 1795734000  # 2026-11-27 00:00 in Berlin
    hours = [hour for hour in range(72) if window.is_open(friday + hour * 3600)]
    assert hours == [22, 23, 24, 25, 26, 27]
    assert [window.is_open(friday + 22 * 3600 - 1), window.is_open(friday + 28 * 3600 - 1)] == [False, True]
    there = friday + 28 * 3600, "America/New_York"  # 22:00 on Friday
    assert [one.is_open(*there) for one in (window, replace(window, own_zone=True))] == [False, True]
    assert parse_policy({"waves": ["rest"], "window": window.to_json()}).window == window


# -- who is in which wave ------------------------------------------------------------------------------------


def wave_of(place: int, found: list[int]) -> int:
    return next(number for number, bound in enumerate(found, 1) if place <= bound)


@given(sizes, st.integers(0, 120), st.text(max_size=8), st.data())
def test_waves_are_a_partition_of_who_is_eligible(
    chosen: tuple[Size, ...], fleet: int, seed: str, data: st.DataObject
) -> None:
    named = {size.group: index for index, size in enumerate(chosen) if size.kind is Kind.GROUP}
    ids = [f"0123{number:014x}" for number in range(fleet)]
    member = {one: data.draw(st.none() | st.sampled_from(sorted(named))) if named else None for one in ids}
    ranks = {one: rank(seed, one, named[group] if (group := member[one]) else None) for one in ids}
    in_groups = [sum(group == name for group in member.values()) for name in named]
    devices = wave_devices(chosen, in_groups, fleet)
    found = bounds(devices, random.Random(1).sample(list(ranks.values()), fleet))
    assert found == sorted(found)
    assert found[-1] == EVERYBODY
    waves = {one: wave_of(place, found) for one, place in ranks.items()}
    left = [one for one in ids if member[one] is None]
    for number, size in enumerate(chosen, 1):
        inside = [one for one in ids if waves[one] == number]
        assert len(inside) == devices[number - 1]
        if size.kind is Kind.GROUP:
            assert inside == [one for one in ids if member[one] == size.group]
            continue
        wanted = {Kind.COUNT: size.amount, Kind.SHARE: -(-size.amount * fleet // WHOLE)}.get(size.kind, fleet)
        assert len(inside) == min(wanted, len(left))
        left = [one for one in left if one not in inside]
    assert not left


def test_first_devices_of_two_rollouts_are_not_the_same() -> None:
    ids = [f"0123{number:014x}" for number in range(10_000)]
    first = [set(sorted(ids, key=lambda one: rank(seed, one))[:100]) for seed in ("rollout 1", "rollout 2")]
    assert rank("rollout 1", ids[0]) == rank("rollout 1", ids[0])
    assert len(first[0] & first[1]) < 10


def test_holdback_is_about_the_share_that_was_asked_for() -> None:
    ids = [f"0123{number:014x}" for number in range(20_000)]
    assert abs(sum(held_back("seed", one, 500) for one in ids) - 1000) < 150
    assert not any(held_back("seed", one, 0) for one in ids)


# -- the state machine ---------------------------------------------------------------------------------------

VERDICTS = (
    TargetState.CONFIRMED,
    TargetState.REVERTED,
    TargetState.FAILED,
    TargetState.GONE,
    TargetState.SUPERSEDED,
)


class Run:
    """A rollout of ``fleet`` devices under a policy, in virtual time: what is stored, who was handed it."""

    def __init__(self, policy: Policy, fleet: int, budget: int | None) -> None:
        ids = [f"0123{number:014x}" for number in range(fleet)]
        self.policy, self.now, self.budget = policy, 10_000, budget
        self.rank = {one: rank("s", one) for one in ids}
        self.state = dict.fromkeys(ids, TargetState.PENDING)
        in_groups = [0] * sum(size.kind is Kind.GROUP for size in policy.waves)
        self.bounds = bounds(wave_devices(policy.waves, in_groups, fleet), self.rank.values())
        self.wave = {one: wave_of(place, self.bounds) for one, place in self.rank.items()}
        self.phases = [(Phase.WAITING, 0)] * len(policy.waves)
        self.forgiven = [0] * len(policy.waves)
        self.spent = Spent()
        self.paused: Pause | None = None
        self.given: list[tuple[str, int]] = []
        self.most_on_trial = 0

    def waves(self) -> list[Wave]:
        return [
            Wave(number=n, phase=phase, since=since, counts=self.counts(n), forgiven=self.forgiven[n - 1])
            for n, (phase, since) in enumerate(self.phases, 1)
        ]

    def counts(self, number: int) -> Counts:
        states = [self.state[one] for one, wave in self.wave.items() if wave == number]
        return Counts.of({state: states.count(state) for state in set(states)}, 0)

    def work(self) -> None:
        while self.paused is None and (step := next_step(self.policy, self.waves(), self.now)):
            if isinstance(step, Pause):
                self.paused = step
                return
            self.enter(step)

    def enter(self, step: Move) -> None:
        before = self.phases[step.number - 1][0]
        order = list(Phase)
        assert order.index(step.phase) > order.index(before), "a phase never goes back"
        self.phases[step.number - 1] = (step.phase, self.now)
        if step.phase is Phase.PASSED and step.number < len(self.phases):
            self.phases[step.number] = (Phase.OPEN, self.now)

    def on_trial(self) -> int:
        return sum(state in (TargetState.OFFERED, TargetState.TRIAL) for state in self.state.values())

    def check_in(self, one: str) -> None:
        opened = [n for n, (phase, _) in enumerate(self.phases) if phase is not Phase.WAITING]
        gate = Gate(policy=self.policy, open_rank=self.bounds[opened[-1]] if opened else -1, spent=self.spent)
        left = None if self.budget is None else self.budget - self.on_trial()
        allowance = Allowance(now=self.now, halted=False, trials_left=left, gates={1: gate})
        if self.paused or self.state[one] is not TargetState.PENDING:
            return
        if allowance.why_not((one, 1), 1, self.rank[one], 10) is None:
            allowance.take(1, 10)
            self.state[one], self.spent = TargetState.OFFERED, allowance.gates[1].spent
            self.given.append((one, self.now))
            self.most_on_trial = max(self.most_on_trial, self.on_trial())

    def report(self, one: str, state: TargetState) -> None:
        if self.state[one] is TargetState.OFFERED or state in CLOSED:
            self.state[one] = state


@settings(max_examples=120)
@given(policies(), st.integers(1, 30), st.none() | st.integers(1, 5), st.integers(0, 1 << 32))
def test_rollout_hands_out_once_in_order_within_budget_and_rate(
    policy: Policy, fleet: int, budget: int | None, seed: int
) -> None:
    chance, run = random.Random(seed), Run(policy, fleet, budget)
    good = chance.random()
    for _ in range(150):
        run.work()
        opened = sum(phase is not Phase.WAITING for phase, _ in run.phases)
        one = chance.choice(list(run.state))
        run.check_in(one)
        given = [device for device, _ in run.given]
        assert len(set(given)) == len(given), "no device twice"
        assert all(run.wave[device] <= opened for device in given), "only within open waves"
        if chance.random() < 0.7:
            run.report(one, TargetState.CONFIRMED if chance.random() < good else chance.choice(VERDICTS))
        if chance.random() < 0.1 and (
            waiting := [w.number for w in run.waves() if w.phase is Phase.APPROVAL]
        ):
            run.enter(Move(number=waiting[0], phase=Phase.PASSED))
        run.now += chance.choice([1, 5, 600])
    assert budget is None or run.most_on_trial <= budget
    minutes = [at // MINUTE for _, at in run.given]
    most = policy.per_minute
    assert most is None or all(minutes.count(minute) <= most for minute in minutes)
    days = [at // DAY for _, at in run.given]
    assert policy.bytes_per_day is None or all(days.count(day) * 10 <= policy.bytes_per_day for day in days)
    for number, (phase, _) in enumerate(run.phases, 1):
        if phase is not Phase.WAITING and number > 1:
            assert run.phases[number - 2][0] is Phase.PASSED, "a wave opens behind one that has passed"


counts = st.builds(
    lambda pending, on_trial, silent, confirmed, failed, closed: Counts(
        pending=pending,
        on_trial=on_trial + silent,
        silent=silent,
        confirmed=confirmed,
        failed=failed,
        closed=closed,
    ),
    *(st.integers(0, 12) for _ in range(6)),
)


@given(policies(), counts)
def test_wave_that_has_not_failed_can_still_reach_its_share(policy: Policy, found: Counts) -> None:
    wave = Wave(number=1, phase=Phase.OPEN, since=0, counts=found)
    if why_failed(policy, wave) is None:
        rest = found.pending + found.on_trial
        best = replace(found, pending=0, on_trial=0, silent=0, confirmed=found.confirmed + rest)
        after = next_step(policy, [replace(wave, counts=best)], 1)
        assert after == Move(number=1, phase=Phase.SOAKING)


@given(policies(), st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=20), st.randoms())
def test_order_of_reports_does_not_matter(
    policy: Policy, verdicts: list[TargetState], chance: random.Random
) -> None:
    ends = []
    for _ in range(2):
        run = Run(
            replace(policy, waves=policy.waves[-1:], per_minute=None, bytes_per_day=None),
            len(verdicts),
            None,
        )
        run.work()
        reports = list(zip(run.state, verdicts, strict=True))
        chance.shuffle(reports)
        for one, state in reports:
            run.check_in(one)
            run.report(one, state)
        run.now += policy.terms(len(policy.waves)).soak_s
        run.work()
        run.now += policy.terms(len(policy.waves)).soak_s
        run.work()
        ends.append((run.phases[0][0], run.paused))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("found", "policy", "reason"),
    [
        (Counts(confirmed=94, failed=5, pending=1), {}, None),
        (
            Counts(confirmed=94, failed=6),
            {},
            "wave 2: 6 of 100 device(s) in error (6 failed); at most 5% may",
        ),
        (
            Counts(confirmed=90, failed=4, on_trial=6, silent=2),
            {},
            "wave 2: 6 of 100 device(s) in error (4 failed, 2 silent); at most 5% may",
        ),
        (
            Counts(confirmed=9, failed=1),
            {"errors": 0},
            "wave 2: 1 of 10 device(s) in error (1 failed); at most 0% may",
        ),
        (
            Counts(closed=3),
            {},
            "wave 2: no device is left that could prove the release (3 closed, 0 forgiven)",
        ),
    ],
)
def test_wave_fails_by_words_and_numbers(found: Counts, policy: dict[str, Any], reason: str | None) -> None:
    laid_down = Policy(waves=(Size(kind=Kind.COUNT, amount=1), Size(kind=Kind.REST)), **policy)
    assert why_failed(laid_down, Wave(number=2, phase=Phase.OPEN, since=0, counts=found)) == reason


def test_wave_that_passed_and_fails_later_pauses_and_forgiveness_lets_it_go_on() -> None:
    policy = parse_policy({"waves": ["10", "rest"], "confirmed": "90%"})
    first = Wave(number=1, phase=Phase.PASSED, since=0, counts=Counts(confirmed=8, failed=2))
    second = Wave(number=2, phase=Phase.OPEN, since=0, counts=Counts(pending=90))
    step = next_step(policy, [first, second], 5)
    assert isinstance(step, Pause)
    assert (step.number, step.errors) == (1, 2)
    assert step.reason == "wave 1: 2 of 10 device(s) in error (2 failed); at most 5% may"
    assert next_step(policy, [replace(first, forgiven=2), second], 5) is None
    third = replace(first, forgiven=2, counts=Counts(confirmed=7, failed=3))
    assert isinstance(next_step(policy, [third, second], 5), Pause)


def test_soak_counts_from_the_share_and_wants_it_still_at_its_end() -> None:
    policy = parse_policy(
        {"waves": ["10", "rest"], "soak_s": 100, "confirmed": "90%", "errors": "10%", "approval": True}
    )
    waves = [
        Wave(number=1, phase=Phase.SOAKING, since=1000, counts=Counts(confirmed=9, pending=1)),
        Wave(number=2, phase=Phase.WAITING, since=0, counts=Counts(pending=5)),
    ]
    assert next_step(policy, waves, 1099) is None
    assert next_step(policy, waves, 1100) == Move(number=1, phase=Phase.APPROVAL)
    fewer = [replace(waves[0], counts=Counts(confirmed=8, pending=1, failed=1)), waves[1]]
    assert next_step(policy, fewer, 1100) is None
    last = [replace(waves[0], phase=Phase.PASSED), replace(waves[0], number=2)]
    assert next_step(policy, last, 1100) == Move(number=2, phase=Phase.PASSED), "nobody approves an end"


def test_each_wave_is_judged_by_its_own_terms() -> None:
    first = {"size": "2", "confirmed": "100%", "errors": "0%", "soak_s": 1000, "approval": True}
    policy = parse_policy(
        {"waves": [first, "50%", "rest"], "confirmed": "50%", "errors": "40%", "soak_s": 10}
    )

    def stands(phase: Phase, number: int, **found: int) -> Wave:
        return Wave(number=number, phase=phase, since=0, counts=Counts(**found))

    later = [stands(Phase.WAITING, number, pending=10) for number in (2, 3)]
    opened = stands(Phase.OPEN, 1, confirmed=1, pending=1)
    assert next_step(policy, [opened, *later], 5) is None, "half would do for the others, not for this one"
    stopped = next_step(policy, [stands(Phase.OPEN, 1, confirmed=1, failed=1), *later], 5)
    assert isinstance(stopped, Pause)
    assert stopped.reason == "wave 1: 1 of 2 device(s) in error (1 failed); at most 0% may"
    soaking = [stands(Phase.SOAKING, 1, confirmed=2), *later]
    assert next_step(policy, soaking, 999) is None
    assert next_step(policy, soaking, 1000) == Move(number=1, phase=Phase.APPROVAL)
    passed, last = stands(Phase.PASSED, 1, confirmed=2), later[1]
    loose = [passed, stands(Phase.SOAKING, 2, confirmed=6, failed=4), last]
    assert next_step(policy, loose, 10) == Move(number=2, phase=Phase.PASSED), "its soak, and nobody is asked"


@pytest.mark.parametrize(
    ("name", "moment", "refused"),
    [
        ("expedite_until", 2_000_000, True),
        ("expedite_until", 2_000_001, False),
        ("start_at", 2_000_000 - LATE_S, True),
        ("start_at", 2_000_000 - LATE_S + 1, False),  # a plan of yesterday evening
    ],
)
def test_date_that_is_over_when_it_is_ordered_is_refused_and_named(
    name: str, moment: int, refused: bool
) -> None:
    policy = parse_policy({**REST, name: moment})
    if not refused:
        return policy.require_ahead(2_000_000)
    with pytest.raises(InputError, match=f"{name}: 1970-01-2[34] .* is over") as caught:
        policy.require_ahead(2_000_000)
    assert caught.value.code == "policy"
    return None


def test_start_is_not_before_its_time() -> None:
    policy = parse_policy({**REST, "start_at": 1000})
    waiting = [Wave(number=1, phase=Phase.WAITING, since=0, counts=Counts(pending=1))]
    assert next_step(policy, waiting, 999) is None
    assert next_step(policy, waiting, 1000) == Move(number=1, phase=Phase.OPEN)


# -- what is handed out --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "change", "word"),
    [
        ({}, {}, None),
        ({}, {"halted": True}, "halted"),
        ({}, {"trials_left": 0}, "budget"),
        ({}, {"open_rank": 4}, "wave"),
        ({"window": NIGHT}, {}, "window"),
        ({"per_minute": 2}, {}, "minute"),
        ({"per_minute": 2}, {"now": 1_000_020 + 60}, None),
        ({"bytes_per_day": 109}, {}, "bytes"),
        ({"bytes_per_day": 110}, {}, None),
        ({"bytes_per_day": 109}, {"now": 1_000_020 + DAY}, None),
        ({"window": NIGHT, "per_minute": 2, "bytes_per_day": 1, "expedite_until": 2_000_000}, {}, None),
        ({"window": NIGHT, "expedite_until": 1_000_020}, {}, "window"),
        ({"expedite_until": 2_000_000}, {"trials_left": 0}, "budget"),
        ({}, {"lab": {}}, "not asked"),
        ({}, {"lab": {("0123", 7): None}}, None),
        ({"expedite_until": 2_000_000}, {"lab": {("0123", 7): "waits for lab x"}}, "lab x"),
    ],
)
def test_device_is_given_it_only_if_everything_allows(
    body: Any, change: dict[str, Any], word: str | None
) -> None:
    spent = Spent(minute=1_000_020 // MINUTE, devices=2, day=1_000_020 // DAY, size=100)
    gate = Gate(policy=parse_policy(REST | body), open_rank=change.pop("open_rank", 5), spent=spent)
    given: dict[str, Any] = {"now": 1_000_020, "halted": False, "trials_left": None, "gates": {1: gate}}
    reason = Allowance(**(given | change)).why_not(("0123", 7), 1, 5, 10)
    assert (reason is None) if word is None else (reason is not None and word in reason)


@given(shares)
def test_share_says_itself(share: int) -> None:
    text = share_text(share)
    assert parse_policy({**REST, "confirmed": "1%", "errors": text if share <= 9900 else "0%"}).errors == (
        share if share <= 9900 else 0
    )
