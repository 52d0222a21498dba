"""What an image in Espressif's form may have wrong, one thing at a time, and the status that names it.

Whoever looks at an image is held against this one table: the parser in Python (signer, factory, server), the
chip's on the host, and the chip itself.
"""

import struct

import esp_world

from fota_wire import status

GOOD = esp_world.signed()


def header(at, layout, value):
    def change(plain):
        struct.pack_into(layout, plain, at, value)

    return {"change_header": change}


def segment(number, *, address=None, content=None, add=None, drop=False):
    def change(parts):
        old_address, old = parts[number]
        parts[number] = (
            old_address if address is None else address,
            old if content is None else content,
        )
        if drop:
            del parts[number]
        if add is not None:
            parts.insert(number, add)

    return {"change_parts": change}


def block(at, layout, value):
    def change(parts):
        raw = bytearray(parts[-1][1])
        struct.pack_into(layout, raw, at, value)
        parts[-1] = (0, bytes(raw))

    return {"change_parts": change}


OTHER_PAGES = esp_world.descriptor()[:180] + b"\x0f" + bytes(5075)
# the segments of GOOD: DROM, DRAM, IRAM, RTC, padding, IROM, block
REFUSED = {
    "no-segment": (header(1, "B", 0), status.IM2),
    "17-segments": (header(1, "B", 17), status.IM2),
    "no-hash": (header(23, "B", 0), status.IM2),
    "hash-flag-of-2": (header(23, "B", 2), status.IM2),
    "chip-esp32": (header(12, "<H", 0), status.IM13),
    "chip-esp32-s3": (header(12, "<H", 9), status.IM13),
    "chip-unknown": (header(12, "<H", 0x105), status.IM13),
    "revision-that-there-is-not": (header(15, "<I", 200), status.IM14),
    "revision-least-above-most": (header(17, "<H", 2), status.IM14),
    "entry-0": (header(4, "<I", 0), status.IM15),
    "entry-in-data": (header(4, "<I", 0x3C030020), status.IM15),
    "entry-behind-the-code": (header(4, "<I", 0x40380000 + 30_004), status.IM15),
    "entry-between-instructions": (header(4, "<I", 0x40380001), status.IM15),
    "empty-in-no-memory": (segment(6, add=(0x60008000, b"")), status.IM15),
    "empty-in-the-loader": (segment(6, add=(0x403D8000, b"")), status.IM15),
    "empty-in-memory": (segment(6, add=(0x50001000, b"")), None),
    "drom-not-aligned-to-its-offset": (segment(0, address=0x3C030024), status.IM15),
    "drom-of-another-page-is-the-same-offset": (segment(0, address=0x3C040020), None),
    "drom-leaves-its-window": (segment(5, address=0x3C7E0020), status.IM15),
    "irom-leaves-its-window": (segment(5, address=0x427E0020), status.IM15),
    "two-windows-on-one-page": (segment(5, address=0x42030020), status.IM15),
    "ram-over-the-loader": (segment(1, address=0x3FCCE408), status.IM15),
    "ram-up-to-the-loader": (segment(1, address=0x3FCCE404), None),
    "iram-over-the-loader": (segment(2, address=0x403D8000), status.IM15),
    "ram-of-the-rom": (segment(1, address=0x3FCDE160), status.IM15),
    "iram-in-the-cache": (segment(2, address=0x4037C000), status.IM15),
    "ram-that-wraps": (segment(1, address=0xFFFFFFF0), status.IM15),
    "peripherals": (segment(1, address=0x60008000), status.IM15),
    "rom": (segment(1, address=0x40000000), status.IM15),
    "address-1-is-no-padding": (segment(4, address=1), status.IM15),
    "two-at-one-place": (segment(1, address=0x50000000), status.IM15),
    "dram-over-iram-by-its-alias": (segment(1, address=0x3FC80000), status.IM15),
    "rtc-over-the-report": (segment(3, address=0x50001EF4), status.IM15),
    "rtc-up-to-the-report": (segment(3, address=0x50001EF0), None),
    "descriptor-of-other-pages": (segment(0, content=OTHER_PAGES), status.IM2),
    "no-descriptor": (segment(0, content=bytes(5256)), status.IM2),
    "no-block": (segment(6, drop=True), status.IM4),
    "two-blocks": (segment(6, add=(0, b"FOTA" + bytes(64))), status.IM4),
    "block-of-72-bytes": (segment(6, content=b"FOTA\x01\0\x44\0" + bytes(64)), status.IM4),
    "block-magic": (block(0, "4s", b"FOTB"), status.IM4),
    "block-format": (block(4, "<H", 2), status.IM4),
    "block-length": (block(6, "<H", 67), status.IM4),
    "block-counter-0": (block(16, "<I", 0), status.IM4),
    "block-counter-too-large": (block(16, "<I", 262144), status.IM4),
    "block-of-another-key": (block(36, "32s", bytes(32)), status.IM8),
}  # fmt: skip


def image_of(name: str) -> bytes:
    """The image of a row: all is right but what the row changes, checksum, hash and signature too."""
    return esp_world.rebuilt(GOOD, **REFUSED[name][0])
