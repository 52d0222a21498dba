"""Espressif's application image with our block and a signature sector (SPEC 7): strict parser, and the parts.

File = header || segments, one of them ours || zeros, checksum || SHA-256 || 0xFF to 4096 || signature sector.
Little endian. Our block is a segment for load address 0, which Espressif's own loaders skip.
"""

import hashlib
import struct

from fota_wire import esp_signature, status
from fota_wire.cose import key_hash
from fota_wire.errors import FormatError, VerifyError
from fota_wire.esp_chips import CHIP_IDS, ROWS
from fota_wire.esp_signature import SECTOR
from fota_wire.layout import SEC_CNT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.host_chips import Espressif

MAGIC = 0xE9
HEADER_SIZE = 24
SEGMENT_HEADER_SIZE = 8
MAX_SEGMENTS = 16
CHECKSUM_SEED = 0xEF
BLOCK_MAGIC = b"FOTA"
BLOCK_SIZE = 68
DESCRIPTOR_MAGIC = b"\x32\x54\xcd\xab"
DESCRIPTOR_AT = 0x20
DESCRIPTOR_SIZE = 256
UNSET_REVISION = 0xFFFF
_HEADER = "<BBBBIB3sHBHH4sB"
_BLOCK = "<4sHHBBHII16s32s"


class Header:
    """The 24 bytes at the begin: ``count`` of segments, ``mode``, ``size_speed``, ``entry``, ``pins`` (4
    bytes), ``chip_id``, ``min_rev_legacy``, ``min_rev`` and ``max_rev`` (100 * major + minor), ``reserved``
    (4 bytes), ``hash_appended``.
    """

    def __init__(self, raw: bytes) -> None:
        """Raises FormatError: IM1, another magic; VerifyError: IM3, fewer bytes."""
        if raw[:1] != bytes([MAGIC]):
            raise FormatError("not an image in Espressif's form: magic is missing", status.IM1)
        if len(raw) < HEADER_SIZE:
            raise VerifyError("image is truncated in its header", status.IM3)
        values = struct.unpack(_HEADER, raw[:HEADER_SIZE])
        self.count, self.mode, self.size_speed, self.entry = values[1:5]
        self.pins = raw[8:12]
        self.chip_id, self.min_rev_legacy, self.min_rev, self.max_rev, self.reserved = values[7:12]
        self.hash_appended = values[12]

    @property
    def chip_name(self) -> str:
        """The chip's name, or its number."""
        return CHIP_IDS.get(self.chip_id, f"chip id {self.chip_id}")


class Segment:
    """``size`` bytes at ``offset`` of the file, loaded to ``address`` or seen there; 0: neither."""

    def __init__(self, address: int, offset: int, size: int) -> None:
        self.address = address
        self.offset = offset
        self.size = size

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.size


class Block:
    """What FOTA adds: ``version`` (4 numbers), ``sec_cnt``, ``class_id`` 16 bytes, ``key_hash`` 32."""

    def __init__(
        self, version: "tuple[int, int, int, int]", sec_cnt: int, class_id: bytes, key_hash: bytes
    ) -> None:
        self.version = version
        self.sec_cnt = sec_cnt
        self.class_id = class_id
        self.key_hash = key_hash

    def pack(self) -> bytes:
        """Return its 68 bytes."""
        fields = (BLOCK_MAGIC, 1, BLOCK_SIZE) + self.version + (self.sec_cnt, self.class_id, self.key_hash)
        return struct.pack(_BLOCK, *fields)


class EspImage:
    """A well-formed image, ``signature`` **unverified**: ``header``, ``chip``, ``segments``, ``block``,
    ``end`` of what Espressif's tools know, ``size`` of the file, ``signatures`` (all blocks), ``signature``
    r||s of the one that counts, ``image_hash``: SHA-256 of all in front of the sector, which is what was
    signed.
    """

    def __init__(self, header: Header, chip: "Espressif", segments: "list[Segment]", end: int) -> None:
        self.header = header
        self.chip = chip
        self.segments = segments
        self.end = end
        self.block = Block((0, 0, 0, 0), 0, b"", b"")
        self.size = 0
        self.signatures: list[esp_signature.Signature] = []
        self.signature = self.image_hash = b""


def parse(data: bytes, in_flash: bool = False) -> EspImage:
    """Return the image in ``data``; everything is checked as the bootloader does, but key, class, floor,
    revision of the chip, signature. ``in_flash``: bytes behind the signature sector are not looked at.

    Raises:
        FormatError: IM1, not an image at all.
        VerifyError: IM2 to IM4, IM6, IM8, IM11, IM13 to IM15.
    """
    image = parse_plain(data)
    image.block = find_block(data, image.segments)
    padded = padded_size(image.end)
    if data[image.end : padded].strip(b"\xff"):
        raise VerifyError("bytes between image and signature sector are not blank", status.IM4)
    image.size = padded + SECTOR
    if image.size > image.chip.SLOT_SIZE:
        raise VerifyError(f"image of {image.size} bytes is larger than a slot can be", status.IM3)
    if len(data) <= padded:
        raise VerifyError("image is not signed: it has no signature sector", status.IM4)
    image.signatures = esp_signature.read_sector(data[padded : image.size])
    if image.size != len(data) and not in_flash:
        raise VerifyError(f"{len(data) - image.size} bytes after the image", status.IM4)
    image.image_hash = hashlib.sha256(data[:padded]).digest()
    _choose_signature(image)
    return image


