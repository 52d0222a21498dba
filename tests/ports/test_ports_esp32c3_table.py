"""Partition table and OTA data, as the ESP32-C3's bootloader reads them, on the host."""

import ctypes
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from core_structs import Record
from espressif_core import MIB, OtaData, places_copy
from espressif_core import read_table as read
from espressif_forms import (
    ABORTED,
    INVALID,
    NEW,
    OTA_0,
    OTA_1,
    OTADATA,
    PENDING,
    STORE,
    TABLE,
    UNDEFINED,
    VALID,
    md5_record,
    ota_record,
    record,
    table,
)

from fota_wire import status

A, B, NONE = 0x5A, 0xA5, 0xC3
STATE_NONE, STAGED, TRIAL, REJECTED, REVERTED = 0x0F, 0x33, 0x3C, 0x55, 0x66
AP1, OD1, PO4, IM6 = map(status.by_short, ("AP1", "OD1", "PO4", "IM6"))
BLANK = b"\xff" * 32


# --- partition table ---


@pytest.mark.parametrize("md5", [True, False])
def test_table_says_where_things_are_with_and_without_md5(espressif_core: Any, md5: bool) -> None:
    places = read(espressif_core, table(md5=md5))
    assert places is not None
    assert (places.store, places.otadata) == (0x290000, 0xE000)
    assert list(places.slot) == [0x10000, 0x150000]
    assert list(places.slot_size) == [0x140000, 0x140000]


def changed(**offsets: int) -> bytes:
    """The usual table with one field of one partition changed: ``app0_offset=..``, ``fota_size=..``."""
    rows = []
    for kind, offset, size, label in TABLE:
        offset = offsets.get(f"{label}_offset", offset)
        rows.append((kind, offset, offsets.get(f"{label}_size", size), label))
    return table(*rows)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 4096, id="blank"),
        pytest.param(bytes(4096), id="zeros"),
        *(pytest.param(table(*(r for r in TABLE if r[0] != k)), id=f"without-{n}")
          for k, n in [(OTA_0, "ota_0"), (OTA_1, "ota_1"), (OTADATA, "otadata"), (STORE, "fota")]),
        pytest.param(table(*TABLE, (OTA_1, 0x300000, 0x10000, "again")), id="ota_1-twice"),
        pytest.param(table(*TABLE, ((0, 0x12), 0x2A0000, 0x100000, "app2")), id="third-slot"),
        pytest.param(table(*TABLE, (STORE, 0x300000, 0x8000, "again")), id="fota-twice"),
        pytest.param(changed(app0_offset=0x8000), id="over-the-table"),
        pytest.param(changed(app0_offset=0), id="over-the-loader"),
        pytest.param(changed(fota_offset=0x7000), id="over-the-settings"),
        pytest.param(changed(app1_size=0x2C0000), id="leaves-the-flash"),
        pytest.param(changed(app1_size=0xFFFFF000), id="wraps"),
        pytest.param(changed(app1_offset=0x148000), id="slot-not-at-64-KiB"),
        pytest.param(changed(app1_offset=0x140000), id="slots-overlap"),
        pytest.param(changed(fota_offset=0x288000), id="fota-in-a-slot"),
        pytest.param(changed(fota_size=0x7000), id="fota-too-small"),
        pytest.param(changed(fota_offset=0x290800), id="fota-not-at-a-sector"),
        pytest.param(changed(otadata_size=0x1000), id="otadata-too-small"),
        pytest.param(changed(nvs_size=0), id="empty"),
        pytest.param(table()[:160] + b"\x00" + table()[161:], id="no-end"),
        pytest.param(b"".join(map(record, TABLE)) + b"\x00" * 32, id="zeros-for-an-end"),
    ],
)  # fmt: skip
def test_damaged_table_is_refused(espressif_core: Any, data: bytes) -> None:
    assert read(espressif_core, data) is None


def test_any_flipped_bit_under_the_md5_is_found(espressif_core: Any) -> None:
    good = table()
    used = 32 * (len(TABLE) + 1)
    for bit in range(8 * used):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        assert read(espressif_core, bytes(data)) is None, bit


