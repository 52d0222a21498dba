"""A bus log read as conversation: each command with its answer, times, bytes on the bus, and polls."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fota_vdev.wires.bus_log import MARK, NAK, READ, WAKE, WRITE, Message, hex_text
from fota_vdev.wires.bus_words import answer_words, command_words

RESET_POINTER, SLEEP, IDLE, COMMAND = range(4)
WORDS = {RESET_POINTER: "read again", SLEEP: "sleep", IDLE: "idle"}
WOKEN = (0x04, 0x11, 0x33, 0x43)
BYTES_A_LINE = 32


@dataclass(slots=True, kw_only=True)
class Entry:
    """One thing that happened. ``sent`` and ``got``: bytes without addresses; None is a masked one.

    ``bus_bytes``: with address bytes, without polls. ``took_us``: from the end of the command to the
    beginning of its answer; None: no answer.
    """

    at_us: float
    name: str
    words: str = ""
    result: str = ""
    sent: list[int | None] = field(default_factory=list)
    got: list[int | None] = field(default_factory=list)
    bus_bytes: int = 0
    polls: int = 0
    took_us: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for JSON."""
        took = None if self.took_us is None else round(self.took_us, 3)
        return {"at_us": self.at_us, "name": self.name, "words": self.words, "result": self.result,
                "sent": hex_text(self.sent), "got": hex_text(self.got), "bus_bytes": self.bus_bytes,
                "polls": self.polls, "took_us": took}  # fmt: skip

    @property
    def is_command(self) -> bool:
        """True for a command packet."""
        return len(self.sent) > 1


class Reader:
    """Takes messages one after another; `entries` is what they meant."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._open: Entry | None = None  # a command, or a wake, that is not answered yet

    def take(self, message: Message) -> None:
        """Take the next message."""
        if message.kind == MARK:
            self.entries.append(Entry(at_us=message.at_us, name="--", words=message.text))
        elif message.kind == WAKE:
            self._begin(Entry(at_us=message.at_us, name="wake", bus_bytes=1))
        elif message.kind == NAK:
            self._nak(message)
        elif message.kind == WRITE:
            self._write(message)
        elif message.kind == READ:
            self._read(message)

    def _begin(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._open = entry if entry.name not in WORDS.values() else None

    def _nak(self, message: Message) -> None:
        if self._open is not None:
            self._open.polls += 1
        else:
            self._begin(Entry(at_us=message.at_us, name="nobody", words=f"at 0x{message.address:02x}"))
            self._open = None

    def _write(self, message: Message) -> None:
        if not message.data:
            return
        word, rest = message.data[0], message.data[1:]
        size = 1 + len(message.data)
        if word == RESET_POINTER and self._open is not None:
            self._open.bus_bytes += size
            self._open.got = []
        elif word == COMMAND and self._incomplete():
            assert self._open is not None  # noqa: S101 - that is what _incomplete said
            self._open.sent += rest
            self._open.bus_bytes += size
            self._describe(self._open, message.at_us)
        elif word == COMMAND:
            entry = Entry(at_us=message.at_us, name="part of a command", sent=[word, *rest], bus_bytes=size)
            self._begin(entry)
            self._describe(entry, message.at_us)
        else:
            name = WORDS.get(word, "word") if word is not None else "word"
            self._begin(Entry(at_us=message.at_us, name=name, sent=[word], bus_bytes=size))

    def _incomplete(self) -> bool:
        entry = self._open
        return entry is not None and entry.is_command and not entry.words and not entry.got

    def _describe(self, entry: Entry, at_us: float) -> None:
        packet = entry.sent[1:]
        if len(packet) >= 7 and len(packet) >= (packet[0] or 0):
            opcode, p1, low, high = (byte or 0 for byte in packet[1:5])
            entry.name, entry.words = command_words(opcode, p1, high << 8 | low, len(packet) - 7)
            entry.words = entry.words or "-"
            entry.at_us = at_us

    def _read(self, message: Message) -> None:
        entry = self._open
        if entry is None:
            entry = Entry(at_us=message.at_us, name="read")
            self._begin(entry)
        if not entry.got:
            entry.took_us = message.at_us - entry.at_us
        entry.got += message.data
        entry.bus_bytes += 1 + len(message.data)
        if entry.name == "wake":
            entry.result = "awake" if tuple(entry.got[:4]) == WOKEN else hex_text(entry.got)
        elif entry.is_command and entry.got and entry.got[0] and len(entry.got) >= entry.got[0]:
            opcode = (entry.sent[2] or 0) if len(entry.sent) > 2 else 0
            entry.result = answer_words(opcode, tuple(entry.got[1 : entry.got[0] - 2]))
            self._open = None


def read_log(messages: Iterable[Message]) -> list[Entry]:
    """Return what happened, in order."""
    reader = Reader()
    for message in messages:
        reader.take(message)
    for entry in reader.entries:
        if entry.is_command and not entry.result:
            entry.result = "no answer"
    return reader.entries


def totals(entries: list[Entry]) -> dict[str, Any]:
    """Return how many commands, bytes on the bus, polls, and microseconds from first to last."""
    return {
        "commands": sum(entry.is_command for entry in entries),
        "bus_bytes": sum(entry.bus_bytes for entry in entries),
        "polls": sum(entry.polls for entry in entries),
        "us": round(entries[-1].at_us - entries[0].at_us, 3) if entries else 0,
    }


def _routine(entry: Entry) -> bool:
    return entry.name in WORDS.values() or (entry.name == "wake" and entry.result == "awake")


def as_lines(entries: list[Entry], *, brief: bool) -> Iterator[str]:
    """Yield the conversation for people: milliseconds from the first entry on, words, result, cost, bytes.

    ``brief``: no bytes, and nothing of waking up and idling that went as it should.
    """
    start = entries[0].at_us if entries else 0
    for entry in entries:
        if brief and _routine(entry):
            continue
        head = f"{(entry.at_us - start) / 1000:11.3f}  "
        if entry.name == "--":
            yield f"{head}-- {entry.words}"
            continue
        said = " ".join(part for part in (entry.name, entry.words) if part != "-").strip()
        said += f" -> {entry.result}" if entry.result else ""
        took = "" if entry.took_us is None else f"  {entry.took_us / 1000:.1f} ms"
        polls = f", {entry.polls} poll{'s' if entry.polls > 1 else ''}" if entry.polls else ""
        yield f"{head}{said:<76}  {entry.bus_bytes:3} B{took}{polls}".rstrip()
        if not brief:
            yield from _byte_lines(">", entry.sent if entry.name != "wake" else [0])
            yield from _byte_lines("<", entry.got)


def _byte_lines(arrow: str, data: list[int | None]) -> Iterator[str]:
    for at in range(0, len(data), BYTES_A_LINE):
        yield f"{'':13}{arrow if at == 0 else ' '} {hex_text(data[at : at + BYTES_A_LINE])}"