def parse_plain(data: bytes) -> EspImage:
    """Return what Espressif's own tools know of an image, signed or not; bytes behind it are not looked at.

    Raises:
        FormatError: IM1. VerifyError: IM2, IM3, IM6, IM13 to IM15.
    """
    header = Header(data)
    check_header(header)
    segments, end = read_segments(data, header)
    image = EspImage(header, ROWS[header.chip_id], segments, end)
    check_sums(data, segments, end)
    check_memory(image)
    _check_descriptor(data, image)
    return image


def check_header(header: Header) -> None:
    """Return if the header is one that we boot.

    Raises:
        VerifyError: IM2, IM13, IM14.
    """
    if not 1 <= header.count <= MAX_SEGMENTS:
        raise VerifyError(f"{header.count} segments, not 1 to {MAX_SEGMENTS}", status.IM2)
    chip = ROWS.get(header.chip_id)
    if chip is None:
        raise VerifyError(f"image is for {header.chip_name}, which is not booted by FOTA", status.IM13)
    if header.hash_appended != 1:
        raise VerifyError("image has no SHA-256 behind it (hash_appended)", status.IM2)
    if header.min_rev > chip.MAX_REVISION:
        raise VerifyError(
            f"image asks for {chip.TITLE} {revision(header.min_rev)} at least, which there is not",
            status.IM14,
        )
    if header.max_rev not in (0, UNSET_REVISION) and header.max_rev < header.min_rev:
        raise VerifyError(
            f"image asks for a chip of {revision(header.min_rev)} to {revision(header.max_rev)}", status.IM14
        )


def revision(number: int) -> str:
    """Return ``v0.3`` of 3."""
    return f"v{number // 100}.{number % 100}"


