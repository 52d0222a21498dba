"""Reads what a build makes for an ESP32 (ELF, or the application's .bin) into an image without our block.

Nothing is left out without a word, and what is given by mistake (a bootloader, a partition table, a whole
flash image, one that is signed or encrypted already) is named as what it is.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from fota_signer import elf, esp_pack
from fota_signer.chunk import Chunk
from fota_signer.esp_files import XTENSA, is_whole_flash
from fota_wire import esp_image, esp_partitions, esp_signature, status
from fota_wire.errors import FotaError, InputError
from fota_wire.esp_chips import ROWS
from fota_wire.host_values import UsageError

if TYPE_CHECKING:
    from fota_wire.host_chips import Chip, Espressif

ELF_DIGEST_AT = 144
"""In the descriptor: SHA-256 of the ELF file, by which tools find the ELF for a crash of the image."""
_V1_SIGNATURE = 68
_RANDOM_BITS = 7.9
Say = Callable[[str], object]


def load_application(
    data: bytes, name: str, chip: "Chip | None", leave_out: Sequence[str] = (), say: Say = lambda note: None
) -> bytes:
    """Return the application image in ``data``, as esptool makes it; ``name`` is for messages, ``say`` is
    told what was left off. ``chip``: what --chip says, which an ELF needs and a .bin has to agree with.

    Raises:
        InputError: no application, or not for this chip; damaged, signed or encrypted already; something in
            it could not run, or would be left out. Its code is the status where there is one.
    """
    if chip is not None and chip.FORM != "espressif":
        raise InputError(f"{name}: is for an ESP32, not for --chip {chip.NAME}")
    try:
        if data[:4] == elf.MAGIC:
            plain = _from_elf(data, name, chip, leave_out, say)
            segments, _ = esp_image.read_segments(plain, header := esp_image.Header(plain))
            _refuse_bootloader(plain, segments, ROWS[header.chip_id], name)
        else:
            if leave_out:
                raise InputError("--leave-out is for the sections of an ELF file")
            plain = _from_binary(data, name, chip, say)
        esp_image.parse_plain(plain)
    except FotaError as exc:
        if str(exc).startswith(f"{name}: "):
            raise
        label = f"{status.label(exc.code)}: " if isinstance(exc.code, int) else ""
        raise InputError(f"{name}: {label}{exc}", exc.code) from exc
    return plain


def _from_elf(data: bytes, name: str, chip: "Chip | None", leave_out: Sequence[str], say: Say) -> bytes:
    machine = elf.machine_of(data)
    if machine == XTENSA:
        raise InputError(f"{name}: an ELF for Xtensa (ESP32, ESP32-S2, ESP32-S3), which FOTA does not boot")
    if machine == elf.ARM and chip is not None:
        raise InputError(f"{name}: an ELF for ARM, as for an STM32, not for --chip {chip.NAME}", status.IM13)
    row = next((row for row in ROWS.values() if chip is not None and row.NAME == chip.NAME), None)
    if row is None:
        fitting = " or ".join(row.NAME for row in ROWS.values() if machine == row.ELF_MACHINE)
        raise UsageError(f"{name}: an ELF file does not say for which ESP32 it is: say --chip {fitting}")
    chunks = elf.read(data, name, leave_out, machine=row.ELF_MACHINE)
    if not chunks:
        raise InputError(f"{name}: nothing to load in it")
    for chunk in chunks:
        if chunk.address % 4:
            raise InputError(f"{name}: {chunk.label}: 0x{chunk.address:08x} is no multiple of 4")
    head = esp_pack.Head(elf.entry_of(data), row.CHIP_ID, max_rev=row.MAX_REVISION)
    say("flash mode DIO, 80 MHz and 4 MB are written into its header; give the .bin for others")
    return esp_pack.build(head, esp_pack.place(_with_elf_digest(chunks, data), row))


def _with_elf_digest(chunks: list[Chunk], data: bytes) -> list[Chunk]:
    """Return the chunks, and in the application descriptor, if there is one, the SHA-256 of the ELF file."""
    out = []
    for chunk in chunks:
        content = chunk.content
        place = slice(ELF_DIGEST_AT, ELF_DIGEST_AT + 32)
        if content[:4] == esp_image.DESCRIPTOR_MAGIC and not any(content[place]):
            content = content[: place.start] + hashlib.sha256(data).digest() + content[place.stop :]
        out.append(chunk._replace(content=content))
    return out


def _from_binary(data: bytes, name: str, chip: "Chip | None", say: Say) -> bytes:
    _refuse_other_kinds(data, name)
    header = esp_image.Header(data)
    if chip is not None and header.chip_name != chip.TITLE:
        raise InputError(f"{name}: is for {header.chip_name}, not for --chip {chip.NAME}", status.IM13)
    esp_image.check_header(header)
    segments, end = esp_image.read_segments(data, header)
    _refuse_bootloader(data, segments, ROWS[header.chip_id], name)
    if esp_image.blocks_of(data, segments):
        raise InputError(f"{name}: is a signed image already (it has a FOTA block): give what the build made")
    _refuse_rest(data, end, name, say)
    return data[:end]


def _refuse_other_kinds(data: bytes, name: str) -> None:
    """Return if the file begins as an image does, and is no more than one."""
    if is_whole_flash(data):
        raise InputError(
            f"{name}: is a whole flash image (merged-bin), with bootloader and partition table: give the"
            " application's own .bin"
        )
    if data[:2] == esp_partitions.MAGIC:
        raise InputError(f"{name}: is a partition table: give the application's .bin or ELF")
    if data[:1] == bytes([esp_image.MAGIC]):
        return
    from fota_signer.foreign import foreign_kind
    from fota_signer.intel_hex import looks_like_hex

    kind = foreign_kind(data)
    if looks_like_hex(data):
        kind = "an Intel HEX file: give the ELF, or the .bin that idf.py makes of it"
    if kind is None and _looks_random(data):
        kind = (
            "none of Espressif's images, but looks encrypted: give the plain .bin (flash encryption is done"
            " by the device, or when it is written)"
        )
    if kind is None:
        kind = "no application image: that begins with E9, as idf.py and esptool make it"
    raise InputError(f"{name}: is {kind}", status.IM1)


def _refuse_bootloader(data: bytes, segments: list[esp_image.Segment], chip: "Espressif", name: str) -> None:
    """Return unless it is a second-stage bootloader: nothing of it is seen in flash, all is loaded to RAM."""
    if esp_image.descriptor(data, segments):
        return
    if any(esp_image.flash_mapped(chip, part.address) for part in segments):
        return
    raise InputError(
        f"{name}: is a second-stage bootloader (nothing in it runs from flash), which is written by cable,"
        " never signed as an application: give the application's .bin"
    )


def _refuse_rest(data: bytes, end: int, name: str, say: Say) -> None:
    """Return if what follows the image is nothing but blank."""
    rest = data[end:]
    if not rest.strip(b"\xff"):
        if rest:
            say(f"{len(rest)} blank bytes behind the image left off")
        return
    sector = data[esp_image.padded_size(end) :]
    if esp_signature.looks_like_sector(sector):
        _refuse_signed(sector, name)
    if len(rest) == _V1_SIGNATURE and rest[:4] == bytes(4):
        raise InputError(f"{name}: is signed already, for Secure Boot v1: give the unsigned .bin")
    raise InputError(
        f"{name}: {len(rest)} bytes follow the image, and would be left out: give the application's .bin"
        " alone"
    )


def _refuse_signed(sector: bytes, name: str) -> NoReturn:
    kinds = "malformed"
    with suppress(FotaError):  # signed in any case
        kinds = ", ".join(one.kind for one in esp_signature.read_sector(sector[: esp_signature.SECTOR]))
    raise InputError(
        f"{name}: is signed already, for Secure Boot v2 ({kinds}): give the unsigned .bin (idf.py makes"
        " it, too: ...-unsigned.bin)"
    )


def _looks_random(data: bytes) -> bool:
    """Tell whether the bytes are as even as those that a cipher makes."""
    if len(data) < 4096 or len(data) % 16:
        return False
    counts = Counter(data)
    bits = -sum(count / len(data) * math.log2(count / len(data)) for count in counts.values())
    return bits > _RANDOM_BITS
