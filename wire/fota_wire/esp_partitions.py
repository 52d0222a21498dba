"""Espressif's partition table (SPEC 7.4): strict reader and writer, and what FOTA needs in one.

Records of 32 bytes: ``AA 50 | type u8 | subtype u8 | offset u32 | size u32 | label 16 | flags u32``; perhaps
one with the MD5 of all in front of it; a blank one ends the table. Little endian, offsets and sizes in bytes.
"""

import hashlib
import struct

from fota_wire import status
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.host_chips import Espressif

MAGIC = b"\xaa\x50"
MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14
BLANK = b"\xff" * 32
RECORD = 32
MAX_SIZE = 0xC00
APP, DATA, BOOTLOADER, TABLE = range(4)
OTA_0, OTA_1, OTA_LAST = 0x10, 0x11, 0x1F
OTA_DATA, PHY, NVS = 0x00, 0x01, 0x02
ENCRYPTED, READ_ONLY = 1, 2
SECTOR = 4096
_RECORD = "<2sBBII16sI"


class Partition:
    """A record: ``kind`` and ``subtype`` as numbers, ``offset``, ``size``, ``label``, ``flags``."""

    def __init__(self, label: str, kind: int, subtype: int, offset: int, size: int, flags: int = 0) -> None:
        self.label = label
        self.kind = kind
        self.subtype = subtype
        self.offset = offset
        self.size = size
        self.flags = flags

    @property
    def end(self) -> int:
        """The first offset behind it."""
        return self.offset + self.size

    def pack(self) -> bytes:
        """Return its 32 bytes. FormatError: the label has more than 16 bytes."""
        label = self.label.encode()
        if len(label) > 16:
            raise FormatError(f"partition label {self.label!r} has more than 16 bytes")
        head = (MAGIC, self.kind, self.subtype, self.offset, self.size)
        return struct.pack(_RECORD, *head, label + bytes(16 - len(label)), self.flags)


class Places:
    """Where everything is: ``fota``, ``slot_a``, ``slot_b``, ``otadata``, partitions each."""

    def __init__(self, fota: Partition, slot_a: Partition, slot_b: Partition, otadata: Partition) -> None:
        self.fota = fota
        self.slot_a = slot_a
        self.slot_b = slot_b
        self.otadata = otadata

    def copy(self) -> "tuple[int, int, int, int, int]":
        """Return what the settings page holds of it (SPEC 1.2)."""
        return (
            self.fota.offset,
            self.slot_a.offset,
            self.slot_a.size,
            self.slot_b.offset,
            self.slot_b.size,
        )


def build(partitions: "list[Partition]") -> bytes:
    """Return the 0xC00 bytes of a table with MD5. FormatError: more than 94 records."""
    body = b"".join([partition.pack() for partition in partitions])
    body += MD5_MAGIC + hashlib.md5(body).digest()  # noqa: S324  the format's own
    if len(body) + RECORD > MAX_SIZE:
        raise FormatError(f"{len(partitions)} partitions do not fit a table")
    return body + b"\xff" * (MAX_SIZE - len(body))


def parse(raw: bytes, chip: "Espressif") -> "list[Partition]":
    """Return the partitions of a table; what follows its end is not looked at. A table without MD5 is taken:
    Arduino's default one has none.

    Raises:
        VerifyError: PT1, malformed or damaged; a partition out of flash, over another or over the bootloader.
    """
    found: list[Partition] = []
    summed = False
    for at in range(0, min(len(raw), MAX_SIZE) - RECORD + 1, RECORD):
        record = raw[at : at + RECORD]
        if record == BLANK:
            if not found:
                raise _refused("it is blank")
            _check_places(found, chip)
            return found
        if summed:
            raise _refused(f"record {at // RECORD} comes behind the MD5")
        if record[:16] == MD5_MAGIC:
            if hashlib.md5(raw[:at]).digest() != record[16:]:  # noqa: S324
                raise _refused("it does not match its MD5")
            summed = True
        else:
            if record[:2] != MAGIC:
                raise _refused(f"record {at // RECORD} is none: it begins with {record[:2].hex()}")
            found.append(_record(record))
    raise _refused("it does not end with a blank record")


def _record(raw: bytes) -> Partition:
    _, kind, subtype, offset, size, label, flags = struct.unpack(_RECORD, raw)
    text = label.partition(b"\0")[0]
    try:
        name = text.decode()
    except ValueError:  # for people and applications: what boots does not hang on it
        name = text.hex()
    return Partition(name, kind, subtype, offset, size, flags)