def read_segments(data: bytes, header: Header) -> "tuple[list[Segment], int]":
    """Return the segments, and where the image ends, its SHA-256 included.

    Raises:
        VerifyError: IM3, truncated; IM15, a length that is not of words.
    """
    segments = []
    at = HEADER_SIZE
    for number in range(header.count):
        start = at + SEGMENT_HEADER_SIZE
        if start > len(data):
            raise VerifyError(f"image is truncated: segment {number} is not there", status.IM3)
        address, size = struct.unpack("<II", data[at:start])
        if size > len(data) - start:
            raise VerifyError(f"image is truncated: segment {number} is not all there", status.IM3)
        if size % 4:
            raise VerifyError(f"segment {number} has {size} bytes, not a multiple of 4", status.IM15)
        segments.append(Segment(address, start, size))
        at = start + size
    end = (at // 16 + 1) * 16 + 32
    if end > len(data):
        raise VerifyError("image is truncated: checksum or hash is not there", status.IM3)
    if data[at : end - 33].strip(b"\0"):
        raise VerifyError("bytes in front of the checksum are not zero", status.IM2)
    return segments, end


def check_sums(data: bytes, segments: "list[Segment]", end: int) -> None:
    """Return if checksum and SHA-256 are right. VerifyError: IM6, one is not."""
    if checksum(data, segments) != data[end - 33]:
        raise VerifyError("content does not match its checksum", status.IM6)
    if hashlib.sha256(data[: end - 32]).digest() != data[end - 32 : end]:
        raise VerifyError("content does not match its hash", status.IM6)


def checksum(data: bytes, segments: "list[Segment]") -> int:
    """Return the byte that follows the segments: 0xEF and all their bytes by exclusive or."""
    value = 0
    for segment in segments:
        whole = int.from_bytes(data[segment.offset : segment.offset + segment.size], "little")
        width = 1 << max(segment.size - 1, 0).bit_length()
        while width > 1:  # halves on each other
            width //= 2
            whole = whole >> (8 * width) ^ whole & (1 << 8 * width) - 1
        value ^= whole
    return value ^ CHECKSUM_SEED


def padded_size(end: int) -> int:
    """Return ``end``, rounded up to whole sectors."""
    return -(-end // SECTOR) * SECTOR


def find_block(data: bytes, segments: "list[Segment]") -> Block:
    """Return our block. VerifyError IM4, as `only_block`."""
    return only_block(blocks_of(data, segments))


def only_block(raws: "list[bytes]") -> Block:
    """Return our block of those that an image has.

    Raises:
        VerifyError: IM4, there is none, more than one, or a malformed one.
    """
    if len(raws) != 1:
        raise VerifyError(f"image has {len(raws) or 'no'} FOTA blocks, not 1", status.IM4)
    raw = raws[0]
    if len(raw) != BLOCK_SIZE or struct.unpack("<HH", raw[4:8]) != (1, BLOCK_SIZE):
        raise VerifyError("FOTA block is of another format or length", status.IM4)
    values = struct.unpack(_BLOCK, raw)
    if not 1 <= values[7] <= SEC_CNT_MAX:
        raise VerifyError(f"security counter {values[7]} is not in 1..{SEC_CNT_MAX}", status.IM4)
    return Block(values[3:7], values[7], values[8], values[9])


def blocks_of(data: bytes, segments: "list[Segment]") -> "list[bytes]":
    """Return what could be our block: segments that nobody loads, and that begin as it does."""
    contents = [data[part.offset : part.offset + part.size] for part in segments if part.address == 0]
    return [content for content in contents if content[:4] == BLOCK_MAGIC]


def flash_mapped(chip: "Espressif", address: int) -> bool:
    """Tell whether ``address`` shows flash."""
    return chip.DROM[0] <= address < chip.DROM[1] or chip.IROM[0] <= address < chip.IROM[1]


def check_memory(image: EspImage) -> None:
    """Return if every segment may be where it is to be loaded or seen, and the entry is in one.

    Raises:
        VerifyError: IM15.
    """
    chip = image.chip
    loaded: list[tuple[int, int, int]] = []
    pages: dict[int, int] = {}
    entered = False
    for number, part in enumerate(image.segments):
        if part.address == 0:
            continue
        name = f"segment {number} at 0x{part.address:08x}"
        if flash_mapped(chip, part.address):
            _check_mapped(chip, part, name, pages)
            code = part.address >= chip.IROM[0]
        else:
            start = _loaded_at(chip, part, name)
            for low, high, other in loaded:
                if start < high and low < start + part.size:
                    raise VerifyError(f"{name} overlaps segment {other}", status.IM15)
            loaded.append((start, start + part.size, number))
            code = part.address >= chip.IRAM[0]
        entered = entered or (code and part.address <= image.header.entry < part.end)
    if not entered or image.header.entry % 2:
        raise VerifyError(
            f"entry 0x{image.header.entry:08x} is no instruction in a segment of code", status.IM15
        )


def _check_mapped(chip: "Espressif", part: Segment, name: str, pages: "dict[int, int]") -> None:
    low, high = chip.DROM if part.address < chip.DROM[1] else chip.IROM
    if part.end > high:
        raise VerifyError(f"{name} leaves the window onto flash, which ends at 0x{high:08x}", status.IM15)
    if (part.address - part.offset) % chip.MMU_PAGE:
        raise VerifyError(
            f"{name} cannot be seen there: its offset 0x{part.offset:x} differs modulo 0x{chip.MMU_PAGE:x}",
            status.IM15,
        )
    first = (part.address - low) // chip.MMU_PAGE
    for at in range((part.address % chip.MMU_PAGE + part.size - 1) // chip.MMU_PAGE + 1):
        page = part.offset // chip.MMU_PAGE + at
        if pages.setdefault(first + at, page) != page:
            raise VerifyError(f"{name} wants a page of the MMU that another segment has", status.IM15)


def _loaded_at(chip: "Espressif", part: Segment, name: str) -> int:
    """Return where the data bus sees a segment of RAM."""
    for low, high in (chip.DRAM, chip.IRAM, chip.RTC_RAM):
        if low <= part.address < high:
            if part.end > high:
                raise VerifyError(f"{name} leaves its region, which ends at 0x{high:08x}", status.IM15)
            return part.address - (chip.IRAM[1] - chip.DRAM[1] if (low, high) == chip.IRAM else 0)
    raise VerifyError(f"{name} is in no memory that an application may have", status.IM15)


def _check_descriptor(data: bytes, image: EspImage) -> None:
    """Return if the image begins with an application descriptor in DROM, for pages of 64 KiB: others are no
    applications of ESP-IDF.
    """
    raw = descriptor(data, image.segments)
    if not raw or not image.chip.DROM[0] <= image.segments[0].address < image.chip.DROM[1]:
        raise VerifyError("image does not begin with an application descriptor in DROM", status.IM2)
    if raw[180] not in (0, 16):
        raise VerifyError(f"image is for MMU pages of 2^{raw[180]} bytes, not 2^16", status.IM2)


def descriptor(data: bytes, segments: "list[Segment]") -> bytes:
    """Return the 256 bytes of the application descriptor, or nothing: the image has none."""
    raw = data[DESCRIPTOR_AT : DESCRIPTOR_AT + DESCRIPTOR_SIZE]
    return raw if raw[:4] == DESCRIPTOR_MAGIC and segments[0].size >= DESCRIPTOR_SIZE else b""


def _choose_signature(image: EspImage) -> None:
    """Find the block whose key is the one that ours names, and hold its digest against the content."""
    ours = [one for one in image.signatures if one.xy and key_hash(one.xy) == image.block.key_hash]
    if not ours:
        kinds = ", ".join([one.kind for one in image.signatures])
        raise VerifyError(
            f"no signature by key {image.block.key_hash[:8].hex()}, which the FOTA block names ({kinds})",
            status.IM8,
        )
    if len(ours) > 1:
        raise VerifyError(f"{len(ours)} signatures by the same key", status.IM4)
    if ours[0].digest != image.image_hash:
        raise VerifyError("content does not match the digest in its signature block", status.IM6)
    image.signature = ours[0].signature
