"""Checks a program of Linux gateways: an ELF file that Linux can start, all of it there, or a script."""

import struct
from typing import NamedTuple

from fota_wire.errors import InputError

_MACHINES = {
    3: "x86",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC 64",
    22: "S/390",
    40: "ARM",
    42: "SuperH",
    62: "x86-64",
    94: "Xtensa",
    183: "ARM 64",
    195: "ARC",
    243: "RISC-V",
    258: "LoongArch",
}
_EXECUTABLE, _SHARED = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_FLAGS_1, _DF_1_PIE = 0x6FFFFFFB, 0x08000000
_OTHER_TYPES = {1: "an object file: link it first", 4: "a core dump"}
_SYSTEMS = (0, 3)  # System V, Linux
_MAX_LINE = 255  # of a script's first line; the kernel looks at no more


class _Segment(NamedTuple):
    kind: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int


def check_program(data: bytes, name: str) -> str:
    """Return what ``data`` is, in a few words, if Linux can start it: an ELF program, or a script that names
    its interpreter.

    Raises:
        InputError: it is neither, truncated, or made for something else than Linux.
    """
    if data[:2] == b"#!":
        return _script(data, name)
    if data[:4] == b"\x7fELF":
        return _elf(data, name)
    from fota_signer.foreign import foreign_kind

    kind = foreign_kind(data)
    found = f"is {kind}" if kind else "unknown to Linux"
    raise InputError(f"{name}: neither an ELF program nor a script that begins with #!: {found}")


def _script(data: bytes, name: str) -> str:
    line, end, _ = data.partition(b"\n")
    words = line[2:].split()
    if line.endswith(b"\r"):
        raise InputError(
            f"{name}: a script with line ends of Windows (CR LF): Linux does not find its interpreter"
        )
    if not end or not words or not words[0].startswith(b"/") or len(line) > _MAX_LINE or not line.isascii():
        raise InputError(f"{name}: a script whose first line is not #! and the path of an interpreter")
    if len(data) < 8:
        raise InputError(f"{name}: a script of {len(data)} bytes: too short for an image")
    return f"script for {words[0].decode()}"


def _elf(data: bytes, name: str) -> str:
    order = {1: "<", 2: ">"}.get(data[5] if len(data) > 5 else 0)
    wide = data[4:5] == b"\x02"
    if len(data) < (64 if wide else 52):
        raise InputError(f"{name}: truncated ELF file")
    if order is None or data[4] not in (1, 2) or data[6] != 1:
        raise InputError(f"{name}: damaged ELF file")
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    kind, machine, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, _ = struct.unpack_from(
        layout, data, 16
    )
    if kind not in (_EXECUTABLE, _SHARED):
        raise InputError(f"{name}: an ELF file, but {_OTHER_TYPES.get(kind, 'no program')}")
    if data[7] not in _SYSTEMS or machine not in _MACHINES:
        raise InputError(f"{name}: an ELF program, but not for Linux on a machine that we know ({machine})")
    if not phnum or phentsize != (56 if wide else 32):
        raise InputError(f"{name}: damaged ELF file: {phnum} program headers of {phentsize} bytes")
    if phoff + phnum * phentsize > len(data) or (shoff and shoff + shnum * shentsize > len(data)):
        raise InputError(f"{name}: truncated ELF file: its headers are not all there")
    segments = [_segment(data, phoff + i * phentsize, order, wide) for i in range(phnum)]
    if any(segment.offset + segment.filesz > len(data) for segment in segments):
        raise InputError(f"{name}: truncated ELF file: a segment is not all there")
    library = kind == _SHARED and not _is_pie(data, segments, order, wide)
    start = _start(data, name, library, entry, segments, range(phoff, phoff + phnum * phentsize))
    return f"{64 if wide else 32}-bit {_MACHINES[machine]} program, {start}"


def _segment(data: bytes, at: int, order: str, wide: bool) -> _Segment:
    if wide:
        kind, _, offset, vaddr, paddr, filesz = struct.unpack_from(order + "IIQQQQ", data, at)
    else:
        kind, offset, vaddr, paddr, filesz = struct.unpack_from(order + "IIIII", data, at)
    return _Segment(kind, offset, vaddr, paddr, filesz)


def _is_pie(data: bytes, segments: list[_Segment], order: str, wide: bool) -> bool:
    """Tell whether a shared object calls itself a program: it names an interpreter, or has DF_1_PIE set."""
    for segment in segments:
        if segment.kind == _PT_INTERP:
            return True
        if segment.kind == _PT_DYNAMIC:
            entry = struct.Struct(order + ("qQ" if wide else "iI"))
            size = segment.filesz // entry.size * entry.size
            for tag, value in entry.iter_unpack(data[segment.offset : segment.offset + size]):
                if tag == _DT_FLAGS_1 and value & _DF_1_PIE:
                    return True
    return False


def _start(
    data: bytes, name: str, library: bool, entry: int, segments: list[_Segment], headers: range
) -> str:
    """Return how Linux starts it; ``headers``: where in the file its program headers are.

    A C library that nobody else starts finds its thread data by these: a program without an interpreter loads
    them. Firmware does not, or its data where it does not run.

    Raises:
        InputError: a library, or firmware for a bare microcontroller.
    """
    loads = [segment for segment in segments if segment.kind == _PT_LOAD]
    inside = any(segment.vaddr <= entry < segment.vaddr + segment.filesz for segment in loads)
    if library or not inside:
        what = "a library" if library else "a program whose entry is outside of it"
        raise InputError(f"{name}: an ELF file, but {what}: Linux cannot start it")
    interpreter = [segment for segment in segments if segment.kind == _PT_INTERP]
    carried = any(
        segment.offset <= headers.start and headers.stop <= segment.offset + segment.filesz
        for segment in loads
    )
    if any(segment.vaddr != segment.paddr for segment in loads) or not (interpreter or carried):
        raise InputError(
            f"{name}: firmware for a bare microcontroller, no program of Linux: leave --program out"
        )
    if not interpreter:
        return "static"
    path = data[interpreter[0].offset : interpreter[0].offset + interpreter[0].filesz].rstrip(b"\0")
    if not path.startswith(b"/") or not path.isascii():
        raise InputError(f"{name}: damaged ELF file: its interpreter is no path")
    return f"started by {path.decode('ascii', 'backslashreplace')}"
