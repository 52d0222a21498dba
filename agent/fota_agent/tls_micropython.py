"""TLS of MicroPython (module ``tls``) with the private key in the crypto element.

mbedTLS is given a decoy for a private key, one that everybody knows, and calls back for each signature. The
callback signs in the element or raises: then the handshake fails. It never returns None, which would let
mbedTLS sign with the decoy.
"""

import gc

import tls

from fota_agent.http import HttpTransport, host_and_base, split_url
from fota_wire.errors import FotaError, TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from fota_agent.seams import Board, Element

    class Socket(Protocol):
        """What MicroPython calls a stream; None from a read that would have to wait."""

        def readinto(self, buf: memoryview) -> int | None:
            """Fill a part of ``buf``."""

        def write(self, buf: memoryview) -> int | None:
            """Take a part of ``buf``."""

        def close(self) -> None:
            """Close; OSError."""


READ_TIMEOUT_MS = 10_000  # without a byte from the peer
WAIT_MS = 500  # for one of the waits in it

# SEC1 P-256 private key 1, whose public key is the base point: it opens nothing.
DECOY = (
    bytes.fromhex("30770201010420" + "00" * 31 + "01" + "a00a06082a8648ce3d030107a144034200")
    + bytes.fromhex("046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
    + bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
)


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


class ElementKey:
    """The device key as mbedTLS's signing callback; keeps the element's error, which TLS cannot carry."""

    def __init__(self, element: "Element") -> None:
        self._element = element
        self.error: FotaError | None = None

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


def client_context(ca_der: bytes, certificate_der: bytes, key: ElementKey) -> "tls.SSLContext":
    """Return a context that trusts the certificates in ``ca_der`` only, checks name and dates, and has
    ``key`` authenticate this device.
    """
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    while ca_der:  # one at a time: mbedTLS reads the first, and adds it to what it has
        end = 4 + int.from_bytes(ca_der[2:4], "big") if ca_der[1] == 0x82 else len(ca_der)
        context.load_verify_locations(ca_der[:end])
        ca_der = ca_der[end:]
    context.ecdsa_sign_callback = key.sign
    context.load_cert_chain(certificate_der, DECOY)
    return context


class TlsStream:
    """A connected TLS socket as the ``Stream`` of ``fota_agent.seams``.

    ``wait(ms)`` returns when the socket has something to read, or after that time.
    """

    def __init__(self, sock: "Socket", raw: "Socket", wait: "Callable[[int], None]") -> None:
        self._sock = sock
        self._raw = raw
        self._wait = wait

    def write(self, data: bytes) -> None:
        """Send all of ``data``; OSError."""
        view = memoryview(data)
        sent = 0
        while sent < len(data):
            count = self._sock.write(view[sent:])
            if not count:
                raise OSError("the connection takes no more")
            sent += count

    def readinto(self, buf: memoryview) -> int:
        """Receive at least one byte and return how many; 0 when the peer has closed; OSError."""
        waited = 0
        while True:
            count = self._sock.readinto(buf)
            if count is not None:
                return count
            if waited >= READ_TIMEOUT_MS:
                raise OSError("timed out")
            self._wait(WAIT_MS)
            waited += WAIT_MS

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
    wait: "Callable[[int], None]",
    server_url: "str | None" = None,
) -> HttpTransport:
    """Return the transport of ``board``: its trust store's server, CA and certificate, its element's key.

    ``open_socket(host, port)`` returns a connected stream object or raises OSError; ``wait`` as for
    ``TlsStream``.

    Raises:
        TransportError: the URL is not usable.
    """
    name, base = host_and_base(server_url or board.server_url)
    key = ElementKey(board.element)

    def connect() -> TlsStream:
        gc.collect()  # a connection that failed holds its memory until then
        key.error = None
        host, port, _ = split_url(server_url or board.server_url)
        raw = open_socket(host, port)
        try:
            context = client_context(board.server_ca, board.certificate, key)
            sock = context.wrap_socket(raw, server_hostname=host)
            sock.setblocking(False)
        except (OSError, ValueError, MemoryError) as exc:
            raw.close()
            if key.error is not None:
                raise key.error from exc
            raise TransportError(f"{host}:{port}: TLS: {_explain(exc)}") from exc
        return TlsStream(sock, raw, wait)

    return HttpTransport(connect, name, board.ticks_ms, base)


def _explain(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
