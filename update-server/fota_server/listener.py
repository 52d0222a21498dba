"""A TLS listener: uvicorn's HTTP parser, our limits, and the client certificate in the ASGI scope.

uvicorn 0.54 does not show the certificate to the application. ``PlaneProtocol`` fills
``scope["extensions"]["tls"]`` as the ASGI TLS extension describes it, so that it can go when uvicorn does so
itself. It leans on uvicorn's ``HttpToolsProtocol``, which is not a public interface: uvicorn is pinned, and
tests/server shows that the hooks work.
"""

import asyncio
import logging
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from fota_wire.errors import StorageError

log = logging.getLogger("fota.server")

ErrorBody = Callable[[str, str], tuple[bytes, bytes]]
"""(code, message) -> (content type, body): how a plane words an error."""
Gate = Callable[[Mapping[object, object]], tuple[int, str, str] | None]
"""(ASGI TLS extension) -> (status, code, message) to a client that may not speak at all, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may take. Times in seconds, sizes in bytes. ``per_client``: connections of one
    client certificate at a time.
    """

    header_bytes: int = 8192
    header_s: float = 10.0
    handshake_s: float = 10.0
    keep_alive_s: int = 75
    connections: int = 16384
    per_client: int = 8
    drain_s: float = 5.0


class PlaneProtocol(HttpToolsProtocol):
    """One connection. A request's header must be complete in ``header_s`` and ``header_bytes``."""

    limits: Limits
    error_body: ErrorBody
    gate: Gate
    clients: "defaultdict[str, list[PlaneProtocol]]"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the TLS facts once; a connection has one client for its life."""
        super().connection_made(transport)
        self._header_size = 0
        self._in_header = True
        self._first = True
        self._deadline: asyncio.TimerHandle | None = None
        self._tls = _tls_extension(transport)
        self._client = str(self._tls.get("client_cert_chain") or "")
        self.clients[self._client].append(self)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "busy", "too many connections; try again later")
            return
        if self._client and len(self.clients[self._client]) > self.limits.per_client:
            # The oldest goes: it may be one that the network lost, and the device is not to wait for that.
            self.clients[self._client].pop(0).transport.abort()
        if not self.refuse_at_gate():
            self._arm()

    def refuse_at_gate(self) -> bool:
        """Answer and close if this client may not speak, whatever it is about to say; tell whether so."""
        refusal = self.gate(self._tls)
        if refusal is not None and not self.transport.is_closing():
            self._refuse(*refusal)
        return refusal is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer, and one connection of this client."""
        self._disarm()
        mine = self.clients[self._client]
        if self in mine:
            mine.remove(self)
        if not mine:
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
        if in_header_before and self._in_header and self._header_size > self.limits.header_bytes:
            self._refuse(
                431, "header-too-large", f"request header is longer than {self.limits.header_bytes} bytes"
            )

    def on_message_begin(self) -> None:
        """Add the TLS extension to the scope of each request."""
        super().on_message_begin()
        self.scope["extensions"] = {"tls": dict(self._tls)}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header field; one behind a body would be collected without an end.

        Raises:
            ValueError: a trailer field.
        """
        if not self._in_header:
            raise ValueError("trailer fields are not taken")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the clock of the header."""
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
        """Answer what is not HTTP, in the words of this plane."""
        self._refuse(400, "not-http", msg)

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
    """One plane: a bound socket, its TLS context, its application."""

    def __init__(
        self,
        app: ASGIApp,
        sock: socket.socket,
        context: ssl.SSLContext,
        error_body: ErrorBody,
        limits: Limits,
        gate: Gate = lambda tls: None,
    ) -> None:
        self._config = Config(
            app,
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
        # A class of its own per plane: uvicorn makes the instances, and asks for no further arguments.
        self._protocol = type(
            "Protocol",
            (PlaneProtocol,),
            {
                "limits": limits,
                "error_body": staticmethod(error_body),
                "gate": staticmethod(gate),
                "clients": defaultdict(list),
            },
        )
        self._state = ServerState()
        self._sock = sock
        self._context = context
        self._limits = limits
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._protocol(config=self._config, server_state=self._state, app_state={}, _loop=loop),
            sock=self._sock,
            ssl=self._context,
            backlog=2048,
            ssl_handshake_timeout=self._limits.handshake_s,
            ssl_shutdown_timeout=2.0,
        )

    def close_gate(self) -> None:
        """Hold every open connection against the gate, which has changed; an answer under way breaks off."""
        for connection in list(self._state.connections):
            if isinstance(connection, PlaneProtocol) and connection.refuse_at_gate():
                connection.transport.abort()

    async def stop(self) -> None:
        """Accept no more, let running requests finish for ``drain_s`` seconds, then end them."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = set(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._limits.drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.transport.abort()


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
