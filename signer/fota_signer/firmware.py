"""Reads what a linker made (ELF, Intel HEX, raw binary) into the payload of an image, and checks where it is
linked.

Nothing is signed that could not run: the first byte belongs at 0x0800_4200 (SPEC 1, 2), and is a vector
table.
"""

import io

from fota_wire import image, layout
from fota_wire.errors import InputError, VerifyError

Chunk = tuple[int, bytes]
"""(load address, content)."""

MAX_PAYLOAD = layout.SLOT_SIZE - layout.HEADER_SIZE
GAP = b"\xff"
_SHF_ALLOC = 2


def load_firmware(data: bytes, name: str) -> bytes:
    """Return the payload in ``data``; ``name`` is for messages.

    Raises:
        InputError: not firmware, linked for another address, overlapping, too large, or no vector table.
    """
    if data[:4] == b"\x7fELF":
        payload = flatten(elf_chunks(data, name), name)
    elif data[:1] == b":":
        payload = flatten(_hex_chunks(data, name), name)
    elif data[:4] == image.MAGIC.to_bytes(4, "little"):
        raise InputError(f"{name}: is a signed image already; give what the linker made")
    else:
        payload = data
    if len(payload) > MAX_PAYLOAD:
        raise InputError(f"{name}: {len(payload)} bytes do not fit a slot (at most {MAX_PAYLOAD})")
    try:
        image.check_vectors(payload[:8], len(payload))
    except VerifyError as exc:
        raise InputError(f"{name}: not firmware for 0x{layout.VECTOR_ADDRESS:08x}: {exc}", exc.code) from exc
    return payload


def check_program(data: bytes, name: str) -> bytes:
    """Return ``data``, a program that Linux can start: an ELF file, or a script that names its interpreter.

    Raises:
        InputError: it is neither.
    """
    if data[:4] == b"\x7fELF" or (data[:2] == b"#!" and len(data) >= 8):
        return data
    raise InputError(f"{name}: neither an ELF program nor a script that begins with #!")


def flatten(chunks: list[Chunk], name: str) -> bytes:
    """Return ``chunks`` as one run from 0x0800_4200 on; gaps become 0xFF.

    Raises:
        InputError: nothing in it, another start address, an overlap, or an end behind the slot.
    """
    chunks = sorted(chunk for chunk in chunks if chunk[1])
    if not chunks:
        raise InputError(f"{name}: nothing to load in it")
    start = layout.VECTOR_ADDRESS
    if chunks[0][0] != start:
        raise InputError(f"{name}: linked for 0x{chunks[0][0]:08x}; link it for 0x{start:08x}")
    payload = bytearray()
    for address, content in chunks:
        gap = address - start - len(payload)
        if gap < 0:
            raise InputError(f"{name}: segments overlap at 0x{address:08x}")
        if len(payload) + gap + len(content) > MAX_PAYLOAD:
            raise InputError(f"{name}: 0x{address:08x} + {len(content)} bytes is behind the slot's end")
        payload += GAP * gap + content
    return bytes(payload)


def elf_chunks(data: bytes, name: str) -> list[Chunk]:
    """Return the allocated sections with their load addresses, as objcopy does: segments may hold ELF
    headers too.
    """
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(data))
        if elf.elfclass != 32 or not elf.little_endian or elf["e_machine"] != "EM_ARM":
            raise InputError(f"{name}: not an ELF for 32-bit little-endian ARM")
        segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        chunks: list[Chunk] = []
        for section in elf.iter_sections():
            if not section["sh_flags"] & _SHF_ALLOC or section["sh_type"] == "SHT_NOBITS":
                continue
            for segment in segments:
                if section["sh_size"] and segment.section_in_segment(section):
                    load = section["sh_addr"] - segment["p_vaddr"] + segment["p_paddr"]
                    chunks.append((load, _exact(section.data(), section["sh_size"], name)))
                    break
    except (ELFError, ConstructError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise InputError(f"{name}: damaged ELF file") from exc
    return chunks


def _exact(content: bytes, size: int, name: str) -> bytes:
    if len(content) != size:
        raise InputError(f"{name}: truncated ELF file")
    return content


def _hex_chunks(data: bytes, name: str) -> list[Chunk]:
    from intelhex import AddressOverlapError, IntelHex, IntelHexError

    if b":00000001FF" not in data.upper():
        raise InputError(f"{name}: truncated Intel HEX file: no end record")
    reader = IntelHex()
    try:
        reader.loadhex(io.StringIO(data.decode("ascii")))
    except AddressOverlapError as exc:
        raise InputError(f"{name}: records overlap") from exc
    except (IntelHexError, ValueError) as exc:
        raise InputError(f"{name}: damaged Intel HEX file") from exc
    return [(start, bytes(reader.tobinarray(start=start, end=end - 1))) for start, end in reader.segments()]
