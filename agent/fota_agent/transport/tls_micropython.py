"""TLS of MicroPython (module ``tls``) with the private key in the crypto element.

mbedTLS is given a decoy for a private key, one that everybody knows, and calls back for each signature. The
callback signs in the element or raises: then the handshake fails. It never returns None, which would let
mbedTLS sign with the decoy. It calls back for each certificate, too: what a device without a clock may say of
their dates is `engine.clock`'s to decide.
"""

import gc

import tls

from fota_agent.engine.clock import Dates
from fota_agent.transport.http import HttpTransport, host_and_base, split_url
from fota_agent.transport.patience import READ_MS, WRITE_MS, Patience
from fota_agent.transport.x509 import validity
from fota_wire.errors import NO_MEMORY, FotaError, TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from fota_agent.seams import Board, Clock

    class Socket(Protocol):
        """What MicroPython calls a stream; None from a read that would have to wait."""

        def readinto(self, buf: memoryview) -> int | None:
            """Fill a part of ``buf``."""

        def write(self, buf: memoryview) -> int | None:
            """Take a part of ``buf``."""

        def setblocking(self, flag: bool) -> None:
            """Have reads and writes wait, or not."""

        def close(self) -> None:
            """Close; OSError."""


# SEC1 P-256 private key 1, whose public key is the base point: it opens nothing.
DECOY = (
    bytes.fromhex("30770201010420" + "00" * 31 + "01" + "a00a06082a8648ce3d030107a144034200")
    + bytes.fromhex("046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
    + bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
)

WORDS = {  # what the network and mbedTLS have numbers for
    32: "connection reset",
    104: "connection reset",
    111: "no such host, or nobody listens",
    -0x7200: "no TLS there",
    -0x7280: "hung up",
    -0x7780: "refused by the server: its TLS is another version, or it does not take the certificate",
    -0x6E80: "no version of TLS in common",
}


def words(exc: Exception) -> str:
    """Return what went wrong on the network, a number only where there are no words for it."""
    return WORDS.get(exc.args[0] if exc.args else 0) or str(exc) or type(exc).__name__


def der_signature(raw: bytes) -> bytes:
    """Return r||s (64 bytes) as the DER of a TLS signature."""
    body = b""
    for number in (raw[:32], raw[32:]):
        at = 0
        while at < 31 and number[at] == 0:
            at += 1
        value = number[at:]
        if value[0] & 0x80:
            value = b"\x00" + value
        body += bytes((2, len(value))) + value
    return bytes((0x30, len(body))) + body


class Handshake:
    """What mbedTLS calls back for; keeps what went wrong, which TLS cannot carry.

    ``server``: who it is with, for messages. ``board``: its element signs. ``error``: of the element;
    ``complaint``: about a certificate's dates; ``valid_until``: end of the server's certificate in s since
    1970.
    """

    def __init__(self, server: str, board: "Board", dates: Dates) -> None:
        self._server = server
        self._element = board.element
        self._dates = dates
        self.error: FotaError | None = None
        self.complaint = ""
        self.valid_until = 0

    def sign(self, _decoy: bytes, digest: bytes) -> bytes:
        """Return the DER signature over ``digest``. TLS 1.2 may ask for SHA-384: P-256 takes 32 bytes of it.

        Raises:
            FotaError: the element did not sign; kept in ``error`` too.
        """
        try:
            return der_signature(self._element.sign(bytes(digest[:32])))
        except FotaError as exc:
            self.error = exc
            raise

    def verify(self, certificate: memoryview, depth: int) -> int:
        """Check the dates of one certificate of the chain, the server's own last; return 0 if they are good.

        Never raises: an exception would go right through mbedTLS.
        """
        try:
            begin, self.valid_until = validity(certificate)
            self.complaint = self.complaint or self._dates.complaint(begin, self.valid_until)
        except Exception as exc:
            self.complaint = str(exc) or type(exc).__name__
        return -1 if self.complaint else 0

    def error_of(self, exc: Exception) -> FotaError:
        """Return why the handshake failed."""
        code = NO_MEMORY if isinstance(exc, MemoryError) else None
        return self.error or TransportError(f"{self._server}: TLS: {self.complaint or words(exc)}", code)


class Client:
    """The TLS side of a device: one context for all connections, made anew only when the certificates of
    ``board`` are others. It is large, and needs its 1,576 bytes in one piece, which a heap does not have at
    all times.
    """

    def __init__(self, board: "Board") -> None:
        self._board = board
        self._context: tls.SSLContext | None = None
        self._made_of: tuple[list[bytes], bytes] | None = None  # mbedTLS looks at them where they lie

    def context(self, handshake: Handshake) -> "tls.SSLContext":
        """Return a context that trusts the board's CAs of servers only, checks name and dates, and has the
        element sign: by ``handshake``.
        """
        made_of = (self._board.server_cas, self._board.certificate)
        context = self._context
        if context is None or self._made_of != made_of:
            context = self._context = None
            gc.collect()  # the next one goes where the last one was
            context = new_context(made_of[0], made_of[1])
            self._context, self._made_of = context, made_of
        context.verify_callback = handshake.verify
        context.ecdsa_sign_callback = handshake.sign
        return context


def new_context(cas: "list[bytes]", certificate: bytes) -> "tls.SSLContext":
    """Return a context that trusts ``cas`` only, and shows ``certificate``, all in DER."""
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    for ca in cas:  # one at a time: mbedTLS adds it to what it has
        context.load_verify_locations(ca)
    context.load_cert_chain(certificate, DECOY)
    return context


class TlsStream:
    """A connected TLS socket that does not block, as the ``Stream`` of ``fota_agent.seams``. Its handshake is
    part of the first ``write``.

    ``wait(ms)`` returns when the socket has something to read, or after that time.
    """

    def __init__(
        self,
        sock: "Socket",
        raw: "Socket",
        handshake: Handshake,
        now_ms: "Clock",
        wait: "Callable[[int], object]",
    ) -> None:
        self._sock = sock
        self._raw = raw
        self._handshake: Handshake | None = handshake
        self._now_ms = now_ms
        self._wait = wait
        self.valid_until = 0

    def write(self, data: "bytes | memoryview") -> None:
        """Send all of ``data``; OSError.

        Raises:
            TransportError: the handshake failed. DeviceError: the element did not sign.
        """
        handshake, self._handshake = self._handshake, None
        try:
            self._send(data)
        except (OSError, ValueError, MemoryError) as exc:
            if handshake is None:
                raise OSError(words(exc)) from exc
            raise handshake.error_of(exc) from exc
        if handshake is not None:
            self.valid_until = handshake.valid_until

    def _send(self, data: "bytes | memoryview") -> None:
        patience = Patience(self._now_ms, WRITE_MS)
        view = memoryview(data)
        sent = 0
        while sent < len(data):
            count = self._sock.write(view[sent:])
            if count:
                sent += count
            else:
                patience.wait(self._wait)

    def readinto(self, buf: memoryview) -> int:
        """Receive at least one byte and return how many; 0 when the peer has closed; OSError."""
        patience = Patience(self._now_ms, READ_MS)
        try:
            while True:
                count = self._sock.readinto(buf)
                if count is not None:
                    return count
                patience.wait(self._wait)
        except OSError as exc:
            raise OSError(words(exc)) from exc

    def close(self) -> None:
        """Close; never raises."""
        for sock in (self._sock, self._raw):
            try:
                sock.close()
            except OSError:
                continue


def transport_for(
    board: "Board",
    open_socket: "Callable[[str, int], Socket]",
    wait: "Callable[[int], object]",
    server_url: "str | None" = None,
    passed: "Callable[[], int]" = lambda: 0,
    clock: "Callable[[], int]" = lambda: 0,
) -> HttpTransport:
    """Return the transport of ``board``: its trust store's server, CA and certificate, its element's key.

    ``open_socket(host, port)`` returns a connected stream object or raises OSError; ``wait`` as for
    ``TlsStream``; ``passed`` returns a time in s since 1970 that has passed (`Agent.passed_time`), ``clock``
    that of the device's or network's own clock, each 0 if it is not known.

    Raises:
        TransportError: the URL is not usable.
    """
    name, base = host_and_base(server_url or board.server_url)
    dates, client = Dates(passed, clock), Client(board)

    def connect() -> TlsStream:
        gc.collect()  # a connection that failed holds its memory until then
        host, port, _ = split_url(server_url or board.server_url)
        try:
            raw = open_socket(host, port)
        except OSError as exc:
            raise OSError(words(exc)) from exc
        raw.setblocking(False)
        handshake = Handshake(f"{host}:{port}", board, dates)
        try:
            context = client.context(handshake)
            sock = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
        except (OSError, ValueError, MemoryError) as exc:
            raw.close()
            raise handshake.error_of(exc) from exc
        return TlsStream(sock, raw, handshake, board.ticks_ms, wait)

    return HttpTransport(connect, name, board.ticks_ms, base)
