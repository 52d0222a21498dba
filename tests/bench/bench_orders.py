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

from fleet_world import GROUP, Fleet, device_id, hash_of, identity_of
from server_world import Keys
from sqlalchemy import Connection, update

from fota_server import schema
from fota_server.catalog import Catalog
from fota_server.checkins import CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_server.database import Database
from fota_server.plan import Scope
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


def given_since(connection: Connection) -> None:
    """Have the last release been given at 10, and confirmed at 20."""
    connection.execute(update(schema.targets).values(given_at=10))
    last = schema.confirmations.c.image_hash == hash_of("1.1.0")
    connection.execute(update(schema.confirmations).where(last).values(at=20))


async def measure(
    path: Path, keys: Keys, devices: int, kind: str, version: str | None, scope: Scope = GROUP
) -> dict[str, object]:
    fleet = Fleet(path, keys)
    fleet.database = fleet.planner._database = Timed(fleet.engine)
    held = fleet.database.watch()
    fleet.fill(devices)
    fleet.database.transact(given_since)
    policy, signer = Policy(), AssignSigner(keys.assign)
    checkins = CheckIns(fleet.database, Catalog(), fleet.trust, signer, policy, lambda: 1_700_000_000)
    checkins.start()
    quiet = await visits(checkins, asyncio.ensure_future(asyncio.sleep(1)), 10_000_000)
    held.clear()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    visitors = asyncio.create_task(visits(checkins, done, 20_000_000))
    begun = time.perf_counter()
    answer = await fleet.order(kind, version, scope)
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
        "order": f"{kind} {scope}",
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
    since = Scope(device=None, group=None, since=10)
    for kind, version, scope in (
        ("update", "1.2.0", GROUP),
        ("rollback", None, GROUP),
        ("rollback", None, since),
    ):
        with tempfile.TemporaryDirectory() as folder:
            keys = Keys(Path(folder) / "keys")
            run = measure(Path(folder) / "fota.db", keys, args.devices, kind, version, scope)
            print(json.dumps(asyncio.run(run)), flush=True)


if __name__ == "__main__":
    main()