def test_second_md5_or_records_behind_it_are_refused(espressif_core: Any) -> None:
    records = b"".join(map(record, TABLE))
    sealed = records + md5_record(records)
    assert read(espressif_core, (sealed + md5_record(sealed)).ljust(4096, b"\xff")) is None
    more = record(((1, 0x82), 0x300000, 0x1000, "late"))
    assert read(espressif_core, (sealed + more).ljust(4096, b"\xff")) is None


@pytest.mark.parametrize("extra", [90, 91])
def test_table_has_room_for_95_records_and_its_end(espressif_core: Any, extra: int) -> None:
    rows = [((0x41, i), 0x298000 + 0x1000 * i, 0x1000, "") for i in range(extra)]
    data = table(*TABLE, *rows, md5=False)
    assert (read(espressif_core, data) is not None) == (extra == 90)


def test_table_is_bounded_by_the_flash_of_the_loader_s_header(espressif_core: Any) -> None:
    assert read(espressif_core, table(), 4 * MIB) is not None
    assert read(espressif_core, table(), 2 * MIB) is None


def test_loader_and_table_may_be_named_and_a_factory_application_may_be_there(espressif_core: Any) -> None:
    rows = (
        ((2, 0), 0, 0x8000, "boot"),
        ((3, 0), 0x8000, 0x1000, "table"),
        ((0, 0), 0x2A0000, 0x100000, "factory"),
    )
    assert read(espressif_core, table(*rows, *TABLE)) is not None


def test_random_bytes_in_a_record_never_read_outside(espressif_core: Any) -> None:
    dice = random.Random(7)
    good = table(md5=False)
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(32 * 6)] = dice.randrange(256)
        places = read(espressif_core, bytes(data))
        if places is not None:
            for start, size in [*zip(places.slot, places.slot_size, strict=True), (places.store, 0x8000)]:
                assert 0x9000 <= start <= start + size <= 4 * MIB


VECTORS = os.environ.get("FOTA_ESP32_VECTORS")


@pytest.mark.skipif(VECTORS is None, reason="FOTA_ESP32_VECTORS names no folder of other people's tables")
def test_other_people_s_tables_lack_our_partition_and_nothing_else(espressif_core: Any) -> None:
    assert VECTORS is not None
    arduino = (Path(VECTORS) / "tables/ota2_NO_md5_arduino.bin").read_bytes()
    assert read(espressif_core, arduino) is None
    end = arduino.index(b"\xff" * 32)
    with_ours = arduino[:end] + record((STORE, 0x3F0000, 0x8000, "fota"))
    rows = [arduino[i : i + 32] for i in range(0, end, 32)]
    last = max(struct.unpack_from("<II", row, 4) for row in rows)
    assert sum(last) <= 0x400000
    found = read(espressif_core, with_ours.ljust(4096, b"\xff"), 16 * MIB)
    room_taken = any(sum(struct.unpack_from("<II", row, 4)) > 0x3F0000 for row in rows)
    assert (found is None) == room_taken


@pytest.mark.parametrize(
    ("words", "good"),
    [
        ((0x290000, 0x10000, 0x140000, 0x150000, 0x140000), True),
        ((0, 0, 0, 0, 0), False),
        ((0x290000, 0x10000, 0x140000, 0x150000, 0xFFF00000), False),
        ((0x290000, 0x10000, 0x140000, 0x148000, 0x100000), False),
        ((0x3FA000, 0x10000, 0x140000, 0x150000, 0x140000), False),
        ((0x290000, 0, 0x140000, 0x150000, 0x140000), False),
    ],
)
def test_copy_in_the_settings_is_held_to_the_same_bounds(
    espressif_core: Any, words: tuple[int, ...], good: bool
) -> None:
    taken, places = places_copy(espressif_core, *words)
    assert taken == good
    assert (places.store, *(x for pair in zip(places.slot, places.slot_size, strict=True) for x in pair)) == (
        words if good else (0, 0, 0, 0, 0)
    )
    assert places.otadata == 0


