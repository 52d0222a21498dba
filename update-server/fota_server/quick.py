"""The hot path's statements: spelled once, and handed to the driver as they are.

SQLAlchemy describes a statement and knows how each database spells it; to run it through its layers costs a
check-in more than the database does. Nor is a thread in between where none is needed: a range of 4 KiB asks
the database whether this device may have it, each time anew, so that a revocation counts at once. SQLite
answers in 0.02 ms, from the event loop: the answer stands in pages that are in memory, and in WAL mode no
reader waits for a writer. PostgreSQL is asked by connections that the loop watches: one way there and back.
"""

import asyncio
import sqlite3
from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from sqlalchemy import Connection, Dialect, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError

from fota_server.database import READERS, Database, sqlite_path, sqlite_url, unavailable

if TYPE_CHECKING:
    from fota_server.watched import Watched

_SQLITE = sqlite.dialect(paramstyle="named")


class Statement:
    """A SELECT or an UPDATE with named parameters. Rows have the names of its columns, and what the driver
    gives: SQLite's truth is 0 or 1. The value of an expanding parameter is a list, not empty.
    """

    def __init__(self, query: Select[Any] | Update) -> None:
        self._query = query
        columns = query.selected_columns if isinstance(query, Select) else ()
        self.row: Any = namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]
        self._spelled: dict[tuple[object, ...], tuple[str, dict[str, object]]] = {}

    def spelled(self, dialect: Dialect, **sizes: int) -> tuple[str, dict[str, object]]:
        """Return the text for a database and lists of these sizes, and the constants in it."""
        key = (dialect.name, *sizes.items())
        if key not in self._spelled:
            compiled = self._query.compile(dialect=_SQLITE if dialect.name == "sqlite" else dialect)
            unknown: dict[str, Any] = dict.fromkeys(compiled.params)
            unknown |= {name: [None] * size for name, size in sizes.items()}
            known = {name: value for name, value in compiled.params.items() if value is not None}
            spelled = compiled.construct_expanded_state(unknown | known)
            constants = {name: value for name, value in spelled.parameters.items() if value is not None}
            self._spelled[key] = spelled.statement, constants
        return self._spelled[key]

    def rows(self, connection: Connection, **parameters: object) -> list[Any]:
        """Return all rows, within a transaction."""
        values, sizes = _spread(parameters)
        text, constants = self.spelled(connection.dialect, **sizes)
        cursor = connection.connection.cursor()
        cursor.execute(text, constants | values)
        return [self.row(*found) for found in cursor.fetchall()]

    def each(self, connection: Connection, changes: Sequence[dict[str, object]]) -> None:
        """Run it once for each of ``changes``, within a transaction."""
        if not changes:
            return
        text, constants = self.spelled(connection.dialect)
        filled = [constants | change for change in changes] if constants else changes
        connection.connection.cursor().executemany(text, filled)


def _spread(parameters: dict[str, object]) -> tuple[dict[str, object], dict[str, int]]:
    """Return parameters with each list as single values, and the lists' sizes. Lists grow to a power of two
    by their last value, so that there are few texts, and each finds its rows by the index.
    """
    values: dict[str, object] = {}
    sizes: dict[str, int] = {}
    for name, value in parameters.items():
        if isinstance(value, list):
            sizes[name] = 1 << (len(value) - 1).bit_length()
            grown = value + value[-1:] * (sizes[name] - len(value))
            values |= {f"{name}_{place}": one for place, one in enumerate(grown, 1)}
        else:
            values[name] = value
    return values, sizes


class Reader(Protocol):
    """Reads rows outside of any other transaction; each statement sees what was committed before it."""

    async def first(self, statement: Statement, **parameters: object) -> Any:  # noqa: ANN401 - a row
        """Return the first row, or None.

        Raises:
            DatabaseUnavailable: the database failed.
        """

    async def rows(self, statement: Statement, **parameters: object) -> list[Any]:
        """Return all rows.

        Raises:
            DatabaseUnavailable: the database failed.
        """

    def close(self) -> None:
        """Read no more."""


def open_reader(database: Database) -> Reader:
    """Return the quickest reader of a database."""
    path = sqlite_path(database.url)
    return _Watching(database) if path is None else _OnTheLoop(path)


class _Watching:
    """Some connections that the event loop watches; a thread opens them, and nothing else."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._url = database.url
        self._openers = ThreadPoolExecutor(1, "quick")
        self._places = asyncio.Semaphore(READERS)
        self._free: list[Watched] = []

    async def first(self, statement: Statement, **parameters: object) -> Any:  # noqa: ANN401 - as it was asked for
        rows = await self.rows(statement, **parameters)
        return rows[0] if rows else None

    async def rows(self, statement: Statement, **parameters: object) -> list[Any]:
        values, sizes = _spread(parameters)
        text, constants = statement.spelled(self._engine.dialect, **sizes)
        failures = SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error
        try:
            async with self._places:
                try:
                    found = await self._ask(text, constants | values)
                except failures:
                    # it may have died while it was idle, and so may others: once more, by a new one
                    self._close_all()
                    found = await self._ask(text, constants | values)
        except failures as exc:
            raise unavailable(exc, self._url) from exc
        return [statement.row(*row) for row in found]

    async def _ask(self, text: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
        from fota_server.watched import Watched

        if self._free:
            one = self._free.pop()
        else:
            connect = asyncio.get_running_loop().run_in_executor(self._openers, self._engine.connect)
            one = Watched(await connect)
        try:
            found = await one.rows(text, values)
        except BaseException:
            one.close()
            raise
        self._free.append(one)
        return found

    def _close_all(self) -> None:
        while self._free:
            self._free.pop().close()

    def close(self) -> None:
        self._openers.shutdown()
        self._close_all()


class _OnTheLoop:
    def __init__(self, path: Path) -> None:
        place = f"file:{quote(str(path.resolve()))}?mode=ro"
        self._url = sqlite_url(path)
        try:
            self._connection = sqlite3.connect(place, uri=True, isolation_level=None, timeout=1)
        except sqlite3.Error as exc:
            raise unavailable(exc, self._url) from exc

    async def first(self, statement: Statement, **parameters: object) -> Any:  # noqa: ANN401 - as it was asked for
        rows = await self.rows(statement, **parameters)
        return rows[0] if rows else None

    async def rows(self, statement: Statement, **parameters: object) -> list[Any]:
        values, sizes = _spread(parameters)
        text, constants = statement.spelled(_SQLITE, **sizes)
        try:
            found = self._connection.execute(text, constants | values).fetchall()
        except sqlite3.Error as exc:
            raise unavailable(exc, self._url) from exc
        return [statement.row(*row) for row in found]

    def close(self) -> None:
        self._connection.close()
