"""Images, partition tables and OTA data in Espressif's forms: a twin that knows only the formats."""

import hashlib
import struct
import zlib
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import xor
from typing import Any

from fota_wire.cose import key_hash
from fota_wire.host_crypto import public_xy, signer

SLOT_SIZE = 0x100000
CLASS_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
DROM, IROM, IRAM, DRAM, RTC = 0x3C000020, 0x42010000, 0x40380000, 0x3FC90000, 0x50000000
PAGE = 0x10000


@dataclass(frozen=True)
class Image:
    """What an application image is made of; every part can be replaced by a wrong one."""

    key: Any
    segments: tuple[tuple[int, bytes], ...] = ()
    version: tuple[int, int, int, int] = (1, 0, 0, 0)
    sec_cnt: int = 1
    class_id: bytes = CLASS_ID
    named_key: Any = None
    entry: int = IROM
    chip: int = 5
    least: int = 0
    most: int = 0xFFFF
    descriptor: int = 0xABCD5432
    blocks: tuple[bytes, ...] | None = None
    other_keys: tuple[Any, ...] = field(default=())
    magic: int = 0xE9
    count: int | None = None
    hashed: int = 1

    def __call__(self, **parts: Any) -> bytes:
        return build(replace(self, **parts))


def descriptor(image: Image, least: int = 0, most: int = 0) -> bytes:
    """The application's descriptor, 256 bytes."""
    text = struct.pack("<3I4x32s32s", image.descriptor, 0, 0, b"1.0", b"test")
    return text + bytes(176 - len(text)) + struct.pack("<HHB", least, most, 16) + bytes(256 - 181)


def fota_block(image: Image) -> bytes:
    """The 68 bytes that bind version, counter, class and key."""
    xy = public_xy(image.named_key or image.key)
    head = struct.pack("<IHHBBHI", 0x41544F46, 1, 68, *image.version)
    return head + struct.pack("<I", image.sec_cnt) + image.class_id + key_hash(xy)


def default_segments(image: Image) -> tuple[tuple[int, bytes], ...]:
    """DROM, RAM as data and as code, padding up to the next page, IROM."""
    parts = [
        (DROM, descriptor(image) + bytes(range(256)) * 2),
        (DRAM, b"data" * 8),
        (IRAM, b"code" * 16),
        (RTC, b"rtc!" * 4),
    ]
    at = 24 + sum(8 + len(data) for _, data in parts)
    parts.append((0, bytes(PAGE - at - 16)))
    return (*parts, (IROM, b"\x01\x00" * 600))


def body(image: Image) -> bytes:
    """Header, segments, checksum and hash, padded to 4096: what the signature covers."""
    segments = list(image.segments or default_segments(image))
    segments += [(0, block) for block in ((fota_block(image),) if image.blocks is None else image.blocks)]
    out = struct.pack("<4BI", image.magic, len(segments) if image.count is None else image.count,
                      2, 0x2F, image.entry)  # fmt: skip
    out += struct.pack("<B3xHBHH4xB", 0xEE, image.chip, 0, image.least, image.most, image.hashed)
    for address, data in segments:
        out += struct.pack("<II", address, len(data)) + data
    checksum = reduce(xor, (byte for _, data in segments for byte in data), 0xEF)
    out += bytes(15 - len(out) % 16) + bytes([checksum])
    out += hashlib.sha256(out).digest()
    return out + b"\xff" * (-len(out) % 4096)


def signature_block(key: Any, digest: bytes) -> bytes:
    """One ECDSA-P256 block of a Secure Boot v2 sector, 1216 bytes."""
    xy, rs = public_xy(key), signer(key)(digest)
    numbers = b"".join(part[::-1] for part in (xy[:32], xy[32:], rs[:32], rs[32:]))
    block = b"\xe7\x03\0\0" + digest + b"\x02" + numbers
    block += bytes(1196 - len(block))
    return block + struct.pack("<I", zlib.crc32(block)) + bytes(16)


def sector(*blocks: bytes) -> bytes:
    """The signature sector."""
    return b"".join(blocks).ljust(4096, b"\xff")


def build(image: Image) -> bytes:
    """The signed file."""
    covered = body(image)
    digest = hashlib.sha256(covered).digest()
    return covered + sector(*(signature_block(key, digest) for key in (*image.other_keys, image.key)))


# --- partition tables ---

OTADATA, OTA_0, OTA_1, STORE = (1, 0), (0, 0x10), (0, 0x11), (0x40, 1)
TABLE = (
    ((1, 2), 0x9000, 0x5000, "nvs"),
    (OTADATA, 0xE000, 0x2000, "otadata"),
    (OTA_0, 0x10000, 0x140000, "app0"),
    (OTA_1, 0x150000, 0x140000, "app1"),
    (STORE, 0x290000, 0x8000, "fota"),
)


def record(row: tuple[tuple[int, int], int, int, str]) -> bytes:
    (kind, subtype), offset, size, label = row
    return struct.pack("<2sBBII16sI", b"\xaa\x50", kind, subtype, offset, size, label.encode(), 0)


def md5_record(records: bytes) -> bytes:
    return b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(records, usedforsecurity=False).digest()


def table(*rows: Any, md5: bool = True) -> bytes:
    """A partition table, one sector."""
    records = b"".join(map(record, rows or TABLE))
    return (records + (md5_record(records) if md5 else b"")).ljust(4096, b"\xff")


# --- OTA data ---

NEW, PENDING, VALID, INVALID, ABORTED, UNDEFINED = 0, 1, 2, 3, 4, 0xFFFFFFFF


def ota_record(sequence: int, state: int, *, damaged: bool = False) -> bytes:
    """The first 32 bytes of an OTA data sector."""
    crc = zlib.crc32(struct.pack("<I", sequence), 0xFFFFFFFF) ^ damaged
    return struct.pack("<I20sII", sequence, b"\xff" * 20, state, crc)
