"""A fleet in virtual time before the very code that serves it: is the rollout that was planned what happens?

Devices call when the server told them to, sign reports, take what an ASSIGNMENT names, and confirm it, go
back, or fall silent by a seeded chance. The server is killed now and then, before a batch of check-ins is
stored, or after, with answers that nobody gets. Beside them stands a witness that knows the plan and what
devices were told, and nothing of the server's tables but when a wave opened; what it finds is a deviation.
All of it follows from the seed.
"""

import asyncio
import heapq
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sim_wire
from fleet_world import GROUP, Fleet, device_id, identity_of, release
from rollout_witness import DAY_S, NEW, OLD, STEP_S, Scenario, SimDevice, Witness
from server_world import Keys, new_key
from sqlalchemy import select

from fota_server import checkins as server
from fota_server import hand_out, lab, orders, rollouts, schema, wave_work
from fota_server.catalog import Catalog
from fota_server.checkins import Busy, CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_server.identity import Identity
from fota_server.orders import InWaves
from fota_server.wave_policy import parse_policy
from fota_wire import checkin, host_crypto

INTERVAL_S = 4 * 3600
AT_ONCE = 4096  # that the server is asked by; it has room for twice as many


class Simulation:
    """A run of one scenario; `run` returns the deviations."""

    def __init__(self, path: Path, keys: Keys, scenario: Scenario, seed: int) -> None:
        self.fleet, self.keys, self.scenario = Fleet(path, keys), keys, scenario
        self.chance, self.dice = random.Random(seed), random.Random(seed)
        self.now = 1_795_000_000
        key, self.root = new_key(), self.fleet.trust.current
        self.speaker = sim_wire.Speaker(host_crypto.public_xy(key), host_crypto.signer(key))
        self.identities: dict[str, Identity] = {}
        self.devices: dict[str, SimDevice] = {}
        self.queue: list[tuple[int, str]] = []
        self.calls = self.kills = 0
        self.until_over = False  # has it end with the rollout
        self.ready: Callable[[], None] = lambda: None  # called when the fleet is there
        self.lost = 0.0  # share of the answers that leave and nobody gets
        self.unanswered: list[SimDevice] = []
        self.manifest = {v: bytes.fromhex(release(v, n)["manifest_digest"]) for v, n in ((OLD, 2), (NEW, 3))}

    async def run(self) -> Witness:
        """Plan, start, and let the days go by."""
        scenario, fleet = self.scenario, self.fleet
        fleet.fill(scenario.devices)
        apart = max(scenario.devices // 4, 1)
        self.members = [device_id(number) for number in range(0, scenario.devices, apart)]
        fleet.database.transact(_lab, self.members)
        for number in range(scenario.devices):
            one = device_id(number)
            percent = self.chance.randrange(100)
            fate = (
                "bad" if percent < scenario.bad else "silent" if percent >= 100 - scenario.silent else "good"
            )
            self.devices[one] = SimDevice(one, fate)
            self.identities[one] = replace(identity_of(one), public_key=self.speaker.public_xy)
            heapq.heappush(self.queue, (self.now + self.chance.randrange(INTERVAL_S), one))
        if scenario.lab:
            fleet.database.transact(lab.set_lab, "lab", scenario.lab, "sim")
        if scenario.budget is not None:
            fleet.database.transact(hand_out.set_trials, scenario.budget, "sim")
        self.ready()
        with self.clocks():
            await self.live(await self.order())
        fleet.database.close()
        return self.witness

    @contextmanager
    def clocks(self) -> Iterator[None]:
        """Have the server's own clock and dice be the simulation's."""
        places = ((orders, "now"), (rollouts, "now"), (wave_work, "clock"), (server, "secrets"))
        kept = [getattr(module, name) for module, name in places]
        for module, name in places[:-1]:
            setattr(module, name, lambda: self.now)
        dice = SimpleNamespace(randbelow=self.dice.randrange, token_bytes=secrets.token_bytes)
        setattr(*places[-1], dice)
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
        self.witness = Witness(plan, ranks, self.scenario, self.members)
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
            if self.until_over and row.state != "running" and all(wave.phase == "passed" for wave in waves):
                break
            self.witness.stopped = halted or row.paused
            self.witness.looks(waves, row.held is not None, self.now)
            due = []
            while self.queue and self.queue[0][0] <= self.now:
                due.append(heapq.heappop(self.queue)[1])
            if self.chance.random() < 0.05:
                due = await self.kill(checkins, due)
                checkins = self.new_life()
            await self.all_call(checkins, due)
            while self.unanswered:
                again, self.unanswered = [one.id for one in self.unanswered], []
                await self.all_call(checkins, again)
            if self.scenario.halts and self.chance.random() < 0.01:
                change = hand_out.unhalt if halted else hand_out.halt
                await self.fleet.database.write(change, *(("sim",) if halted else ("drill", "sim")))
                halted = not halted
            if row.held is not None and row.state == "running" and self.chance.random() < 0.02:
                self.witness.forgiven = True
                await self.fleet.database.write(orders.resume, number, "sim")
            if (
                any(wave.phase == "approval" for wave in waves)
                and not row.paused
                and self.chance.random() < 0.1
            ):
                await self.fleet.database.write(rollouts.approve, number, "sim")
                self.witness.delayed = True
        await checkins.stop()

    async def all_call(self, checkins: CheckIns, ids: list[str]) -> None:
        """Have these check in at one moment, as many as the server has room for."""
        for first in range(0, len(ids), AT_ONCE):
            await self.call(checkins, [self.devices[one] for one in ids[first : first + AT_ONCE]])

    async def kill(self, checkins: CheckIns, ids: list[str]) -> list[str]:
        """Have the server be killed while these call: as they wait, or when it has stored what they said.
        Return who has not called yet.
        """
        self.kills += 1
        self.lost = self.chance.choice([0, 0.5, 1])
        calls = asyncio.ensure_future(self.all_call(checkins, ids[:AT_ONCE]))
        if self.lost:
            await calls
        else:
            await asyncio.sleep(0)
        await checkins.stop()
        await calls
        self.lost = 0
        return ids[AT_ONCE:]

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

    async def call(self, checkins: CheckIns, devices: list[SimDevice]) -> None:
        """A check-in of each, and what they make of the answers, in the order in which those come."""
        came: list[tuple[SimDevice, checkin.Request, str | None, asyncio.Future[bytes]]] = []
        waiting = []
        for device in devices:
            if device.silent:
                continue
            self.calls += 1
            before = self.chance.randrange(100) < self.scenario.before
            told = device.verdict_told()
            lost = device.id in self.witness.unsure
            raw = self.report(device) if before or lost or device.has_news(self.now) else None
            request = checkin.Request(self.chance.randbytes(16), self.root.version, None, raw)
            request.shares = not before
            answer = checkins.answer(self.identities[device.id], request)
            answer.add_done_callback(partial(_note, came, device, request, told))
            waiting.append(answer)
        for answer in waiting:
            with suppress(Busy):
                await answer
        await asyncio.sleep(0)  # by then all are noted
        for device, request, told, answer in came:
            self.hear(device, request, told, answer)

    def hear(
        self, device: SimDevice, request: checkin.Request, told: str | None, body: "asyncio.Future[bytes]"
    ) -> None:
        try:
            answer = sim_wire.read_answer(body.result())
        except Busy:
            return self.unheard(device, told)
        if self.chance.random() < self.lost:
            return self.unheard(device, told)
        if device.id in self.witness.unsure and answer.report_status.startswith("refused"):
            device.nonce = answer.nonce  # what it said was stored, and its nonce used up: once more
            self.unanswered.append(device)
            return None
        self.witness.unsure.pop(device.id, None)
        if answer.report_status == "accepted":
            device.reported, device.reported_at = device.says(), self.now
            device.events = []
            if told:
                self.witness.heard(device, told)
        asked = request.report is None and answer.nonce != device.nonce
        device.nonce = answer.nonce
        if asked:
            self.unanswered.append(device)
        else:
            heapq.heappush(self.queue, (self.now + answer.interval, device.id))
        name = bytes.fromhex(device.id)
        signed = sim_wire.open_assignment(bytes(answer.assignment), self.root, request.nonce, name)
        runs = device.state == "confirmed" and signed.manifest_digest == self.manifest.get(device.runs)
        device.rests = not asked and (runs or signed.manifest_digest is None)
        if signed.manifest_digest == self.manifest[NEW]:
            if device.given_at is None:
                device.given_at = self.now
                self.witness.gives(device, self.now)
            self.advance(device)
        return None

    def unheard(self, device: SimDevice, told: str | None) -> None:
        """A device got no answer: it asks again at once, and says the same."""
        self.unanswered.append(device)
        self.witness.unsure[device.id] = told
        if device.given_at is None:
            self.witness.late.add(device.id)

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
        return self.speaker.report(device.nonce, bytes.fromhex(device.id), *device.says())


def _note(came: list[Any], *call: Any) -> None:
    """An answer has come."""
    came.append(call)


def _lab(connection: Any, ids: list[str]) -> None:
    connection.execute(schema.groups.insert().values(name="lab", created_at=0))
    connection.execute(schema.members.insert(), [{"group_name": "lab", "device_id": one} for one in ids])


def _standing(connection: Any, number: int) -> tuple[Any, list[Any]]:
    table, waves = schema.rollouts, schema.waves
    row = connection.execute(select(table).where(table.c.id == number)).one()
    query = select(waves).where(waves.c.rollout_id == number).order_by(waves.c.number)
    return row, connection.execute(query).all()