# --- OTA data ---


class Pair:
    """Two OTA data sectors, and the C that reads, joins and answers."""

    def __init__(self, core: ctypes.CDLL, sectors: tuple[bytes, bytes]) -> None:
        self.core, self.sectors = core, list(sectors)
        core.fota_otadata_join.restype = core.fota_otadata_answer.restype = ctypes.c_bool

    def data(self) -> OtaData:
        data = OtaData()
        self.core.fota_otadata_read(*self.sectors, ctypes.byref(data))
        return data

    def join(self, *state: int, sequence: int = 5) -> tuple[tuple[int, ...], bool]:
        record = Record(sequence, *state)
        write = self.core.fota_otadata_join(ctypes.byref(self.data()), ctypes.byref(record))
        return record.decision(), write

    def answer(self, *state: int) -> tuple[int, int, int] | None:
        """(sector, sequence, state) that is to be written, or nothing; and writes it."""
        record, sector, out = Record(5, *state), ctypes.c_uint32(9), ctypes.create_string_buffer(32)
        data = self.data()
        if not self.core.fota_otadata_answer(
            ctypes.byref(data), ctypes.byref(record), ctypes.byref(sector), out
        ):
            return None
        sequence, value = struct.unpack("<I20xI", out.raw[:28])
        assert out.raw == ota_record(sequence, value)
        self.sectors[sector.value] = out.raw
        return sector.value, sequence, value


CONFIRMED_A = (A, NONE, STATE_NONE, 0, 0)
CONFIRMED_B = (B, NONE, STATE_NONE, 0, 0)
EMPTY = (NONE, NONE, STATE_NONE, 0, 0)
ASKED_B = (A, B, STAGED, 0, OD1)
TRIAL_B = (A, B, TRIAL, 2, OD1)

REFUSED_B, REVERTED_B = (A, B, REJECTED, 0, IM6), (A, B, REVERTED, 0, PO4)
FIRST_A, FIRST_B = (NONE, A, STAGED, 0, OD1), (NONE, B, STAGED, 0, OD1)
ASKED_A, TRIAL_A = (B, A, STAGED, 0, OD1), (B, A, TRIAL, 2, OD1)
LETTERS = {"N": NEW, "P": PENDING, "V": VALID, "I": INVALID, "A": ABORTED, "U": UNDEFINED}


def sectors_of(text: str) -> tuple[bytes, bytes]:
    """Both sectors of ``1V 2N``: sequence number and state; ``-`` is blank, ``!`` a damaged CRC."""
    first, second = (
        BLANK
        if word == "-"
        else ota_record(int(word[:-1].strip("!"), 16), LETTERS[word[-1]], damaged="!" in word)
        for word in text.split()
    )
    return first, second


# the 16 states of OTA data that SPEC 7.5 names: sectors, the journal, what both say together; and the
# state in which the boot ends, with what is written to the OTA data: sector, sequence, state
ROWS = {
    "1-blank-blank": ("- -", EMPTY, EMPTY, CONFIRMED_A, None),
    "2-valid-new": ("1V 2N", CONFIRMED_A, ASKED_B, TRIAL_B, (1, 2, PENDING)),
    "3-not-confirmed-in-its-tries": ("1V 2P", TRIAL_B, TRIAL_B, REVERTED_B, (1, 2, ABORTED)),
    "4-pending-without-a-trial": ("1V 2P", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, (1, 2, ABORTED)),
    "5-an-older-pending": ("3V 2P", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, None),
    "6-valid-valid": ("1V 2V", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, None),
    "7-valid-valid-first-newer": ("3V 2V", CONFIRMED_B, CONFIRMED_B, CONFIRMED_B, None),
    "8-undefined-undefined": ("1U 2U", CONFIRMED_A, ASKED_B, TRIAL_B, (1, 2, PENDING)),
    "9-valid-aborted": ("1V 2A", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, None),
    "10-valid-invalid": ("1V 2I", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, None),
    "11-valid-damaged": ("1V 2!N", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, None),
    "12-valid-no-sequence": ("1V FFFFFFFFN", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, None),
    "13-invalid-aborted": ("1I 2A", CONFIRMED_A, CONFIRMED_A, CONFIRMED_A, None),
    "14-new-and-damaged-image": ("1V 2N", CONFIRMED_A, ASKED_B, REFUSED_B, (1, 2, ABORTED)),
    "15-blank-new-5": ("- 5N", CONFIRMED_B, ASKED_A, TRIAL_A, (1, 5, PENDING)),
    "16-taken-over": ("1V 2V", EMPTY, FIRST_B, (NONE, B, TRIAL, 2, OD1), None),
}


