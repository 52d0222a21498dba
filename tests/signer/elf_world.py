"""ELF files of our own making, sound and unsound, down to the byte."""

import struct
from dataclasses import dataclass, field

PROGBITS, NOBITS, STRTAB = 1, 8, 3
ALLOC = 2
START = 0x08004200
VECTORS = struct.pack("<II", 0x20010000, START + 8 | 1)
CODE = (
    VECTORS
    + bytes.fromhex("0449054a0b6801330b601368013313 60f8e700bf")
    + struct.pack("<II", 0x20000000, 0x20000004)
)


@dataclass
class Section:
    """``segment``: None puts the content behind all segments; else it is that segment's from ``at`` on.
    ``offset``: what its header says of its place, whatever is true.
    """

    name: str
    content: bytes = b""
    kind: int = PROGBITS
    flags: int = ALLOC
    addr: int = 0
    segment: int | None = None
    at: int = 0
    size: int | None = None
    offset: int | None = None


@dataclass
class Elf:
    """What a linker makes: ``segments`` [(physical address, content)], and sections over them."""

    segments: list[tuple[int, bytes]] = field(default_factory=lambda: [(START, CODE)])
    sections: list[Section] = field(default_factory=list)
    kind: int = 2
    machine: int = 40
    behind: bytes = b""

    def build(self) -> bytes:
        body = bytearray(bytes(52 + 32 * len(self.segments)))
        offsets = []
        for _, content in self.segments:
            offsets.append(len(body))
            body += content
        names = b"\0"
        headers = [bytes(40)] if self.sections else []
        for section in [*self.sections, Section(".shstrtab", kind=STRTAB, flags=0)][
            : len(self.sections) + bool(self.sections)
        ]:
            at = len(names)
            names += section.name.encode() + b"\0"
            content = names if section.name == ".shstrtab" else section.content
            if section.segment is None:
                offset = len(body)
                body += content
            else:
                offset = offsets[section.segment] + section.at
            size = len(content) if section.size is None else section.size
            offset = offset if section.offset is None else section.offset
            fields = (at, section.kind, section.flags, section.addr, offset, size, 0, 0, 1, 0)
            headers.append(struct.pack("<10I", *fields))
        shoff = len(body) if headers else 0
        body += b"".join(headers) + self.behind
        ident = b"\x7fELF\x01\x01\x01" + bytes(9)
        head = (
            ident,
            self.kind,
            self.machine,
            1,
            START + 9,
            52,
            shoff,
            0x5000200,
            52,
            32,
            len(self.segments),
        )
        body[:52] = struct.pack("<16sHHIIIIIHHHHHH", *head, 40, len(headers), max(len(headers) - 1, 0))
        for number, (address, content) in enumerate(self.segments):
            fields = (1, offsets[number], address, address, len(content), len(content), 5, 4)
            body[52 + 32 * number : 84 + 32 * number] = struct.pack("<8I", *fields)
        return bytes(body)
