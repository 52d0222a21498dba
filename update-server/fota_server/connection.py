"""One connection of a plane: uvicorn's HTTP parser, our limits, and the client certificate in the ASGI scope.

uvicorn 0.54 does not show the certificate to the application. ``PlaneProtocol`` fills
``scope["extensions"]["tls"]`` as the ASGI TLS extension describes it, so that it can go when uvicorn does so
itself. It leans on uvicorn's ``HttpToolsProtocol``, which is not a public interface: uvicorn is pinned, and
tests/server shows that the hooks work.
"""

import asyncio
import contextlib
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from fota_server import request_id
from fota_server.alarm import Alarm
from fota_server.door import Door, Room, Visit
from fota_server.handshake import Patience

ErrorBody = Callable[[str, str], tuple[bytes, bytes]]
"""(code, message) -> (content type, body): how a plane words an error."""
Gate = Callable[[Mapping[object, object], str], tuple[int, str, str] | None]
"""(ASGI TLS extension, address) -> (status, code, message) to a client that may not speak at all, or None."""
OnVisit = Callable[[Mapping[object, object], str], None]
"""(ASGI TLS extension, address): somebody has shown a certificate, in a handshake that cost us one."""
OnUnread = Callable[[Mapping[object, object], str, str, str], None]
"""(ASGI TLS extension, address, code, message): what a client sent could not be taken for a request."""


FRONTS = b"x-fota-device-"
"""How the names of header fields begin that a front alone may send (front.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may take. Times in seconds, sizes in bytes. ``per_client``: connections of one
    client certificate at a time. ``handshake_s``: some 2 KiB either way, at the 256 B/s that are promised.
    """

    header_bytes: int = 8192
    header_s: float = 10.0
    handshake_s: float = 30.0
    keep_alive_s: float = 75.0
    room: Room = field(default_factory=Room)
    per_client: int = 8
    drain_s: float = 5.0
    patience: Patience = field(default_factory=Patience)


