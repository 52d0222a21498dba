"""The database: opening it, its pragmas, its transactions, its errors. All above speaks SQLAlchemy Core.

A transaction is one plain function over a `Connection`: it reads, decides and writes, and has no effect but
on the database. A coroutine has it run whole on a worker thread and waits once (`Database.read`, `write`).
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.sql.expression import FromClause

from fota_server import migrations, postgresql
from fota_server.audit import record_audit as record_audit
from fota_server.clock import now as now
from fota_server.metrics import DATABASE_FAILURES, WRITE_SECONDS
from fota_server.postgresql import READ_ONLY
from fota_wire import campaign
from fota_wire.errors import FotaError, InputError, StorageError
from fota_wire.host_sqlite import DISK_FULL, of_sqlite

READERS = 4

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseUnavailable(FotaError):
    """The database does not answer, is locked for too long, or its disk is full."""

    exit_code = 5


def open_engine(url: URL) -> Engine:
    """Return an engine for the URL of a SQLite file or a PostgreSQL database; nothing is connected yet."""
    if url.get_backend_name() == "postgresql":
        return postgresql.open_engine(url)
    engine = create_engine(url)
    engine.dialect.statement_compiler = _WithHints
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


class _WithHints(SQLiteCompiler):
    """SQLite's words with ``INDEXED BY``: a query's hint, which fails where the index is of no use to it.

    The server keeps no statistics, so indexes with the same columns cost SQLite the same; it takes any.
    """

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text


def sqlite_url(path: Path) -> URL:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(path.resolve()))


def read_url(text: str | None, data: Path) -> URL:
    """Return the database that config.json names, or the data folder's own SQLite file.

    Raises:
        InputError: it is neither a SQLite file nor a PostgreSQL database.
    """
    if text is None:
        return sqlite_url(data / "fota.db")
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError) as exc:
        raise InputError(f"database_url is no URL: {_FORMS}, or leave it out") from exc
    if "\0" in unquote(text):
        raise InputError(f"database_url is no URL: {_FORMS}, or leave it out")
    driver = parsed.drivername.removesuffix("+aiosqlite")  # what earlier servers took
    if driver == "sqlite" and parsed.database and parsed.database != ":memory:":
        if parsed.query:
            raise InputError(f"database_url: '?{text.partition('?')[2]}' means nothing here: {_FORMS}")
        return sqlite_url(data / parsed.database)
    if driver in ("postgresql", "postgresql+psycopg"):
        if parsed.port is not None and not 0 < parsed.port < 65536:
            raise InputError(f"database_url: there is no port {parsed.port}: {_FORMS}")
        if not parsed.database:
            raise InputError(f"database_url names no database: {_FORMS}")
        return parsed.set(drivername="postgresql+psycopg")
    raise InputError(f"database_url names {parsed.drivername}, which is not served: {_FORMS}")


_FORMS = "use sqlite:////PATH or postgresql://USER@HOST/DATABASE"


def sqlite_path(url: URL) -> Path | None:
    """Return the file of a SQLite database; None for another one."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


@contextmanager
def beside(url: URL, data: Path) -> Iterator[Connection]:
    """Give a transaction that sees one moment of a server's database, and writes nothing.

    Raises:
        InputError: there is none.
        StorageError, DatabaseUnavailable: it cannot be read.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise InputError(f"{data}: no database there; has the server been started once?")
    engine = open_engine(url) if path is None else _read_only(path)
    try:
        with engine.execution_options(**{READ_ONLY: True}).begin() as connection:
            yield connection
    except DBAPIError as exc:
        if path is not None and isinstance(exc.orig, sqlite3.Error):
            raise of_sqlite(exc.orig, path) from exc
        raise unavailable(exc, url) from exc
    finally:
        engine.dispose()


def _read_only(path: Path) -> Engine:
    place = f"file:{quote(str(path.resolve()))}?mode=ro"
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(place, uri=True, timeout=10))


def _place(digest: str, device_id: str) -> int:
    """Return `campaign.place_of`, of hex: plans ask for it in SQL (campaigns.py)."""
    return campaign.place_of(bytes.fromhex(digest), bytes.fromhex(device_id))


def _sqlite_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    connection.create_function("fota_place", 2, _place, deterministic=True)
    connection.isolation_level = None  # transactions are ours, see _sqlite_begin
    cursor = connection.cursor()
    # FULL: what was acknowledged survives a power cut. Check-ins share commits, so it costs them little.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:  # noqa: ANN401 - sqlalchemy's event signature
    # A transaction that reads and then writes must hold the lock from its start: upgrading fails at once,
    # whatever busy_timeout says, when another writer came in between.
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    pooled = connection.connection
    if pooled.info.get(READ_ONLY) != read_only:  # said again, it would have SQLite parse all anew
        pooled.execute(f"PRAGMA query_only={int(read_only)}")
        pooled.info[READ_ONLY] = read_only
    pooled.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _turn(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as exc:
        raise StorageError(f"{path}: {exc.strerror}") from exc
    try:
        yield
    finally:
        os.close(fd)


class Database:
    """Transactions over an engine; every driver error leaves as ``DatabaseUnavailable``.

    Writes have a thread of their own, which takes them first come, first served: who plans for many keeps
    nobody waiting longer than for a page. Reads go on beside it. On PostgreSQL the servers that share a
    database take turns, too; processes that share a SQLite file by the lock on the file ``turn``: SQLite's
    own waiting is to look again, later and later, and who comes often comes first.
    """

    def __init__(self, engine: Engine, turn: Path | None = None) -> None:
        self.engine = engine
        self._turn = turn
        self.url = engine.url
        self._reader = engine.execution_options(**{READ_ONLY: True})
        self._writers = ThreadPoolExecutor(1, "writer")
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._searchers = ThreadPoolExecutor(1, "searcher")

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

    async def search(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As ``read``, of what may look through the whole fleet: one after the other, and whoever asks for
        little, or gives an order, waits for none of them.
        """
        job = partial(self._transact, self._reader, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._searchers, job)

    def transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``write``, here and now: for whoever has no event loop."""
        begun = perf_counter()
        try:
            with _turn(self._turn):
                return self._transact(self.engine, work, *args, **kwargs)
        finally:
            WRITE_SECONDS.observe(perf_counter() - begun)

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
        except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as exc:
            DATABASE_FAILURES.inc()
            raise unavailable(exc, self.url) from exc

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
        self._searchers.shutdown(cancel_futures=True)
        self.engine.dispose()


def unavailable(exc: Exception, url: URL) -> FotaError:
    """Return what a caller, of the network too, is told of a failure of the database at ``url``."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    path = sqlite_path(url)
    name = path.name if path else f"database {url.database} of {url.host or 'this machine'}"
    if isinstance(cause, sqlite3.Error) and path:
        told = of_sqlite(cause, path, name)
        return told if told.code == DISK_FULL else DatabaseUnavailable(told.message)
    if path is None and postgresql.is_full(cause):
        return StorageError(f"{name}: disk full: free some space and try again", DISK_FULL)
    return DatabaseUnavailable(f"{name}: {str(cause).partition(chr(10))[0] or type(cause).__name__}")
