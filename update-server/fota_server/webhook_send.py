"""One webhook delivery: signed as Standard Webhooks says, to where it may go, in bounded time.

Whoever may add a webhook makes this server open connections: so only https, but for loopback; never to a
link-local address, where clouds tell their secrets, nor to one that stands for many; the address that was
looked at is the one that is connected to; no redirect is followed. Private networks are spoken to, as
receivers live there.
"""

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fota_wire.errors import InputError

SEND_S = 15.0
"""One delivery, from the look-up of the name to the status."""
SECRET_SIZE = 32
PREFIX = "whsec_"
MAX_URL = 512
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Undelivered(Exception):
    """Why it was not taken; ``status``: of the receiver's answer, 0: it gave none."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Who is told, and how. ``ca``: PEM of who vouches for it; None: the system's authorities."""

    url: str
    secret: bytes
    ca: str | None


def require_url(url: str) -> None:
    """Return if a webhook may have this URL.

    Raises:
        InputError: it is no https URL, or more than one: with a name and password, a fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise InputError(f"not a URL: {exc}", "url") from exc
    plain = len(url) <= MAX_URL and url.isascii() and url.isprintable() and " " not in url
    if not plain or not parts.hostname or parts.username or parts.password or parts.fragment or port == 0:
        raise InputError(
            f"a webhook's URL is https://HOST/PATH, in up to {MAX_URL} characters, without a password", "url"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise InputError("a webhook goes by https; by http to this machine only (127.0.0.1, [::1])", "url")
    with suppress(ValueError):  # a name is looked at when it is looked up
        wrong = why_not(ipaddress.ip_address(parts.hostname), parts.hostname)
        if wrong:
            raise InputError(f"no webhook goes to {parts.hostname}: {wrong}", "url")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def why_not(address: IPAddress, host: str) -> str | None:
    """Return why a receiver called ``host`` may not be at this address, or None."""
    inner = _carried(address)
    if inner is not None:
        return why_not(inner, host)
    if address.is_loopback:
        return None if _is_loopback(host) else "it leads to this machine itself"
    for wrong, what in (
        (address.is_link_local, "it is link-local, where clouds tell their secrets"),
        (address in _METADATA, "it is where clouds tell their secrets"),
        (address.is_multicast or address.is_unspecified, "it stands for many"),
        (address.is_reserved, "it is reserved"),
    ):
        if wrong:
            return what
    return None


def _carried(address: IPAddress) -> IPAddress | None:
    """Return the IPv4 address that an IPv6 one is a way to, or None. (NAT64's are reserved.)"""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of webhook-signature, v1 (HMAC-SHA256)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def shown_secret(secret: bytes) -> str:
    """Return a secret as libraries of Standard Webhooks take it."""
    return PREFIX + base64.b64encode(secret).decode()


def payload(change: dict[str, Any]) -> bytes:
    """Return the body that tells a change; the same bytes whenever it is told."""
    at = datetime.fromtimestamp(change["at"], UTC).isoformat().replace("+00:00", "Z")
    data = {"id": change["id"], "subject": change["subject"], "detail": change["detail"]}
    return json.dumps({"type": change["kind"], "timestamp": at, "data": data}).encode()


def deliver(receiver: Receiver, message_id: str, body: bytes, now: int) -> None:
    """Send one message, in a thread: it waits.

    Raises:
        Undelivered: the receiver was not reached, may not be, or did not answer with 2xx.
    """
    parts = urlsplit(receiver.url)
    host = parts.hostname or ""
    address = _resolve(host, parts.port or (443 if parts.scheme == "https" else 80))
    headers = {
        "content-type": "application/json",
        "user-agent": "fota-server",
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(receiver.secret, message_id, now, body),
    }
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = _Pinned(host, parts.port, address, receiver.ca, tls=parts.scheme == "https")
    patience = threading.Timer(SEND_S, connection.cut)
    patience.start()
    try:
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as exc:
        late = f"no answer in {SEND_S:g} s" if connection.late else ""
        raise Undelivered(late or getattr(exc, "strerror", None) or type(exc).__name__) from exc
    finally:
        patience.cancel()
        connection.close()
    if not 200 <= status < 300:
        raise Undelivered(f"answered {status}", status)


def _resolve(host: str, port: int) -> Any:  # noqa: ANN401 - a socket's address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise Undelivered(f"no such host as {host}") from exc
    for *_, address in found:
        refusal = why_not(ipaddress.ip_address(str(address[0]).partition("%")[0]), host)
        if refusal:
            raise Undelivered(f"{host} is {address[0]}: {refusal}")
    return found[0][4]


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was looked at, for a host of that name."""

    def __init__(self, host: str, port: int | None, address: Any, ca: str | None, *, tls: bool) -> None:  # noqa: ANN401
        super().__init__(host, port or (443 if tls else 80), timeout=SEND_S)
        self._address = address
        self.late = False
        self._context = ssl.create_default_context(cadata=ca) if tls else None

    def connect(self) -> None:
        """Connect there, and nowhere else."""
        sock = socket.create_connection(self._address[:2], SEND_S)
        self.sock = self._context.wrap_socket(sock, server_hostname=self.host) if self._context else sock
        if self.late:  # `cut` came before there was anything to cut
            raise TimeoutError

    def cut(self) -> None:
        """Have whatever waits for the receiver wait no more."""
        self.late = True
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)