class PlaneProtocol(HttpToolsProtocol):
    """One connection. A request's header must be complete in ``header_s`` and ``header_bytes``."""

    limits: Limits
    error_body: ErrorBody
    always: tuple[tuple[bytes, bytes], ...]  # header fields of every answer, beside the id of its request
    welcomed: Counter  # handshakes that were done
    gate: Gate
    on_visit: OnVisit
    on_unread: OnUnread
    door: Door
    visit: Visit
    _tls: dict[object, object]
    clients: "defaultdict[str, list[PlaneProtocol]]"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the TLS facts once; a connection has one client for its life."""
        super().connection_made(transport)
        self.welcomed.inc()
        self._header_size = 0
        self._in_header = True
        self._first = True
        self._request = request_id.choose()
        self._slow = Alarm(self.loop, self.limits.header_s, self._header_too_slow)
        self._idle = Alarm(self.loop, self.limits.keep_alive_s, self.timeout_keep_alive_handler)
        self._tls = _tls_extension(transport)
        self._client = str(self._tls.get("client_cert_chain"))
        self._objection: tuple[int, str, str] | None = None
        self._answered: RequestResponseCycle | None = None
        if self._tls.get("client_cert_chain"):
            self.vouch()
            self.on_visit(self._tls, self.client[0] if self.client else "")
            self.clients[self._client].append(self)
            if len(self.clients[self._client]) > self.limits.per_client:
                # The oldest goes: it may be one that the network lost, and the device is not to wait for
                # that.
                self.clients[self._client].pop(0).hang_up()
        if not self.refuse_at_gate():
            self._slow.set()

    @property
    def most_bytes(self) -> int:
        """Bytes of a header with all that may be in it."""
        return self.limits.header_bytes

    def vouch(self) -> None:
        """Its client is known: no newcomer any more."""
        self.door.vouch(self.visit)

    def refuse_at_gate(self) -> bool:
        """Answer and close if this client may not speak, whatever it is about to say; tell whether so."""
        with request_id.about(self._request):
            refusal = self.gate(self._tls, self.client[0] if self.client else "")
        if refusal is not None and not self.transport.is_closing():
            self._refuse(*refusal)
        return refusal is not None

    def hang_up(self) -> None:
        """End the connection at once, also one that is just ending: TLS transports of Python 3.11.2, Debian
        12's, cannot be aborted twice.
        """
        with contextlib.suppress(AttributeError):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer, one connection of this client, and what it asked for ahead: of several requests,
        uvicorn tells the last alone that nobody is there.
        """
        self._slow.close()
        self._idle.close()
        self.pipeline.clear()
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()
        mine = self.clients.get(self._client, [])
        if self in mine:
            mine.remove(self)
        if self._client in self.clients and not mine:
            del self.clients[self._client]
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Count header bytes before the parser collects them."""
        if self.transport.is_closing():
            return
        if self._in_header:
            if not self._slow.is_set():  # the first byte of a further request on this connection
                self._slow.set()
            self._header_size += len(data)
        in_header_before = self._in_header
        super().data_received(data)
        # Body bytes may have come with the same read: only a header still open after it is surely too long.
        # One that came whole is counted field by field.
        if self.transport.is_closing():
            return  # it was refused already
        if in_header_before and self._in_header and self._header_size > self.most_bytes:
            self._object(*self._too_long())
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Add the TLS extension to the scope of each request, and what says that its client is known."""
        super().on_message_begin()
        self._parsed_size = 0
        self.scope["extensions"] = {"tls": dict(self._tls), "fota.known": {"say": self.vouch}}

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url) + 16)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header field; one behind a body would be collected without an end.

        Raises:
            ValueError: a trailer field, one that a front alone may send, or the header is too long.
        """
        if not self._in_header:
            raise ValueError("trailer fields are not taken")
        if name[: len(FRONTS)].lower() == FRONTS:
            self.on_front_header(name.lower(), value)
            return
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_front_header(self, name: bytes, value: bytes) -> None:
        """Refuse what would say in somebody else's name who is at the other end.

        Raises:
            ValueError: always, here.
        """
        raise self._object(400, "front-header", f"{name[:64].decode('latin-1')} is no client's to send")

    def _count(self, size: int) -> None:
        self._parsed_size += size
        if self._parsed_size > self.limits.header_bytes:
            raise self._object(*self._too_long())

    def _too_long(self) -> tuple[int, str, str]:
        return 431, "header-too-large", f"request header is longer than {self.limits.header_bytes} bytes"

    def _object(self, status: int, code: str, message: str) -> ValueError:
        """Say what is wrong with a request; raised within the parser, this ends in ``send_400_response``."""
        self._objection = self._objection or (status, code, message)
        return ValueError(message)

    def on_headers_complete(self) -> None:
        """Stop the clock of the header.

        Raises:
            ValueError: not exactly one Host (RFC 9112 section 3.2).
        """
        hosts, given = 0, None
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == request_id.HEADER:
                given = value
        self._request = request_id.choose(given)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            raise self._object(400, "host", f"the request has {hosts} Host fields: send one")
        self._in_header = False
        self._slow.off()
        self.visit.asked = True
        self.scope["extensions"]["fota.request"] = {"id": self._request}
        self.begin()

    def begin(self) -> None:
        """Have the application answer."""
        super().on_headers_complete()
        # Its task has not begun: whatever writes the head of the answer writes this, too.
        self.cycle.default_headers = self._headers()

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [*self.always, (request_id.HEADER, self._request.encode())]

    def on_message_complete(self) -> None:
        """Begin to count the next header."""
        super().on_message_complete()
        self.await_header()

    def await_header(self) -> None:
        """What comes now is a header."""
        self._in_header = True
        self._header_size = 0

    def on_response_complete(self) -> None:
        """Go on with the next request, which is uvicorn's part of it, but for its timer; behind an answer to
        half a request there is none.
        """
        half = not self._in_header and not self.pipeline  # else it is a later one that is still to come
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if half:
            self.transport.close()
        elif self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle.set()

    def _unset_keepalive_if_required(self) -> None:
        """Somebody speaks."""
        self._idle.off()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or not taken, in the words of this plane."""
        self._refuse_unread(*(self._objection or (400, "not-http", msg)))

    def _header_too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse_unread(408, "too-slow", f"no complete request in {self.limits.header_s:g} s")

    def _refuse_unread(self, status: int, code: str, message: str) -> None:
        with request_id.about(self._request):
            self.on_unread(self._tls, self.client[0] if self.client else "", code, message)
        self._refuse(status, code, message)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._slow.off()
        content_type, body = self.error_body(code, message)
        head = [
            STATUS_LINE[status],
            b"content-type: ",
            content_type,
            b"\r\ncontent-length: %d\r\n" % len(body),
            *(b"%s: %s\r\n" % header for header in self._headers()),
        ]
        if status == 503:
            head.append(b"retry-after: 30\r\n")
        self.transport.write(b"".join([*head, b"connection: close\r\n\r\n", body]))
        self.transport.close()


def _tls_extension(transport: asyncio.Transport) -> dict[object, object]:
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return {}
    leaf = tls.getpeercert(binary_form=True)
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(leaf)] if leaf else [],
        "client_cert_error": None,
        "tls_version": {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}.get(tls.version() or ""),
        "cipher_suite": None,
    }
