"""Builds application images in Espressif's form (SPEC 7): of segments, of an image without our block, signed.

An order of our own, which any of Espressif's loaders takes: what flash shows comes by address, each segment
where its offset fits its address, and the room in front of it is filled with what is loaded to RAM.
"""

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from fota_signer.chunk import Chunk
from fota_wire import cose, esp_image, esp_signature
from fota_wire.errors import InputError
from fota_wire.esp_chips import ROWS

if TYPE_CHECKING:
    from fota_wire.host_chips import Espressif
    from fota_wire.host_keys import SigningKey

DIO, SIZE_4MB_SPEED_80MHZ = 2, 0x2F
NO_WP_PIN = 0xEE
_PIECE = esp_image.SEGMENT_HEADER_SIZE
Part = tuple[int, bytes]
"""Load address and content of a segment."""


class Head(NamedTuple):
    """What of a header is not made of the segments."""

    entry: int
    chip_id: int
    mode: int = DIO
    size_speed: int = SIZE_4MB_SPEED_80MHZ
    pins: bytes = bytes([NO_WP_PIN, 0, 0, 0])
    min_rev_legacy: int = 0
    min_rev: int = 0
    max_rev: int = esp_image.UNSET_REVISION
    reserved: bytes = bytes(4)


def head_of(header: esp_image.Header) -> Head:
    """Return the same of an image that there is."""
    return Head(
        header.entry,
        header.chip_id,
        header.mode,
        header.size_speed,
        header.pins,
        header.min_rev_legacy,
        header.min_rev,
        header.max_rev,
        header.reserved,
    )


def parts_of(data: bytes, image: esp_image.EspImage) -> list[Part]:
    """Return the segments of an image with their content."""
    return [(part.address, data[part.offset : part.offset + part.size]) for part in image.segments]


def build(head: Head, parts: list[Part]) -> bytes:
    """Return the image, checksum and SHA-256 included; the segments stand as they are given.

    Raises:
        InputError: more than 16 segments.
    """
    if len(parts) > esp_image.MAX_SEGMENTS:
        raise InputError(
            f"{len(parts)} segments, ours included; an image has {esp_image.MAX_SEGMENTS} at most"
        )
    out = bytearray([esp_image.MAGIC, len(parts), head.mode, head.size_speed])
    out += struct.pack("<I", head.entry) + head.pins
    out += struct.pack("<HBHH", head.chip_id, head.min_rev_legacy, head.min_rev, head.max_rev)
    out += head.reserved + b"\x01"
    segments = []
    for address, content in parts:
        out += struct.pack("<II", address, len(content))
        segments.append(esp_image.Segment(address, len(out), len(content)))
        out += content
    out += bytes(15 - len(out) % 16)
    out.append(esp_image.checksum(bytes(out), segments))
    return bytes(out + hashlib.sha256(out).digest())


def place(chunks: list[Chunk], chip: "Espressif") -> list[Part]:
    """Return the segments of an image for what a linker made; flash-mapped ones are where they can be seen.

    What is to stand first, as the application descriptor, has the lowest address in flash.
    """
    merged = _merge(chunks)
    mapped = [part for part in merged if esp_image.flash_mapped(chip, part[0])]
    loaded = [part for part in merged if not esp_image.flash_mapped(chip, part[0])]
    parts: list[Part] = []
    at = esp_image.HEADER_SIZE
    for address, content in mapped:
        gap = (address - at - _PIECE) % chip.MMU_PAGE
        while gap:
            filler, loaded = _filler(gap, loaded, chip.MMU_PAGE)
            parts.append(filler)
            at += _PIECE + len(filler[1])
            gap = (address - at - _PIECE) % chip.MMU_PAGE
        parts.append((address, content))
        at += _PIECE + len(content)
    return parts + loaded


def _filler(gap: int, loaded: list[Part], page: int) -> tuple[Part, list[Part]]:
    """Return a segment of at most ``gap`` bytes, its header included, and what is still to be loaded. What is
    left of the gap is none, or has room for another header.
    """
    room = gap - _PIECE if gap >= _PIECE else gap - _PIECE + page
    if not loaded:
        return (0, bytes(room)), []
    (address, content), rest = loaded[0], loaded[1:]
    if room - _PIECE < len(content) < room:  # the header of a next one would not fit behind it
        room -= _PIECE
    piece, left = content[:room], content[room:]
    if not piece:
        return (0, bytes(gap - _PIECE)), loaded
    return (address, piece), [(address + len(piece), left), *rest] if left else rest


def _merge(chunks: list[Chunk]) -> list[Part]:
    """Return the chunks by address, in whole words, those that touch as one."""
    merged: list[tuple[int, bytearray]] = []
    for chunk in sorted(chunks, key=lambda one: one.address):
        content = bytearray(chunk.content)
        address = chunk.address
        if merged and merged[-1][0] + len(merged[-1][1]) == address:
            merged[-1][1].extend(content)
        else:
            merged.append((address, content))
    return [(address, bytes(content) + bytes(-len(content) % 4)) for address, content in merged]


def sign(plain: bytes, block: esp_image.Block, key: "SigningKey") -> bytes:
    """Return the signed image of an image without our block: the block goes behind its segments, checksum and
    hash are made anew, and the signature sector follows the padding. The same input gives the same bytes.

    Raises:
        InputError: more segments than an image can have.
    """
    image = esp_image.parse_plain(plain)
    data = build(head_of(image.header), [*parts_of(plain, image), (0, block.pack())])
    padded = data + b"\xff" * (esp_image.padded_size(len(data)) - len(data))
    digest = hashlib.sha256(padded).digest()
    signature = key.sign(digest)
    return padded + esp_signature.build_sector([esp_signature.build_block(key.public, signature, digest)])


def chip_of(data: bytes) -> str:
    """Return the NAME of the chip that an image is for, which is one of those that we boot."""
    return ROWS[esp_image.Header(data).chip_id].NAME


def block_for(
    version: tuple[int, int, int, int], sec_cnt: int, class_id: bytes, key: "SigningKey"
) -> esp_image.Block:
    """Return our block for an image that ``key`` signs."""
    return esp_image.Block(version, sec_cnt, class_id, cose.key_hash(key.public))
