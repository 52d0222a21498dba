"""Seeded mutations of Espressif's forms that know the form: what encloses a change is made right after it."""

import hashlib
import random
import struct
import zlib
from dataclasses import dataclass
from functools import reduce
from operator import xor

from espressif_forms import Image, descriptor, fota_block, md5_record, signature_block

from fota_wire.chips import esp32c3 as row

SECTOR = 4096
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
EDGES = [edge for area in (row.DROM, row.IROM, row.IRAM, row.DRAM, row.RTC_RAM) for edge in area]
NEAR = (-0x10000, -8, -4, -2, -1, 0, 1, 2, 4, 8, 0x10000)
NUMBERS = (
    0,
    1,
    4,
    5,
    16,
    17,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFC,
    0xFFFFFFFF,
)


@dataclass
class Parts:
    """An image taken apart; ``sealed``: its checksum is right; ``behind``: what ends its sector."""

    head: bytearray
    segments: list[list]
    blocks: list[bytearray]
    sealed: bool = True
    behind: bytes = b""


def small(image: Image) -> list[list]:
    """Segments of a small image: the code lies behind the data, in the same page of flash."""
    parts = [
        [row.DROM[0] + 0x20, descriptor(image) + bytes(64)],
        [row.DRAM[0] + 0x9000, b"data" * 4],
        [row.IRAM[0], b"code" * 8],
        [row.RTC_RAM[0], b"rtc!" * 2],
        [0, bytes(12)],
    ]
    at = 24 + sum(8 + len(data) for _, data in parts) + 8
    parts.append([row.IROM[0] + at, b"\1\0" * 40])
    return [*parts, [0, fota_block(image)]]