@pytest.mark.parametrize("row", ROWS)
def test_sixteen_states_and_what_we_make_of_each(espressif_core: Any, row: str) -> None:
    sectors, journal, joined, end, answer = ROWS[row]
    pair = Pair(espressif_core, sectors_of(sectors))
    assert pair.join(*journal, sequence=0 if journal == EMPTY else 5) == (joined, False)
    assert pair.answer(*end) == answer
    # the same boot again says nothing new: an answered request is none
    assert pair.answer(*end) is None


def test_valid_of_the_trial_confirms_it_and_is_written_down(espressif_core: Any) -> None:
    pair = Pair(espressif_core, (ota_record(1, VALID), ota_record(2, VALID)))
    for tries in (2, 1, 0):
        assert pair.join(A, B, TRIAL, tries, OD1) == (CONFIRMED_B, True)
    assert pair.answer(*CONFIRMED_B) is None


@pytest.mark.parametrize("state", [INVALID, ABORTED])
def test_invalid_of_the_trial_gives_it_up(espressif_core: Any, state: int) -> None:
    pair = Pair(espressif_core, (ota_record(1, VALID), ota_record(2, state)))
    assert pair.join(*TRIAL_B) == ((A, B, TRIAL, 0, AP1), False)


def test_request_for_the_confirmed_slot_in_a_trial_goes_back(espressif_core: Any) -> None:
    pair = Pair(espressif_core, (ota_record(3, NEW), ota_record(2, PENDING)))
    assert pair.join(*TRIAL_B) == ((A, B, TRIAL, 0, AP1), False)
    assert pair.answer(A, B, REVERTED, 0, AP1) == (0, 3, VALID)


def test_tries_that_are_used_up_are_named_by_the_policy(espressif_core: Any) -> None:
    pair = Pair(espressif_core, (ota_record(1, VALID), ota_record(2, PENDING)))
    assert pair.join(A, B, TRIAL, 0, OD1) == ((A, B, TRIAL, 0, 0), False)


@pytest.mark.parametrize("state", [NEW, PENDING, VALID, INVALID, ABORTED, UNDEFINED])
def test_trial_that_the_journal_asked_for_does_not_look_at_old_records(
    espressif_core: Any, state: int
) -> None:
    """A record of a former life of the slot confirms nothing, and is not touched while the trial runs."""
    pair = Pair(espressif_core, (ota_record(1, VALID), ota_record(2, state)))
    for trial in ((A, B, TRIAL, 2, 0), (A, B, STAGED, 0, 0), (A, B, TRIAL, 0, AP1)):
        assert pair.join(*trial) == (trial, False)
        assert pair.answer(*trial) is None


def test_request_for_the_confirmed_slot_is_answered_at_once(espressif_core: Any) -> None:
    """Else it would come to be one for the other slot, once that is confirmed by the journal."""
    for state in (NEW, UNDEFINED):
        pair = Pair(espressif_core, (ota_record(3, state), ota_record(2, VALID)))
        assert pair.join(*CONFIRMED_A) == (CONFIRMED_A, False)
        assert pair.answer(*CONFIRMED_A) == (0, 3, VALID)
        assert pair.join(*CONFIRMED_B) == (CONFIRMED_B, False)


