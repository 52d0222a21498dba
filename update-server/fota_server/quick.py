"""The hot path's statements: spelled once, and handed to the driver as they are.

SQLAlchemy describes a statement and knows how each database spells it; to run it through its layers costs a
check-in more than the database does. Nor is a thread in between where none is needed: a range of 4 KiB asks
the database whether this device may have it, each time anew, so that a revocation counts at once. SQLite
answers in 0.02 ms, from the event loop: the answer stands in pages that are in memory, and in WAL mode no
reader waits for a writer. PostgreSQL is asked as for any other read.
"""

import json
import sqlite3
from collections import namedtuple
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from sqlalchemy import Boolean, ColumnElement, Connection, Dialect, Integer, Select, Update, bindparam
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from fota_server.database import Database, sqlite_path, sqlite_url, unavailable

_SQLITE = sqlite.dialect(paramstyle="named")


class among(ColumnElement[bool]):
    """``among(column, "ids")``: the column's value is in the parameter, which is `listed`. One text of the
    statement for any number of them, one round trip.
    """

    inherit_cache = False
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], parameter: str) -> None:
        self.column = column
        self.parameter: Any = bindparam(parameter)


def listed(values: Iterable[object]) -> str:
    """Return values as `among` takes them."""
    return json.dumps(list(values))


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401
    column, values = (compiler.process(part, **kwargs) for part in (element.column, element.parameter))
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - the value is a parameter


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401
    column, values = (compiler.process(part, **kwargs) for part in (element.column, element.parameter))
    kind = "BIGINT" if isinstance(element.column.type, Integer) else "TEXT"
    return f"{column} = ANY(ARRAY(SELECT json_array_elements_text({values}::JSON)::{kind}))"


class Statement:
    """A SELECT or an UPDATE with named parameters. Rows have the names of its columns, and what the driver
    gives: SQLite's truth is 0 or 1.
    """

    def __init__(self, query: Select[Any] | Update) -> None:
        self._query = query
        columns = query.selected_columns if isinstance(query, Select) else ()
        self.row: Any = namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]
        self._spelled: dict[str, tuple[str, dict[str, object]]] = {}

    def spelled(self, dialect: Dialect) -> tuple[str, dict[str, object]]:
        """Return the text for a database, and the constants in it."""
        if dialect.name not in self._spelled:
            of = _SQLITE if dialect.name == "sqlite" else dialect
            compiled = self._query.compile(dialect=of, compile_kwargs={"render_postcompile": True})
            constants = {name: value for name, value in compiled.params.items() if value is not None}
            self._spelled[dialect.name] = str(compiled), constants
        return self._spelled[dialect.name]

    def rows(self, connection: Connection, **parameters: object) -> list[Any]:
        """Return all rows, within a transaction."""
        text, constants = self.spelled(connection.dialect)
        cursor = connection.connection.cursor()
        cursor.execute(text, constants | parameters)
        return [self.row(*found) for found in cursor.fetchall()]

    def each(self, connection: Connection, changes: Sequence[dict[str, object]]) -> None:
        """Run it once for each of ``changes``, within a transaction."""
        if not changes:
            return
        text, constants = self.spelled(connection.dialect)
        filled = [constants | change for change in changes] if constants else changes
        connection.connection.cursor().executemany(text, filled)


class Reader(Protocol):
    """Reads rows outside of any other transaction; each statement sees what was committed before it."""

    async def first(self, statement: Statement, **parameters: object) -> Any:  # noqa: ANN401 - a row
        """Return the first row, or None.

        Raises:
            DatabaseUnavailable: the database failed.
        """

    def close(self) -> None:
        """Read no more."""


def open_reader(database: Database) -> Reader:
    """Return the quickest reader of a database."""
    path = sqlite_path(database.url)
    return _Pooled(database) if path is None else _OnTheLoop(path)


class _Pooled:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def first(self, statement: Statement, **parameters: object) -> Any:  # noqa: ANN401 - as it was asked for
        rows = await self._database.read(lambda c: statement.rows(c, **parameters))
        return rows[0] if rows else None

    def close(self) -> None:
        pass


class _OnTheLoop:
    def __init__(self, path: Path) -> None:
        place = f"file:{quote(str(path.resolve()))}?mode=ro"
        self._url = sqlite_url(path)
        try:
            self._connection = sqlite3.connect(place, uri=True, isolation_level=None, timeout=1)
        except sqlite3.Error as exc:
            raise unavailable(exc, self._url) from exc

    async def first(self, statement: Statement, **parameters: object) -> Any:  # noqa: ANN401 - as it was asked for
        try:
            text, constants = statement.spelled(_SQLITE)
            found = self._connection.execute(text, constants | parameters).fetchone()
        except sqlite3.Error as exc:
            raise unavailable(exc, self._url) from exc
        return None if found is None else statement.row(*found)

    def close(self) -> None:
        self._connection.close()