class Images:
    """Mutants of a signed image. ``keys``: the one that its block names, and another."""

    def __init__(self, keys: tuple, seed: int) -> None:
        self.dice = random.Random(seed)
        self.image = Image(key=keys[0])
        self.blocks = [signature_block(key, bytes(32)) for key in keys]

    def parts(self) -> Parts:
        head = struct.pack("<4BI", 0xE9, 0, 2, 0x2F, row.IRAM[0])
        head += struct.pack("<B3xHBHH4xB", 0xEE, row.CHIP_ID, 0, 0, 0xFFFF, 1)
        return Parts(bytearray(head), small(self.image), [bytearray(self.blocks[0])])

    def slot(self) -> bytes:
        """One mutant, as it lies in a slot of 12 or 16 KiB."""
        parts, count = self.parts(), self.dice.choice((0, 1, 1, 1, 2, 3))
        parts.head[1] = len(parts.segments)
        for _ in range(count):
            self.dice.choice((self.header, self.segment, self.segment, self.block, self.sector))(parts)
            if self.dice.random() < 0.9:
                parts.head[1] = len(parts.segments) & 0xFF
        raw = bytearray(sealed(parts))
        if self.dice.random() < 0.1:
            for _ in range(self.dice.randrange(1, 4)):
                raw[self.dice.randrange(len(raw))] ^= 1 << self.dice.randrange(8)
        size = len(raw) if self.dice.random() < 0.2 else SECTOR * self.dice.choice((3, 4))
        if self.dice.random() < 0.05:
            size = self.dice.choice((0, 1, 24, 287, 288, 300, SECTOR, 2 * SECTOR - 1, 2 * SECTOR))
        return bytes(raw[:size]).ljust(size, b"\xff")

    def number(self) -> int:
        dice = self.dice
        if dice.random() < 0.6:
            return (dice.choice(EDGES) + dice.choice(NEAR)) & 0xFFFFFFFF
        return dice.choice((*NUMBERS, dice.getrandbits(32)))

    def header(self, parts: Parts) -> None:
        dice, (at, form) = self.dice, self.dice.choice(
            [(0, "B"), (1, "B"), (2, "B"), (4, "<I"), (4, "<I"), (4, "<I"), (8, "B"), (12, "<H"), (14, "B"),
             (15, "<H"), (17, "<H"), (19, "<I"), (23, "B")])  # fmt: skip
        value = self.number()
        if at == 4 and dice.random() < 0.8:
            address, data = dice.choice(parts.segments)
            value = (address + dice.choice((0, 1, 2, len(data) - 2, len(data) - 1, len(data)))) & 0xFFFFFFFF
        if at in (15, 17):
            value = dice.choice((0, 1, 3, 4, 5, 99, 198, 199, 200, 0xFFFE, 0xFFFF))
        if at in (1, 23):
            value = dice.choice((0, 1, 2, 6, 7, 8, 16, 17, 255))
        struct.pack_into(form, parts.head, at, value & (0xFFFFFFFF >> 32 - 8 * struct.calcsize(form)))

    def segment(self, parts: Parts) -> None:
        dice, number = self.dice, self.dice.randrange(len(self.parts().segments))
        if not parts.segments:
            return
        one = parts.segments[number % len(parts.segments)]
        kind = dice.randrange(8)
        if kind < 2:
            one[0] = self.number()
        elif kind == 2:
            other, data = dice.choice(parts.segments)
            alias = dice.choice((0, 0, 0x700000, -0x700000, 0x6000000, -0x6000000))
            one[0] = (
                other + alias + dice.choice((0, 4, len(data) - 4, len(data), -len(one[1])))
            ) & 0xFFFFFFFF
        elif kind == 3:
            one[1] = one[1][: dice.choice((0, 1, 2, 3, 4, 8, 64, 68, 252, 256))]
        elif kind == 4:
            one[1] += bytes(dice.choice((1, 2, 4, 8, 1024, 2048)))
        elif kind == 5:
            parts.segments.insert(
                dice.randrange(len(parts.segments) + 1),
                [dice.choice((0, self.number())), bytes(4 * dice.randrange(4))],
            )
        elif kind == 6:
            parts.segments.remove(one)
        else:
            data = bytearray(one[1])
            if data:
                data[
                    dice.choice(
                        (*range(min(4, len(data))), dice.randrange(len(data)), len(data) - 1, 180 % len(data))
                    )
                ] ^= 1 << dice.randrange(8)
            one[1] = bytes(data)

    def block(self, parts: Parts) -> None:
        """Of FOTA: a byte, a number of its own, twice."""
        dice = self.dice
        found = [one for one in parts.segments if one[1][:4] == b"FOTA"]
        if not found:
            return
        raw, kind = bytearray(found[0][1]), dice.randrange(4)
        if kind == 0:
            raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        elif kind == 1 and len(raw) >= 20:
            struct.pack_into("<I", raw, 16, dice.choice((0, 1, 262142, 262143, 262144, 0xFFFFFFFF)))
        elif kind == 2:
            raw = raw[:-4] if dice.random() < 0.5 else raw + bytes(4)
        else:
            parts.segments.append([0, bytes(raw)])
        found[0][1] = bytes(raw)

    def sector(self, parts: Parts) -> None:
        """Blocks of other keys and kinds, twice, none; a field of one, sealed by its CRC or not."""
        dice, kind = self.dice, self.dice.randrange(7)
        if kind == 0:
            parts.blocks.insert(dice.randrange(len(parts.blocks) + 1), bytearray(dice.choice(self.blocks)))
        elif kind == 1:
            parts.blocks = []
        elif kind == 2:
            parts.behind = bytes(dice.randrange(1, 9))
        elif kind == 3:
            parts.sealed = False
        elif parts.blocks:
            raw = dice.choice(parts.blocks)
            if kind == 4:
                at, value = (
                    dice.choice((101, 133)),
                    dice.choice((0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1)),
                )
                raw[at : at + 32] = value.to_bytes(32, "little")
            else:
                at = dice.choice((0, 1, 2, 3, 4, 36, 37, 100, 164, 165, 166, 245, 1195, 1196, 1200, 1215))
                raw[at] = dice.choice((0, 1, 2, 3, 0xE7, 0xFF, raw[at] ^ 1 << dice.randrange(8)))
                if at == 1196 or dice.random() < 0.1:
                    raw.append(0)  # longer by one: its CRC is left as it is


def covered_of(parts: Parts) -> bytes:
    """Header and segments with checksum, SHA-256 and filling, as they are or made wrong."""
    out = bytes(parts.head)
    for address, data in parts.segments:
        out += struct.pack("<II", address, len(data)) + data
    seed = 0xEF if parts.sealed else 0xEE
    checksum = reduce(xor, (byte for _, data in parts.segments for byte in data), seed)
    out += bytes(15 - len(out) % 16) + bytes([checksum])
    out += hashlib.sha256(out).digest()
    return out + b"\xff" * (-len(out) % SECTOR)


