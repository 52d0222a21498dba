"""What the mask ROM does from reset to the second stage, for a machine without the ROM itself.

Its habits with a damaged second stage are those measured on the real ROM: a wrong SHA-256 is reported and
booted, a wrong checksum or header stops it until a watchdog bites, a load address is looked at only for the
ROM's own RAM.
"""

import hashlib
import struct
from dataclasses import dataclass
from functools import reduce
from operator import xor

MAGIC, CHIP_ID, MOST_SEGMENTS, HEADER = 0xE9, 5, 16, 24
OWN_RAM = (0x3FCD_E160, 0x3FCD_F650)
STACK, VECTORS = 0x3FCD_E560, 0x4000_1D01
MODES = {0: "QIO", 1: "QOUT", 2: "DIO", 3: "DOUT"}
CAUSES = {
    0x01: "POWERON", 0x03: "RTC_SW_SYS_RST", 0x05: "DSLEEP", 0x07: "TG0WDT_SYS_RST",
    0x08: "TG1WDT_SYS_RST", 0x09: "RTCWDT_SYS_RST", 0x0B: "TG0WDT_CPU_RST", 0x0C: "RTC_SW_CPU_RST",
    0x0D: "RTCWDT_CPU_RST", 0x0F: "RTCWDT_BROWN_OUT_RESET", 0x10: "RTCWDT_RTC_RST",
    0x11: "TG1WDT_CPU_RST", 0x12: "SUPER_WDT_RST",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Outcome: segments to store, where to go, what the ROM says. ``entry`` None: it stops there."""

    segments: tuple[tuple[int, bytes], ...]
    entry: int | None
    said: tuple[str, ...]


def load(flash: bytes) -> Loaded:
    """Read the second stage at the start of ``flash`` as the ROM does."""
    first = int.from_bytes(flash[:4], "little")
    if flash[0] != MAGIC:
        return _stopped((), f"invalid header: 0x{first:08x}")
    count, mode, entry, chip = (
        flash[1],
        flash[2],
        *struct.unpack("<I", flash[4:8]),
        flash[12] | flash[13] << 8,
    )
    if not 0 < count <= MOST_SEGMENTS:
        return _stopped((), "Invalid image block count")
    if chip != CHIP_ID:
        return _stopped((), f"Invalid chip id. Expected {CHIP_ID} read {chip}. Bootloader for wrong chip?")
    said = [f"mode:{MODES.get(mode, '?')}, clock div:{1 if flash[3] & 15 == 15 else 2}"]
    segments: list[tuple[int, bytes]] = []
    at = HEADER
    for _ in range(count):
        address, size = struct.unpack("<2I", flash[at : at + 8])
        said.append(f"load:0x{address:08x},len:0x{size:x}")
        if size % 4 or at + 8 + size > len(flash):
            return _stopped(said, "Invalid image segment")
        if address < OWN_RAM[1] and address + size > OWN_RAM[0]:
            return _stopped(said, "Invalid load range: it overlaps the ROM's RAM")
        segments.append((address, flash[at + 8 : at + 8 + size]))
        at += 8 + size
    end = at + 16 & ~15
    if reduce(xor, b"".join(data for _, data in segments), 0xEF) != flash[end - 1]:
        return _stopped(said, f"Checksum failed. Calculated not as read 0x{flash[end - 1]:x}")
    if hashlib.sha256(flash[:end]).digest() != flash[end : end + 32]:
        said += ["SHA-256 comparison failed:", "Attempting to boot anyway..."]
    return Loaded(segments=tuple(segments), entry=entry, said=(*said, f"entry 0x{entry:08x}"))


def _stopped(said: list[str] | tuple[str, ...], why: str) -> Loaded:
    return Loaded(segments=(), entry=None, said=(*said, why))
