"""Requests that came whole and ask for what is answered for many at once: they need no task, and no cycle.

Nearly all that devices ask is a check-in, in one piece. Whatever else comes on the same connection, one that
comes in pieces, and one that is refused before it waits with the others, go the way of every request.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from fota_server import request_id
from fota_server.connection import PlaneProtocol
from fota_server.listener import TlsListener

Headers = tuple[tuple[bytes, bytes], ...]
_END = b"\r\n\r\n"
_OWN_ID = request_id.HEADER + b":"
_LONGEST_HEAD = 512
_MOST_HEADS = 256
"""Heads that are kept. A fleet has a few: by host name, and by the length of what it says."""


class AtOnce:
    """What is answered at once: POST to ``path``. ``headers``: of its answer, but for its length.

    ``ask(scope, body)`` returns what the body of the answer will be, and raises what is to be said to this
    client otherwise; it is asked again then, and says so, as the application. ``refused(scope, reason)``: the
    answer to what failed later. Of the scope they may use ``client`` and ``extensions["tls"]``.

    The heads of such requests are kept, each with the length of the body behind it, as the parser read it: a
    fleet sends the same few again and again, and they need not be parsed each time (ADR 86).
    """

    def __init__(
        self,
        path: bytes,
        headers: Headers,
        ask: Callable[[Scope, bytes], "asyncio.Future[bytes]"],
        refused: Callable[[Scope, BaseException], Response],
    ) -> None:
        self.path = path
        self.headers = headers
        self.ask = ask
        self.refused = refused
        self._heads: dict[bytes, int] = {}

    def learn(self, came: bytes, body: bytes) -> None:
        """Keep the head of a request that was read, and asked, if it came alone and in one piece."""
        head, end, rest = came.partition(_END)
        if rest == body and len(head) < _LONGEST_HEAD and _OWN_ID not in head.lower():
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[head + end] = len(body)

    def body_of(self, came: bytes) -> bytes | None:
        """Return the body of a request whose head has the very bytes of one that was read before, or None."""
        end = came.find(_END) + len(_END)
        size = self._heads.get(came[:end])
        return came[end:] if size == len(came) - end else None


class _Asked:
    """A request that waits for its answer, in the place of uvicorn's ``RequestResponseCycle``."""

    def __init__(self, scope: Scope, request: str) -> None:
        self.scope = scope
        self.request = request
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = self  # nobody waits for it

    def set(self) -> None:
        """As of an event."""


class AtOnceProtocol(PlaneProtocol):
    """One connection of a plane that answers some requests at once."""

    at_once: AtOnce
    _held: bytearray | None = None  # the body so far of a request that may be one
    _came = b""  # what is being read, if a request begins with it

    def data_received(self, data: bytes) -> None:
        """What is not whole now waits as any other."""
        begins = self._in_header and not self._header_size and not self.transport.is_closing()
        if begins and self._is_free() and self._ask_unread(data):
            return
        self._came = data if begins else b""
        super().data_received(data)
        self._came = b""
        if self._held is not None and not self.transport.is_closing():
            self._as_any_other()

    def begin(self) -> None:
        """Hold what may be answered at once until its body is here."""
        if (
            self.url == self.at_once.path
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and self._is_free()
        ):
            self._held = bytearray()
        else:
            super().begin()

    def on_body(self, body: bytes) -> None:
        """Collect it; it came in one read, which bounds it."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        """Ask, if it is whole."""
        if self._held is not None and self._ask(body := bytes(self._held)):
            self.at_once.learn(self._came, body)
            self._held = None
            self.await_header()
            return
        if self._held is not None:
            self._as_any_other()
        super().on_message_complete()

    def _is_free(self) -> bool:
        """Nothing that was asked on this connection waits for its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _ask_unread(self, data: bytes) -> bool:
        """Ask what the parser need not read, as it has read the same head before; tell whether it was so."""
        body = self.at_once.body_of(data)
        if body is None:
            return False
        about: Any = {"client": self.client, "extensions": {"tls": self._tls}}
        self.scope, self._request = about, request_id.choose()
        if not self._ask(body):
            return False
        self._unset_keepalive_if_required()
        self._slow.off()
        self.visit.asked = True
        return True

    def _ask(self, body: bytes) -> bool:
        """Ask, and tell whether there will be an answer."""
        scope: Any = self.scope
        with request_id.about(self._request):
            try:
                answer = self.at_once.ask(scope, body)
            except Exception:
                return False
        asked: Any = _Asked(scope, self._request)
        self.cycle = self._answered = asked
        self.tasks.add(answer)  # type: ignore[arg-type]
        answer.add_done_callback(partial(self._answer, asked))
        return True

    def _as_any_other(self) -> None:
        held, self._held = self._held, None
        super().begin()
        if held:
            super().on_body(bytes(held))

    def _answer(self, asked: _Asked, answer: "asyncio.Future[bytes]") -> None:
        self.tasks.discard(answer)
        if answer.cancelled():
            self.hang_up()
            return
        reason = answer.exception()
        if asked.disconnected or self.transport.is_closing():
            return
        if reason is None:
            self._reply(asked, 200, self.at_once.headers, answer.result())
            return
        with request_id.about(asked.request):
            refusal = self.at_once.refused(asked.scope, reason)
        headers = tuple(field for field in refusal.raw_headers if field[0] != b"content-length")
        self._reply(asked, refusal.status_code, headers, bytes(refusal.body))

    def _reply(self, asked: _Asked, status: int, headers: Headers, body: bytes) -> None:
        if (b"connection", b"close") in headers:
            asked.keep_alive = False
        elif not asked.keep_alive:
            headers = (*headers, (b"connection", b"close"))
        head = [STATUS_LINE[status]]
        for name, value in (*self.always, *headers):
            head += (name, b": ", value, b"\r\n")
        head += (request_id.HEADER, b": ", asked.request.encode(), b"\r\n")
        self.transport.write(b"".join((*head, b"content-length: %d\r\n\r\n" % len(body), body)))
        asked.response_complete = True
        if not asked.keep_alive:
            self.transport.close()
        self.on_response_complete()


class AtOnceListener(TlsListener):
    """A plane that answers some requests at once; beside ``at_once`` as any other."""

    speaks = AtOnceProtocol

    def __init__(self, *args: Any, at_once: AtOnce, **more: Any) -> None:  # noqa: ANN401 - as `TlsListener`
        super().__init__(*args, **more)
        self._protocol.at_once = at_once
