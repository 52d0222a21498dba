"""A connection to PostgreSQL that the event loop watches: asked by libpq's own calls, which wait for nothing.

A thread in between, or psycopg's own waiting in the loop, costs a batch of check-ins four times what asking
does (ADR 87). The driver dumps parameters and loads rows as ever, and this speaks by its public ``pq`` and
``adapt``. It asks one statement at a time, each prepared once and a transaction of its own.
"""

import asyncio
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from psycopg import Error, OperationalError, pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from sqlalchemy import Connection

_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Watched:
    """One connection; ``connection`` is in autocommit, and nobody else's from now on."""

    def __init__(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        self._connection = connection
        self._pg: pq.abc.PGconn = driver.pgconn
        self._words = Transformer(driver)
        self._prepared: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._answer: asyncio.Future[list[pq.abc.PGresult]] | None = None
        self._results: list[pq.abc.PGresult] = []
        self._loop = asyncio.get_running_loop()
        self._socket = self._pg.socket
        self._loop.add_reader(self._socket, self._hear)

    async def rows(self, text: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return what a statement finds; ``text`` as SQLAlchemy spells it for psycopg.

        Raises:
            psycopg.Error: the database refused it, or the connection is dead.
        """
        query, names = _numbered(text)
        given = self._words.dump_sequence([values[name] for name in names], [PyFormat.AUTO] * len(names))
        types, formats = self._words.types or (), self._words.formats
        name = self._prepared.get((text, types))
        if name is None:
            name = b"fota_%d" % len(self._prepared)
            await self._ask(lambda: self._pg.send_prepare(name, query, types))
            self._prepared[text, types] = name
        found = await self._ask(lambda: self._pg.send_query_prepared(name, given, formats))
        self._words.set_pgresult(found)
        return self._words.load_rows(0, found.ntuples, tuple)

    async def _ask(self, send: Any) -> pq.abc.PGresult:  # noqa: ANN401 - a call of `pq`
        self._answer, self._results = self._loop.create_future(), []
        send()
        if self._pg.flush():
            self._loop.add_writer(self._socket, self._send_rest)
        result = (await self._answer)[-1]
        if result.status not in _GOOD:
            raise error_from_result(result)
        return result

    def _send_rest(self) -> None:
        """Go on with a statement that did not fit into the socket's buffer."""
        try:
            if not self._pg.flush():
                self._loop.remove_writer(self._socket)
        except Error as exc:
            self._end(exc)

    def _hear(self) -> None:
        """Take what has come; with nothing under way that is a notice, or the end."""
        try:
            self._pg.consume_input()
            while not self._pg.is_busy():
                result = self._pg.get_result()
                if result is None:
                    self._tell(None)
                    return
                self._results.append(result)
        except Error as exc:
            self._end(exc)

    def _end(self, why: Error) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._tell(why)

    def _tell(self, why: Error | None) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        if why is None and self._results:
            answer.set_result(self._results)
        else:
            answer.set_exception(why or OperationalError("the database gave no answer"))

    def close(self) -> None:
        """Ask no more, whatever is under way."""
        self._end(OperationalError("the connection is closed"))
        self._connection.invalidate()
        self._connection.close()


@lru_cache(256)
def _numbered(text: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement with ``$1`` in place of ``%(name)s``, as the protocol has it, and the names."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found.group(1)
        return "%" if name is None else f"${names.setdefault(name, len(names) + 1)}"

    query = re.sub(r"%(?:%|\((\w+)\)s)", number, text)
    return query.encode(), tuple(names)
