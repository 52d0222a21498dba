"""The database: opening it, its pragmas, its errors. Everything above speaks SQLAlchemy Core."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fota_server import migrations
from fota_server.audit import record_audit as record_audit
from fota_server.clock import now as now
from fota_wire.errors import FotaError, InputError
from fota_wire.host_sqlite import DISK_FULL, of_sqlite


class DatabaseUnavailable(FotaError):
    """The database does not answer, is locked for too long, or its disk is full."""

    exit_code = 5


def open_engine(url: str) -> AsyncEngine:
    """Return an engine for a SQLAlchemy URL; nothing is connected yet."""
    engine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _sqlite_connect)
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return engine


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite+aiosqlite", database=str(path.resolve())).render_as_string()


def database_path(url: str | None, data: Path) -> Path:
    """Return the file of the database that config.json names, or of the data folder's own.

    Raises:
        InputError: the URL names something else than a SQLite file.
    """
    if url is None:
        return data / "fota.db"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise InputError("database_url is no URL: use sqlite+aiosqlite:////PATH, or leave it out") from exc
    if parsed.drivername != "sqlite+aiosqlite" or not parsed.database or parsed.database == ":memory:":
        raise InputError(
            f"database_url names {parsed.drivername}: this server keeps its data in a SQLite file, "
            "sqlite+aiosqlite:////PATH"
        )
    return data / parsed.database


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
        self._path = Path(engine.url.database or "")
        self._reader = engine.execution_options(fota_read_only=True)
        self._turn = asyncio.Lock()  # first come, first served: who plans for many keeps nobody waiting

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a read-write transaction; it is committed at the end, rolled back by any exception.

        Raises:
            DatabaseUnavailable: the database failed at any point, commit included; nothing was written.
        """
        try:
            async with self._turn, self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            raise unavailable(exc, self._path) from exc

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that only reads.

        Raises:
            DatabaseUnavailable: the database failed.
        """
        try:
            async with self._reader.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            raise unavailable(exc, self._path) from exc

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


def unavailable(exc: SQLAlchemyError | sqlite3.Error, path: Path) -> FotaError:
    """Return what a caller, of the network too, is told of a failure of the database at ``path``."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    if not isinstance(cause, sqlite3.Error):
        return DatabaseUnavailable(f"{path.name}: {str(exc).partition(chr(10))[0] or type(exc).__name__}")
    told = of_sqlite(cause, path, path.name)
    return told if told.code == DISK_FULL else DatabaseUnavailable(told.message)
