"""Mutual TLS with CPython's own ``ssl``, the client key staying in the crypto element. For CPython hosts
only.

``ssl`` can only load keys from files, so the key is put on the ``SSL_CTX`` behind the ``SSLContext``: an EC
key that holds nothing but the public point, and whose method signs by a call back into Python. That leans
on CPython's object layout and on an API that OpenSSL 3 calls deprecated; gateways with a PKCS#11 module use
that instead.
"""

import _ssl
import ctypes
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from fota_agent.engine.clock import ASK, Dates
from fota_agent.transport import proxy
from fota_agent.transport.http import HttpTransport, host_and_base, split_url
from fota_agent.transport.patience import READ_MS, WRITE_MS, Patience
from fota_wire import der, host_tls
from fota_wire.errors import DeviceError, FotaError, InputError, TransportError
from fota_wire.seams import Sign

NID_P256 = 415
SSL_CTRL_GET_MIN_PROTO_VERSION = 130
SSL_CTRL_SET_CLIENT_SIGALGS_LIST = 102
SIGNATURE_ALGORITHM = b"ECDSA+SHA256"
CONNECT_TIMEOUT_S = 15.0
X509_V_FLAG_NO_CHECK_TIME = 0x200000
NOT_YET_VALID, HAS_EXPIRED = 9, 10  # X509_V_ERR_CERT_*
NO_ISSUER = (2, 7, 18, 19, 20, 21)  # self-signed, or by nobody who is known
NOT_TRUSTED = (
    "it comes from none of the CAs that this device trusts: show a certificate of one of them there,"
    " or publish a ROOT that names its CA (fota root new --server-ca)"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Board

_SIGN = ctypes.CFUNCTYPE(
    ctypes.c_int,  # 1 = signed
    ctypes.c_int,  # type
    ctypes.c_void_p,  # digest
    ctypes.c_int,  # its length
    ctypes.c_void_p,  # signature, DER, out
    ctypes.POINTER(ctypes.c_uint),  # its length, out
    ctypes.c_void_p,  # kinv
    ctypes.c_void_p,  # r
    ctypes.c_void_p,  # EC_KEY
)


class ElementKey:
    """A P-256 client key whose signatures come from ``sign(digest) -> r || s``; attach it to SSL contexts.

    Keeps alive what OpenSSL points to: hold it as long as any context or connection uses it.
    """

    def __init__(self, public_xy: bytes, sign: Sign) -> None:
        self.error: BaseException | None = None
        self._sign = sign
        self._lib = _openssl()
        self._callback = _SIGN(self._on_sign)
        self._key = self._make_key(public_xy)

    def attach(self, context: ssl.SSLContext, certificate_der: bytes) -> None:
        """Make ``context`` authenticate with this key and its certificate, by ECDSA with SHA-256 only.

        Raises:
            InputError: the certificate is damaged or belongs to another key.
        """
        pointer = _context_pointer(self._lib, context)
        if self._lib.SSL_CTX_use_certificate_ASN1(pointer, len(certificate_der), certificate_der) != 1:
            self._lib.ERR_clear_error()
            raise InputError("device certificate: not a usable X.509 certificate")
        if self._lib.SSL_CTX_use_PrivateKey(pointer, self._key) != 1:
            self._lib.ERR_clear_error()
            raise InputError("device certificate: it belongs to another key than the crypto element's")
        done = self._lib.SSL_CTX_ctrl(pointer, SSL_CTRL_SET_CLIENT_SIGALGS_LIST, 0, SIGNATURE_ALGORITHM)
        if done != 1:
            raise InputError("OpenSSL refuses ECDSA with SHA-256")

    def take_error(self) -> BaseException | None:
        """Return why the last signature failed, and forget it."""
        error, self.error = self.error, None
        return error

    def _on_sign(
        self,
        _type: int,
        digest: int,
        size: int,
        out: int,
        out_size: "ctypes._Pointer[ctypes.c_uint]",
        _kinv: int,
        _r: int,
        _key: int,
    ) -> int:
        """Sign for OpenSSL; no exception may leave a callback from C, so it is kept for ``take_error``."""
        try:
            signature = der.from_raw(self._sign(ctypes.string_at(digest, size)))
        except FotaError as exc:
            self.error = exc
            return 0
        except Exception as exc:  # a digest of another length, or a bug
            self.error = DeviceError(f"crypto element: {exc}")
            return 0
        except BaseException as exc:  # the process is told to end
            self.error = exc
            return 0
        ctypes.memmove(out, signature, len(signature))
        out_size[0] = len(signature)
        return 1

    def _make_key(self, public_xy: bytes) -> int:
        """Return an EVP_PKEY with our sign method and the public point; lives as long as the process."""
        lib = self._lib
        method = lib.EC_KEY_METHOD_new(lib.EC_KEY_OpenSSL())
        lib.EC_KEY_METHOD_set_sign(method, ctypes.cast(self._callback, ctypes.c_void_p), None, None)
        key = lib.EC_KEY_new_by_curve_name(NID_P256)
        if lib.EC_KEY_set_method(key, method) != 1:
            raise DeviceError("OpenSSL: no method for EC keys")
        x, y = (lib.BN_bin2bn(part, 32, None) for part in (public_xy[:32], public_xy[32:]))
        on_curve = lib.EC_KEY_set_public_key_affine_coordinates(key, x, y)
        lib.BN_free(x)
        lib.BN_free(y)
        if len(public_xy) != 64 or on_curve != 1:
            lib.ERR_clear_error()
            raise DeviceError("crypto element: its public key is not a point of P-256")
        pkey: int = lib.EVP_PKEY_new()
        lib.EVP_PKEY_set1_EC_KEY(pkey, key)
        lib.EC_KEY_free(key)  # the EVP_PKEY holds its own reference
        return pkey


def client_context(
    cas: list[bytes], certificate_der: bytes, key: ElementKey, tls12: bool = False
) -> ssl.SSLContext:
    """Return a context that trusts the certificates ``cas``, DER, only, checks name and dates, and has
    ``key`` authenticate this device.

    It speaks TLS 1.3, with ``tls12`` 1.2 too.

    Raises:
        InputError: one of the certificates is not usable.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are its defaults
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if tls12 else ssl.TLSVersion.TLSv1_3
    try:
        host_tls.trust(context, cas)
    except (ssl.SSLError, ValueError) as exc:
        raise InputError("server CA: not a usable X.509 certificate") from exc
    key.attach(context, certificate_der)
    return context


T = TypeVar("T")
Wait = Callable[[socket.socket, bool, int], object]


def wait_for(sock: socket.socket, writing: bool, ms: int) -> None:
    """Return when ``sock`` can be read, or written, or after ``ms`` milliseconds."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT if writing else select.POLLIN)
    poll.poll(ms)


def monotonic_ms() -> int:
    """Return milliseconds of a clock that never goes back."""
    return time.monotonic_ns() // 1_000_000


class TlsStream:
    """A connected TLS socket as the ``Stream`` of ``fota_agent.seams``. ``valid_until``: end of the server's
    certificate, s since 1970.

    Does its handshake when it is made; OSError, ValueError. ``wait`` as `wait_for`.
    """

    def __init__(
        self,
        sock: ssl.SSLSocket,
        key: ElementKey,
        now_ms: Callable[[], int] = monotonic_ms,
        wait: Wait = wait_for,
    ) -> None:
        self._sock = sock
        self._key = key
        self._now_ms = now_ms
        self._wait = wait
        sock.setblocking(False)
        self._patiently(sock.do_handshake, WRITE_MS)
        self.valid_until = _not_after(sock)

    def write(self, data: "bytes | memoryview") -> None:
        """Send all of ``data``; OSError."""
        view = memoryview(data)
        try:
            while view:
                count = self._patiently(lambda: self._sock.send(view), WRITE_MS)  # noqa: B023  done at once
                view = view[count:]
        except OSError as exc:
            raise OSError(explain(exc)) from exc

    def readinto(self, buf: memoryview) -> int:
        """Receive at least one byte and return how many; 0 when the peer has closed; OSError."""
        try:
            return self._patiently(lambda: self._sock.recv_into(buf), READ_MS)
        except OSError as exc:
            raise OSError(explain(exc)) from exc

    def close(self) -> None:
        """Close; never raises."""
        self._sock.close()

    def _patiently(self, do: Callable[[], T], total_ms: int) -> T:
        """Return what ``do()`` returns once it does not have to wait for the peer any more."""
        patience = Patience(self._now_ms, total_ms)
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                writing = False
            except ssl.SSLWantWriteError:
                writing = True
            patience.wait(lambda ms: self._wait(self._sock, writing, ms))  # noqa: B023  done at once


def apply_dates(dates: Dates, context: ssl.SSLContext) -> int:
    """Have ``context`` check certificates by ``dates``; return the time before which none may have ended,
    0 = OpenSSL checks that itself, its clock being set.
    """
    now, is_set = dates.now()
    flags = int(context.verify_flags) & ~X509_V_FLAG_NO_CHECK_TIME
    context.verify_flags = ssl.VerifyFlags(flags | (0 if is_set else X509_V_FLAG_NO_CHECK_TIME))
    return 0 if is_set else now


def connector(
    host: str,
    port: int,
    context: ssl.SSLContext,
    key: ElementKey,
    timeout_s: float = CONNECT_TIMEOUT_S,
    dates: Dates | None = None,
    setting: str | None = None,
    now_ms: Callable[[], int] = monotonic_ms,
    wait: Wait = wait_for,
) -> Callable[[], TlsStream]:
    """Return a function that opens an outbound TLS connection, ``timeout_s`` for TCP's part of it.
    ``setting``: the proxy on the way, as `transport.proxy.choose` takes it.

    ``now_ms`` and ``wait`` are the time in which the rest is patient (`transport.patience`). That function
    raises TransportError (network, or a server that is not ours) and DeviceError (the element).
    """

    def connect() -> TlsStream:
        key.take_error()
        sock: socket.socket | None = None
        not_before = apply_dates(dates, context) if dates else 0
        try:
            sock = proxy.open_socket(host, port, timeout_s, proxy.choose(host, port, setting))
            tls = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            sock = tls
            stream = TlsStream(tls, key, now_ms, wait)
        except (OSError, ValueError) as exc:
            if sock is not None:
                sock.close()
            error = key.take_error()
            if error is not None:
                raise error from exc
            raise TransportError(f"{proxy.authority(host, port)}: {explain(exc)}") from exc
        if _chain_end(tls, context) < not_before:
            stream.close()
            where = proxy.authority(host, port)
            raise TransportError(f"{where}: TLS: the server's certificate is refused: it has expired")
        return stream

    return connect


def transport_for(
    board: "Board",
    server_url: str | None = None,
    tls12: bool = False,
    passed: Callable[[], int] = lambda: 0,
) -> HttpTransport:
    """Return the transport of ``board``: its trust store's server, CA and certificate, and its element's key.

    ``passed`` returns a time in s since 1970 that has passed, 0 = none known.

    Raises:
        TransportError: the URL is not usable. InputError: a certificate is not. DeviceError: the element is
        not.
    """
    dates = Dates(passed, time.time)

    def connector_now() -> Callable[[], TlsStream]:
        host, port, _ = split_url(server_url or board.server_url)
        key = ElementKey(board.public_key, board.element.sign)
        context = client_context(board.server_cas, board.certificate, key, tls12)
        return connector(host, port, context, key, dates=dates, setting=getattr(board, "proxy", None))

    def trust() -> tuple[bytes, bytes, str]:
        return board.certificate, b"".join(board.server_cas), board.server_url

    known = {trust(): connector_now()}

    def connect() -> TlsStream:
        """Connect by what the board acts by now: key and certificate change (SPEC 5.6), servers, too."""
        if trust() not in known:
            known.clear()
            try:
                known[trust()] = connector_now()
            except InputError as exc:  # ROOT's CA or address: not usable here, so as good as unreachable
                raise TransportError(str(exc)) from exc
        return known[trust()]()

    name, base = host_and_base(server_url or board.server_url)
    return HttpTransport(connect, name, board.ticks_ms, base)


def _not_after(sock: ssl.SSLSocket) -> int:
    certificate = sock.getpeercert() or {}
    end = certificate.get("notAfter")
    return int(ssl.cert_time_to_seconds(end)) if isinstance(end, str) else 0


def _chain_end(sock: ssl.SSLSocket, context: ssl.SSLContext) -> int:
    """Return when the first of the server's certificate and its CA's ends, s since 1970."""
    issuer = (sock.getpeercert() or {}).get("issuer")
    ends = [ca["notAfter"] for ca in context.get_ca_certs() if ca["subject"] == issuer]
    ca_end = max([int(ssl.cert_time_to_seconds(str(end))) for end in ends], default=1 << 40)
    return min(_not_after(sock), ca_end)


WORDS = {  # what OpenSSL calls a reason, in words that say what to do about it
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not know the CA of this device's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refuses this device's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "this device's certificate has expired, says the server",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "this device's certificate was revoked, says the server",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the server refuses this device's certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the server cannot use this device's certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server got no certificate from this device",
    "TLSV1_ALERT_DECRYPT_ERROR": "the server finds a signature wrong, of this device's key or of its CA",
    "TLSV1_ALERT_ACCESS_DENIED": "the server denies this device access",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server and this device have no way of TLS in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server does not speak this version of TLS: tls12",
    "UNSUPPORTED_PROTOCOL": "the server does not speak this version of TLS: tls12",
    "WRONG_VERSION_NUMBER": "what answers there does not speak TLS",
    "HTTP_REQUEST": "what answers there does not speak TLS",
    "UNEXPECTED_EOF_WHILE_READING": "the server hung up",
    "TLSV1_UNRECOGNIZED_NAME": "the server does not know its name as it is asked for",
}


def explain(exc: BaseException) -> str:
    """Return what went wrong on the network, in words: no numbers, no names of source files."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        ask = ASK if exc.verify_code in (NOT_YET_VALID, HAS_EXPIRED) else ""
        why = NOT_TRUSTED if exc.verify_code in NO_ISSUER else exc.verify_message
        return f"TLS: the server's certificate is refused: {why}{ask}"
    if isinstance(exc, TimeoutError) or str(exc) == "timed out":  # the second: transport.patience
        return "no answer in time" if "resolved" not in str(exc) else str(exc)
    if isinstance(exc, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "TLS: the server hung up"
    if isinstance(exc, ssl.SSLError):
        reason = exc.reason or "handshake failed"
        return "TLS: " + WORDS.get(reason, reason.replace("_", " ").lower())
    if isinstance(exc, OSError):
        return exc.strerror or str(exc) or type(exc).__name__
    return str(exc)


def _openssl() -> ctypes.CDLL:
    """Return the OpenSSL that this interpreter's ``ssl`` runs on, with the prototypes used here."""
    if sys.implementation.name != "cpython" or not hasattr(_ssl, "__file__"):
        raise DeviceError("TLS: this way to keep the key in the element needs CPython with a shared OpenSSL")
    lib = ctypes.CDLL(_ssl.__file__)  # looks its symbols up in the libraries that _ssl was linked with, too
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    prototypes: tuple[tuple[str, type | None, list[type]], ...] = (
        ("EC_KEY_OpenSSL", pointer, []),
        ("EC_KEY_METHOD_new", pointer, [pointer]),
        ("EC_KEY_METHOD_set_sign", None, [pointer] * 4),
        ("EC_KEY_new_by_curve_name", pointer, [integer]),
        ("EC_KEY_set_method", integer, [pointer, pointer]),
        ("EC_KEY_set_public_key_affine_coordinates", integer, [pointer] * 3),
        ("EC_KEY_free", None, [pointer]),
        ("BN_bin2bn", pointer, [ctypes.c_char_p, integer, pointer]),
        ("BN_free", None, [pointer]),
        ("EVP_PKEY_new", pointer, []),
        ("EVP_PKEY_set1_EC_KEY", integer, [pointer, pointer]),
        ("ERR_clear_error", None, []),
        ("SSL_CTX_use_certificate_ASN1", integer, [pointer, integer, ctypes.c_char_p]),
        ("SSL_CTX_use_PrivateKey", integer, [pointer, pointer]),
        ("SSL_CTX_ctrl", ctypes.c_long, [pointer, integer, ctypes.c_long, ctypes.c_char_p]),
    )
    try:
        for name, result, arguments in prototypes:
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as exc:
        raise DeviceError(f"TLS: this interpreter's OpenSSL offers no {exc}") from exc
    return lib


def _context_pointer(lib: ctypes.CDLL, context: ssl.SSLContext) -> int:
    """Return the ``SSL_CTX *``, the first member behind the object head, once it answers as that context."""
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0
    found = lib.SSL_CTX_ctrl(pointer, SSL_CTRL_GET_MIN_PROTO_VERSION, 0, None) if pointer else -1
    if found != context.minimum_version:
        raise DeviceError("TLS: this CPython keeps its SSL_CTX elsewhere")
    return pointer
