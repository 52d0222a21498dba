"""Reads what a 32-bit ELF file loads: what PT_LOAD says, byte for byte; of ARM at its physical addresses, of
RISC-V at its virtual ones, since an ESP32's loader puts each segment where it runs.

Sections tell what would be left behind: content that a linker placed and that no segment loads is refused by
its name. A reader of our own: pyelftools, the tests' oracle, also takes damaged and truncated files, and to
import it costs a ``fota sign`` more than all the rest.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fota_signer.chunk import Chunk
from fota_wire.errors import InputError

MAGIC = b"\x7fELF"
_HEADER, _SEGMENT, _SECTION = "<16sHHIIIIIHHHHHH", "<8I", "<10I"
_PT_LOAD = 1
_ET_EXEC = 2
ARM, RISC_V = 40, 243
_MACHINES = {3: "i386", ARM: "ARM", 62: "x86-64", 83: "AVR", 94: "Xtensa", 183: "AArch64", RISC_V: "RISC-V"}
_SHT_PROGBITS, _SHT_NOBITS = 1, 8
_SHF_ALLOC = 2
_OTHER_TYPES = {1: "an object file: link it first", 3: "a shared or position-independent program"}
_DESCRIPTIVE_TYPES = (2, 3, 4, 7, 9, 17, 18)
"""SYMTAB, STRTAB, RELA, NOTE, REL, GROUP, SYMTAB_SHNDX: nothing of it is ever loaded."""
_TOOLS_TYPES = range(0x6000_0000, 0x8000_0000)
"""Of an operating system or processor: attributes, address tables."""
_DESCRIPTIVE_NAMES = re.compile(
    r"[.](z?debug|comment|note|stab(str)?|line|gnu|iar|defmt|llvm(bc|cmd)?|mdebug|ARM[.]attributes)([._$].*)?"
)
"""Names of sections that compilers write for people and debuggers; .notes and .linear are somebody's own."""


_TRAPS = b"\xd4"
"""What lld fills the last page of code with, outside of its segment: instructions that trap."""


class _Header(NamedTuple):
    ident: bytes
    kind: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


class _Segment(NamedTuple):
    kind: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    flags: int
    align: int


class _Section(NamedTuple):
    name_at: int
    kind: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int

    @property
    def content(self) -> range:
        """Its place in the file."""
        return range(self.offset, self.offset + (0 if self.kind in (0, _SHT_NOBITS) else self.size))

    def lies_in(self, segment: _Segment) -> bool:
        """Tell whether ``segment`` loads all of it."""
        end = self.offset + (0 if self.kind in (0, _SHT_NOBITS) else self.size)
        return segment.offset <= self.offset and end <= segment.offset + segment.filesz


class _File(NamedTuple):
    name: str
    data: bytes
    header: _Header
    segments: list[_Segment]
    sections: list[tuple[str, _Section]]

    def describe(self, segment: _Segment) -> str:
        found = [name for name, section in self.sections if section.content and section.lies_in(segment)]
        return f"segment {self.segments.index(segment)} ({', '.join(found) or 'of no section'})"


def machine_of(data: bytes) -> int:
    """Return the number of the processor that an ELF file says it is for; 0: it is cut off before."""
    return int.from_bytes(data[18:20], "little") if len(data) >= 20 else 0


def entry_of(data: bytes) -> int:
    """Return the address where an ELF file, which `read` took, begins to run."""
    return int.from_bytes(data[24:28], "little")


def read(data: bytes, name: str, leave_out: Sequence[str] = (), machine: int = ARM) -> list[Chunk]:
    """Return what the ELF file ``data`` loads; ``name`` is for messages.

    ``leave_out``: names of sections that are known not to be firmware.

    Raises:
        InputError: not a linked program for ``machine``, 32-bit and little-endian; damaged, truncated; or
            something in it would be left out.
    """
    file = _parse(data, name, machine)
    _refuse_what_debuggers_read(file)
    _refuse_unloaded_sections(file, leave_out)
    _refuse_unclaimed_bytes(file)
    chunks = [_chunk(file, segment) for segment in file.segments if segment.kind == _PT_LOAD]
    return [chunk for chunk in chunks if chunk.content]


def _parse(data: bytes, name: str, machine: int) -> _File:
    if len(data) < struct.calcsize(_HEADER):
        raise InputError(f"{name}: truncated ELF file")
    header = _Header._make(struct.unpack_from(_HEADER, data))
    if header.ident[4:6] != b"\x01\x01" or header.machine != machine:
        found = _MACHINES.get(header.machine if header.ident[5:6] == b"\1" else 0)
        is_another = f"an ELF for {found}, " if found else ""
        wanted = _MACHINES.get(machine, f"machine {machine}")
        raise InputError(f"{name}: {is_another}not an ELF for 32-bit little-endian {wanted}")
    if header.kind != _ET_EXEC:
        what = _OTHER_TYPES.get(header.kind, f"of type {header.kind}, not a linked program")
        raise InputError(f"{name}: an ELF file, but {what}")
    if header.ident[6] != 1 or header.version != 1 or header.ehsize < struct.calcsize(_HEADER):
        raise InputError(f"{name}: damaged ELF file: its header is of another version")
    segments = [
        _Segment._make(fields)
        for fields in _table(data, name, "program", _SEGMENT, header.phoff, header.phentsize, header.phnum)
    ]
    if not segments:
        raise InputError(f"{name}: an ELF file without program headers: link it first")
    for number, segment in enumerate(segments):
        if segment.offset + segment.filesz > len(data):
            raise InputError(f"{name}: truncated ELF file: segment {number} is not all there")
        address = max(segment.paddr, segment.vaddr if machine == RISC_V else 0)
        if segment.kind == _PT_LOAD and not segment.filesz <= segment.memsz <= (1 << 32) - address:
            raise InputError(f"{name}: damaged ELF file: segment {number} has more content than room")
    return _File(name, data, header, segments, _sections(data, name, header))


