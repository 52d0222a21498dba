"""Reads what a linker made (ELF, Intel HEX, S-records, raw binary) into the payload of an image, and checks
where it is linked.

Nothing is left out without a word, and nothing is signed that could not run: the first byte belongs behind
the header in the slot (SPEC 1, 2; 0x0800_4200 on every STM32 so far), and is a vector table.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from fota_signer import clocks, intel_hex, s_record
from fota_signer.chunk import Chunk
from fota_signer.foreign import foreign_kind
from fota_wire import image, layout, status
from fota_wire.chips import stm32l476
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_chips import Stm32

ELF = b"\x7fELF"
GAP = b"\xff"
_BLANK = b"\x00\xff"


class Hints(NamedTuple):
    """What the one who signs knows of a file: ``linked_for`` the address of its first byte; ``header_size``
    bytes of room for the header at its begin; ``leave_out`` names of ELF sections that are no firmware.
    """

    linked_for: int | None = None
    header_size: int | None = None
    leave_out: Sequence[str] = ()


NO_HINTS = Hints()


def max_payload(chip: Stm32 = stm32l476) -> int:
    """Return how many bytes a payload for this chip may have."""
    return chip.SLOT_SIZE - layout.HEADER_SIZE


def load_firmware(
    data: bytes,
    name: str,
    hints: Hints = NO_HINTS,
    say: Callable[[str], object] = lambda note: None,
    chip: Stm32 = stm32l476,
) -> bytes:
    """Return the payload in ``data`` for ``chip``; ``name`` is for messages, ``say`` is told what was filled
    or taken off.

    Raises:
        InputError: not firmware, linked for another address, overlapping, too large, no vector table; made
            for another chip; or something in it would be left out.
    """
    chunks = read_chunks(data, name, hints.leave_out)
    if chunks is None:
        payload = _raw_binary(data, name, hints, say, chip)
    else:
        _check_hints(chunks, name, hints, chip)
        payload = flatten(_without_header_room(chunks, name, hints, say, chip), name, say, chip)
    fault = clocks.fault_of(payload, chip)
    if fault:
        raise InputError(f"{name}: {fault}: --chip says for which it is signed", status.IM13)
    most = max_payload(chip)
    if len(payload) > most:
        raise InputError(
            f"{name}: {len(payload)} bytes do not fit a slot of chip {chip.NAME} (at most {most})"
        )
    _check_vectors(payload, name, chip)
    return payload


def read_chunks(data: bytes, name: str, leave_out: Sequence[str] = ()) -> list[Chunk] | None:
    """Return all that an ELF, Intel HEX or S-record file loads, by address and without an overlap; None: of
    another kind.

    ``leave_out``: names of ELF sections that are known not to be firmware.

    Raises:
        InputError: damaged, truncated, something overlaps, or would be left out; nothing to load in it.
    """
    if data[:4] == ELF:
        from fota_signer import elf

        chunks = elf.read(data, name, leave_out)
    elif intel_hex.looks_like_hex(data):
        chunks = intel_hex.read(data, name)
    elif s_record.looks_like_s_records(data):
        chunks = s_record.read(data, name)
    else:
        return None
    chunks.sort(key=lambda chunk: chunk.address)
    if not chunks:
        raise InputError(f"{name}: nothing to load in it")
    for one, two in pairwise(chunks):
        if two.address < one.end:
            raise InputError(f"{name}: {one.label} and {two.label} overlap at 0x{two.address:08x}")
    return chunks


def flatten(
    chunks: list[Chunk],
    name: str,
    say: Callable[[str], object] = lambda note: None,
    chip: Stm32 = stm32l476,
) -> bytes:
    """Return sorted ``chunks`` as one run from where a payload begins on; gaps become 0xFF.

    Raises:
        InputError: another start address, or something outside the slot.
    """
    start, end = chip.VECTOR_ADDRESS, chip.SLOT_ADDRESS + chip.SLOT_SIZE
    if any(chunk.address == start for chunk in chunks):
        for chunk in chunks:
            if chunk.address < start or chunk.end > end:
                raise InputError(
                    f"{name}: {chunk.label}: {len(chunk.content)} bytes at 0x{chunk.address:08x} are outside"
                    f" the slot of chip {chip.NAME}, 0x{start:08x} to 0x{end - 1:08x}"
                )
    else:
        begin = chunks[0].address
        place = f": at 0x{begin:08x} is the bootloader" if begin == chip.FLASH_BASE else ""
        raise InputError(f"{name}: linked for 0x{begin:08x}; link it for 0x{start:08x}{place}")
    payload = bytearray()
    gaps = []
    for chunk in chunks:
        gap = chunk.address - start - len(payload)
        if gap:
            gaps.append(gap)
        payload += GAP * gap + chunk.content
    if gaps:
        say(f"{len(gaps)} gap{'s' * (len(gaps) > 1)}, {sum(gaps)} bytes in all, filled with 0xff")
    return bytes(payload)


def _check_hints(chunks: list[Chunk], name: str, hints: Hints, chip: Stm32) -> None:
    begin = chunks[0].address
    if hints.linked_for not in (None, begin):
        raise InputError(f"{name}: linked for 0x{begin:08x}, not for 0x{hints.linked_for:08x}")
    if hints.header_size is not None:
        _check_room(begin, hints.header_size, name, chip)


def _check_room(begin: int, size: int, name: str, chip: Stm32) -> None:
    if begin + size != chip.VECTOR_ADDRESS:
        raise InputError(
            f"{name}: linked for 0x{begin:08x}; with 0x{size:x} bytes of room for the header link it for"
            f" 0x{chip.VECTOR_ADDRESS - size:08x}"
        )


def _without_header_room(
    chunks: list[Chunk], name: str, hints: Hints, say: Callable[[str], object], chip: Stm32
) -> list[Chunk]:
    """Return the chunks without the room that a linker left for the header, as Zephyr's and MCUboot's do."""
    begin = chip.VECTOR_ADDRESS - (layout.HEADER_SIZE if hints.header_size is None else hints.header_size)
    kept = []
    for chunk in chunks:
        if begin <= chunk.address < chip.VECTOR_ADDRESS:
            size = min(chip.VECTOR_ADDRESS - chunk.address, len(chunk.content))
            if _is_signed(chunk.content):
                raise InputError(f"{name}: is a signed image already; give what the linker made")
            if not _is_blank(chunk.content[:size]):
                raise InputError(
                    f"{name}: {chunk.label}: 0x{chunk.address:08x} is the header's place, and is not empty:"
                    f" link it for 0x{chip.VECTOR_ADDRESS:08x}"
                )
            say(f"{size} empty bytes at 0x{chunk.address:08x}, where the header goes, taken off")
            chunk = Chunk(chunk.address + size, chunk.content[size:], chunk.label)
        if chunk.content:
            kept.append(chunk)
    if not kept:
        raise InputError(f"{name}: nothing to load in it but room for a header")
    return kept


def _raw_binary(data: bytes, name: str, hints: Hints, say: Callable[[str], object], chip: Stm32) -> bytes:
    """Return the payload of a file that carries no addresses."""
    kind = foreign_kind(data)
    if kind:
        raise InputError(f"{name}: is {kind}")
    room = hints.header_size
    if room is None:
        room = layout.HEADER_SIZE if _is_blank(data[: layout.HEADER_SIZE]) else 0
    if not _is_blank(data[:room]):
        raise InputError(f"{name}: its first 0x{room:x} bytes are not empty: there is no room for the header")
    if hints.linked_for is not None and hints.linked_for + room != chip.VECTOR_ADDRESS:
        _check_room(hints.linked_for, room, name, chip)
    if room:
        say(f"{room} empty bytes at its begin, where the header goes, taken off")
    payload = data[room:]
    if hints.linked_for is None and 8 <= len(payload) <= max_payload(chip):
        _require_evidence(payload, name, chip)
    return payload


def _check_vectors(payload: bytes, name: str, chip: Stm32, hint: str = "") -> None:
    try:
        image.check_vectors(payload[:8], len(payload), chip)
    except VerifyError as exc:
        text = f"{name}: not firmware for 0x{chip.VECTOR_ADDRESS:08x}: {exc}{hint}"
        raise InputError(text, exc.code) from exc


def _require_evidence(payload: bytes, name: str, chip: Stm32) -> None:
    """Return if a raw binary shows that it was linked for where payloads of this chip begin.

    Raises:
        InputError: it seems to be linked for another address, or does not show for which.
    """
    from fota_signer import linked

    wanted = f"0x{chip.VECTOR_ADDRESS:08x}"
    address = linked.address_of(payload)
    if address == chip.VECTOR_ADDRESS:
        return
    seems = "" if address is None else f"seems to be linked for 0x{address:08x}; link it for {wanted}"
    _check_vectors(payload, name, chip, f"; it {seems}" if seems else "")
    if seems:
        raise InputError(f"{name}: {seems}, or give its ELF or HEX file")
    if not linked.begins_at(payload, chip.VECTOR_ADDRESS):
        raise InputError(f"{name}: not linked for {wanted}: there is no code where its reset vector points")
    raise InputError(
        f"{name}: does not show for which address it is linked: give its ELF or HEX file, or say"
        f" --linked-for {wanted}"
    )


def _is_blank(content: bytes) -> bool:
    return not content.strip(_BLANK)


def _is_signed(content: bytes) -> bool:
    return content[:4] == image.MAGIC.to_bytes(4, "little")
