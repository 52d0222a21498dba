"""What the agent keeps over a reset, and how two alternating copies of it lie in flash."""

import binascii
import struct

from fota_agent.engine import telemetry
from fota_wire import cbor, check
from fota_wire.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = 0x53474146  # "FAGS"
HEADER = "<IIII"  # magic | sequence | length of the data | CRC-32 of the first three and the data
HEADER_SIZE = 16
MAX_DATA = 8192
BLOCK = 64  # bytes at once: a heap in pieces may have no more
MAX_EVENTS = 16
MAX_DETAIL = 64
LOST = "lost"  # code of an event; a boot that finds it keeps nothing that is published before `Exchange.open`
KEYS = 20  # the field of ``keys``


class State:
    """The agent's memory.

    ``roots``: the ROOT steps after the genesis ROOT, in order; ``envelope``: the newest verified manifest
    envelope, or None; both may be views of where the store lies; ``lent``: the envelope is one of the answer
    that brought it, until it is saved from there or copied;
    ``new_roots``: the steps that the last answer brought, as they lie in it, until they are saved;
    ``installed``: manifest digest of the last image that was completely written, or None;
    ``writing``: (manifest digest, slot) of an image whose pages are being written into an erased slot, or
    None;
    ``pending``: (manifest digest, slot, campaign) of a requested trial, or None;
    ``failed``: (manifest digest, campaign) that did not work out and is not tried again, or None;
    ``nonce``: the server's nonce for the next report, or None; ``events``: [(code, detail)], the oldest
    first;
    ``telemetry``: [(topic, time in s since 1970 or 0, JSON text)] that the server has not got yet;
    ``time``: a time in s since 1970 that has passed, 0 = none known; ``haste``: installations in short order
    (`engine.haste`); ``sequence`` of the manifest that was installed last, 0 = none.
    ``server``: version of the ROOT whose server set worked last (`runner.servers`), 0 = the factory's.
    ``keys``: what `runner.renewal` keeps, or None. ``lost``: values of the stored queue that were no good.
    ``dirty`` is set by whoever changes something that is to survive; ``urgent`` too if nothing may be done
    before it is saved.
    """

    def __init__(self) -> None:
        self.roots: list[bytes | memoryview] = []
        self.new_roots: list[bytes | memoryview] = []
        self.envelope: bytes | memoryview | None = None
        self.installed: bytes | None = None
        self.writing: tuple[bytes, int] | None = None
        self.pending: tuple[bytes, int, int] | None = None
        self.failed: tuple[bytes, int] | None = None
        self.nonce: bytes | None = None
        self.events: list[tuple[str, str]] = []
        self.telemetry: list[tuple[str, int, str]] = []
        self.time = self.haste = self.sequence = self.server = 0
        self.keys: bytes | None = None
        self.lost = 0
        self.dirty = self.urgent = self.lent = False

    def must_save(self) -> None:
        """Nothing may be done before this is saved."""
        self.dirty = self.urgent = True

    def add_event(self, code: str, detail: str) -> None:
        """Queue an event for the next report, unless it repeats the last one; the oldest make room."""
        event = (code, _clip(detail))
        if self.events and self.events[-1] == event:
            return
        self.events.append(event)
        self.events = self.events[-MAX_EVENTS:]
        self.dirty = True

    def parts(self, limit: int) -> "list[bytes | memoryview]":
        """Return at most ``limit`` bytes of CBOR, in parts. What does not fit is left out, and the server
        sends it again: the envelope, then (lost) the oldest telemetry, then the newest ROOT steps.
        """
        roots = self.roots + self.new_roots
        body: dict[int, object] = {1: 1, 2: roots, 3: self.envelope, 4: self.installed}
        for key, mark in ((5, self.writing), (6, self.pending), (7, self.failed)):
            body[key] = None if mark is None else list(mark)
        body[8] = self.nonce
        body[9] = [list(event) for event in self.events]
        values = [list(value) for value in self.telemetry]
        body.update({10: values, 11: self.time, 12: self.haste, 13: self.sequence})
        if self.server:
            body[14] = self.server
        if self.keys is not None:
            body[KEYS] = self.keys
        while True:
            parts = cbor.encode_parts(body)
            size = size_of(parts)
            if size <= limit:
                return parts
            if body[3] is not None:
                body[3] = None
            elif values:
                values.pop(0)
            elif roots:
                roots.pop()
            else:
                raise FormatError(f"agent state of {size} bytes does not fit {limit}", "limit")

    def rest_in(self, raw: memoryview) -> None:
        """Let go of the copies in memory of what lies in ``raw`` now: it was saved there, and stays there
        until something else was saved elsewhere. An envelope that there was no room for comes again.
        """
        for field, value in cbor.pairs(raw):  # all of it, decoded at once, may find no memory
            if field == 2:
                self.roots, self.new_roots = _roots(value), []
            elif field == 3:
                self.envelope, self.lent = _envelope(value), False
                return


