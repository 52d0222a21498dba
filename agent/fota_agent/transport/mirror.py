"""Payloads from a copy nearby, and from the server where that fails. Content is checked by its digest, so a
mirror needs neither trust nor TLS; check-ins never go there.
"""

from fota_agent.transport.http import HttpTransport, split_url
from fota_wire.errors import TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Clock, Reader, Transport

CONNECT_TIMEOUT_S = 5.0


class Mirrored:
    """The ``Transport`` that asks ``mirror`` once for each payload and ``server`` for everything else.

    Once in a boot: what broke off, was slow or turned out to be something else then comes from the server.
    """

    def __init__(self, server: "Transport", mirror: "Transport") -> None:
        self._server = server
        self._mirror = mirror
        self._tried: str | None = None

    @property
    def valid_until(self) -> int:
        """End of the server's certificate in s since 1970, 0 = not known."""
        return getattr(self._server, "valid_until", 0)

    def request(
        self, method: str, path: str, headers: "dict[str, str]", body: bytes = b""
    ) -> "tuple[int, dict[str, str], Reader]":
        """As ``Transport.request``; no failure of the mirror is one of this."""
        if method == "GET" and path != self._tried:
            self._tried = path
            try:
                status, answer, reader = self._mirror.request(method, path, headers)
                if status in (200, 206):
                    return status, answer, reader
                reader.close()
            except TransportError:
                pass
        return self._server.request(method, path, headers, body)

    def aim(self, url: str) -> None:
        """As ``HttpTransport.aim``, of the server."""
        aim = getattr(self._server, "aim", None)
        if aim is not None:
            aim(url)

    def close(self) -> None:
        """Close both."""
        self._mirror.close()
        self._server.close()


class PlainStream:
    """A TCP connection as the ``Stream`` of ``fota_agent.seams``, for CPython and MicroPython."""

    def __init__(self, host: str, port: int) -> None:
        import socket

        address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
        self._sock = socket.socket(address[0], socket.SOCK_STREAM)
        try:
            self._sock.settimeout(CONNECT_TIMEOUT_S)
            self._sock.connect(address[-1])
        except OSError:
            self._sock.close()
            raise

    def write(self, data: "bytes | memoryview") -> None:
        """Send all of ``data``; OSError."""
        self._sock.sendall(data)

    def readinto(self, buf: memoryview) -> int:
        """Receive at least one byte and return how many; 0 when the peer has closed; OSError."""
        if hasattr(self._sock, "recv_into"):
            return self._sock.recv_into(buf)
        return int(self._sock.readinto(buf) or 0)  # type: ignore[attr-defined]  # MicroPython's name for it

    def close(self) -> None:
        """Close; never raises."""
        self._sock.close()


def plain_transport(url: str, now_ms: "Clock") -> HttpTransport:
    """Return the transport of the mirror at ``http://host[:port][/prefix]``. TransportError: no such URL."""
    if not url.startswith("http://"):
        raise TransportError(f"{url}: a mirror's URL begins with http://; digests protect what it sends")
    host, port, base = split_url("https://" + url[7:])
    port = 80 if port == 443 and not url.partition("//")[2].partition("/")[0].endswith(":443") else port
    name = f"[{host}]" if ":" in host else host
    return HttpTransport(lambda: PlainStream(host, port), f"{name}:{port}", now_ms, base)
