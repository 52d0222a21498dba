"""Networks for the modem of the virtual device: real sockets of this host, a recording of one, a replay; and
a slow line in front of one.
"""

import ipaddress
import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from fota_vdev.modem.peripheral import Link, Network
from fota_vdev.parts.clock import PS_PER_MS, PS_PER_S, Clock

LOOPBACK = ("127.0.0.0/8", "::1/128")
CONNECT_TIMEOUT_S = 5.0
READ_AHEAD = 65_536  # bytes that wait in front of a slow line


class HostLink:
    """A TCP connection of this host."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes) -> None:
        """Send all of ``data``; OSError."""
        self._sock.sendall(data)

    def receive(self, limit: int, wait_ms: int) -> bytes | None:
        """Return at most ``limit`` bytes, empty at the end, None if nothing came in ``wait_ms``; OSError."""
        readable, _, _ = select.select([self._sock], [], [], wait_ms / 1000)
        return self._sock.recv(limit) if readable else None

    def close(self) -> None:
        """Close."""
        self._sock.close()


class HostNetwork:
    """Outbound TCP from this host, to ``allowed`` networks only; by default to the loopback.

    ``now_s`` None: the network's time is that of the host; a number stands still, 0 is "not known".
    """

    def __init__(self, allowed: Iterable[str] = LOOPBACK, now_s: int | None = None) -> None:
        self._allowed = [ipaddress.ip_network(text) for text in allowed]
        self._now_s = now_s

    def connect(self, host: str, port: int) -> HostLink:
        """Open a connection to the first allowed address of ``host``.

        Raises:
            OSError: not resolved, not allowed, refused, or no answer in five seconds.
        """
        last = OSError(f"{host}: no address that this device may reach")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
            if not any(ip in network for network in self._allowed):
                continue
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(CONNECT_TIMEOUT_S)
            try:
                sock.connect(address)
            except OSError as exc:
                sock.close()
                last = exc
                continue
            return HostLink(sock)
        raise last

    def now(self) -> int:
        """Return seconds since 1970."""
        return int(time.time()) if self._now_s is None else self._now_s

    def stopwatch_ms(self) -> int:
        """Return milliseconds."""
        return time.monotonic_ns() // 1_000_000

    def position(self) -> int:
        """Return 0: it cannot go back."""
        return 0

    def go_back(self, _position: int) -> None:
        """Return no connection: those of now are not those of then."""
        return


@dataclass(slots=True)
class Tape:
    """All that a network answered, in order; ``None`` for an OSError where data is expected."""

    answers: list[tuple[str, bytes | int | None]] = field(default_factory=list)


class Recorder:
    """A network that writes on a tape what another one answers."""

    def __init__(self, network: Network, tape: Tape) -> None:
        self._network = network
        self._tape = tape

    def note(self, kind: str, value: bytes | int | None) -> None:
        """Write one answer on the tape."""
        self._tape.answers.append((kind, value))

    def connect(self, host: str, port: int) -> Link:
        """Open a connection; OSError."""
        try:
            link = self._network.connect(host, port)
        except OSError:
            self.note("connect", None)
            raise
        self.note("connect", b"")
        return _RecordedLink(link, self)

    def now(self) -> int:
        """Return the network's time."""
        value = self._network.now()
        self.note("now", value)
        return value

    def stopwatch_ms(self) -> int:
        """Return milliseconds."""
        value = self._network.stopwatch_ms()
        self.note("stopwatch", value)
        return value

    def position(self) -> int:
        """Return 0: it cannot go back."""
        return 0

    def go_back(self, _position: int) -> None:
        """Return no connection: those of now are not those of then."""
        return


class _RecordedLink:
    def __init__(self, link: Link, recorder: Recorder) -> None:
        self._link = link
        self._recorder = recorder

    def send(self, data: bytes) -> None:
        try:
            self._link.send(data)
        except OSError:
            self._recorder.note("send", None)
            raise
        self._recorder.note("send", b"")

    def receive(self, limit: int, wait_ms: int) -> bytes | None:
        try:
            data = self._link.receive(limit, wait_ms)
        except OSError:
            self._recorder.note("receive", None)
            raise
        self._recorder.note("nothing" if data is None else "receive", data)
        return data

    def close(self) -> None:
        self._link.close()


