"""Firmware image: the one door to its forms, and MCUboot's (SPEC 2): strict parser, and the parts of one.

By its first byte an image is in Espressif's form (SPEC 7), which `esp_image` reads, or in MCUboot's:
file = header padded to 0x200 || payload || protected TLVs || unprotected TLVs. Little endian.
"""

import hashlib
import struct

from fota_wire import der, layout, status
from fota_wire.chips import stm32l476
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.host_chips import Chip, Stm32

MAGIC = 0x96F3B83D
MCUBOOT_FORM = "mcuboot"  # of a row
ESPRESSIF = b"\xe9"
ROM_FIXED = 0x100
PROGRAM = 0x10  # MCUboot's NON_BOOTABLE: a program of a Linux gateway, which no microcontroller boots
MAX_PROGRAM = 16 << 20
PROTECTED_MAGIC, UNPROTECTED_MAGIC = 0x6908, 0x6907
KEYHASH, SHA256, ECDSA_SIG, SEC_CNT, VENDOR_ID, CLASS_ID = 0x01, 0x10, 0x22, 0x50, 0x74, 0x75
CHIP = 0xA0  # of MCUboot's vendor range, protected: the chip's NAME as text; bootloaders do not look at it
ALLOW_LIST = (SHA256, KEYHASH, ECDSA_SIG)
TLV_NAMES = {KEYHASH: "KEYHASH", SHA256: "SHA256", ECDSA_SIG: "ECDSA_SIG", SEC_CNT: "SEC_CNT"}
TLV_NAMES.update({VENDOR_ID: "vendor UUID", CLASS_ID: "class UUID", CHIP: "chip"})
_HEADER = "<IIHHIIBBHII"


class Image:
    """A well-formed image; its hash is right, its **signature unverified**.

    ``version`` (major, minor, revision, build); ``flags``, PROGRAM for those of a Linux gateway;
    ``load_addr``; ``img_size`` of the payload in bytes; ``size`` of the file; ``sec_cnt``; ``class_id`` 16
    bytes; ``chip`` its NAME in the table of chips, "" if the image does not say; ``key_hash`` 32 bytes;
    ``signature`` r||s; ``image_hash`` (what was signed) and ``file_digest``, 32 bytes; ``vectors`` (stack
    pointer, reset vector), but of a program; ``protected`` and ``unprotected`` [(type, value)] in their
    order. In Espressif's form ``load_addr`` is the entry, and there are no vectors and no entries.
    """

    def __init__(self) -> None:
        self.version = (0, 0, 0, 0)
        self.flags = self.load_addr = self.img_size = self.size = self.sec_cnt = 0
        self.class_id = self.key_hash = self.signature = self.image_hash = self.file_digest = b""
        self.chip = ""
        self.vectors = (0, 0)
        self.protected: list[tuple[int, bytes]] = []
        self.unprotected: list[tuple[int, bytes]] = []


def build_header(
    payload_size: int,
    protected_size: int,
    version: "tuple[int, int, int, int]",
    rom_fixed: bool = True,
    program: bool = False,
    chip: "Stm32" = stm32l476,
) -> bytes:
    """Return the header, padded with 0xFF to 0x200 bytes (as imgtool does); sizes in bytes."""
    load_addr, flags = (chip.SLOT_ADDRESS, ROM_FIXED) if rom_fixed else (0, 0)
    if program:
        load_addr, flags = 0, PROGRAM
    sizes = (layout.HEADER_SIZE, protected_size, payload_size, flags)
    head = struct.pack(_HEADER, MAGIC, load_addr, *sizes, *version, 0)
    return head + b"\xff" * (layout.HEADER_SIZE - len(head))


def build_protected(sec_cnt: int, class_id: bytes, vendor_id: bytes | None = None, chip: str = "") -> bytes:
    """Return the protected TLV area, its own header included; ``chip``: NAME to say, if any."""
    entries = [(SEC_CNT, struct.pack("<I", sec_cnt))]
    if vendor_id is not None:
        entries.append((VENDOR_ID, vendor_id))
    entries.append((CLASS_ID, class_id))
    if chip:
        entries.append((CHIP, chip.encode()))
    return _area(PROTECTED_MAGIC, entries)


def build_unprotected(image_hash: bytes, key_hash: bytes, signature: bytes) -> bytes:
    """Return the unprotected TLV area; ``signature`` is r||s."""
    entries = [(SHA256, image_hash), (KEYHASH, key_hash), (ECDSA_SIG, der.from_raw(signature))]
    return _area(UNPROTECTED_MAGIC, entries)


