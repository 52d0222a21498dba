"""What a check-in costs with a million devices in the database, beside a thousand.

    python tests/bench/bench_growth.py [--fleet 1000000]

One process, the server's own check-ins over SQLite on this disk, no network and no report: processor time,
commit included, for devices drawn from all over the fleet, 32 at a time; of several runs that take turns the
median counts.
"""

import argparse
import asyncio
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from fleet_world import Fleet, device_id, identity_of
from server_world import Keys
from sqlalchemy import Connection, update

from fota_server import schema
from fota_server.catalog import Catalog
from fota_server.checkins import CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_wire.checkin import Request

FEW, AT_ONCE, BATCHES, RUNS = 1000, 32, 30, 7
NOW = 1_700_000_000


async def visit(fleet: Fleet, keys: Keys, size: int) -> float:
    """Return the microseconds of one check-in."""
    checkins = CheckIns(
        fleet.database, Catalog(), fleet.trust, AssignSigner(keys.assign), Policy(), lambda: NOW
    )
    checkins.start()
    numbers = random.Random(size)
    spent = 0.0
    for _ in range(BATCHES):
        visitors = [identity_of(device_id(number)) for number in numbers.sample(range(size), AT_ONCE)]
        begun = time.process_time()
        requests = (Request(secrets.token_bytes(16), 1, None, None) for _ in visitors)
        await asyncio.gather(*(checkins.answer(*pair) for pair in zip(visitors, requests, strict=True)))
        spent += time.process_time() - begun
    await checkins.stop()
    return spent / BATCHES / AT_ONCE * 1e6


def _was_here(connection: Connection) -> None:
    """Leave what an earlier check-in of each device leaves."""
    known = {"public_key": bytes(64), "report_nonce": bytes(16), "root_version": 1, "last_seen": NOW}
    connection.execute(update(schema.devices).values(known))


def measure(many: int) -> dict[str, float]:
    """Return ``growth_1m_x``, and the microseconds of which it is."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder) / "keys")
        fleets = {size: Fleet(Path(folder) / f"{size}.db", keys) for size in (FEW, many)}
        for size, fleet in fleets.items():
            fleet.fill(size)
            fleet.database.transact(_was_here)
        seen: dict[int, list[float]] = {size: [] for size in fleets}
        for _ in range(RUNS):
            for size, fleet in fleets.items():
                seen[size].append(asyncio.run(visit(fleet, keys, size)))
        for fleet in fleets.values():
            fleet.database.close()
    few, much = (statistics.median(values) for values in seen.values())
    return {"growth_1m_x": round(much / few, 2), "few_us": round(few), "many_us": round(much)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fleet", type=int, default=1_000_000)
    print(json.dumps(measure(parser.parse_args().fleet)))


if __name__ == "__main__":
    main()
