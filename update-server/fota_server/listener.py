"""A TLS listener: uvicorn's HTTP parser, our limits, and the client certificate in the ASGI scope.

uvicorn 0.54 does not show the certificate to the application. ``PlaneProtocol`` fills
``scope["extensions"]["tls"]`` as the ASGI TLS extension describes it, so that it can go when uvicorn does so
itself. It leans on uvicorn's ``HttpToolsProtocol``, which is not a public interface: uvicorn is pinned, and
tests/server shows that the hooks work.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from fota_server.door import Door, Room, Visit
from fota_server.handshake import TlsProtocol
from fota_wire.errors import StorageError

log = logging.getLogger("fota.server")

ErrorBody = Callable[[str, str], tuple[bytes, bytes]]
"""(code, message) -> (content type, body): how a plane words an error."""
Gate = Callable[[Mapping[object, object], str], tuple[int, str, str] | None]
"""(ASGI TLS extension, address) -> (status, code, message) to a client that may not speak at all, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may take. Times in seconds, sizes in bytes. ``per_client``: connections of one
    client certificate at a time. ``handshake_s``: some 2 KiB either way, at the 256 B/s that are promised.
    """

    header_bytes: int = 8192
    header_s: float = 10.0
    handshake_s: float = 30.0
    keep_alive_s: int = 75
    room: Room = field(default_factory=Room)
    per_client: int = 8
    drain_s: float = 5.0


class PlaneProtocol(HttpToolsProtocol):
    """One connection. A request's header must be complete in ``header_s`` and ``header_bytes``."""

    limits: Limits
    error_body: ErrorBody
    gate: Gate
    door: Door
    visit: Visit
    clients: "defaultdict[str, list[PlaneProtocol]]"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the TLS facts once; a connection has one client for its life."""
        super().connection_made(transport)
        self._header_size = 0
        self._in_header = True
        self._first = True
        self._deadline: asyncio.TimerHandle | None = None
        self._tls = _tls_extension(transport)
        self._client = str(self._tls.get("client_cert_chain"))
        self._objection: tuple[int, str, str] | None = None
        if self._tls.get("client_cert_chain"):
            self.vouch()
            self.clients[self._client].append(self)
            if len(self.clients[self._client]) > self.limits.per_client:
                # The oldest goes: it may be one that the network lost, and the device is not to wait for
                # that.
                self.clients[self._client].pop(0).hang_up()
        if not self.refuse_at_gate():
            self._arm()

    def vouch(self) -> None:
        """Its client is known: no newcomer any more."""
        self.door.vouch(self.visit)

    def refuse_at_gate(self) -> bool:
        """Answer and close if this client may not speak, whatever it is about to say; tell whether so."""
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
        """Forget the timer, and one connection of this client."""
        self._disarm()
        mine = self.clients.get(self._client, [])
        if self in mine:
            mine.remove(self)
        if self._client in self.clients and not mine:
            del self.clients[self._client]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count header bytes before the parser collects them."""
        if self.transport.is_closing():
            return
        if self._in_header:
            if self._deadline is None:  # the first byte of a further request on this connection
                self._arm()
            self._header_size += len(data)
        in_header_before = self._in_header
        super().data_received(data)
        # Body bytes may have come with the same read: only a header still open after it is surely too long.
        # One that came whole is counted field by field.
        if in_header_before and self._in_header and self._header_size > self.limits.header_bytes:
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
            ValueError: a trailer field, or the header is too long.
        """
        if not self._in_header:
            raise ValueError("trailer fields are not taken")
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

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
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            raise self._object(400, "host", f"the request has {hosts} Host fields: send one")
        self._in_header = False
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Begin to count the next header."""
        super().on_message_complete()
        self._in_header = True
        self._header_size = 0

    def on_response_complete(self) -> None:
        """Go on with the next request; a client that has its answer and still sends a body is cut off."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or not taken, in the words of this plane."""
        self._refuse(*(self._objection or (400, "not-http", msg)))

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.limits.header_s, self._header_too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _header_too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408, "too-slow", f"no complete request in {self.limits.header_s:g} s")

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._disarm()
        content_type, body = self.error_body(code, message)
        head = [
            STATUS_LINE[status],
            b"content-type: ",
            content_type,
            b"\r\ncontent-length: %d\r\n" % len(body),
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


class Listener:
    """One plane: a bound socket, its TLS context, its application; ``name`` is what messages call it.

    ``on_unknown(reason, certificate in DER or None, address)`` is called for each handshake that fails.
    """

    ACCEPTS = 64  # at one go, so that a flood leaves the loop to others in between
    PAUSE_S = 0.5

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        sock: socket.socket,
        context: ssl.SSLContext,
        error_body: ErrorBody,
        limits: Limits,
        gate: Gate = lambda tls, address: None,
        on_unknown: Callable[[ssl.SSLError, bytes | None, str], None] = lambda *what: None,
    ) -> None:
        self._name = name
        self._config = Config(
            _logged(app, name),
            http=PlaneProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=limits.keep_alive_s,
        )
        self._config.load()
        self.door = Door(limits.room)
        # A class of its own per plane: what one connection needs of its plane is not kept in each.
        self._protocol = type(
            "Protocol",
            (PlaneProtocol,),
            {
                "limits": limits,
                "error_body": staticmethod(error_body),
                "gate": staticmethod(gate),
                "door": self.door,
                "clients": defaultdict(list),
            },
        )
        self._state = ServerState()
        self._sock = sock
        self.context = context  # another one may be put here: connections keep what they began with
        self._limits = limits
        self._on_unknown = on_unknown
        self._welcomes: set[asyncio.Task[None]] = set()
        self._silent: set[Callable[[], None]] = set()
        self._listening = False

    def start(self) -> None:
        """Begin to accept connections, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._sock.listen(2048)
        self._listen()

    def _listen(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._accept)
            self._listening = True

    def _accept(self) -> None:
        """Take what waits; who is one too many is closed here, before it has cost anything."""
        for _ in range(self.ACCEPTS):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:  # no files or no memory left: the loop must not spin on it
                log.warning("%s plane: cannot accept connections: %s", self._name, exc.strerror)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(self.PAUSE_S, self._listen)
                return
            visit = self.door.enter(peer[0])
            if visit is None:
                sock.close()
                log.warning("%s plane: too many connections, closed one from %s", self._name, peer[0])
                continue
            self._await_first_byte(sock, peer[0], visit)

    def _await_first_byte(self, sock: socket.socket, address: str, visit: Visit) -> None:
        """Have TLS begin once there is something to read: who says nothing costs a socket, and no memory."""
        sock.setblocking(False)

        def said_something() -> None:
            try:
                if not sock.recv(1, socket.MSG_PEEK):
                    give_up()  # it has hung up
                    return
            except OSError:
                give_up()
                return
            timer.cancel()
            self._loop.remove_reader(sock)
            self._silent.discard(give_up)
            task = self._loop.create_task(self._welcome(sock, address, visit))
            self._welcomes.add(task)
            task.add_done_callback(self._welcomes.discard)

        def give_up() -> None:
            timer.cancel()
            self._loop.remove_reader(sock)
            self._silent.discard(give_up)
            sock.close()
            self.door.leave(visit)

        timer = self._loop.call_later(self._limits.header_s, give_up)
        self._silent.add(give_up)
        self._loop.add_reader(sock, said_something)

    async def _welcome(self, sock: socket.socket, address: str, visit: Visit) -> None:
        protocol = self._protocol(
            config=self._config, server_state=self._state, app_state={}, _loop=self._loop
        )
        protocol.visit = visit
        try:
            tls = TlsProtocol(
                self._loop,
                protocol,
                self.context,
                handshake_s=self._limits.handshake_s,
                on_failure=lambda reason, shown: self._on_unknown(reason, shown, address),
                on_lost=lambda: self.door.leave(visit),
            )
            await self._loop.connect_accepted_socket(lambda: tls, sock)
        except OSError:
            sock.close()
            self.door.leave(visit)

    def close_gate(self) -> None:
        """Hold every open connection against the gate, which has changed; an answer under way breaks off."""
        for connection in list(self._state.connections):
            if isinstance(connection, PlaneProtocol) and connection.refuse_at_gate():
                connection.hang_up()

    async def stop(self) -> None:
        """Accept no more, let running requests finish for ``drain_s`` seconds, then end them."""
        if not self._listening:
            return
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for give_up in list(self._silent):
            give_up()
        await asyncio.gather(*self._welcomes, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = set(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._limits.drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._state.connections):
            if isinstance(connection, PlaneProtocol):
                connection.hang_up()


def _logged(app: ASGIApp, name: str) -> ASGIApp:
    """Return ``app``, with every mistake of ours told in the log."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception:
            log.exception("%s plane: %s %s failed", name, scope["method"], scope["path"][:80])
            raise

    return logged


def bind(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one.

    Raises:
        StorageError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named explicitly: asyncio switches Nagle off only for sockets that say they are TCP, and with it an
    # answer of two writes waits 40 ms for the client's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise StorageError(
            f"cannot listen on {host} port {port}: {exc.strerror}; choose another port"
        ) from exc
    return sock
