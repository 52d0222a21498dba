"""What a fleet in virtual time is: its devices, a scenario that follows from a seed, and the witness.

The witness knows the plan and what devices were told, and nothing of the server's tables but when a wave
opened. Of a device whose answer was lost it knows that the server may know more than the device.
"""

import random
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fota_server.wave_policy import WHOLE, parse_policy

OLD, NEW = "1.1.0", "1.2.0"
STEP_S, DAY_S = 900, 86400


@dataclass
class SimDevice:
    """What a device is, and what will become of it if it is given the new release."""

    id: str
    fate: str
    nonce: bytes | None = None
    runs: str = OLD
    state: str = "confirmed"
    installed: bytes | None = None
    events: list[tuple[str, str]] = field(default_factory=list)
    given_at: int | None = None
    verdict: str | None = None  # as the server took it
    silent: bool = False
    rests: bool = False  # its last answer came, and left nothing to do
    reported: tuple[object, ...] = ()  # what the server took last
    reported_at: int = 0

    def says(self) -> tuple[object, ...]:
        """What a report says of now."""
        return self.runs, self.state, self.installed, tuple(self.events)

    def has_news(self, now: int) -> bool:
        """It has something to report, or something to do, or has reported nothing for a day (SPEC 5.5)."""
        return not self.rests or self.says() != self.reported or now - self.reported_at >= DAY_S

    def verdict_told(self) -> str | None:
        """What a report of now says of the new release: how it ended, or None."""
        if self.given_at is None:
            return None
        if self.runs == NEW and self.state == "confirmed":
            return "confirmed"
        return "reverted" if self.events else None


