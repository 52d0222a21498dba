"""Small reads for the hot path: one SQLite connection, used from the event loop, statements compiled once.

A range of 4 KiB asks the database whether this device may have it, each time anew, so that a revocation
counts at once. Through SQLAlchemy and its thread that costs 4 ms, of which the answer itself is 0.02: it
stands in pages that are in memory, and in WAL mode no reader waits for a writer.
"""

import sqlite3
from collections import namedtuple
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from fota_server.database import unavailable


class Statement:
    """A SELECT with named parameters, as SQL text; its rows have the names of its columns."""

    def __init__(self, query: Select[Any]) -> None:
        dialect = sqlite.dialect(paramstyle="named")
        compiled = query.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self.text = str(compiled)
        self.constants = dict(compiled.params)
        self.row = namedtuple("Row", [column.key for column in query.selected_columns])  # type: ignore[misc]


class QuickReader:
    """One connection that only reads; each statement sees what was committed before it."""

    def __init__(self, path: Path) -> None:
        place = f"file:{quote(str(path.resolve()))}?mode=ro"
        self._path = path
        try:
            self._connection = sqlite3.connect(place, uri=True, isolation_level=None, timeout=1)
        except sqlite3.Error as exc:
            raise unavailable(exc, path) from exc

    def first(self, statement: Statement, **parameters: object) -> Any:  # noqa: ANN401 - a row as it was asked for
        """Return the first row, or None.

        Raises:
            DatabaseUnavailable: the database failed.
        """
        try:
            found = self._connection.execute(statement.text, statement.constants | parameters).fetchone()
        except sqlite3.Error as exc:
            raise unavailable(exc, self._path) from exc
        return None if found is None else statement.row(*found)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
