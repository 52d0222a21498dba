"""Which of the servers that share a database does what one of them does alone (ADR 79).

On PostgreSQL that is who holds a lock that belongs to a connection: it is free again once the connection is
gone, at once when a process is killed, and after `SILENT_S` when one stands still or its machine is cut off.
A SQLite file has one server (`locks.py`).
"""

import asyncio
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from fota_server.database import Database, sqlite_path, unavailable

SILENT_S = 60
"""PostgreSQL hangs up on a holder that has not asked for so long; it asks whenever it looks for work."""


class Alone:
    """One duty, by the number of its lock."""

    def __init__(self, database: Database, lock: int) -> None:
        self._database, self._lock = database, lock
        self._held: Any = None  # the driver's connection

    async def is_ours(self) -> bool:
        """Return whether this server has the duty; it takes one that nobody has.

        Raises:
            DatabaseUnavailable: the database does not answer; whoever is alone now, it is not this server.
        """
        return sqlite_path(self._database.url) is not None or await asyncio.to_thread(self._ask)

    def _ask(self) -> bool:
        engine = self._database.engine
        try:
            if self._held is None:
                pooled = engine.raw_connection()
                self._held = pooled.dbapi_connection
                pooled.detach()
                self._held.autocommit = True
                self._held.execute(f"SET idle_session_timeout = '{SILENT_S}s'")
            asked = f"SELECT pg_try_advisory_lock({self._lock})"
            return bool(self._held.execute(asked).fetchone()[0])
        except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as exc:
            self.give_up()
            raise unavailable(exc, self._database.url) from exc

    def give_up(self) -> None:
        """Let another server have it."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(self._database.engine.dialect.loaded_dbapi.Error):
                held.close()
