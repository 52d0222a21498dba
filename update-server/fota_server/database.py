"""The database: opening it, its pragmas, its errors. Everything above speaks SQLAlchemy Core."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fota_server import migrations, schema
from fota_wire.errors import FotaError, StorageError


class DatabaseUnavailable(FotaError):
    """The database does not answer, is locked for too long, or its disk is full."""

    exit_code = 5


def now() -> int:
    """Return the time in seconds since 1970."""
    return int(time.time())


def open_engine(url: str) -> AsyncEngine:
    """Return an engine for a SQLAlchemy URL; nothing is connected yet."""
    engine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _sqlite_connect)
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return engine


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite+aiosqlite:///{path.resolve()}"


def _sqlite_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    connection.isolation_level = None  # transactions are ours, see _sqlite_begin
    cursor = connection.cursor()
    # FULL: what was acknowledged survives a power cut. Check-ins share commits, so it costs them little.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:  # noqa: ANN401 - sqlalchemy's event signature
    # A transaction that reads and then writes must hold the lock from its start: upgrading fails at once,
    # whatever busy_timeout says, when another writer came in between.
    read_only = connection.get_execution_options().get("fota_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


class Database:
    """Transactions over an engine; every driver error leaves as ``DatabaseUnavailable``."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(fota_read_only=True)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a read-write transaction; it is committed at the end, rolled back by any exception.

        Raises:
            DatabaseUnavailable: the database failed at any point, commit included; nothing was written.
        """
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (DBAPIError, SQLAlchemyError) as exc:
            raise _unavailable(exc) from exc

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that only reads.

        Raises:
            DatabaseUnavailable: the database failed.
        """
        try:
            async with self._reader.begin() as connection:
                yield connection
        except (DBAPIError, SQLAlchemyError) as exc:
            raise _unavailable(exc) from exc

    async def bring_up_to_date(self) -> bool:
        """Make the tables if there are none, else lead them to today's schema; return whether they were made.

        Raises:
            InputError: a newer server has used this database.
        """
        async with self.write() as connection:
            if await connection.run_sync(migrations.version_of) is None:
                await connection.run_sync(migrations.create)
                return True
        behind = True
        while behind:
            async with self.write() as connection:
                behind = await connection.run_sync(migrations.take_step)
        return False

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _unavailable(exc: SQLAlchemyError) -> FotaError:
    text = str(exc.orig) if isinstance(exc, DBAPIError) else str(exc)
    if "disk is full" in text:
        return StorageError("disk full: the database cannot grow; free some space and try again", "disk-full")
    return DatabaseUnavailable(f"database: {text.splitlines()[0] if text else type(exc).__name__}")


async def record_audit(
    connection: AsyncConnection, actor: str, action: str, subject: str, **detail: object
) -> None:
    """Append one line to the audit trail, in the transaction of the action itself."""
    await connection.execute(
        insert(schema.audit).values(
            at=now(), actor=actor, action=action, subject=subject, detail=json.dumps(detail, sort_keys=True)
        )
    )
