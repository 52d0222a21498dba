"""A fleet of thousands in a database of its own, and the very code that plans for it, in this process."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from databases import url_of
from server_world import CLASS, VENDOR, Keys
from sqlalchemy import Connection, Engine, event, insert, select

from fota_server import orders, rollouts, schema
from fota_server.database import Database, open_engine, read_url
from fota_server.identity import Identity
from fota_server.plan import Scope
from fota_server.planner import Planner
from fota_server.trust import TrustChain

GROUP = Scope(device=None, group="all")
VERSIONS = {"1.0.0": 1, "1.1.0": 2, "1.2.0": 3}


def hash_of(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def device_id(number: int) -> str:
    return f"0123{number:014x}"


@dataclass
class Transactions:
    """What a piece of work did to the database: statements and rows of each transaction that wrote."""

    statements: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


@contextmanager
def counted(engine: Engine) -> Iterator[Transactions]:
    """Count write transactions while this is open, one entry each, in the order of their begin."""
    found, writing = Transactions(), {"now": False}

    def begin(connection: Any) -> None:
        writing["now"] = not connection.get_execution_options().get("fota_read_only", False)
        if writing["now"]:
            found.statements.append(0)
            found.rows.append(0)

    def after(_conn: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if writing["now"] and not statement.startswith(("BEGIN", "SELECT pg_advisory")):
            found.statements[-1] += 1
            found.rows[-1] += max(cursor.rowcount, 0)

    event.listen(engine, "begin", begin)
    event.listen(engine, "after_cursor_execute", after)
    yield found
    event.remove(engine, "begin", begin)
    event.remove(engine, "after_cursor_execute", after)


class Fleet:
    """``size`` devices in the group "all" that confirmed 1.0.0, then 1.1.0 by a rollout."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self.engine = open_engine(read_url(url_of(path), path.parent))
        self.database = Database(self.engine)
        self.trust = TrustChain([keys.genesis])
        self.planner = Planner(self.database, self.trust)

    def fill(self, size: int) -> None:
        self.database.bring_up_to_date()
        self.database.transact(self._fill, [device_id(number) for number in range(size)])

    def _fill(self, connection: Connection, ids: list[str]) -> None:
        connection.execute(insert(schema.releases), [release(v, n) for v, n in VERSIONS.items()])
        connection.execute(insert(schema.groups).values(name="all", created_at=0))
        row = {
            "kind": "update",
            "scope": "group:all",
            "state": "done",
            "created_at": 0,
            "created_by": "x",
        }
        connection.execute(insert(schema.rollouts).values(paused=False, release_id=2, **row))
        connection.execute(insert(schema.devices), [device(one, n + 1) for n, one in enumerate(ids)])
        members = [{"group_name": "all", "device_id": one} for one in ids]
        connection.execute(insert(schema.members), members)
        confirmed = [
            {"device_id": one, "image_hash": hash_of(version), "at": 1}
            for one in ids
            for version in ("1.0.0", "1.1.0")
        ]
        connection.execute(insert(schema.confirmations), confirmed)
        targets = [
            {"rollout_id": 1, "device_id": one, "release_id": 2, "state": "confirmed", "updated_at": 1}
            for one in ids
        ]
        connection.execute(insert(schema.targets), targets)

    async def order(self, kind: str, version: str | None, scope: Scope = GROUP) -> dict[str, Any]:
        order = await self.database.read(orders.order_for, kind, version, scope)
        return await orders.place(self.database, order, version, self.trust.current, "tester")

    async def show(self, number: int) -> dict[str, Any]:
        return await self.database.read(rollouts.show, number)

    async def wanted(self) -> list[tuple[str, int, str]]:
        """Device, release and state of all targets in force."""
        devices, targets = schema.devices, schema.targets
        query = (
            select(devices.c.id, targets.c.release_id, targets.c.state)
            .join(targets, targets.c.id == devices.c.target_id)
            .order_by(devices.c.id)
        )
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [tuple(row) for row in rows]  # type: ignore[misc]


def machine_steps(connection: Connection, work: Callable[[], Any]) -> int:
    """Return how many steps of SQLite's machine ``work`` takes the second time: the schema has been read."""
    steps = 0
    work()

    def step() -> None:
        nonlocal steps
        steps += 1

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(step, 1)
    work()
    driver.set_progress_handler(None, 0)
    return steps


def release(version: str, sequence: int, **other: Any) -> dict[str, Any]:
    return {
        "version": version,
        "vendor_id": VENDOR.hex(),
        "class_id": CLASS.hex(),
        "sequence": sequence,
        "manifest_digest": hashlib.sha256(f"manifest {version}{other}".encode()).hexdigest(),
        "file_digest": hashlib.sha256(f"file {version}{other}".encode()).hexdigest(),
        "file_size": 1000,
        "image_hash": hash_of(version),
        "sec_cnt": 1,
        "envelope": b"",
        "published_at": 0,
        "published_by": "x",
    } | other


def device(device_id: str, target: int) -> dict[str, Any]:
    return {
        "id": device_id,
        "admitted_by": "certificate",
        "revoked": False,
        "last_seen": 1,
        "target_id": target,
        "confirmed_hash": hash_of("1.1.0"),
        "running_hash": hash_of("1.1.0"),
        "running_version": "1.1.0",
        "state": "confirmed",
        "floor": 0,
    }


def identity_of(name: str) -> Identity:
    """A device as its certificate would name it."""
    return Identity(
        device_id=name,
        public_key=bytes(64),
        certificate=b"",
        attestation=None,
        not_before=0.0,
        not_after=4e9,
    )


def in_fleet(path: Path, keys: Keys, size: int, work: Callable[[Fleet], Awaitable[Any]]) -> Any:
    """Run ``work`` on a fleet in ``path``, a new one of ``size``, or (0) the one that is there already."""

    async def run() -> Any:
        fleet = Fleet(path, keys)
        try:
            if size:
                fleet.fill(size)
            return await work(fleet)
        finally:
            fleet.database.close()

    return asyncio.run(run())