def parse_image(
    data: bytes, in_flash: bool = False, programs: bool = False, chip: "Chip | None" = None
) -> Image:
    """Return the image in ``data``; everything is checked as the bootloader does, but key, class, floor,
    signature.

    ``in_flash``: bytes after the image are not looked at. ``programs``: programs of a Linux gateway are
    welcome too; a bootloader refuses them. ``chip``: the one that it is to run on; without it, the one that
    it names, and the STM32L476 if it names none.

    Raises:
        FormatError: IM1, not an image at all.
        VerifyError: IM2 to IM6, IM11, IM12; IM13, made for another chip, or for one that is not known here;
        in Espressif's form IM8, IM14 and IM15, too.
    """
    if data[:1] == ESPRESSIF:
        return _from_espressif(data, in_flash, chip)
    image = Image()
    protect_size = _header(data, image)
    if chip is not None and chip.FORM != MCUBOOT_FORM:
        raise VerifyError(f"image is for an STM32, not for chip {chip.NAME}", status.IM13)
    if image.flags == PROGRAM and not programs:
        raise VerifyError("a program of a Linux gateway, not firmware", status.IM2)
    end = layout.HEADER_SIZE + image.img_size
    if image.img_size < 8 or end + protect_size > len(data):
        raise VerifyError("image is truncated", status.IM3)
    hashed_end = end + protect_size
    image.protected, stop = _read_area(data, end, PROTECTED_MAGIC)
    if stop != hashed_end:
        raise VerifyError("protected TLV area has another size than the header says", status.IM4)
    image.unprotected, image.size = _read_area(data, hashed_end, UNPROTECTED_MAGIC)
    _entries(image)
    row = chip_of(image, chip)  # type: ignore[arg-type]  # an STM32's, by its form
    limit = MAX_PROGRAM if image.flags == PROGRAM else row.SLOT_SIZE
    if image.size > limit:
        whose = "a program" if image.flags == PROGRAM else f"a slot of chip {row.NAME}"
        raise VerifyError(f"image has {image.size} bytes, {whose} at most {limit}", status.IM3)
    if image.flags == ROM_FIXED and image.load_addr != row.SLOT_ADDRESS:
        raise VerifyError(f"image is for address 0x{image.load_addr:08x}", status.IM2)
    if image.size != len(data) and not in_flash:
        raise VerifyError(f"{len(data) - image.size} bytes after the image", status.IM4)
    image.image_hash = hashlib.sha256(data[:hashed_end]).digest()
    if image.image_hash != _one(image.unprotected, SHA256, 32):
        raise VerifyError("image content does not match its hash", status.IM6)
    image.file_digest = hashlib.sha256(data[: image.size]).digest()
    if image.flags != PROGRAM:
        head = data[layout.HEADER_SIZE : layout.HEADER_SIZE + 8]
        image.vectors = check_vectors(head, image.img_size, row)
    return image


def _from_espressif(data: bytes, in_flash: bool, chip: "Chip | None") -> Image:
    from fota_wire import esp_image

    found = esp_image.parse(data, in_flash)
    image = Image()
    image.chip = found.chip.NAME
    if chip is not None and image.chip != chip.NAME:
        raise VerifyError(f"image is for chip {image.chip}, not {chip.NAME}", status.IM13)
    image.version, image.sec_cnt = found.block.version, found.block.sec_cnt
    image.class_id, image.key_hash = found.block.class_id, found.block.key_hash
    image.load_addr, image.img_size, image.size = found.header.entry, found.end, found.size
    image.signature, image.image_hash = found.signature, found.image_hash
    image.file_digest = hashlib.sha256(data[: image.size]).digest()
    return image


def chip_of(image: Image, chip: "Stm32 | None") -> "Stm32":
    """Return the row of the chip that an image runs on: ``chip``, or else the one that it names.

    Raises:
        VerifyError: IM13, it names another than ``chip``, or one that is not known here.
    """
    if chip is not None:
        if image.chip not in ("", chip.NAME):
            raise VerifyError(f"image is for chip {image.chip}, not {chip.NAME}", status.IM13)
        return chip
    if not image.chip:
        return stm32l476
    from fota_wire.host_chips import STM32  # a device names its own chip and does not come here

    if image.chip not in STM32:
        raise VerifyError(f"image is for chip {image.chip!r}, which is not known here", status.IM13)
    return STM32[image.chip]