@dataclass(frozen=True)
class Scenario:
    """One run: its policy, and what goes wrong. Shares in per cent."""

    policy: dict[str, Any]
    devices: int
    days: int
    bad: int = 2
    silent: int = 1
    budget: int | None = None
    halts: bool = False
    before: int = 20  # share of agents of before: no shared signatures, a report each time
    lab: int = 0  # so many devices of the lab confirm the release first; 0: none

    @classmethod
    def of(cls, seed: int, devices: int, days: int) -> "Scenario":
        """A scenario that follows from the seed alone."""
        chance = random.Random(seed)
        policy: dict[str, Any] = {
            "waves": chance.choice(
                [["5", "rest"], ["2%", "10%", "rest"], ["group:lab", "20%", "rest"], ["rest"]]
            ),
            "confirmed": chance.choice(["90%", "80%"]),
            "errors": "10%",
            "soak_s": chance.choice([0, 3600, 20_000]),
            "silence_s": DAY_S,
            "holdback": chance.choice(["0%", "5%"]),
            "approval": chance.random() < 0.2,
        }
        if chance.random() < 0.5:
            own = {"confirmed": "100%", "errors": "0%", "soak_s": 40_000, "approval": chance.random() < 0.5}
            policy["waves"][0] = {"size": policy["waves"][0], **own}
        if chance.random() < 0.3:
            policy["per_minute"] = chance.choice([1, 20])
        if chance.random() < 0.3:
            policy["bytes_per_day"] = 1000 * max(devices // 3, 6)
        if chance.random() < 0.3:
            week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
            policy["window"] = {"days": week, "from": "20:00", "to": "10:00", "zone": "Europe/Berlin"}
        in_lab = any(
            word in str(policy["waves"][0]) for word in ("group:lab", "rest")
        )  # else it may wait long
        return cls(
            lab=3 if in_lab and chance.random() < 0.7 else 0,
            policy=policy,
            devices=devices,
            days=days,
            bad=chance.choice([0, 2, 2, 40]),
            silent=chance.choice([0, 1]),
            budget=chance.choice([None, None, max(devices // 20, 3)]),
            halts=chance.random() < 0.3,
        )


class Witness:
    """Knows the plan; is told what happens; keeps a list of what was not as promised."""

    def __init__(
        self, plan: dict[str, Any], ranks: dict[str, int], scenario: Scenario, members: list[str]
    ) -> None:
        self.policy = parse_policy(scenario.policy)
        self.budget = scenario.budget
        last = [wave["last_rank"] for wave in plan["waves"]]
        self.plan = plan
        self.wave = {one: bisect_left(last, place) + 1 for one, place in ranks.items()}
        self.size = Counter(self.wave.values())
        self.opened: dict[int, int] = {}
        self.reached: dict[int, int] = {}
        self.on_trial: set[str] = set()
        self.minute: Counter[int] = Counter()
        self.day: Counter[int] = Counter()
        self.stopped = False
        self.forgiven = False
        self.lab, self.members = scenario.lab, members
        self.proved: set[str] = set()
        self.verdicts: dict[int, Counter[str]] = {wave: Counter() for wave in self.size}
        self.delayed = bool(scenario.halts or scenario.lab) or scenario.budget is not None
        self.found: list[str] = []
        self.given: dict[str, int] = {}
        # Whose last answer was lost: the server may know their verdict, or think that they were given it.
        self.unsure: dict[str, str | None] = {}
        self.late: set[str] = set()  # may have been given it with an answer that was lost, so before now

    def says(self, now: int, what: str) -> None:
        self.found.append(f"at {now}: {what}")

    def gives(self, device: SimDevice, now: int) -> None:
        """A device was told to take the new release for the first time."""
        wave = self.wave.get(device.id)
        if wave is None:
            return self.says(now, f"{device.id} was given it, and no wave of the plan has it")
        if wave not in self.opened:
            self.says(now, f"{device.id} of wave {wave} was given it before that opened")
        if self.stopped:
            self.says(now, f"{device.id} was given it while the rollout was held")
        if self.lab and device.id not in self.members:
            perhaps = {one for one in self.members if self.unsure.get(one) == "confirmed"}
            proved = len(self.proved | perhaps)
            if proved < self.lab:
                self.says(now, f"{device.id} was given it, and {proved} of {self.lab} of the lab confirmed")
        self.on_trial.add(device.id)
        if self.budget is not None:
            on_trial = sum(self.unsure.get(one) is None for one in self.on_trial)
            if on_trial > self.budget:
                self.says(now, f"{on_trial} devices on trial, {self.budget} may be")
        self.given[device.id] = now
        if device.id not in self.late:
            self.in_time(device, wave, now)
        return None

    def in_time(self, device: SimDevice, wave: int, now: int) -> None:
        """See that a device was given it when, and as fast as, the policy and the plan have it."""
        if self.policy.window and not self.policy.window.is_open(now):
            self.says(now, f"{device.id} was given it outside the window")
        self.minute[now // 60] += 1
        self.day[now // DAY_S] += 1000
        if self.policy.per_minute is not None:
            if self.minute[now // 60] > self.policy.per_minute:
                self.says(now, "more than per_minute")
            # Who finds the minute full asks again an interval later; here, all calls of a step share one.
            self.delayed |= self.minute[now // 60] == self.policy.per_minute
        if self.policy.bytes_per_day is not None and self.day[now // DAY_S] > self.policy.bytes_per_day:
            self.says(now, "more than bytes_per_day")
        promised = self.plan["waves"][wave - 1]["longest_s"] + STEP_S
        if (
            not self.delayed
            and not self.forgiven
            and wave in self.opened
            and now - self.opened[wave] > promised
        ):
            self.says(now, f"{device.id} was given it later than promised")

    def heard(self, device: SimDevice, verdict: str) -> None:
        """The server took a verdict: it says so in an answer that has arrived."""
        wave = self.wave.get(device.id)
        if wave is not None:
            self.verdicts[wave][device.verdict or ""] -= 1
            self.verdicts[wave][verdict] += 1
        device.verdict = verdict
        self.on_trial.discard(device.id)
        if device.verdict == "reverted":
            self.failed(device)
        elif device.id in self.members:
            self.proved.add(device.id)

    def failed(self, device: SimDevice) -> None:
        """The server took it that a device went back: if these are too many, nobody is given more."""
        wave = self.wave[device.id]
        _, failed = self.shares(wave)
        if failed * WHOLE > self.policy.terms(wave).errors * self.size[wave] and not self.forgiven:
            self.stopped = True

    def shares(self, wave: int) -> tuple[int, int]:
        """Devices of a wave that confirmed, and that failed, as the server was told."""
        words = self.verdicts[wave]
        return words["confirmed"], words["reverted"]

    def looks(self, waves: list[Any], held: bool, now: int) -> None:
        """See how the server's waves stand after its planner has had its turn."""
        for row in waves:
            confirmed, failed = self.shares(row.number)
            if confirmed * WHOLE >= self.policy.terms(row.number).confirmed * self.size[row.number]:
                self.reached.setdefault(row.number, now)
            if row.phase == "waiting" or row.number in self.opened:
                too_many = failed * WHOLE > self.policy.terms(row.number).errors * self.size[row.number]
                if row.phase != "waiting" and too_many and not held and not self.forgiven:
                    self.says(now, f"wave {row.number} has {failed} failures and goes on")
                continue
            self.opened[row.number] = now
            before = row.number - 1
            if before and not self.forgiven:
                if before not in self.reached:
                    self.says(now, f"wave {row.number} opened before wave {before} had confirmed")
                elif now - self.reached[before] < self.policy.terms(before).soak_s:
                    self.says(now, f"wave {row.number} opened before wave {before} had soaked")