def sealed(parts: Parts) -> bytes:
    """The file: digests and CRCs of its signature blocks made right."""
    covered = covered_of(parts)
    digest = hashlib.sha256(covered).digest()
    blocks = b""
    for raw in parts.blocks:
        one = bytearray(raw[:1216])
        if one[4:36] == bytes(32):
            one[4:36] = digest
        if len(raw) == 1216:
            one[1196:1200] = struct.pack("<I", zlib.crc32(bytes(one[:1196])))
        blocks += one
    return covered + (blocks[: SECTOR - len(parts.behind)] + parts.behind).ljust(SECTOR, b"\xff")


# --- partition tables ---


class Tables:
    """Mutants of a partition table: fields of its records, sealed by MD5 afterwards, or not, or without."""

    ROWS = (
        [1, 2, 0x9000, 0x5000, b"nvs"],
        [1, 0, 0xE000, 0x2000, b"otadata"],
        [0, 0x10, 0x10000, 0x140000, b"app0"],
        [0, 0x11, 0x150000, 0x140000, b"app1"],
        [0x40, 1, 0x290000, 0x8000, b"fota"],
    )
    MORE = (
        [2, 0, 0, 0x7000, b"loader"],
        [3, 0, 0x8000, 0x1000, b"table"],
        [0, 0, 0x2A0000, 0x10000, b"factory"],
        [0, 0x12, 0x2C0000, 0x10000, b"app2"],
        [1, 1, 0x3FF000, 0x1000, b"phy"],
    )

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def number(self) -> int:
        dice = self.dice
        near = dice.choice(
            (0, 0x7000, 0x8000, 0x9000, 0x10000, 0x150000, 0x290000, 0x298000, 0x3F0000, 0x400000)
        )
        if dice.random() < 0.2:
            return dice.choice((*NUMBERS, dice.getrandbits(32)))
        return (
            near + dice.choice((-0x10000, -0x1000, -0x800, -1, 0, 1, 0x800, 0x1000, 0x8000, 0x10000))
        ) & 0xFFFFFFFF

    def raw(self) -> bytes:
        """One mutant of 4096 bytes."""
        dice = self.dice
        rows = [list(one) for one in self.ROWS]
        for _ in range(dice.choice((0, 1, 1, 1, 2, 3))):
            self.change(rows)
        records = b"".join(
            struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, offset, size, label, dice.choice((0, 0, 1, 2)))
            for kind, sub, offset, size, label in rows
        )
        end = dice.choice((b"", md5_record(records), md5_record(records), md5_record(records)))
        if end and dice.random() < 0.1:
            at = dice.randrange(32)
            end = end[:at] + bytes([end[at] ^ 1 << dice.randrange(8)]) + end[at + 1 :]
        raw = bytearray((records + end).ljust(4096, b"\xff")[:4096])
        if dice.random() < 0.1:
            raw[dice.randrange(len(records) + len(end) + 40) % 4096] = dice.randrange(256)
        return bytes(raw)

    def change(self, rows: list[list]) -> None:
        dice, kind = self.dice, self.dice.randrange(8)
        one = dice.choice(rows) if rows else None
        if kind == 0 or one is None:
            rows.insert(dice.randrange(len(rows) + 1), list(dice.choice(self.MORE + self.ROWS)))
        elif kind == 1:
            rows.remove(one)
        elif kind == 2:
            one[0] = dice.choice((0, 1, 2, 3, 0x3F, 0x40, 0x41, 0xFE, 0xFF))
        elif kind == 3:
            one[1] = dice.choice((0, 1, 2, 3, 0x10, 0x11, 0x12, 0x1F, 0x20, 0xFF))
        elif kind == 4:
            one[4] = dice.choice(
                (b"", b"a\0b", b"\xff\xfe", "zwölf".encode(), b"sixteen letters!", b"\xed\xa0\x80")
            )
        elif kind == 5:
            one[2] = self.number()
        elif kind == 6:
            one[3] = self.number()
        else:
            rows += [
                [0x41, n, 0x2A0000 + 0x1000 * n, 0x1000, b""]
                for n in range(dice.choice((2, 88, 89, 90, 91, 92)))
            ]
