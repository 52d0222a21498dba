"""Orders to many: how long they take, how long they hold the database, how long a check-in waits meanwhile.

    python tests/bench/bench_orders.py [--devices 4000]

One process: the server's own planner and check-ins over SQLite on this disk, no network. The check-ins are of
strangers, one after the other, each with its transaction; ``quiet`` is their wait with nothing else to do.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from fleet_world import Fleet, device_id, identity_of
from server_world import Keys

from fota_server.catalog import Catalog
from fota_server.checkins import CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_server.database import Database
from fota_wire.checkin import Request


class Timed(Database):
    """A database that notes how long each write transaction held it."""

    def watch(self) -> list[float]:
        self.held: list[float] = []
        return self.held

    def transact(self, *args: Any) -> Any:
        begun = time.perf_counter()
        try:
            return super().transact(*args)
        finally:
            self.held.append(time.perf_counter() - begun)


async def visits(checkins: CheckIns, until: "asyncio.Future[None]", first: int) -> list[float]:
    waits, number = [], first
    while not until.done():
        begun = time.perf_counter()
        request = Request(secrets.token_bytes(16), 1, None, None)
        await checkins.answer(identity_of(device_id(number)), request)
        waits.append(time.perf_counter() - begun)
        number += 1
    return waits


async def measure(path: Path, keys: Keys, devices: int, kind: str, version: str | None) -> dict[str, object]:
    fleet = Fleet(path, keys)
    fleet.database = fleet.planner._database = Timed(fleet.engine)
    held = fleet.database.watch()
    fleet.fill(devices)
    policy, signer = Policy(), AssignSigner(keys.assign)
    checkins = CheckIns(fleet.database, Catalog(), fleet.trust, signer, policy, lambda: 1_700_000_000)
    checkins.start()
    quiet = await visits(checkins, asyncio.ensure_future(asyncio.sleep(1)), 10_000_000)
    held.clear()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    visitors = asyncio.create_task(visits(checkins, done, 20_000_000))
    begun = time.perf_counter()
    answer = await fleet.order(kind, version)
    answered = time.perf_counter() - begun
    while await fleet.planner.step():
        pass
    total = time.perf_counter() - begun
    done.set_result(None)
    waits = await visitors
    await checkins.stop()
    shown = await fleet.show(answer["id"])
    fleet.database.close()
    return {
        "order": kind,
        "devices": shown["total"],
        "answered_s": round(answered, 2),
        "answer_bytes": len(json.dumps(answer)),
        "planned_s": round(total, 2),
        "longest_transaction_ms": round(max(held) * 1000),
        "checkins_meanwhile": len(waits),
        "longest_checkin_ms": round(max(waits) * 1000),
        "longest_checkin_quiet_ms": round(max(quiet) * 1000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=4000)
    args = parser.parse_args()
    for kind, version in (("update", "1.2.0"), ("rollback", None)):
        with tempfile.TemporaryDirectory() as folder:
            keys = Keys(Path(folder) / "keys")
            run = measure(Path(folder) / "fota.db", keys, args.devices, kind, version)
            print(json.dumps(asyncio.run(run)), flush=True)


if __name__ == "__main__":
    main()
