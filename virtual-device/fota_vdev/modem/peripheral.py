"""A socket-offload modem: the chip's only way out, and outbound only. It is where the board of the chip has
it: on the external bus (FMC bank 1), or behind a UART.

The chip connects, sends, receives, closes, waits, and reads the network's time; there is no command to
listen. One connection at a time. It stands for the cellular and Wi-Fi modems that keep TCP/IP to
themselves; what is particular to one of them (UART, SPI, AT commands) is not modelled.

Time: a command takes no virtual time. While the chip waits for its peer, real time passes, since the peer
lives in it, and virtual time advances by as much. With no connection open nothing can come: such a wait
takes virtual time only, unless ``pace`` asks for real time there too.
"""

import time
from typing import ClassVar, Protocol

from fota_vdev.parts.bus import Peripheral, UnmodelledError
from fota_vdev.parts.clock import PS_PER_MS, Clock

ID, COMMAND, STATUS, AVAILABLE, LENGTH, DATA, PORT, WAIT, TIME = range(0x00, 0x24, 4)
ID_VALUE = 0x314D_4F46  # "FOM1"
CONNECT, SEND, CLOSE = 1, 2, 3
OPEN, ENDED, BROKEN = 1, 2, 4
LONGEST = 2048  # bytes in one message; the receive buffer holds two
BUFFER = 2 * LONGEST
LONGEST_WAIT_MS = 60_000


class Host(Protocol):
    """What a modem is attached to: a machine."""

    @property
    def clock(self) -> Clock:
        """Virtual time."""

    def attach_modem(self, modem: Peripheral) -> None:
        """Put the modem where the board has it."""


class Link(Protocol):
    """One open connection. OSError from any method: it is broken."""

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""

    def receive(self, limit: int, wait_ms: int) -> bytes | None:
        """Return at most ``limit`` bytes, empty at the end of the stream, None if nothing came in time."""

    def close(self) -> None:
        """Close; never raises."""


class Network(Protocol):
    """Where connections go."""

    def connect(self, host: str, port: int) -> Link:
        """Open a connection. OSError: refused, or not allowed."""

    def now(self) -> int:
        """Return the network's time, seconds since 1970; 0 if it is not known."""

    def stopwatch_ms(self) -> int:
        """Return milliseconds of a clock that never goes back: how long the chip waited."""

    def position(self) -> int:
        """Return what `go_back` takes: where in its recording this network is; 0 for a live one."""

    def go_back(self, position: int) -> Link | None:
        """Return the connection as it was then, or None: a live network cannot go back in time."""


class Modem(Peripheral):
    """The registers. ``network`` makes the connections; see `fota_vdev.modem.network`."""

    name = "MODEM"
    STATE: ClassVar[tuple[str, ...]] = (
        "_length", "_message", "_received", "_port", "_status", "_position",
    )  # fmt: skip

    def __init__(self, clock: Clock, network: Network, *, pace: bool = False) -> None:
        self._clock = clock
        self._network = network
        self._pace = pace
        self._link: Link | None = None
        self.connections: list[tuple[str, int]] = []
        self.sent = self.received = 0
        self._clear()

    def _clear(self) -> None:
        self._length = 0
        self._message = bytearray()
        self._received = bytearray()
        self._port = 0
        self._status = 0

    def reset(self) -> None:
        """Forget everything, at a power cut or a reset of the chip; the peer sees the end of the stream."""
        self._hang_up()
        self._clear()

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    # -- registers ---------------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == DATA:
            return self._pull()
        if offset == STATUS:
            return self._state()
        if offset == AVAILABLE:
            if not self._received:
                self._fill(0)
            return len(self._received)
        if offset == TIME:
            return self._network.now() & 0xFFFF_FFFF
        if offset == ID:
            return ID_VALUE
        raise self.unmodelled(offset, "read of")

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == DATA:
            self._message += value.to_bytes(4, "little")[: min(4, self._length - len(self._message))]
        elif offset == LENGTH:
            if value > LONGEST:
                raise UnmodelledError(f"MODEM LENGTH {value}: a message has at most {LONGEST} bytes")
            self._length, self._message = value, bytearray()
        elif offset == PORT:
            self._port = value & 0xFFFF
        elif offset == WAIT:
            self._wait(min(value, LONGEST_WAIT_MS))
        elif offset == COMMAND:
            self._command(value)
        else:
            raise self.unmodelled(offset, "write to")

    def _state(self) -> int:
        self._check_life()
        ended = self._status & ENDED and not self._received
        return (self._status & ~ENDED) | (ENDED if ended else 0)

    def _pull(self) -> int:
        """Return the next four bytes of a read of LENGTH bytes."""
        take = min(4, self._length, len(self._received))
        word = int.from_bytes(self._received[:take], "little")
        del self._received[:take]
        self._length -= take
        return word

    # -- the network -------------------------------------------------------------------------------------

    @property
    def _position(self) -> int:
        """For snapshots: where the network is, which may have gone on since."""
        return self._network.position()

    @_position.setter
    def _position(self, position: int) -> None:
        self._hang_up()
        link = self._network.go_back(position)
        self._link = link if self._status & OPEN else None  # of the snapshot: STATE has it before this

    def _check_life(self) -> None:
        """A live connection is not the one that the chip had in a snapshot gone back to: it is broken."""
        if self._status & OPEN and self._link is None:
            self._status = BROKEN

    def _command(self, value: int) -> None:
        if value == CONNECT:
            self._connect(bytes(self._message).decode("ascii", "replace"))
        elif value == SEND:
            self._send(bytes(self._message))
        elif value == CLOSE:
            self._hang_up()
            self._clear()
        else:
            raise UnmodelledError(f"MODEM command {value}: there are connect, send and close")

    def _connect(self, host: str) -> None:
        self._hang_up()
        port = self._port
        self._clear()
        self.connections.append((host, port))
        try:
            self._link = self._network.connect(host, port)
        except OSError:
            self._status = BROKEN
            return
        self._status = OPEN

    def _send(self, data: bytes) -> None:
        self._check_life()
        if self._link is None or not self._status & OPEN:
            self._status |= BROKEN
            return
        try:
            self._link.send(data)
            self.sent += len(data)
        except OSError:
            self._break()

    def _break(self) -> None:
        self._hang_up()
        self._status = BROKEN

    def _fill(self, wait_ms: int) -> bool:
        """Take what the network has, waiting for it; False if nothing came."""
        self._check_life()
        if self._link is None or self._status & ENDED or len(self._received) >= BUFFER:
            return False
        try:
            data = self._link.receive(BUFFER - len(self._received), wait_ms)
        except OSError:
            self._break()
            return True
        if data is None:
            return False
        if data:
            self._received += data
            self.received += len(data)
        else:
            self._status |= ENDED
        return True

    def _wait(self, wait_ms: int) -> None:
        if self._received:
            return
        self._check_life()
        if self._link is None or self._status & ENDED:
            if self._pace:
                time.sleep(wait_ms / 1000)
            self._clock.advance(wait_ms * PS_PER_MS)
            return
        started = self._network.stopwatch_ms()
        came = self._fill(wait_ms)
        waited_ms = self._network.stopwatch_ms() - started if came else wait_ms
        self._clock.advance(waited_ms * PS_PER_MS)


def attach(machine: Host, network: Network, *, pace: bool = False) -> Modem:
    """Give ``machine`` a modem; once for each machine. A machine without one pays nothing for it."""
    modem = Modem(machine.clock, network, pace=pace)
    machine.attach_modem(modem)
    return modem
