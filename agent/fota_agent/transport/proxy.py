"""Out through an HTTP proxy, by CONNECT, where a factory's network has no other way. For CPython hosts only.

TLS is with the server, end to end: the proxy sees its name, nothing else. Credentials are sent to the proxy,
and are in no message.
"""

import base64
import os
import socket
import threading
import time
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from fota_wire.errors import InputError

MAX_HEAD = 8192
VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


Row = tuple[Any, Any, int, str, tuple[Any, ...]]
"""What ``getaddrinfo`` gives for an address."""


class Proxy(NamedTuple):
    """``host`` and ``port``; ``credentials``: ``user:password``, or empty."""

    host: str
    port: int
    credentials: str


def parse(url: str, where: str) -> Proxy:
    """Return the proxy of ``http://[user:password@]host[:port]``. InputError, without the password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise InputError(f"{where}: a proxy is http://[user:password@]host[:port]")
    user, password = parts.username, unquote(parts.password or "")
    return Proxy(parts.hostname, port, f"{unquote(user)}:{password}" if user else "")


def authority(host: str, port: int) -> str:
    """Return how the two are written: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def choose(host: str, port: int, setting: str | None) -> Proxy | None:
    """Return the proxy on the way to ``host``: of the setting ("" = none), else of the environment, as others
    read it: HTTPS_PROXY, ALL_PROXY, and NO_PROXY. InputError: it is none.
    """
    if setting is not None:
        return parse(setting, "updates.proxy") if setting else None
    for name in VARIABLES:
        if os.environ.get(name):
            from urllib.request import proxy_bypass

            if proxy_bypass(f"{host}:{port}"):
                return None
            return parse(os.environ[name], name)
    return None


def open_socket(host: str, port: int, timeout_s: float, proxy: Proxy | None) -> socket.socket:
    """Return a connected socket to ``host``, each wait of it bounded by ``timeout_s``. OSError."""
    if proxy is None:
        return _connect(host, port, timeout_s)
    where = f"proxy {authority(proxy.host, proxy.port)}"
    try:
        sock = _connect(proxy.host, proxy.port, timeout_s)
    except OSError as exc:
        raise OSError(f"{where}: {exc.strerror or exc}") from exc
    try:
        _ask(sock, authority(host, port), proxy, where, timeout_s)
    except BaseException:
        sock.close()
        raise
    return sock


def _ask(sock: socket.socket, target: str, proxy: Proxy, where: str, timeout_s: float) -> None:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.credentials:
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(proxy.credentials.encode()).decode())
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    head, end = b"", time.monotonic() + timeout_s
    while b"\r\n\r\n" not in head:
        piece = sock.recv(512) if time.monotonic() < end and len(head) < MAX_HEAD else b""
        if not piece:
            raise OSError(f"{where}: no usable answer")
        head += piece
    line, _, rest = head.partition(b"\r\n")
    words = line.split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise OSError(f"{where}: no usable answer")
    status = int(words[1])
    if status == 407:
        raise OSError(f"{where}: wants other credentials (407)")
    if not 200 <= status < 300:
        raise OSError(f"{where}: refuses the way to {target} ({status})")
    if rest.partition(b"\r\n\r\n")[2]:
        raise OSError(f"{where}: says more than it was asked")


def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to the first address of ``host`` that answers. A resolver that never does is no reason to wait
    for it: the look-up ends by itself, somewhen, in a thread of its own.
    """
    found: list[list[Row] | OSError] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            found.append(exc if isinstance(exc, OSError) else OSError(f"{host}: not a name"))

    thread = threading.Thread(target=look_up, name="fota-resolver", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not found:
        raise TimeoutError("its name was not resolved in time")
    if isinstance(found[0], OSError):
        raise found[0]
    last: OSError = OSError("its name has no address")
    for row in found[0]:
        try:
            return _dial(row, timeout_s)
        except OSError as exc:
            last = exc
    raise last


def _dial(row: Row, timeout_s: float) -> socket.socket:
    """Connect to the address of ``row`` as it is: a link-local one has its interface beside it. OSError."""
    family, kind, protocol, _, address = row
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(timeout_s)
        # a body may follow its header in a write of its own
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
