"""What is the ESP32-C3's own in the campaigns: images, flash as the factory leaves it, OTA data."""

import hashlib
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ports"))

import espressif_forms as forms
from elftools.elf.elffile import ELFFile

from fota_vdev.chips.esp32c3.address_space import IRAM
from fota_vdev.machine import Machine
from fota_wire import esp_otadata, host_crypto, journal, status
from fota_wire.chips import esp32c3
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NONE

SLOTS = {SLOT_A: (0x20000, 0x20000), SLOT_B: (0x40000, 0x20000)}  # small: each page costs a boot its time
OTADATA, STORE = 0xE000, 0x60000
TABLE = (
    ((1, 2), 0x9000, 0x5000, "nvs"),
    (forms.OTADATA, OTADATA, 0x2000, "otadata"),
    (forms.OTA_0, *SLOTS[SLOT_A], "app0"),
    (forms.OTA_1, *SLOTS[SLOT_B], "app1"),
    (forms.STORE, STORE, 0x8000, "fota"),
)
PLACES = (STORE, *SLOTS[SLOT_A], *SLOTS[SLOT_B])
DATA, CODE = 0x3C000020, 0x42000000  # both windows show the image from its first page on
CODE_BYTES = b"\x01\x00" * 32  # c.nop
BANK = 1

# --- images ---


def segments(version: int, extra: bytes) -> tuple[tuple[int, bytes], ...]:
    """Data in flash, a few words for RAM by both of its addresses, code in flash, which is the entry."""
    descriptor = forms.descriptor(forms.Image(key=None)) + version.to_bytes(4, "little") * 8 + extra
    parts = ((DATA, descriptor), (forms.DRAM, b"data" * 4), (forms.IRAM, b"\x01\x00" * 8))
    return (*parts, (CODE + 32 + sum(8 + len(data) for _, data in parts), CODE_BYTES))


def signature_block(claim: Any, digest: bytes, rs: bytes) -> bytes:
    """A block that names the key ``claim``, whatever made the signature."""
    xy = host_crypto.public_xy(claim)
    numbers = b"".join(part[::-1] for part in (xy[:32], xy[32:], rs[:32], rs[32:]))
    block = (b"\xe7\x03\0\0" + digest + b"\x02" + numbers).ljust(1196, b"\0")
    return block + struct.pack("<I", zlib.crc32(block)) + bytes(16)


def make_image(
    version: int,
    *,
    sec_cnt: int,
    signer: Any,
    claim: Any,
    class_id: bytes,
    bad_signature: bool = False,
    extra: bytes = b"",
    rs: bytes = b"",
) -> bytes:
    """The smallest image. ``bad_signature`` flips one bit of s; ``rs`` stands in a signature's place."""
    parts = segments(version, extra)
    image = forms.Image(
        key=signer,
        named_key=claim,
        segments=parts,
        version=(1, version, 0, 0),
        sec_cnt=sec_cnt,
        class_id=class_id,
        entry=parts[-1][0],
    )
    covered = forms.body(image)
    digest = hashlib.sha256(covered).digest()
    made = bytearray(rs or host_crypto.signer(signer)(digest))
    if bad_signature:
        made[-1] ^= 1
    return covered + forms.sector(signature_block(claim, digest, bytes(made)))


# --- flash ---


def write_factory(machine: Machine, elf: Path, settings_page: bytes, trust_store: bytes) -> None:
    """Loader, settings, partition table, trust store; OTA data and journal are blank."""
    for at, data in (
        (0, elf.with_suffix(".bin").read_bytes()),
        (esp32c3.SETTINGS_OFFSET, settings_page),
        (esp32c3.TABLE_OFFSET, forms.table(*TABLE)),
        (STORE + esp32c3.TRUST_STORE_OFFSET, trust_store),
    ):
        machine.flash.write_phys(BANK, at, data)


def code_in_ram(elf: Path) -> list[tuple[int, int, int]]:
    """Where code lies in RAM: the loader's, and what an application loads."""
    with elf.open("rb") as f:
        text: Any = ELFFile(f).get_section_by_name(".text")
        begin, size = text["sh_addr"] - IRAM, text["sh_size"]
    return [(IRAM, begin, begin + size), (IRAM, esp32c3.IRAM[0] - IRAM, esp32c3.IRAM[1] - IRAM)]


# --- OTA data ---

Records = list[esp_otadata.Record | None]


def read_ota(machine: Machine) -> Records:
    """The records of both sectors; None: there is none whose CRC is right."""
    return [esp_otadata.read(raw) for raw in raw_ota(machine)]


def raw_ota(machine: Machine) -> tuple[bytes, bytes]:
    """The first 32 bytes of both sectors."""
    return tuple(machine.flash.read_phys(BANK, OTADATA + 4096 * n, esp_otadata.SIZE) for n in (0, 1))  # type: ignore[return-value]


def write_ota(machine: Machine, sector: int, record: esp_otadata.Record) -> None:
    """Put a record there as an application leaves it."""
    machine.flash.write_phys(BANK, OTADATA + 4096 * sector, record.pack().ljust(4096, b"\xff"))


def joined(record: journal.Record, ota: Records) -> journal.Record:
    """What a boot goes by: the journal's record with what the OTA data say (SPEC 7.5, once more)."""
    slots = (SLOT_A, SLOT_B)
    at = esp_otadata.active(ota)
    active = None if at is None else ota[at]
    asked = active is not None and active.state in (esp_otadata.NEW, esp_otadata.UNDEFINED)
    slot = SLOT_NONE if active is None else slots[active.slot()]

    def becomes(
        confirmed: int, candidate: int, state: int, tries: int = 0, reason: int = 0
    ) -> journal.Record:
        return journal.Record(record.sequence, confirmed, candidate, state, tries, reason)

    if record.state == journal.TRIAL and record.reason == status.OD1:
        own = [r for r in ota if r is not None and slots[r.slot()] == record.candidate]
        last = max(own, key=lambda r: r.sequence, default=None)
        if last is not None and last.state == esp_otadata.VALID:
            return becomes(record.candidate, SLOT_NONE, journal.NONE)
        if (last is not None and not last.counts) or (asked and slot == record.confirmed):
            return becomes(record.confirmed, record.candidate, journal.TRIAL, 0, status.AP1)
        return record
    if record.state in (journal.TRIAL, journal.STAGED) or active is None or slot == record.confirmed:
        return record
    taken_over = record.confirmed == SLOT_NONE and active.state != esp_otadata.PENDING_VERIFY
    if asked or (taken_over and record.state == journal.NONE):
        return becomes(record.confirmed, slot, journal.STAGED, 0, status.OD1)
    return record
