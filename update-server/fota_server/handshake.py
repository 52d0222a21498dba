"""The TLS side of one connection: asyncio's, with an alert for who is refused and a word about why.

asyncio's ``SSLProtocol`` drops the connection when a handshake fails, its alert unsent, and says nothing; it
also keeps a buffer of 256 KiB per connection. It is no public interface of asyncio, though one that uvloop
and others stand in for: what is used of it here is held by tests/server (ADR 23).
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import Any

LINGER_S = 2.0
LINGER_BYTES = 1 << 16

_HANDSHAKE, _CERTIFICATE, _TLS_1_3 = 22, 11, 0x0304  # RFC 8446 section 4

OnFailure = Callable[[ssl.SSLError, bytes | None], None]
"""(reason, first certificate that the client presented in DER, if any): a handshake failed."""


class TlsProtocol(SSLProtocol):
    """Between a TCP transport and ``app_protocol``. ``on_lost`` is called once, at the connection's end."""

    max_size = 16384  # one TLS record; what a connection holds all its life

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app_protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        handshake_s: float,
        on_failure: OnFailure,
        on_lost: Callable[[], None],
    ) -> None:
        base: Any = super()
        base.__init__(
            loop,
            app_protocol,
            context,
            None,
            server_side=True,
            ssl_handshake_timeout=handshake_s,
            ssl_shutdown_timeout=2.0,
        )
        self._on_failure = on_failure
        self._on_lost = on_lost

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell that it is over."""
        super().connection_lost(exc)
        self._on_lost()

    def _on_handshake_complete(self, handshake_exc: Any) -> None:  # noqa: ANN401 - an exception or its class
        base: Any = super()
        if not isinstance(handshake_exc, ssl.SSLError) or self._transport is None:
            base._on_handshake_complete(handshake_exc)
            return
        mine: Any = self
        self._on_failure(handshake_exc, getattr(mine._sslobj, "presented", None))
        mine._process_outgoing()  # the alert
        # Closed at once, a connection that still has something to read is reset, and the alert with it.
        self._transport.set_protocol(_Linger(self._loop, self._transport, self._on_lost))
        base.connection_lost(None)


class _Linger(asyncio.Protocol):
    """A refused client gets its alert: what it still sends is thrown away, for a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Any, on_lost: Callable[[], None]) -> None:  # noqa: ANN401
        self._transport = transport
        self._on_lost = on_lost
        self._left = LINGER_BYTES
        self._timer = loop.call_later(LINGER_S, transport.abort)
        transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Throw it away."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it is over."""
        self._timer.cancel()
        self._on_lost()


def show_presented_certificates(context: ssl.SSLContext) -> None:
    """Have connections of ``context`` keep the certificate that a client presents, refused or not.

    Python tells of a certificate that is verified only. The hook is the one of ``ssl`` for debugging.
    """

    def keep(connection: Any, direction: str, version: int, kind: int, message: int, data: bytes) -> None:  # noqa: ANN401
        if message == _CERTIFICATE and kind == _HANDSHAKE and direction == "read":
            connection.presented = _first_certificate(data, version)

    # The setter of the class below: ssl.SSLContext's own makes two enums of every record.
    ssl._ssl._SSLContext._msg_callback.__set__(context, keep)  # type: ignore[attr-defined]


def _first_certificate(message: bytes, version: int) -> bytes | None:
    """Return the first certificate of a Certificate message (RFC 5246 7.4.2, RFC 8446 4.4.2), in DER."""
    at = 4
    if version == _TLS_1_3:
        at += 1 + (message[at] if len(message) > at else 0)  # the request's context
    at += 3  # length of the list
    size = int.from_bytes(message[at : at + 3], "big")
    der = message[at + 3 : at + 3 + size]
    return der if size and len(der) == size else None