def _sections(data: bytes, name: str, header: _Header) -> list[tuple[str, _Section]]:
    sections = [
        _Section._make(fields)
        for fields in _table(data, name, "section", _SECTION, header.shoff, header.shentsize, header.shnum)
    ]
    for number, section in enumerate(sections):
        if section.content and section.content.stop > len(data):
            raise InputError(f"{name}: truncated ELF file: section {number} is not all there")
    if not sections:
        return []
    if header.shstrndx >= len(sections):
        raise InputError(f"{name}: damaged ELF file: its sections have no names")
    names = sections[header.shstrndx].content
    found = []
    for number, section in enumerate(sections):
        text, end, _ = data[names.start + section.name_at : names.stop].partition(b"\0")
        if not end:
            raise InputError(f"{name}: damaged ELF file: section {number} has no name")
        found.append((text.decode("ascii", "backslashreplace") or f"section {number}", section))
    return found


def _table(
    data: bytes, name: str, what: str, layout: str, offset: int, size: int, count: int
) -> Iterator[tuple[int, ...]]:
    """Return the entries of a table of headers."""
    if (
        (count == 0 and offset and what == "section")
        or count == 0xFFFF
        or (count and size != struct.calcsize(layout))
    ):
        raise InputError(f"{name}: damaged ELF file: {count} {what} headers of {size} bytes")
    if offset + count * size > len(data):
        raise InputError(f"{name}: truncated ELF file: its {what} headers are not all there")
    return struct.iter_unpack(layout, data[offset : offset + count * size])


def _refuse_what_debuggers_read(file: _File) -> None:
    """Return if there is a program in the file, and not only its names and places."""
    loaded = [section for _, section in file.sections if section.flags & _SHF_ALLOC and section.size]
    if loaded and not any(section.content for section in loaded):
        raise InputError(
            f"{file.name}: it holds what debuggers read of a program, and not the program"
            " (objcopy --only-keep-debug): sign the file that it was made from"
        )


def _refuse_unloaded_sections(file: _File, leave_out: Sequence[str]) -> None:
    names = [name for name, _ in file.sections]
    for name in leave_out:
        if name not in names:
            raise InputError(f"{file.name}: has no section {name} that could be left out")
    loads = [segment for segment in file.segments if segment.kind == _PT_LOAD]
    for name, section in file.sections:
        loaded = any(section.lies_in(segment) for segment in loads)
        if name in leave_out and loaded and section.content:
            raise InputError(f"{file.name}: section {name} is part of a segment and cannot be left out")
        if section.content and not loaded and name not in leave_out and _holds_content(name, section):
            raise InputError(
                f"{file.name}: section {name} ({section.size} bytes) is in no segment, and not loaded;"
                f" link it into one, or say --leave-out {name}"
            )


def _holds_content(name: str, section: _Section) -> bool:
    if section.flags & _SHF_ALLOC:
        return True
    if section.kind in _DESCRIPTIVE_TYPES or section.kind in _TOOLS_TYPES:
        return False
    return not _DESCRIPTIVE_NAMES.fullmatch(name)


def _refuse_unclaimed_bytes(file: _File) -> None:
    """Return if all that no header describes, no segment loads and no section holds is zero, or a filling."""
    head = file.header
    claimed = [
        range(head.ehsize),
        range(head.phoff, head.phoff + head.phnum * head.phentsize),
        range(head.shoff, head.shoff + head.shnum * head.shentsize),
        *(
            range(segment.offset, segment.offset + segment.filesz)
            for segment in file.segments
            if segment.kind == _PT_LOAD
        ),
        *(section.content for _, section in file.sections),
    ]
    claimed.sort(key=lambda part: part.start)
    end = 0
    for part in [*claimed, range(len(file.data), len(file.data))]:
        rest = file.data[end : part.start].lstrip(b"\0")
        if rest.strip(b"\0" + _TRAPS):
            raise InputError(
                f"{file.name}: bytes at 0x{part.start - len(rest):x} of the ELF file are in no segment that"
                " is loaded and no section, and would be left out"
            )
        end = max(end, part.stop)


def _chunk(file: _File, segment: _Segment) -> Chunk:
    """Return what a segment loads. Linkers let the first one begin with the headers of the file itself, which
    are no firmware: it begins with its first section then, or behind them where sections were stripped.
    """
    skip = 0
    end = segment.offset + segment.filesz
    headers_end = max(file.header.ehsize, file.header.phoff + file.header.phnum * file.header.phentsize)
    if segment.offset < headers_end and segment.filesz:
        inside = [
            section.offset for _, section in file.sections if section.content and section.lies_in(segment)
        ]
        begin = min(inside, default=end if file.sections else min(headers_end, end))
        if not file.data[headers_end:begin].strip(b"\0") and (inside or begin <= headers_end):
            skip = begin - segment.offset
    content = file.data[segment.offset + skip : segment.offset + segment.filesz]
    address = segment.vaddr if file.header.machine == RISC_V else segment.paddr
    return Chunk(address + skip, content, file.describe(segment))