class Replay:
    """A network that answers from a tape. Whoever asks something else than then has gone another way."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._at = 0

    def position(self) -> int:
        """Return how many answers were given."""
        return self._at

    def go_back(self, position: int) -> Link:
        """Go on from there."""
        self._at = position
        return self

    def _next(self, *kinds: str) -> tuple[str, bytes | int | None]:
        if self._at >= len(self._tape.answers):
            raise OSError("the tape is at its end")
        answer = self._tape.answers[self._at]
        if answer[0] not in kinds:
            raise OSError(f"the tape has {answer[0]} here, not {kinds[0]}")
        self._at += 1
        return answer

    def connect(self, _host: str, _port: int) -> Link:
        """Open the next connection of the tape; OSError."""
        if self._next("connect")[1] is None:
            raise OSError("refused, then")
        return self

    def now(self) -> int:
        """Return the network's time, as it was then."""
        return self._number("now")

    def stopwatch_ms(self) -> int:
        """Return milliseconds, as they were then."""
        return self._number("stopwatch")

    def _number(self, kind: str) -> int:
        value = self._next(kind)[1]
        return value if isinstance(value, int) else 0

    def send(self, _data: bytes) -> None:
        """Take what is sent; OSError."""
        if self._next("send")[1] is None:
            raise OSError("broken, then")

    def receive(self, _limit: int, _wait_ms: int) -> bytes | None:
        """Return what came then; OSError."""
        kind, value = self._next("receive", "nothing")
        if kind == "nothing":
            return None
        if not isinstance(value, bytes):
            raise OSError("broken, then")
        return value

    def close(self) -> None:
        """Nothing to close."""


class SlowNetwork:
    """A network behind a line of ``rate`` bytes per second of virtual time towards the device, in segments of
    ``segment`` bytes; each connection breaks once it has brought ``breaks_after`` bytes (None: never).

    What the device sends takes no time. The peers behind it live in real time, as ever.
    """

    def __init__(
        self, network: Network, clock: Clock, rate: int, *, segment: int = 64, breaks_after: int | None = None
    ) -> None:
        self.rate, self.segment, self.breaks_after = rate, segment, breaks_after
        self.clock = clock
        self.waited_ps = 0
        self.connections = 0
        self._network = network

    def connect(self, host: str, port: int) -> "SlowLink":
        """Open a connection; OSError."""
        link = SlowLink(self._network.connect(host, port), self)
        self.connections += 1
        return link

    def now(self) -> int:
        """Return the network's time."""
        return self._network.now()

    def stopwatch_ms(self) -> int:
        """Return milliseconds: what passed for the host, and what the line took."""
        return self._network.stopwatch_ms() + self.waited_ps // PS_PER_MS

    def position(self) -> int:
        """Return 0: it cannot go back."""
        return 0

    def go_back(self, _position: int) -> None:
        """Return no connection: those of now are not those of then."""
        return


class SlowLink:
    """One connection over the line of a `SlowNetwork`."""

    def __init__(self, link: Link, line: SlowNetwork) -> None:
        self._link = link
        self._line = line
        self._coming = bytearray()
        self._ended = False
        self._since_ps = 0  # when the segment that comes now began to
        self._brought = 0

    def send(self, data: bytes) -> None:
        """Send all of ``data``; OSError."""
        self._link.send(data)

    def receive(self, limit: int, wait_ms: int) -> bytes | None:
        """Return what came through within ``wait_ms``, empty at the end, None if nothing did; OSError."""
        if self._brought == self._line.breaks_after:
            raise ConnectionResetError
        if not self._listen(wait_ms):
            return b"" if self._ended else None
        size = min(limit, self._line.segment, len(self._coming))
        if self._line.breaks_after is not None:
            size = min(size, self._line.breaks_after - self._brought)
        due_ps = self._since_ps + size * PS_PER_S // self._line.rate
        wait_ps = due_ps - self._line.clock.ps
        if wait_ps > wait_ms * PS_PER_MS:
            return None
        self._line.waited_ps += max(0, wait_ps)
        self._since_ps = due_ps
        self._brought += size
        data = bytes(self._coming[:size])
        del self._coming[:size]
        return data

    def _listen(self, wait_ms: int) -> bool:
        """Take what the peer has sent by now, and wait for it if there is nothing; tell whether there is."""
        idle = not self._coming
        while not self._ended and len(self._coming) < READ_AHEAD:
            data = self._link.receive(READ_AHEAD, 0 if self._coming else wait_ms)
            if data is None:
                break
            self._coming += data
            self._ended = not data
        if idle:
            self._since_ps = self._line.clock.ps
        return bool(self._coming)

    def close(self) -> None:
        """Close; never raises."""
        self._link.close()
