"""An ELF in the form that the mask ROM loads: ``espressif.py BOOTLOADER_ELF OUTPUT CHIP_ID SIZE_MIB``.

Header, segments in the order of their addresses, checksum, SHA-256 (SPEC 7.1), byte for byte what esptool's
elf2image makes of it. Flash is read by two data lines (DIO) at 80 MHz, which every board can.
"""

import hashlib
import struct
import sys
from functools import reduce
from operator import xor
from pathlib import Path

MAGIC, DIO, MHZ_80, NO_PIN = 0xE9, 2, 0xF, 0xEE
PROGBITS, ALLOC = 1, 2


def read_elf(elf: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """Return the entry point and (address, bytes) of each section that is loaded."""
    if elf[:6] != b"\x7fELF\x01\x01":
        raise SystemExit("espressif: not a 32-bit little-endian ELF file")
    entry, table = struct.unpack_from("<I4xI", elf, 24)
    size, count = struct.unpack_from("<HH", elf, 46)
    loaded = []
    for at in range(table, table + size * count, size):
        kind, flags, address, offset, length = struct.unpack_from("<5I", elf, at + 4)
        if kind == PROGBITS and flags & ALLOC and length:
            loaded.append((address, elf[offset : offset + length]))
    return entry, sorted(loaded)


def make_image(elf: bytes, chip_id: int, flash_mib: int) -> bytes:
    """Return the image; ``flash_mib`` is what its header says of the flash."""
    entry, segments = read_elf(elf)
    size = flash_mib.bit_length() - 1
    image = struct.pack("<4BI", MAGIC, len(segments), DIO, size << 4 | MHZ_80, entry)
    image += struct.pack("<4BHBHH4xB", NO_PIN, 0, 0, 0, chip_id, 0, 0, 0xFFFF, 1)
    checksum = 0xEF
    for address, data in segments:
        data += bytes(-len(data) % 4)
        image += struct.pack("<II", address, len(data)) + data
        checksum = reduce(xor, data, checksum)
    image += bytes(15 - len(image) % 16) + bytes([checksum])
    return image + hashlib.sha256(image).digest()


if __name__ == "__main__":
    source, target, chip_id, flash_mib = sys.argv[1:]
    Path(target).write_bytes(make_image(Path(source).read_bytes(), int(chip_id), int(flash_mib)))
