"""What the ESP32-C3's bootloader takes is what the Python of signer, server and agent takes: both beside each
other on mutated images, tables, copies of places and OTA data.
"""

import ctypes
import hashlib
import random
import struct
import zlib
from typing import Any

import pytest
from core_structs import Record
from espressif_core import Chip, OtaData, parse, places_copy, read_table
from espressif_forms import ota_record
from espressif_mutants import SECTOR, Images, Tables

from fota_agent.boards.esp32c3 import inspect
from fota_wire import esp_image, esp_otadata, esp_partitions, status
from fota_wire.chips import esp32c3 as row
from fota_wire.errors import FormatError, FotaError, VerifyError

IMAGES, TABLES, COPIES, MESSAGES = 6000, 6000, 3000, 4000
A, B, NONE = 0x5A, 0xA5, 0xC3
OK = "ok"


def by_python(slot: bytes) -> tuple[str, Any]:
    try:
        return OK, esp_image.parse(slot, in_flash=True)
    except FotaError as exc:
        return status.short_of(exc.code), exc


def by_chip(core: ctypes.CDLL, slot: bytes) -> tuple[str, Any]:
    """The parser, and what the core does next: the digest that it named against what it covers."""
    verdict, found = parse(core, slot, len(slot))
    if verdict == OK:
        digest = hashlib.sha256(slot[: found.hashed_size]).digest()
        verdict = OK if digest == ctypes.string_at(found.hash, 32) else "IM6"
    return verdict, found


def by_agent(slot: bytes, size: int) -> tuple[str, Any]:
    class Slot:
        def read(self, at: int, length: int) -> bytes:
            return slot[at : at + length]

    try:
        return OK, inspect(Slot(), size)
    except FotaError as exc:
        return status.short_of(exc.code), exc


