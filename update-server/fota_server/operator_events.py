"""The operator plane's handlers of what has changed: page by page, and as a stream (server-sent events)."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from fota_server import changes
from fota_server.database import Database, DatabaseUnavailable
from fota_server.operator_input import limit_of, number_of, query_text
from fota_server.tokens import Operator
from fota_wire.errors import FotaError, InputError

log = logging.getLogger("fota.server")

MAX_STREAMS = 32
"""Of one server at a time."""
POLL_S = 1.0
BEAT_S = 15.0
"""How often a stream that has nothing to tell says so, and whether its token is still in force is asked."""
STALL_S = 30.0
AT_ONCE = 500
_HIGHEST = (1 << 63) - 1


class TooManyStreams(FotaError):
    """Others have all there are."""


class EventHandlers:
    """What they need: the database. ``stop`` ends all streams, whose clients go on elsewhere or later."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._streams = 0
        self._ending = asyncio.Event()

    def stop(self) -> None:
        """End all streams."""
        self._ending.set()

    async def list_events(self, request: Request, operator: Operator) -> JSONResponse:
        """GET events?after&limit&kind: what has changed after a number, oldest first.

        ``kind``: only those that begin so, with commas between them. ``next``: as far as was looked.
        """
        limit, after = limit_of(request), number_of(request, "after", _HIGHEST, default=0)
        found, last = await self._database.read(
            changes.read_after, after, limit, operator.groups, _kinds(request)
        )
        return JSONResponse({"events": found, "next": last if len(found) == limit else None})

    async def stream(self, request: Request, operator: Operator) -> Response:
        """GET events/stream?after&kind: the same, and from then on as it happens, as server-sent events.

        Begins behind the header Last-Event-ID, or else ``after``, or else now.
        """
        after, kinds = await self._begin(request), _kinds(request)
        if self._streams >= MAX_STREAMS:
            raise TooManyStreams(f"{MAX_STREAMS} streams are open already: try again later", "streams")
        events = self._events(after, operator, kinds, request.scope["fota.again"])
        return _Stream(events, media_type="text/event-stream")

    async def _begin(self, request: Request) -> int:
        given = request.headers.get("last-event-id")
        if given is None:
            newest = await self._database.read(changes.newest)
            return number_of(request, "after", _HIGHEST, default=newest)
        if not (given.isascii() and given.isdigit()) or len(given) > 19 or int(given) > _HIGHEST:
            raise InputError("Last-Event-ID has to be the id of an event", "query")
        return int(given)

    async def _events(
        self, after: int, operator: Operator, kinds: list[str], again: Callable[[], Awaitable[Operator]]
    ) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        said = clock()
        self._streams += 1
        try:
            yield b": fota\n\n"
            while not self._ending.is_set():
                found, after = await self._database.read(
                    changes.read_after, after, AT_ONCE, operator.groups, kinds
                )
                if found:
                    yield b"".join(map(_event, found))
                if clock() - said > BEAT_S:
                    said = clock()
                    operator = await again()
                    yield b": \n\n"
                if len(found) < AT_ONCE:
                    await self._wait()
        except (DatabaseUnavailable, FotaError) as exc:
            log.warning("operator plane: a stream of %s ends: %s", operator.name, exc)
        finally:
            self._streams -= 1

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._ending.wait()
        except TimeoutError:
            return


def _kinds(request: Request) -> list[str]:
    return [kind for kind in (query_text(request, "kind") or "").split(",") if kind]


def _event(change: dict[str, Any]) -> bytes:
    data = json.dumps(change)  # one line: JSON writes a line feed as \n
    return f"id: {change['id']}\nevent: {change['kind']}\ndata: {data}\n\n".encode()


class _Stream(StreamingResponse):
    """Cut off where the client takes nothing for `STALL_S`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except TimeoutError:
            log.info("events: client took nothing for %g s", STALL_S)

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(STALL_S):
                await send(message)

        await super().stream_response(bounded)
