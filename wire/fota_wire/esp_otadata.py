"""OTA data (SPEC 7.5): two sectors by which an ESP-IDF application and a bootloader talk of what to boot.

A record of 32 bytes at the begin of each: ``sequence u32 | label 20 | state u32 | CRC-32 of the sequence``.
The functions at the end change them as ``esp_ota_ops`` does.
"""

import binascii
import struct

from fota_wire.errors import FormatError

NEW, PENDING_VERIFY, VALID, INVALID, ABORTED = range(5)
UNDEFINED = 0xFFFFFFFF
NAMES = {NEW: "NEW", PENDING_VERIFY: "PENDING_VERIFY", VALID: "VALID", INVALID: "INVALID", ABORTED: "ABORTED"}
NAMES[UNDEFINED] = "UNDEFINED"
SIZE = 32
SECTOR = 4096
MAX_SEQUENCE = 0xFFFFFFFE  # one more is a blank record


class Record:
    """``sequence`` 1..MAX_SEQUENCE, ``state`` as above or any other number, which counts as bootable."""

    def __init__(self, sequence: int, state: int) -> None:
        self.sequence = sequence
        self.state = state

    @property
    def counts(self) -> bool:
        """Tell whether a loader looks at it."""
        return self.state not in (INVALID, ABORTED)

    def slot(self, slots: int = 2) -> int:
        """Return which of ``slots`` it names, from 0."""
        return (self.sequence - 1 & 0xFFFFFFFF) % slots

    def pack(self) -> bytes:
        """Return its 32 bytes."""
        crc = binascii.crc32(struct.pack("<I", self.sequence), 0xFFFFFFFF)
        return struct.pack("<I20sII", self.sequence, b"\xff" * 20, self.state, crc)


def read(raw: bytes) -> "Record | None":
    """Return the record at the begin of ``raw``; None: blank, torn, or its CRC is wrong."""
    if len(raw) < SIZE:
        return None
    sequence, _, state, crc = struct.unpack("<I20sII", raw[:SIZE])
    if not 1 <= sequence <= MAX_SEQUENCE or crc != binascii.crc32(struct.pack("<I", sequence), 0xFFFFFFFF):
        return None
    return Record(sequence, state)


def active(records: "list[Record | None]") -> "int | None":
    """Return which of two records holds: the one that counts with the higher sequence; None: neither."""
    found = [
        (record.sequence, -at) for at, record in enumerate(records) if record is not None and record.counts
    ]
    return -max(found)[1] if found else None


def request(
    records: "list[Record | None]", slot: int, state: int = NEW, slots: int = 2
) -> "tuple[int, Record]":
    """Return (sector, record) that ``esp_ota_set_boot_partition`` writes for ``slot``; ``state``: UNDEFINED
    if the application was built without rollback.

    Raises:
        FormatError: the sequence numbers are used up.
    """
    at = active(records)
    holder = None if at is None else records[at]
    if at is None or holder is None:
        return 0, Record(slot + 1, state)
    if holder.slot(slots) == slot:
        return at, Record(holder.sequence, state)
    following = holder.sequence + (slot - holder.slot(slots)) % slots
    if following > MAX_SEQUENCE:
        raise FormatError("OTA data: the sequence numbers are used up")
    return 1 - at, Record(following, state)


def answer(records: "list[Record | None]", state: int) -> "tuple[int, Record] | None":
    """Return (sector, record) that ``esp_ota_mark_app_valid_cancel_rollback`` (VALID) or
    ``esp_ota_mark_app_invalid_rollback_and_reboot`` (INVALID) writes; None: nothing to write.
    """
    at = active(records)
    holder = None if at is None else records[at]
    if at is None or holder is None or holder.state == state:
        return None
    return at, Record(holder.sequence, state)