def check_vectors(head: bytes, img_size: int, chip: "Stm32" = stm32l476) -> "tuple[int, int]":
    """Return (stack pointer, reset vector), the first 8 bytes of a payload of ``img_size`` bytes.

    Raises:
        VerifyError: IM12, one is outside.
    """
    if len(head) < 8:
        raise VerifyError("image has no vector table", status.IM12)
    stack, reset = struct.unpack("<II", head[:8])
    if not chip.RAM_BASE < stack <= chip.STACK_TOP_MAX or stack % 8:
        raise VerifyError(f"initial stack pointer 0x{stack:08x} is outside RAM or not 8-aligned", status.IM12)
    if not reset & 1 or not 0 <= reset - chip.VECTOR_ADDRESS < img_size:
        raise VerifyError(f"reset vector 0x{reset:08x} is outside the image", status.IM12)
    return stack, reset


def _header(data: bytes, image: Image) -> int:
    if len(data) < 4 or struct.unpack("<I", data[:4])[0] != MAGIC:
        raise FormatError("not a firmware image: magic is missing", status.IM1)
    if len(data) < layout.HEADER_SIZE:
        raise VerifyError("image is truncated in its header", status.IM3)
    values = struct.unpack(_HEADER, data[:32])
    image.load_addr, hdr_size, protect_size, image.img_size, image.flags = values[1:6]
    image.version = values[6:10]
    if hdr_size != layout.HEADER_SIZE or values[10] != 0:
        raise VerifyError("image header has another size or layout", status.IM2)
    if image.flags not in (0, ROM_FIXED, PROGRAM):
        raise VerifyError(f"image flags 0x{image.flags:x} are not allowed", status.IM2)
    return int(protect_size)


def _entries(image: Image) -> None:
    for tlv_type, _ in image.unprotected:
        if tlv_type not in ALLOW_LIST:
            raise VerifyError(f"unprotected TLV 0x{tlv_type:x} is not allowed", status.IM5)
    image.sec_cnt = struct.unpack("<I", _one(image.protected, SEC_CNT, 4))[0]
    image.class_id = _one(image.protected, CLASS_ID, 16)
    if any(kind == CHIP for kind, _ in image.protected):
        try:
            image.chip = _one(image.protected, CHIP, None).decode()
        except UnicodeError as exc:
            raise VerifyError("entry chip is not a text", status.IM4) from exc
    image.key_hash = _one(image.unprotected, KEYHASH, 32)
    signature = _one(image.unprotected, ECDSA_SIG, None)
    types = [tlv_type for tlv_type, _ in image.unprotected]
    if types.index(KEYHASH) > types.index(ECDSA_SIG):
        raise VerifyError("KEYHASH follows the signature", status.IM4)
    if not 1 <= image.sec_cnt <= layout.SEC_CNT_MAX:
        raise VerifyError(f"SEC_CNT {image.sec_cnt} is not in 1..{layout.SEC_CNT_MAX}", status.IM4)
    image.signature = der.to_raw(signature)


def _one(entries: "list[tuple[int, bytes]]", tlv_type: int, size: int | None) -> bytes:
    found = [value for entry_type, value in entries if entry_type == tlv_type]
    name = TLV_NAMES[tlv_type]
    if len(found) != 1:
        raise VerifyError(f"image has {len(found)} entries {name}, not 1", status.IM4)
    if size is not None and len(found[0]) != size:
        raise VerifyError(f"entry {name} has {len(found[0])} bytes, not {size}", status.IM4)
    return found[0]


def _area(magic: int, entries: "list[tuple[int, bytes]]") -> bytes:
    body = b"".join([struct.pack("<HH", tlv_type, len(value)) + value for tlv_type, value in entries])
    return struct.pack("<HH", magic, len(body) + 4) + body


def _read_area(data: bytes, pos: int, magic: int) -> "tuple[list[tuple[int, bytes]], int]":
    if len(data) - pos < 4:
        raise VerifyError("image is truncated: TLV area missing", status.IM3)
    found, total = struct.unpack("<HH", data[pos : pos + 4])
    if found != magic:
        raise VerifyError(f"TLV area 0x{magic:x} is missing", status.IM4)
    end = pos + total
    if total < 4 or end > len(data):
        raise VerifyError("TLV area does not fit the image", status.IM3 if total >= 4 else status.IM4)
    pos += 4
    entries = []
    while pos < end:
        if end - pos < 4:
            raise VerifyError("TLV area ends within an entry", status.IM4)
        tlv_type, size = struct.unpack("<HH", data[pos : pos + 4])
        pos += 4
        if size > end - pos:
            raise VerifyError("TLV area ends within an entry", status.IM4)
        entries.append((tlv_type, data[pos : pos + size]))
        pos += size
    return entries, end
