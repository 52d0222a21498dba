"""A fleet in virtual time before the very code that serves it: is the rollout that was planned what happens?

Devices call when the server told them to, sign reports, take what an ASSIGNMENT names, and confirm it, go
back, or fall silent by a seeded chance. Beside them stands a witness that knows the plan and what devices
were told, and nothing of the server's tables but when a wave opened; what it finds is a deviation.
"""

import asyncio
import heapq
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fleet_world import GROUP, Fleet, device_id, hash_of, release
from server_world import Keys, new_key
from sqlalchemy import select

from fota_server import hand_out, lab, orders, rollouts, schema, wave_work
from fota_server.catalog import Catalog
from fota_server.checkins import CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_server.identity import Identity
from fota_server.orders import InWaves
from fota_server.wave_policy import WHOLE, parse_policy
from fota_wire import assignment, checkin, cose, host_crypto, report

OLD, NEW = "1.1.0", "1.2.0"
STEP_S, DAY_S = 900, 86400
INTERVAL_S = 4 * 3600


@dataclass
class SimDevice:
    """What a device is, and what will become of it if it is given the new release."""

    id: str
    fate: str
    nonce: bytes | None = None
    runs: str = OLD
    state: str = "confirmed"
    installed: str | None = None
    events: list[tuple[str, str]] = field(default_factory=list)
    given_at: int | None = None
    verdict: str | None = None  # as the server took it
    silent: bool = False

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
        in_lab = "group:lab" in str(policy["waves"][0])
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

    def __init__(self, plan: dict[str, Any], ranks: dict[str, int], scenario: Scenario) -> None:
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
        self.lab, self.proved = scenario.lab, 0
        self.delayed = bool(scenario.halts or scenario.lab) or scenario.budget is not None
        self.found: list[str] = []
        self.given: dict[str, int] = {}

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
        if self.proved < self.lab and wave != 1:
            self.says(now, f"{device.id} was given it, and {self.proved} of {self.lab} of the lab confirmed")
        if self.policy.window and not self.policy.window.is_open(now):
            self.says(now, f"{device.id} was given it outside the window")
        self.on_trial.add(device.id)
        if self.budget is not None and len(self.on_trial) > self.budget:
            self.says(now, f"{len(self.on_trial)} devices on trial, {self.budget} may be")
        self.minute[now // 60] += 1
        self.day[now // DAY_S] += 1000
        if self.policy.per_minute is not None and self.minute[now // 60] > self.policy.per_minute:
            self.says(now, "more than per_minute")
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
        self.given[device.id] = now
        return None

    def failed(self, devices: dict[str, SimDevice], device: SimDevice) -> None:
        """The server took it that a device went back: if these are too many, nobody is given more."""
        wave = self.wave[device.id]
        _, failed = self.shares(devices, wave)
        if failed * WHOLE > self.policy.terms(wave).errors * self.size[wave] and not self.forgiven:
            self.stopped = True

    def shares(self, devices: dict[str, SimDevice], wave: int) -> tuple[int, int]:
        """Devices of a wave that confirmed, and that failed, as the server was told."""
        words = Counter(devices[one].verdict for one, number in self.wave.items() if number == wave)
        return words["confirmed"], words["reverted"]

    def looks(self, devices: dict[str, SimDevice], waves: list[Any], held: bool, now: int) -> None:
        """See how the server's waves stand after its planner has had its turn."""
        for row in waves:
            confirmed, failed = self.shares(devices, row.number)
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


class Simulation:
    """A run of one scenario; `run` returns the deviations."""

    def __init__(self, path: Path, keys: Keys, scenario: Scenario, seed: int) -> None:
        self.fleet, self.keys, self.scenario = Fleet(path, keys), keys, scenario
        self.chance = random.Random(seed)
        self.now = 1_795_000_000
        self.key = new_key()
        self.kid = cose.kid_of(host_crypto.public_xy(self.key))
        self.sign = host_crypto.signer(self.key)
        self.devices: dict[str, SimDevice] = {}
        self.queue: list[tuple[int, str]] = []
        self.calls = 0
        self.manifest = {v: release(v, n)["manifest_digest"] for v, n in ((OLD, 2), (NEW, 3))}

    async def run(self) -> Witness:
        """Plan, start, and let the days go by."""
        scenario, fleet = self.scenario, self.fleet
        fleet.fill(scenario.devices)
        members = [device_id(number) for number in range(0, scenario.devices, max(scenario.devices // 4, 1))]
        fleet.database.transact(_lab, members)
        for number in range(scenario.devices):
            one = device_id(number)
            percent = self.chance.randrange(100)
            fate = (
                "bad" if percent < scenario.bad else "silent" if percent >= 100 - scenario.silent else "good"
            )
            self.devices[one] = SimDevice(one, fate)
            heapq.heappush(self.queue, (self.now + self.chance.randrange(INTERVAL_S), one))
        if scenario.lab:
            fleet.database.transact(lab.set_lab, "lab", scenario.lab, "sim")
        if scenario.budget is not None:
            fleet.database.transact(hand_out.set_trials, scenario.budget, "sim")
        with self.clocks():
            await self.live(await self.order())
        fleet.database.close()
        return self.witness

    @contextmanager
    def clocks(self) -> Iterator[None]:
        """Have the server's own clock be the simulation's."""
        places = ((orders, "now"), (rollouts, "now"), (wave_work, "clock"))
        kept = [getattr(module, name) for module, name in places]
        for module, name in places:
            setattr(module, name, lambda: self.now)
        try:
            yield
        finally:
            for (module, name), was in zip(places, kept, strict=True):
                setattr(module, name, was)

    async def order(self) -> int:
        """Make the plan, keep who is in which wave, and start the rollout that promises it."""
        database, root = self.fleet.database, self.fleet.trust.current
        waves = InWaves(policy=parse_policy(self.scenario.policy), seed=f"{self.chance.random()}"[2:])
        order = await database.read(orders.order_for, "update", NEW, GROUP, waves)
        plan = await database.read(orders.preview_waves, order, root, INTERVAL_S + INTERVAL_S // 5)
        ranks: dict[str, int] = {}
        after = ""
        while rows := await database.read(orders.preview_devices, order, root, after, 1000):
            ranks |= {row["device_id"]: row["rank"] for row in rows if row["reason"] is None}
            after = rows[-1]["device_id"]
        self.witness = Witness(plan, ranks, self.scenario)
        promised = replace(order, digest=plan["digest"])
        placed = await orders.place(database, promised, NEW, root, "sim")
        return int(placed["id"])

    async def live(self, number: int) -> None:
        checkins = self.new_life()
        halted, stop_at = False, self.now + self.scenario.days * DAY_S
        while self.now < stop_at:
            self.now += STEP_S
            await self.go_on()
            row, waves = await self.fleet.database.read(_standing, number)
            self.witness.stopped = halted or row.paused
            self.witness.looks(self.devices, waves, row.held is not None, self.now)
            due = []
            while self.queue and self.queue[0][0] <= self.now:
                due.append(heapq.heappop(self.queue)[1])
            await asyncio.gather(*(self.call(checkins, self.devices[one]) for one in due))
            if self.chance.random() < 0.002:
                await checkins.stop()
                checkins = self.new_life()
            if self.scenario.halts and self.chance.random() < 0.01:
                change = hand_out.unhalt if halted else hand_out.halt
                await self.fleet.database.write(change, *(("sim",) if halted else ("drill", "sim")))
                halted = not halted
            if row.held is not None and row.state == "running" and self.chance.random() < 0.02:
                self.witness.forgiven = True
                await self.fleet.database.write(rollouts.set_paused, number, False, "sim")
            if (
                any(wave.phase == "approval" for wave in waves)
                and not row.paused
                and self.chance.random() < 0.1
            ):
                await self.fleet.database.write(rollouts.approve, number, "sim")
                self.witness.delayed = True
        await checkins.stop()

    async def go_on(self) -> None:
        """Give the planner its turn."""
        planner = self.fleet.planner
        while await planner.step() or await planner.look(self.now):
            pass

    def new_life(self) -> CheckIns:
        policy = Policy(interval_s=INTERVAL_S)
        signer = AssignSigner(self.keys.assign)
        checkins = CheckIns(
            self.fleet.database, Catalog(), self.fleet.trust, signer, policy, lambda: self.now
        )
        checkins.start()
        return checkins

    async def call(self, checkins: CheckIns, device: SimDevice) -> None:
        """One check-in, and what the device makes of the answer."""
        if device.silent:
            return
        self.calls += 1
        identity = Identity(
            device_id=device.id,
            public_key=host_crypto.public_xy(self.key),
            certificate=b"",
            attestation=None,
            not_before=0.0,
            not_after=4e9,
        )
        told = device.verdict_told()
        nonce = self.chance.randbytes(16)
        request = checkin.Request(nonce, self.fleet.trust.current.version, None, self.report(device))
        answer = checkin.parse_response(await checkins.answer(identity, request))
        if answer.report_status == "accepted":
            device.events = []
            if told:
                device.verdict = told
                self.witness.proved += told == "confirmed" and self.witness.wave[device.id] == 1
                self.witness.on_trial.discard(device.id)
                if told == "reverted":
                    self.witness.failed(self.devices, device)
        device.nonce = answer.nonce
        heapq.heappush(self.queue, (self.now + answer.interval, device.id))
        signed = assignment.open_assignment(
            answer.assignment, self.fleet.trust.current, nonce, bytes.fromhex(device.id), host_crypto.verify
        )
        if signed.manifest_digest == bytes.fromhex(self.manifest[NEW]):
            if device.given_at is None:
                device.given_at = self.now
                self.witness.gives(device, self.now)
            self.advance(device)

    def advance(self, device: SimDevice) -> None:
        """Download, boot, prove itself: a step for each call; sometimes none."""
        if device.fate == "silent":
            device.silent = True
        elif self.chance.random() < 0.3 or device.verdict:
            return
        elif device.installed is None:
            device.installed = self.manifest[NEW]
        elif device.runs == OLD and not device.events:
            device.runs, device.state = NEW, "trial"
        elif device.fate == "bad":
            device.runs, device.state, device.events = OLD, "confirmed", [("reverted", "AP1 watchdog")]
        else:
            device.state = "confirmed"

    def report(self, device: SimDevice) -> bytes | None:
        if device.nonce is None:
            return None
        return report.build(
            nonce=device.nonce,
            device_id=bytes.fromhex(device.id),
            slot="A",
            image_hash=bytes.fromhex(hash_of(device.runs)),
            version=device.runs,
            sec_cnt=1,
            floor=0,
            root_version=1,
            state=device.state,
            installed=bytes.fromhex(device.installed) if device.installed else None,
            events=device.events,
            reset_cause=4,
            kid=self.kid,
            sign=self.sign,
        )


def _lab(connection: Any, ids: list[str]) -> None:
    connection.execute(schema.groups.insert().values(name="lab", created_at=0))
    connection.execute(schema.members.insert(), [{"group_name": "lab", "device_id": one} for one in ids])


def _standing(connection: Any, number: int) -> tuple[Any, list[Any]]:
    table, waves = schema.rollouts, schema.waves
    row = connection.execute(select(table).where(table.c.id == number)).one()
    query = select(waves).where(waves.c.rollout_id == number).order_by(waves.c.number)
    return row, connection.execute(query).all()