def test_pending_record_that_a_cut_took_is_made_anew(espressif_core: Any) -> None:
    """The erased sector, or a torn record in it: an application must find what to confirm."""
    for torn in (BLANK, ota_record(2, PENDING, damaged=True)):
        pair = Pair(espressif_core, (ota_record(1, VALID), torn))
        assert pair.join(*TRIAL_B) == (TRIAL_B, False)
        assert pair.answer(*TRIAL_B) == (1, 2, PENDING)
    pair = Pair(espressif_core, (torn, ota_record(6, VALID)))
    assert pair.answer(B, A, TRIAL, 2, OD1) == (0, 7, PENDING)
    assert Pair(espressif_core, (BLANK, BLANK)).answer(*TRIAL_B) == (0, 2, PENDING)


def test_request_that_the_journal_could_not_note_stays_one(espressif_core: Any) -> None:
    pair = Pair(espressif_core, (ota_record(1, VALID), ota_record(2, NEW)))
    assert pair.answer(*CONFIRMED_A) is None
    assert pair.join(*CONFIRMED_A) == (ASKED_B, False)


def test_second_request_for_a_slot_that_was_refused_is_a_new_one(espressif_core: Any) -> None:
    pair = Pair(espressif_core, (ota_record(1, VALID), ota_record(2, NEW)))
    for before in ((A, B, REJECTED, 0, IM6), (A, B, REVERTED, 0, PO4)):
        assert pair.join(*before) == (ASKED_B, False)


@pytest.mark.parametrize(
    ("sectors", "joined"),
    [
        pytest.param("1V -", FIRST_A, id="A-ran"),
        pytest.param("1V 2V", FIRST_B, id="B-ran"),
        pytest.param("1U 2U", FIRST_B, id="B-ran-without-rollback"),
        pytest.param("1V 2P", EMPTY, id="B-on-trial"),
        pytest.param("1V 2N", FIRST_B, id="B-asked-for"),
        pytest.param("- 2N", FIRST_B, id="B-asked-for-first"),
        pytest.param("1V 2A", FIRST_A, id="B-given-up"),
    ],
)
def test_device_of_the_stock_bootloader_goes_on_with_what_it_ran(
    espressif_core: Any, sectors: str, joined: Any
) -> None:
    """On trial, which the record VALID of the stock bootloader confirms at the next reset."""
    pair = Pair(espressif_core, sectors_of(sectors))
    assert pair.join(*EMPTY, sequence=0) == (joined, False)
    if sectors == "1V 2V":
        assert pair.join(NONE, B, TRIAL, 2, OD1) == (CONFIRMED_B, True)


def cuts(write: Callable[[], None], sector: int, pair: Pair) -> list[bytes]:
    """What a power cut may leave of a sector that is erased and written: old, blank, torn, new."""
    old = pair.sectors[sector]
    write()
    new = pair.sectors[sector]
    dice = random.Random(3)
    torn = [
        bytes(b if dice.random() < 0.5 else 0xFF for b in part) for part in (old, new) for _ in range(200)
    ]
    return [old, BLANK, *(new[:n] + BLANK[n:] for n in range(0, 32, 4)), *torn, new]


def test_no_cut_in_an_answer_loses_a_request_or_a_verdict(espressif_core: Any) -> None:
    """Whatever it leaves of the sector, the journal has the trial: it goes on, and can be confirmed."""
    for before in (ota_record(2, NEW), ota_record(2, UNDEFINED)):
        pair = Pair(espressif_core, (ota_record(1, VALID), before))
        for left in cuts(lambda pair=pair: pair.answer(*TRIAL_B), 1, pair):  # type: ignore[misc]
            again = Pair(espressif_core, (ota_record(1, VALID), left))
            state, confirmed = again.join(*TRIAL_B)
            assert (state, confirmed) == (TRIAL_B, False), left.hex()
            again.answer(*state)
            assert struct.unpack("<I20xI", again.sectors[1][:28])[1] == PENDING
            sequence = struct.unpack("<I", again.sectors[1][:4])[0]
            again.sectors[1] = ota_record(sequence, VALID)
            assert again.join(*TRIAL_B) == (CONFIRMED_B, True)