def without_what_is_python_s_alone(slot: bytes, found: Any) -> bytes:
    """The same image, with what only Python looks at made right: checksum, hash and filling,
    which are signed, and what the sector has beside the block that counts.
    """
    header = esp_image.Header(slot)
    at = esp_image.HEADER_SIZE
    for _ in range(header.count):
        at += 8 + struct.unpack_from("<I", slot, at + 4)[0]
    segments, _ = esp_image.read_segments(slot[:at] + bytes(at // 16 * 16 + 48 - at), header)
    image = slot[:at] + bytes(15 - at % 16) + bytes([esp_image.checksum(slot, segments)])
    image += hashlib.sha256(image).digest()
    image += b"\xff" * (-len(image) % SECTOR)
    assert len(image) == found.hashed_size
    block = bytearray(ctypes.string_at(found.hash - 4, 165)).ljust(1216, b"\0")
    block[4:36] = hashlib.sha256(image).digest()
    block[1196:1200] = struct.pack("<I", zlib.crc32(bytes(block[:1196])))
    return image + bytes(block).ljust(SECTOR, b"\xff")


def excludes(slot: bytes, chip: Chip) -> bool:
    """Whether the image's limits leave out this very chip, of which a file knows nothing."""
    limits = (
        (*struct.unpack_from("<HH", slot, 15), chip.revision),
        (*struct.unpack_from("<HH", slot, 208), chip.block),
    )
    return any(now < least or (most not in (0, 0xFFFF) and now > most) for least, most, now in limits)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_images_are_taken_by_chip_and_python_alike(espressif_core: Any, keys: Any, seed: int) -> None:
    chip = Chip.in_dll(espressif_core, "fota_chip")
    chip.revision, chip.block, chip.no_upper = 4, 102, 0
    images = Images((keys.root_a, keys.thief), seed)
    verdicts: dict[str, int] = {}
    for number in range(IMAGES // 4):
        slot = images.slot()
        ours, found = by_chip(espressif_core, slot)
        theirs, image = by_python(slot)
        verdicts[ours] = verdicts.get(ours, 0) + 1
        where = f"mutant {number} of seed {seed}: chip {ours}, Python {theirs} {image}"
        if ours == OK and theirs != OK:
            slot = without_what_is_python_s_alone(slot, found)
            (ours, found), (theirs, image) = by_chip(espressif_core, slot), by_python(slot)
        if theirs == OK and ours == "IM14" and excludes(slot, chip):
            continue
        assert (ours == OK) == (theirs == OK), where
        if ours == OK:
            same_content(found, image, where)
            assert by_agent(slot, image.size) == (OK, (image.block.sec_cnt, image.block.class_id)), where
    reached = {"IM1", "IM2", "IM3", "IM4", "IM6", "IM8", "IM11", "IM13", "IM14", "IM15", OK}
    assert verdicts.keys() == reached
    assert verdicts[OK] > IMAGES // 4 // 5  # what is behind the first check was reached


def same_content(found: Any, image: Any, where: str) -> None:
    block = image.block
    assert found.hashed_size == image.size - SECTOR, where
    assert ctypes.string_at(found.version, 8) == struct.pack("<BBHI", *block.version), where
    assert ctypes.string_at(found.sec_cnt, 4) == struct.pack("<I", block.sec_cnt), where
    assert ctypes.string_at(found.class_id, 16) == block.class_id, where
    assert ctypes.string_at(found.key_hash, 32) == block.key_hash, where
    assert ctypes.string_at(found.hash, 32) == image.image_hash, where
    assert bytes(found.rs) == image.signature, where


@pytest.mark.parametrize("seed", range(4))
def test_mutated_tables_are_read_by_chip_and_python_alike(espressif_core: Any, seed: int) -> None:
    tables, taken = Tables(seed), 0
    for number in range(TABLES // 4):
        raw = tables.raw()
        found = read_table(espressif_core, raw)
        theirs, why = table_by_python(raw)
        assert (found is None) == (theirs is None), f"mutant {number} of seed {seed}: {why}"
        if found is not None and theirs is not None:
            taken += 1
            assert (*words(found), found.otadata) == (*theirs.copy(), theirs.otadata.offset)
    assert TABLES // 4 // 10 < taken < TABLES // 4 * 9 // 10


def table_by_python(raw: bytes) -> tuple[esp_partitions.Places | None, str]:
    try:
        return esp_partitions.places(esp_partitions.parse(raw, row), row), "only the chip refuses it"
    except VerifyError as exc:
        return None, f"only Python refuses it: {exc}, {status.label(exc.code)}"


def words(places: Any) -> tuple[int, ...]:
    return (places.store, places.slot[0], places.slot_size[0], places.slot[1], places.slot_size[1])


def test_copies_of_the_places_are_taken_by_chip_and_python_alike(espressif_core: Any) -> None:
    tables, taken = Tables(9), 0
    good = (0x290000, 0x10000, 0x140000, 0x150000, 0x140000)
    for _ in range(COPIES):
        copy = tuple(tables.number() if tables.dice.random() < 0.2 else word for word in good)
        ours, found = places_copy(espressif_core, *copy)
        try:
            esp_partitions.check_copy(copy, row)
            theirs = True
        except VerifyError:
            theirs = False
        assert ours == theirs, [hex(word) for word in copy]
        assert words(found) == (copy if ours else (0,) * 5)
        taken += ours
    assert COPIES // 10 < taken < COPIES * 9 // 10


SEQUENCES = (0, 1, 2, 3, 4, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF)
STATES = (0, 1, 2, 3, 4, 5, 0xFFFFFFFE, 0xFFFFFFFF)


def test_ota_data_are_read_by_chip_and_python_alike_and_answers_are_read_by_both(espressif_core: Any) -> None:
    core, dice, answers = espressif_core, random.Random(5), 0
    core.fota_otadata_join.restype = core.fota_otadata_answer.restype = ctypes.c_bool
    for _ in range(MESSAGES):
        sectors = [some_sector(dice) for _ in range(2)]
        data = OtaData()
        core.fota_otadata_read(*sectors, ctypes.byref(data))
        records = [esp_otadata.read(raw) for raw in sectors]
        assert list(zip(data.sequence, data.state, strict=True)) == [
            (one.sequence, one.state) if one else (0, 0) for one in records
        ]
        # which record holds: its request is what the journal is told
        confirmed = dice.choice((A, B))
        state = Record(5, confirmed, NONE, 0x0F, 0, 0)
        core.fota_otadata_join(ctypes.byref(data), ctypes.byref(state))
        at = esp_otadata.active(records)
        holder = None if at is None else records[at]
        asked = holder is not None and holder.state in (esp_otadata.NEW, esp_otadata.UNDEFINED)
        slot = (A, B)[holder.slot()] if asked and holder else confirmed
        assert (state.state, state.candidate) == ((0x0F, NONE) if slot == confirmed else (0x33, slot))
        answers += answer_is_readable(core, data, some_state(dice))
    assert answers > MESSAGES // 10


def some_sector(dice: random.Random) -> bytes:
    raw = bytearray(ota_record(dice.choice(SEQUENCES), dice.choice(STATES)))
    if dice.random() < 0.1:
        raw[dice.randrange(32)] ^= 1 << dice.randrange(8)
    return bytes(raw)


def some_state(dice: random.Random) -> Record:
    confirmed, candidate = dice.choice(((A, B), (B, A), (NONE, A), (NONE, B)))
    kind = dice.choice((0x3C, 0x3C, 0x55, 0x66, 0x0F))
    reason = dice.choice((0, status.by_short("OD1")))
    return Record(5, confirmed, NONE if kind == 0x0F else candidate, kind, 2 * (kind == 0x3C), reason)


def answer_is_readable(core: Any, data: OtaData, state: Record) -> bool:
    sector, out = ctypes.c_uint32(9), ctypes.create_string_buffer(32)
    if not core.fota_otadata_answer(ctypes.byref(data), ctypes.byref(state), ctypes.byref(sector), out):
        return False
    assert sector.value in (0, 1)
    assert esp_otadata.read(out.raw) is not None
    return True


def test_application_is_not_told_of_a_number_that_nobody_reads() -> None:
    records: list[Any] = [esp_otadata.Record(esp_otadata.MAX_SEQUENCE, esp_otadata.VALID), None]
    with pytest.raises(FormatError, match="used up"):
        esp_otadata.request(records, 0)
