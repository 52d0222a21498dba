"""The TLS side of one connection: asyncio's, with an alert for who is refused, a word about why, and an end
that takes no answer with it.

asyncio's ``SSLProtocol`` drops the connection when a handshake fails, its alert unsent, and says nothing; one
that it closes while the client still sends, it resets; it also keeps a buffer of 256 KiB per connection. It
is no public interface of asyncio, though one that uvloop and others stand in for: what is used of it here is
held by tests/server (ADR 23, ADR 52).
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol, SSLProtocolState
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_HANDSHAKE, _CERTIFICATE, _TLS_1_3 = 22, 11, 0x0304  # RFC 8446 section 4

OnFailure = Callable[[ssl.SSLError, bytes | None], None]
"""(reason, first certificate that the client presented in DER, if any): a handshake failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client that has had its last answer is heard out: seconds, and bytes of TLS. The seconds
    are those of the longest check-in at the 256 B/s that are promised; they begin anew where ``again`` bytes
    or more came in them, None = never.
    """

    seconds: float = 40.0
    size: int = 1 << 16
    again: int | None = None


class TlsProtocol(SSLProtocol):
    """Between a TCP transport and ``app_protocol``. ``on_lost`` is called once, at the connection's end;
    ``may_linger`` when it is over for us: whether its client is heard out.
    """

    max_size = 16384  # one TLS record; what a connection holds all its life
    SMALL = 8192  # bytes of an answer that wait for their last ones

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app_protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        handshake_s: float,
        patience: Patience,
        on_failure: OnFailure,
        may_linger: Callable[[], bool],
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
        )
        self._patience = patience
        self._on_failure = on_failure
        self._may_linger = may_linger
        self._on_lost = on_lost
        self._gathering = False

    def _write_appdata(self, list_of_data: Any) -> None:  # noqa: ANN401 - a sequence of buffers
        """Gather what is written in one turn of the loop: a small answer, head and body, is one record and
        one call of the system. What is long goes at once, so that its writer feels when the client is slow.
        """
        mine: Any = self
        base: Any = super()
        gathered = mine._write_buffer_size + sum(len(data) for data in list_of_data)
        if mine._state is not SSLProtocolState.WRAPPED or gathered > self.SMALL:
            base._write_appdata(list_of_data)
            return
        mine._write_backlog += list_of_data
        mine._write_buffer_size = gathered
        if not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._write_gathered)

    def _write_gathered(self) -> None:
        self._gathering = False
        mine: Any = self
        base: Any = super()
        if mine._write_backlog and mine._state is SSLProtocolState.WRAPPED:
            whole = b"".join(mine._write_backlog)
            mine._write_backlog.clear()
            mine._write_buffer_size = 0
            base._write_appdata([whole])

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
        self._hear_out()  # the alert goes first

    def _do_shutdown(self) -> None:
        """Say that no more comes (close_notify), and hear out a client that may not know yet."""
        mine: Any = self
        base: Any = super()
        try:
            if mine._write_backlog:
                mine._do_write()
            while not mine._eof_received and mine._sslobj.read(self.max_size):
                pass  # OpenSSL cannot end a connection over what has been sent to it
        except ssl.SSLError:
            pass  # nothing more to read, or what `unwrap` will say, too
        base._do_shutdown()
        if mine._shutdown_timeout_handle is not None:  # the client has not said the same
            self._hear_out()

    def _hear_out(self) -> None:
        """Send what is left to send, and throw away what still comes, for a while: closed at once, a
        connection that has something to read is reset, and takes along what it was told (RFC 9112, 9.6).
        """
        mine: Any = self
        base: Any = super()
        transport = mine._transport
        transport.write(mine._outgoing.read())
        patience = self._patience if self._may_linger() else Patience(seconds=0.0)
        transport.set_protocol(_Linger(self._loop, transport, self._on_lost, patience))
        transport.resume_reading()
        base.connection_lost(None)


class _Linger(asyncio.Protocol):
    """What is left of a connection that is over for us: until the client closes it, or for a while."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Any,  # noqa: ANN401
        on_lost: Callable[[], None],
        patience: Patience,
    ) -> None:
        self._transport = transport
        self._on_lost = on_lost
        self._loop = loop
        self._patience = patience
        self._left = self._left_before = patience.size
        self._timer = loop.call_later(patience.seconds, self._time_is_up)
        try:
            transport.write_eof()
        except OSError:  # it has been reset meanwhile
            transport.abort()

    def _time_is_up(self) -> None:
        again, came = self._patience.again, self._left_before - self._left
        if again is None or came < again:
            self._transport.abort()
            return
        self._left_before = self._left
        self._timer = self._loop.call_later(self._patience.seconds, self._time_is_up)

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
