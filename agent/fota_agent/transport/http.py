"""A small HTTP/1.1 client over one kept-alive stream, for a device: fixed limits, deadlines, nothing clever.

No redirects, no chunked bodies: a body comes with its Content-Length or is refused, since the end of any
other could not be told from a cut. The caller reads the body before it sends the next request.
"""

from fota_wire.errors import FotaError, TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Clock, Stream

MAX_HEAD = 8192
HEAD_DEADLINE_MS = 150_000  # it may be in one TLS record with all that follows (`transport.patience`)
PIECE = 128  # bytes of a head at once


class HttpTransport:
    """The ``Transport`` of ``fota_agent.seams``. ``connect()`` returns a fresh Stream to ``host``."""

    def __init__(self, connect: "Callable[[], Stream]", host: str, now_ms: "Clock", base: str = "") -> None:
        self._connect = connect
        self._host = host
        self._base = base
        self._now_ms = now_ms
        self._stream: Stream | None = None
        self.valid_until = 0  # end of the server's certificate in s since 1970, where the stream knows it

    def request(
        self, method: str, path: str, headers: "dict[str, str]", body: bytes = b""
    ) -> "tuple[int, dict[str, str], Body]":
        """Send one request and return status, headers (lower-case names) and the body's reader.

        Raises:
            TransportError: the server cannot be reached, is not ours, broke off, or does not speak HTTP.
        """
        lines = [f"{method} {self._base}{path} HTTP/1.1", f"Host: {self._host}"]
        lines.extend(f"{name}: {value}" for name, value in headers.items())
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                return self._exchange(stream, head, body)
            except _Stale:
                pass  # the server had closed the idle connection: once more, on a fresh one
        try:
            stream = self._connect()
        except OSError as exc:
            raise TransportError(f"cannot reach {self._host}: {_reason(exc)}") from exc
        try:
            return self._exchange(stream, head, body)
        except _Stale as exc:
            raise TransportError(f"{self._host} closed the connection without an answer: {exc}") from exc

    def aim(self, url: str) -> None:
        """Go to the server at ``url`` from the next request on. TransportError: not a usable URL."""
        self.close()
        self._host, self._base = host_and_base(url)

    def close(self) -> None:
        """Close the kept-alive connection, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _exchange(self, stream: "Stream", head: bytes, body: bytes) -> "tuple[int, dict[str, str], Body]":
        try:
            stream.write(head)
            if body:
                stream.write(body)  # as it is: for a copy behind its header there may be no memory
            self.valid_until = getattr(stream, "valid_until", 0)
            status, rest = 100, b""
            while 100 <= status < 200 and status != 101:  # interim answers, of proxies say
                answer, rest = self._read_head(stream, rest)
                status, headers = parse_head(answer)
            length = _body_length(status, headers)
            if len(rest) > length:
                raise TransportError("response: more bytes than it announced")
        except OSError as exc:
            stream.close()
            raise _Stale(_reason(exc)) from exc
        except (_Stale, FotaError):
            stream.close()
            raise
        keep = headers.get("connection", "").lower() != "close"
        reader = Body(stream, rest, length, self._give_back if keep else None)
        return status, headers, reader

    def _give_back(self, stream: "Stream") -> None:
        self._stream = stream

    def _read_head(self, stream: "Stream", head: bytes) -> "tuple[bytes, bytes]":
        """Return the head of the response, and what came behind it; one deadline for all of it. ``head``: its
        beginning, as far as that came behind another.
        """
        started = self._now_ms()
        buffer = bytearray(PIECE)
        view = memoryview(buffer)
        while True:
            end = head.find(b"\r\n\r\n")
            if end >= 0:
                return head[:end], head[end + 4 :]
            if len(head) > MAX_HEAD:
                raise TransportError(f"response: head longer than {MAX_HEAD} bytes")
            if self._now_ms() - started > HEAD_DEADLINE_MS:
                raise TransportError(f"response: no head within {HEAD_DEADLINE_MS // 1000} s")
            count = stream.readinto(view)
            if count == 0:
                if head:
                    raise TransportError("response: broke off in its head")
                raise _Stale("closed")
            head += bytes(view[:count])


class Body:
    """The body of one response, ``length`` bytes: the ``Reader`` of ``fota_agent.seams``."""

    def __init__(
        self, stream: "Stream", first: bytes, length: int, done: "Callable[[Stream], None] | None"
    ) -> None:
        self.length = length
        self._stream = stream
        self._first = first
        self._left = length
        self._done = done
        self._open = True
        if length == 0:
            self._finish()

    def readinto(self, buf: memoryview) -> int:
        """Fill a part of ``buf`` and return the number of bytes; 0 at the end.

        Raises:
            TransportError: the connection broke off before the announced length.
        """
        want = min(len(buf), self._left)
        if want == 0:
            return 0
        if self._first:
            count = min(want, len(self._first))
            buf[:count] = self._first[:count]
            self._first = self._first[count:]
        else:
            try:
                count = self._stream.readinto(buf[:want])
            except OSError as exc:
                self.close()
                raise TransportError(f"broke off, {self._left} bytes missing: {_reason(exc)}") from exc
            if count == 0:
                self.close()
                raise TransportError(f"broke off, {self._left} bytes missing")
        self._left -= count
        if self._left == 0:
            self._finish()
        return count

    def read(self, limit: int) -> bytes:
        """Return the whole body, at most ``limit`` bytes. TransportError if it is longer or breaks off."""
        if self.length > limit:
            self.close()
            raise TransportError(f"response: body of {self.length} bytes, more than {limit}")
        data = bytearray(self.length)
        view = memoryview(data)
        at = 0
        while at < self.length:
            at += self.readinto(view[at:])
        return bytes(data)

    def close(self) -> None:
        """Give the connection up unless the body was read to its end."""
        if self._open:
            self._open = False
            self._stream.close()

    def _finish(self) -> None:
        if not self._open:
            return
        if self._done is None:
            self.close()
        else:
            self._open = False
            self._done(self._stream)


def parse_head(head: bytes) -> "tuple[int, dict[str, str]]":
    """Return status and headers (lower-case names; the last of a repeated one). TransportError."""
    lines = head.split(b"\r\n")
    parts = lines[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or len(parts[1]) != 3 or not parts[1].isdigit():
        raise TransportError("response: not HTTP/1.1")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise TransportError("response: malformed header line")
        try:
            headers[name.strip().lower().decode()] = value.strip().decode()
        except UnicodeError:
            raise TransportError("response: header is not text") from None
    return int(parts[1]), headers


def _body_length(status: int, headers: "dict[str, str]") -> int:
    if status in (204, 304):
        return 0
    text = headers.get("content-length", "")
    if "transfer-encoding" in headers or not is_decimal(text) or len(text) > 10:
        raise TransportError(f"response {status}: no usable Content-Length")
    return int(text)


def is_decimal(text: str) -> bool:
    """Tell whether ``text`` is ASCII digits and nothing else; ``isdigit`` takes those of all scripts."""
    return bool(text) and all("0" <= digit <= "9" for digit in text)


class _Stale(Exception):
    """The connection ended before any byte of an answer."""


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def host_and_base(url: str) -> "tuple[str, str]":
    """Return what stands in Host, and the prefix of paths, of an ``https`` URL. TransportError."""
    host, port, base = split_url(url)
    return (f"[{host}]" if ":" in host else host) + f":{port}", base


def split_url(url: str) -> "tuple[str, int, str]":
    """Return host, port, prefix of an ``https://host[:port][/prefix]`` URL. TransportError otherwise."""
    if not url.startswith("https://"):
        raise TransportError(f"{url}: the server's URL must begin with https://")
    authority, slash, path = url[8:].partition("/")
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if ":" not in host or not bracket or port[:1] not in ("", ":"):
            host = ""
        port = port[1:]
    else:
        host, _, port = authority.partition(":")
    if not host or (port and (not is_decimal(port) or not 0 < int(port) < 65536)) or "@" in authority:
        raise TransportError(f"{url}: not a usable URL")
    return host, int(port or "443"), (slash + path).rstrip("/")
