"""The database: opening it, its pragmas, its transactions, its errors. All above speaks SQLAlchemy Core.

A transaction is one plain function over a `Connection`: it reads, decides and writes, and has no effect but
on the database. A coroutine has it run whole on a worker thread and waits once (`Database.read`, `write`).
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from fota_server import migrations
from fota_server.audit import record_audit as record_audit
from fota_server.clock import now as now
from fota_wire.errors import FotaError, InputError
from fota_wire.host_sqlite import DISK_FULL, of_sqlite

READERS = 4

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseUnavailable(FotaError):
    """The database does not answer, is locked for too long, or its disk is full."""

    exit_code = 5


def open_engine(url: str) -> Engine:
    """Return an engine for a SQLAlchemy URL; nothing is connected yet."""
    engine = create_engine(url)
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(path.resolve())).render_as_string()


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
        raise InputError("database_url is no URL: use sqlite:////PATH, or leave it out") from exc
    driver = parsed.drivername.removesuffix("+aiosqlite")  # what earlier servers took
    if driver != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise InputError(
            f"database_url names {parsed.drivername}: this server keeps its data in a SQLite file, "
            "sqlite:////PATH"
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
    """Transactions over an engine; every driver error leaves as ``DatabaseUnavailable``.

    Writes have a thread of their own, which takes them first come, first served: who plans for many keeps
    nobody waiting longer than for a page. Reads go on beside it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = Path(engine.url.database or "")
        self._reader = engine.execution_options(fota_read_only=True)
        self._writers = ThreadPoolExecutor(1, "writer")
        self._readers = ThreadPoolExecutor(READERS, "reader")

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what ``work`` does, in a read-write transaction that any exception of its rolls back.

        Once begun it runs to its end, whoever is cancelled meanwhile.

        Raises:
            DatabaseUnavailable: the database failed at any point, commit included; nothing was written.
        """
        job = partial(self.transact, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._writers, job)

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what ``work`` finds, in a transaction that only reads.

        Raises:
            DatabaseUnavailable: the database failed.
        """
        job = partial(self._transact, self._reader, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, job)

    def transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``write``, here and now: for whoever has no event loop."""
        return self._transact(self._engine, work, *args, **kwargs)

    def _transact(
        self,
        engine: Engine,
        work: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            with engine.begin() as connection:
                return work(connection, *args, **kwargs)
        except SQLAlchemyError as exc:
            raise unavailable(exc, self._path) from exc

    def bring_up_to_date(self) -> bool:
        """Make the tables if there are none, else lead them to today's schema; return whether they were made.

        Raises:
            InputError: a newer server has used this database.
        """
        if self.transact(migrations.create):
            return True
        while self.transact(migrations.take_step):
            pass
        return False

    def close(self) -> None:
        """Wait for the transactions under way, and close all connections."""
        self._writers.shutdown()
        self._readers.shutdown()
        self._engine.dispose()


def unavailable(exc: SQLAlchemyError | sqlite3.Error, path: Path) -> FotaError:
    """Return what a caller, of the network too, is told of a failure of the database at ``path``."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    if not isinstance(cause, sqlite3.Error):
        return DatabaseUnavailable(f"{path.name}: {str(exc).partition(chr(10))[0] or type(exc).__name__}")
    told = of_sqlite(cause, path, path.name)
    return told if told.code == DISK_FULL else DatabaseUnavailable(told.message)