def decode(raw: "bytes | memoryview", brief: bool = False) -> State:
    """Return the state of ``State.parts``. ``brief``: without what waits for the server, but one event that
    says how much that was: for want of memory. FormatError if malformed.
    """
    body = dict(cbor.pairs(raw, (9, 10) if brief else ()))
    check.fields(body, "agent state", (1, 2, 3, 4, 5, 6, 7, 8, 9), (10, 11, 12, 13, 14, KEYS))
    if body[1] != 1:
        raise FormatError("agent state: format is not 1", "state-format")
    state = State()
    state.roots, state.envelope = _roots(body[2]), _envelope(body[3])
    state.installed = _optional(body[4], "installed", 32)
    state.writing = _mark(body[5], "writing")
    state.failed = _mark(body[7], "failed")
    if body[6] is not None:
        pending = check.array(body[6], "pending", 3, 3)
        digest, slot = _pair(pending[:2], "pending")
        state.pending = (digest, slot, check.uint(pending[2], "campaign"))
    state.keys = _optional(body.get(KEYS), "keys", None)
    state.nonce = _optional(body[8], "nonce", 16)
    if brief:
        state.add_event(
            LOST, lost_text(check.uint(body[9], "events") + check.uint(body.get(10, 0), "values"))
        )
    else:
        _waiting(body, state)
    state.time = check.uint(body.get(11, 0), "time")
    state.haste = check.uint(body.get(12, 0), "haste", 255)
    state.sequence = check.uint(body.get(13, 0), "sequence")
    state.server = check.uint(body.get(14, 0), "server")
    return state


def _waiting(body: "dict[object, object]", state: State) -> None:
    for item in check.array(body[9], "events", 0, MAX_EVENTS):
        pair = check.array(item, "event", 2, 2)
        state.events.append((check.tstr(pair[0], "event code", 32), check.tstr(pair[1], "event detail")))
    values = check.array(body.get(10, []), "telemetry", 0, MAX_DATA)
    state.telemetry = telemetry.sound(values)[-telemetry.MAX_VALUES :]
    state.lost = len(values) - len(state.telemetry)


def lost_text(count: int) -> str:
    """Return the detail of an event LOST."""
    return f"{count} events and values, for want of memory"


def size_of(parts: "list[bytes | memoryview]") -> int:
    """Return how many bytes they are together."""
    return sum([len(part) for part in parts])


def pack_copy(sequence: int, data: "list[bytes | memoryview]") -> "Iterator[bytes]":
    """Yield one copy, header and ``data``, in blocks of BLOCK bytes: there may be no room for all of it. The
    last is padded with ones to whole quad-words.
    """
    head = struct.pack("<III", MAGIC, sequence, size_of(data))
    crc = binascii.crc32(head)
    for part in data:
        crc = binascii.crc32(part, crc)
    block = head + struct.pack("<I", crc & 0xFFFFFFFF)
    for part in data:
        for at in range(0, len(part), BLOCK):
            block += bytes(part[at : at + BLOCK])
            if len(block) >= BLOCK:
                yield block[:BLOCK]
                block = block[BLOCK:]
    yield block + b"\xff" * (-len(block) % 16)


def size_in(head: "bytes | memoryview | None") -> "int | None":
    """Return the size in bytes of the copy with header ``head``, or None if that is blank or damaged."""
    if head is None or len(head) < HEADER_SIZE:
        return None
    magic, _, length, _ = struct.unpack_from(HEADER, head, 0)
    return HEADER_SIZE + length if magic == MAGIC and length <= MAX_DATA else None


def unpack_copy(raw: "bytes | memoryview | None") -> "tuple[int, bytes | memoryview] | None":
    """Return (sequence, data) of a copy, or None if it is torn, blank or damaged."""
    size = size_in(raw)
    if raw is None or size is None or size > len(raw):
        return None
    _, sequence, _, crc = struct.unpack_from(HEADER, raw, 0)
    data = raw[HEADER_SIZE:size]
    if binascii.crc32(data, binascii.crc32(raw[:12])) & 0xFFFFFFFF != crc:
        return None
    return sequence, data


def newest(copies: "list[tuple[int, bytes | memoryview] | None]") -> "int | None":
    """Return the index of the valid copy with the highest sequence number, or None."""
    best = None
    for index, copy in enumerate(copies):
        if copy is not None and (best is None or copy[0] > copies[best][0]):  # type: ignore[index]
            best = index
    return best


def _clip(detail: str) -> str:
    """Return ``detail`` in at most MAX_DETAIL bytes of UTF-8."""
    try:
        detail.encode()
    except UnicodeError:  # a file's name may be no text
        detail = repr(detail)
    while len(detail.encode()) > MAX_DETAIL:
        detail = detail[: len(detail) - 1]
    return detail


def _roots(value: object) -> "list[bytes | memoryview]":
    return [check.blob(item, "ROOT", 4096) for item in check.array(value, "ROOT steps", 0, 64)]


def _envelope(value: object) -> "bytes | memoryview | None":
    return None if value is None else check.blob(value, "envelope", 4096)


def _optional(value: object, what: str, size: "int | None") -> "bytes | None":
    return None if value is None else check.bstr(value, what, size)


def _mark(value: object, what: str) -> "tuple[bytes, int] | None":
    return None if value is None else _pair(check.array(value, what, 2, 2), what)


def _pair(value: "list[object]", what: str) -> "tuple[bytes, int]":
    return check.bstr(value[0], what, 32), check.uint(value[1], what)
