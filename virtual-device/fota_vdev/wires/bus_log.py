"""What goes over the I2C bus, captured: messages with their virtual times, secrets left out, kept in a file.

A log is JSON lines: a head, then one message a line. A byte that must not be seen is ``##`` there.
"""

import bisect
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fota_vdev.parts.clock import PS_PER_US, Clock
from fota_vdev.wires.bus_secrets import Censor
from fota_vdev.wires.i2c_bus import I2CBus
from fota_wire.errors import FormatError
from fota_wire.files import check_own_kind, read_input, write_output

HEAD = {"log": "fota bus log", "format": 1}
LARGEST_LOG = 1 << 26
WAKE, WRITE, READ, NAK, MARK = "wake", "write", "read", "nak", "mark"
MASKED = "##"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, as the host sent or got it.

    ``at_us``: virtual time of its end (of a read: of its address), microseconds. ``data``: None is a byte
    that was masked. ``text``: what a mark says.
    """

    at_us: float
    kind: str
    address: int = 0
    data: tuple[int | None, ...] = ()
    text: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the line of the log."""
        out: dict[str, object] = {"at_us": self.at_us, "kind": self.kind}
        if self.kind == MARK:
            return out | {"text": self.text}
        if self.kind != WAKE:
            out["address"] = self.address
        return out | {"data": hex_text(self.data)} if self.data else out


def hex_text(data: Iterable[int | None]) -> str:
    """Return bytes in hex with blanks between, masked ones as ``##``."""
    return " ".join(MASKED if byte is None else f"{byte:02x}" for byte in data)


class BusLog:
    """Listens on the bus of a machine from `attach` on. ``secrets`` True: nothing is masked."""

    def __init__(self, now_ps: Callable[[], int], *, secrets: bool = False) -> None:
        self._now_ps = now_ps
        self._censor = None if secrets else Censor()
        self.messages: list[Message] = []

    def _note(self, kind: str, address: int, data: tuple[int | None, ...]) -> None:
        at_us = round(self._now_ps() / PS_PER_US, 3)
        self.messages.append(Message(at_us=at_us, kind=kind, address=address, data=data))

    def wake(self) -> None:
        """SDA was held low."""
        self._note(WAKE, 0, ())

    def nak(self, address: int) -> None:
        """Nobody acknowledged."""
        self._note(NAK, address, ())

    def write(self, address: int, data: bytes) -> None:
        """The host sent a message."""
        self._note(WRITE, address, self._censor.write(data) if self._censor else tuple(data))

    def read(self, address: int, data: bytes) -> None:
        """The host got bytes."""
        self._note(READ, address, self._censor.read(data) if self._censor else tuple(data))

    def mark(self, text: str) -> None:
        """Note something that happened off the bus."""
        at_us = round(self._now_ps() / PS_PER_US, 3)
        self.messages.append(Message(at_us=at_us, kind=MARK, text=text))

    def save(self, path: Path) -> None:
        """Write the log, mode 0600.

        Raises:
            StorageError: it cannot be written.
        """
        head = HEAD | {"secrets": "shown" if self._censor is None else "masked"}
        lines = [head, *(message.as_dict() for message in self.messages)]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        write_output(path, data, force=True, secret=True)


class Watched(Protocol):
    """What is listened to: a machine. ``resets`` are its resets so far, as (microseconds, cause)."""

    resets: list[tuple[int, str]]

    @property
    def clock(self) -> Clock:
        """Virtual time."""

    @property
    def i2c_bus(self) -> I2CBus:
        """The bus between chip and element."""


@contextmanager
def listening(machine: Watched, path: Path | None, *, secrets: bool = False) -> Iterator[BusLog]:
    """Capture the bus of a machine while the block runs, and write the log, whatever ended the block.

    ``path`` None: nothing is captured. Resets are marked.
    """
    log = BusLog(lambda: machine.clock.ps, secrets=secrets)
    if path is None:
        yield log
        return
    check_own_kind(path, json.dumps(HEAD).encode()[:-1])
    resets = len(machine.resets)
    bus = machine.i2c_bus
    bus.listener = log
    try:
        yield log
    finally:
        bus.listener = None
        for at_us, cause in machine.resets[resets:]:
            where = bisect.bisect_left(log.messages, float(at_us), key=lambda message: message.at_us)
            log.messages.insert(where, Message(at_us=at_us, kind=MARK, text=f"reset: {cause}"))
        log.save(path)


def load_log(path: Path, *, secrets: bool = False) -> tuple[list[Message], bool]:
    """Return the messages of a log, and whether its secrets are seen; they are masked unless ``secrets``.

    Raises:
        InputError: no such file.
        FormatError: not a log; the line is named.
    """
    lines = read_input(path, LARGEST_LOG).decode("utf-8", "replace").splitlines()
    try:
        head = json.loads(lines[0])
        known = {name: head.get(name) for name in HEAD} == HEAD
    except (ValueError, IndexError, AttributeError):
        known = False
    if not known:
        raise FormatError(f"{path}: not a bus log; 'fota vdev run --bus-log' and 'fota provision' write them")
    messages = [_message(line, f"{path}, line {number}") for number, line in enumerate(lines[1:], start=2)]
    if secrets:
        return messages, head.get("secrets") == "shown"
    censor = Censor()
    return [_masked(message, censor) for message in messages], False


def _message(line: str, where: str) -> Message:
    try:
        raw = json.loads(line)
        kind, at_us = raw["kind"], float(raw["at_us"])
        if kind not in (WAKE, WRITE, READ, NAK, MARK):
            raise FormatError(f"{where}: no such kind of message")
        data = tuple(None if byte == MASKED else _byte(byte) for byte in raw.get("data", "").split())
        address, text = int(raw.get("address", 0)), str(raw.get("text", ""))
        return Message(at_us=at_us, kind=kind, address=address, data=data, text=text)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise FormatError(f"{where}: not a message of a bus log") from exc


def _byte(text: str) -> int:
    (value,) = bytes.fromhex(text)
    return value


def _masked(message: Message, censor: Censor) -> Message:
    if message.kind == WRITE:
        data = censor.write(message.data)
    elif message.kind == READ:
        data = censor.read(message.data)
    else:
        return message
    return Message(at_us=message.at_us, kind=message.kind, address=message.address, data=data)
