"""A rollout in waves while processes are killed, clocks jump and operators disagree; `make campaign` runs it.

    campaign_fleet.py                                       writes build/reports/fleet_faults.json
    campaign_fleet.py --kind sqlite --seed 7 --devices 40   one run; so is a failure replayed

On PostgreSQL: two servers, a process that signs, an object store, and the second server's clock can be moved.
On SQLite: one server of two processes on a disk that can be full. Devices, what becomes of them, which faults
come, when (after how many check-ins) and in which order follow from the seed; how processes take turns does
not, so a replay is the same run, not the same instructions.

Ends with 1 if anything was not as promised.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

import databases
from fault_fleet import Cut, FaultDevice, FaultWitness
from fault_orders import Quarrels
from fault_world import World, pages
from lifeline import hold
from server_world import build_release

from fota_wire.errors import FotaError

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261128
RUNS = ((databases.POSTGRESQL, 10_000, 40), (databases.SQLITE, 300, 20))
"""Database, devices, faults."""
POLICY: dict[str, Any] = {
    "waves": ["5%", "25%", "rest"],
    "confirmed": "80%",
    "errors": "20%",
    "soak_s": 1,
    "silence_s": 3600,
}
STILL = 400
"""So many rounds without any progress, once faults have stopped, and the rollout does not go on."""
STAND_STILL = ("opposite_halts", "opposite_pauses")
"""After these the rollout may be held, until somebody says that it goes on."""
WAITING = 1000
"""So many of those who wait call in a round, at most."""
LINES = 24
"""Check-ins at a time, for each server."""
REST_S = 0.25  # between rounds: whoever waits for the next wave asks too often otherwise


class Run:
    """One run: a world, its devices, and the faults that are still to come."""

    def __init__(
        self, folder: Path, kind: str, seed: int, devices: int, faults: int, only: Sequence[str] = ()
    ) -> None:
        self.chance = random.Random(seed)
        self.line = f"campaign_fleet.py --kind {kind} --seed {seed} --devices {devices} --faults {faults}"
        self.world = World(folder, kind, self.chance)
        keys = self.world.keys
        self.old = build_release(keys, "1.0.0", 1, 1)
        self.new = build_release(keys, "1.1.0", 2, 2)
        self.devices = [FaultDevice(keys, number, "good", self.old) for number in range(devices)]
        self.quarrels = Quarrels(self.world, devices, self.old, self.chance)
        names = sorted(only or (*self.world.faults, *self.quarrels.quarrels))
        self.line += f" --only {' '.join(only)}" if only else ""
        self.faults = [
            name for _ in range(faults // len(names) + 1) for name in self.chance.sample(names, len(names))
        ]
        self.faults = self.faults[:faults]
        self.done: list[str] = []
        self.calls = self.cuts = 0
        self.until_fault = 0
        self.now = asyncio.Event()
        self.lines = asyncio.Semaphore(LINES * len(self.world.servers))
        self.began = time.monotonic()

    # -- the beginning ---------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Publish, admit, plan, and start what the plan promises."""
        world, (first, *_) = self.world, self.world.servers
        for built in (self.old, self.new):
            await asyncio.to_thread(world.publish_whole, built)
        self.witness = FaultWitness({}, {}, len(self.devices))
        for _ in range(2):  # the second time with a report
            await self.all_call(self.devices)
        await self.quarrels.begin()
        assert first.api("POST", "groups", {"name": "all"})[0] == 201
        for start in range(0, len(self.devices), 1000):
            some = [device.id for device in self.devices[start : start + 1000]]
            status, said = first.api("POST", "groups/all/devices", {"devices": some})
            assert status == 200, said
        budget = max(3, len(self.devices) // 8)
        assert first.api("POST", "limits", {"trials": budget})[0] == 200
        order = {"version": self.new.version, "group": "all", "policy": POLICY, "seed": "s"}
        status, plan = first.api("POST", "rollouts", {**order, "dry_run": True})
        assert status == 200, plan
        query = {"kind": "update", **order, "policy": json.dumps(POLICY)}
        listed = await asyncio.to_thread(pages, first, "preview?" + urllib.parse.urlencode(query), "devices")
        waves = plan["waves"]
        wave_of = {
            row["device_id"]: next(wave["number"] for wave in waves if row["rank"] <= wave["last_rank"])
            for row in listed
            if row["reason"] is None
        }
        self.witness = FaultWitness(wave_of, {wave["number"]: wave["devices"] for wave in waves}, budget)
        bad: Counter[int] = Counter()
        for device in self.devices:
            wave = wave_of[device.id]
            if bad[wave] < self.witness.sizes[wave] // 10 and self.chance.random() < 0.3:
                bad[wave] += 1
                device.fate = "bad"
        status, started = first.api("POST", "rollouts", {**order, "digest": plan["digest"]})
        assert status in (201, 202), started
        self.number = self.world.rollout = started["id"]
        self.tell("the rollout has begun")

    # -- devices ---------------------------------------------------------------------------------------------

    async def all_call(self, devices: list[FaultDevice]) -> None:
        await asyncio.gather(*map(self.call, devices))

    async def call(self, device: FaultDevice) -> None:
        """One check-in with any of the servers, and what the device makes of the answer."""
        if device.ended(self.new):
            self.witness.says(device)
        try:
            async with self.lines:
                await device.check_in(self.chance.choice(self.world.servers).front, self.new)
        except Cut:
            self.cuts += 1
            return
        except FotaError as exc:
            self.witness.found.append(f"{device.id} was told what it may not take: {exc}")
            return
        finally:
            self.calls += 1
            if self.calls >= self.until_fault:
                self.now.set()
        self.witness.told(device, self.new)
        if device.given and self.chance.random() < 0.8:
            device.advance(self.new, self.old)

    async def round(self) -> None:
        """Let those call who have something to do, and some of those who wait."""
        waiting = min(0.3, WAITING / len(self.devices))
        due = [
            device
            for device in self.devices
            if device.verdict is None and (device.given or self.chance.random() < waiting)
        ]
        self.chance.shuffle(due)
        await self.all_call(due)

    # -- faults ----------------------------------------------------------------------------------------------

    async def fault(self, name: str) -> None:
        """Have a fault come in the midst of a round, last for another one or not, and be made good."""
        if name in self.quarrels.quarrels:
            await self.quarrel(name)
            return
        self.now.clear()
        self.until_fault = self.calls + self.chance.randrange(1, len(self.devices) // 3 + 2)
        lasts = self.chance.random() < 0.5

        async def strike() -> Any:
            await self.now.wait()
            restore = await asyncio.to_thread(self.world.faults[name])
            await asyncio.to_thread(self.world.make_group)
            return restore

        self.witness.may_halt = stands = name in STAND_STILL
        striking = asyncio.create_task(strike())
        await self.round()
        self.now.set()
        restore = await striking
        if stands:
            await self.halted_round()
        elif lasts or name == "clock":
            for _ in range(8 if name == "clock" else 1):  # so that its planner has looked (planner.LOOK_S)
                await self.round()
                await asyncio.sleep(REST_S)
        await asyncio.to_thread(restore)
        self.witness.may_halt = False
        self.tell(name)

    async def quarrel(self, name: str) -> None:
        """Have a quarrel about another rollout, while this one goes on."""
        going = asyncio.create_task(self.quarrels.quarrels[name]())
        while not going.done():
            await self.round()
            await asyncio.sleep(REST_S)
        await going
        self.tell(name)

    def tell(self, what: str) -> None:
        """Say on stderr how far the run is."""
        spent, ended = round(time.monotonic() - self.began), sum(bool(one.verdict) for one in self.devices)
        said = f"{self.calls} check-ins, {ended} ended, {len(self.found)} deviations: {what}"
        print(f"{spent:5} s, {said}", file=sys.stderr, flush=True)

    async def halted_round(self) -> None:
        """Nobody is given anything for the first time as long as every server says that it stands still."""
        path = f"rollouts/{self.number}"
        found = [await asyncio.to_thread(self.world.shown, path, server) for server in self.world.servers]
        self.witness.halted = all(one and one[1]["status"] in ("halted", "paused") for one in found)
        await self.round()
        self.witness.halted = False

    # -- the whole -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the rollout's end, with all faults before it, and look at what is left."""
        try:
            await self.go()
        finally:
            for server in self.world.servers:
                server.front.forget()

    async def go(self) -> None:
        await self.begin()
        left, still, before = list(self.faults), 0, None
        while still < STILL:
            if left:
                await self.fault(left[-1])
                self.done.append(left.pop())
            else:
                await self.round()
            shown = await asyncio.to_thread(self.world.servers[0].ask, "GET", f"rollouts/{self.number}")
            if not shown or shown[0] != 200:
                continue
            waves = shown[1]["waves"]
            self.witness.looks(waves)
            if shown[1]["held"]:
                self.witness.found.append(f"the rollout paused itself: {shown[1]['held']}")
                return
            ended = all(device.verdict for device in self.devices)
            if ended and not left and all(wave["phase"] == "passed" for wave in waves):
                break
            progress = waves, sum(device.verdict is not None for device in self.devices)
            still, before = (still + 1 if progress == before and not left else 0), progress
            await asyncio.sleep(REST_S)
        else:
            self.witness.found.append(f"the rollout does not go on: {before}")
        listed = await asyncio.to_thread(
            pages, self.world.servers[-1], f"rollouts/{self.number}/devices?state=", "devices"
        )
        targets = {row["device_id"]: row["state"] for row in listed}
        self.witness.compares(self.devices, targets, waves)
        await asyncio.to_thread(self.world.looks)

    @property
    def found(self) -> list[str]:
        return [*self.witness.found, *self.world.found]


def run(folder: Path, kind: str, seed: int, devices: int, faults: int, only: Sequence[str] = ()) -> Run:
    """Do one run, and end all that it started."""
    made = Run(folder, kind, seed, devices, faults, only)
    try:
        made.world.begin()
        asyncio.run(made.run())
    except BaseException:
        print(f"seed {seed}: again by {made.line}", file=sys.stderr)
        raise
    finally:
        made.world.close()
    for line in made.found[:10]:
        print(f"{line}\n  again by {made.line}")
    return made


def main() -> int:
    """Run what the command line says."""
    hold()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kind", choices=databases.BOTH)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--faults", type=int)
    parser.add_argument("--only", nargs="+", default=(), help="these kinds of fault alone")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    bad = 0
    try:
        for kind, devices, faults in RUNS:
            if args.kind not in (None, kind):
                continue
            if kind == databases.POSTGRESQL and (why := databases.why_no_postgresql()):
                print(f"left out: {why}", file=sys.stderr)
                bad += 1
                continue
            with tempfile.TemporaryDirectory() as folder:
                size = args.devices or devices
                number = faults if args.faults is None else args.faults
                made = run(Path(folder), kind, args.seed, size, number, args.only)
            found[kind] = {
                "devices": size,
                "check_ins": made.calls,
                "cut": made.cuts,
                "faults": dict(Counter(made.done)),
                "most_on_trial": made.witness.most,
                "budget": made.witness.budget,
                "deviations": len(made.found),
                "seconds": round(time.monotonic() - made.began),
            }
            bad += len(made.found)
            print(kind, json.dumps(found[kind]), flush=True)
    finally:
        databases.end_postgres()
    if args.kind is None:
        report = ROOT / "build/reports/fleet_faults.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