def _check_places(partitions: "list[Partition]", chip: "Espressif") -> None:
    begin = chip.TABLE_OFFSET + chip.TABLE_SIZE
    for part in partitions:
        alignment = chip.SLOT_ALIGNMENT if part.kind == APP else SECTOR
        if part.offset % alignment or not part.size or (part.kind == APP and part.size % SECTOR):
            raise _refused(f"{_name(part)} is not aligned to 0x{alignment:x}, or has no size")
        if part.size > chip.FLASH_SIZE or part.offset > chip.FLASH_SIZE - part.size:
            raise _refused(f"{_name(part)} leaves the flash of 0x{chip.FLASH_SIZE:x} bytes")
        fixed = part.kind in (BOOTLOADER, TABLE) and part.subtype == 0  # they are where they are
        if part.offset < begin and not fixed:
            raise _refused(f"{_name(part)} lies over the bootloader, its settings or the table")
    ordered = sorted(partitions, key=lambda part: part.offset)
    for at in range(1, len(ordered)):
        if ordered[at].offset < ordered[at - 1].end:
            raise _refused(f"{_name(ordered[at])} overlaps {_name(ordered[at - 1])}")


def places(partitions: "list[Partition]", chip: "Espressif") -> Places:
    """Return what FOTA needs of a table.

    Raises:
        VerifyError: PT1, a partition is missing, doubled, too small or too large; more than two slots.
    """
    slots = [part for part in partitions if part.kind == APP and OTA_0 <= part.subtype <= OTA_LAST]
    if sorted([part.subtype for part in slots]) != [OTA_0, OTA_1]:
        raise _refused(f"it has {len(slots)} slots, not ota_0 and ota_1")
    slot_a, slot_b = sorted(slots, key=lambda part: part.subtype)
    for part in slots:
        if part.size > chip.SLOT_SIZE:
            raise _refused(f"{_name(part)} has more than 0x{chip.SLOT_SIZE:x} bytes")
        if part.size < 2 * SECTOR:
            raise _refused(f"{_name(part)} has no room for an image and its signature")
    otadata = _only(partitions, DATA, OTA_DATA, 2 * SECTOR, "otadata (data, ota)")
    kind, subtype = chip.STORE_TYPE, chip.STORE_SUBTYPE
    wanted = f"{chip.STORE_LABEL} (0x{kind:02x}, 0x{subtype:02x}) of 0x{chip.STORE_SIZE:x} bytes"
    return Places(_only(partitions, kind, subtype, chip.STORE_SIZE, wanted), slot_a, slot_b, otadata)


def check_copy(copy: "tuple[int, int, int, int, int]", chip: "Espressif") -> None:
    """Return if the bootloader goes by this copy (`Places.copy`, SPEC 1.2) where the table is damaged.

    Raises:
        VerifyError: PT1, there is none, or a place is out of flash, over the bootloader or not aligned.
    """
    fota, *slots = copy
    begin = chip.TABLE_OFFSET + chip.TABLE_SIZE
    for offset, size, alignment in (
        (fota, chip.STORE_SIZE, SECTOR),
        (slots[0], slots[1], chip.SLOT_ALIGNMENT),
        (slots[2], slots[3], chip.SLOT_ALIGNMENT),
    ):
        fits = offset <= chip.FLASH_SIZE and size <= chip.FLASH_SIZE - offset
        whole = offset % alignment == 0 and size % SECTOR == 0
        if offset < begin or not fits or not whole or not 2 * SECTOR <= size <= chip.SLOT_SIZE:
            raise _refused(f"its copy names 0x{size:x} bytes at 0x{offset:x}")


def _only(partitions: "list[Partition]", kind: int, subtype: int, size: int, name: str) -> Partition:
    found = [part for part in partitions if (part.kind, part.subtype) == (kind, subtype)]
    if len(found) != 1:
        raise _refused(f"it has {len(found) or 'no'} partitions {name}, not 1")
    if found[0].size < size:
        raise _refused(f"{_name(found[0])} has 0x{found[0].size:x} bytes, not 0x{size:x} for {name}")
    return found[0]


def default_table(chip: "Espressif") -> "list[Partition]":
    """Return the partitions of a product without a table of its own: NVS, radio data, FOTA, two slots."""
    first = 2 * chip.SLOT_ALIGNMENT
    slot = (chip.FLASH_SIZE - first) // 2 // chip.SLOT_ALIGNMENT * chip.SLOT_ALIGNMENT
    at = chip.TABLE_OFFSET + chip.TABLE_SIZE
    return [
        Partition("nvs", DATA, NVS, at, 0x4000),
        Partition("otadata", DATA, OTA_DATA, at + 0x4000, 2 * SECTOR),
        Partition("phy_init", DATA, PHY, at + 0x6000, SECTOR),
        Partition(chip.STORE_LABEL, chip.STORE_TYPE, chip.STORE_SUBTYPE, 0x10000, chip.STORE_SIZE),
        Partition("ota_0", APP, OTA_0, first, slot),
        Partition("ota_1", APP, OTA_1, first + slot, slot),
    ]


def _name(part: Partition) -> str:
    return f"partition {part.label!r} at 0x{part.offset:x}"


def _refused(why: str) -> VerifyError:
    return VerifyError(f"partition table: {why}", status.PT1)
