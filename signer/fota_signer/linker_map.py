"""Reads the map that GNU ld writes (``-Wl,-Map=FILE``): which file brought how many bytes."""

import re
from typing import NamedTuple

from fota_wire.errors import InputError

LIMIT = 64 << 20
"""Bytes of a map."""
_HEAD = "\nLinker script and memory map\n"
_LOAD = re.compile(r"LOAD (.+)")
_OUTPUT = re.compile(r"(\S+)(?:\s+0x[0-9a-f]{1,16}\s+0x[0-9a-f]{1,16}.*)?")
_INPUT = re.compile(
    r" +(?:(?!\*fill\*)\S+ +)?0x[0-9a-f]{1,16} +0x([0-9a-f]{1,8})"
    r" (?!(?:BYTE|SHORT|LONG|QUAD|SQUAD|ASCIZ?) |linker stubs)(\S.*)"
)
_NOT_LOADED = re.compile(
    r"\.(?:debug|comment|stab|note\.GNU|gnu\.|ARM\.attributes|riscv\.attributes).*|/DISCARD/"
)
_MERGED = re.compile(r"(?:^|/)[^/]+\.(?:ltrans\d*|lto|debug\.temp)(?:\.ltrans)?\.o")


class Linked(NamedTuple):
    """What is linked: ``files`` {object, or archive(member): bytes of it in the firmware, variables as well},
    and ``merged``, bytes that came of objects optimised together. Where that is not 0, files are listed that
    were among these, with 0 bytes, or those of them that were kept apart.
    """

    files: dict[str, int]
    merged: int


def read_map(raw: bytes, name: str) -> Linked:
    """Return what a linker map says.

    Raises:
        InputError: it is none of GNU ld, or nothing is linked by it.
    """
    _, _, body = raw.decode("utf-8", "replace").replace("\r\n", "\n").partition(_HEAD)
    if not body:
        raise InputError(f"{name}: no linker map of GNU ld: link with -Wl,-Map=FILE")
    listed: list[str] = []
    files: dict[str, int] = {}
    merged, loaded = 0, True
    for line in body.split("\n"):
        if line[:1] not in ("", " "):
            if found := _LOAD.fullmatch(line):
                listed.append(found[1])
            elif output := _OUTPUT.fullmatch(line):
                loaded = not _NOT_LOADED.fullmatch(output[1])
        elif loaded and (contribution := _INPUT.fullmatch(line)):
            size, file = int(contribution[1], 16), contribution[2]
            if _MERGED.search(file):
                merged += size
            elif size:
                files[file] = files.get(file, 0) + size
    if merged:
        for file in listed:
            if not file.endswith(".a") and file != "linker stubs" and not _MERGED.search(file):
                files.setdefault(file, 0)
    if not files:
        raise InputError(f"{name}: nothing is linked by this map")
    return Linked(files, merged)
