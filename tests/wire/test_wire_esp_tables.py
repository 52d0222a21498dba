"""Partition table and OTA data, judged by Espressif's own definitions (esp-idf-defs) and real files."""

import hashlib
import struct
import types

import esp_world
import pytest
from esp_idf_defs.otadata import OtaDataSelectEntry
from esp_idf_defs.partitions import PartitionTable
from hypothesis import given
from hypothesis import strategies as st

from fota_wire import esp_otadata as otadata
from fota_wire import esp_partitions as tables
from fota_wire import status
from fota_wire.chips import esp32c3
from fota_wire.errors import FormatError, VerifyError

DEFAULT = tables.default_table(esp32c3)
GOOD = tables.build(DEFAULT)


def refused(raw: bytes, says: str = "partition table", needs: bool = False) -> None:
    with pytest.raises(VerifyError, match=says) as caught:
        tables.places(tables.parse(raw, esp32c3), esp32c3) if needs else tables.parse(raw, esp32c3)
    assert caught.value.code == status.PT1


def facts(partitions):
    return [(p.label, p.kind, p.subtype, p.offset, p.size, p.flags) for p in partitions]


def test_default_table_is_read_back_and_espressif_reads_the_same():
    assert facts(tables.parse(GOOD, esp32c3)) == facts(DEFAULT)
    theirs = PartitionTable.from_binary(GOOD)
    theirs.verify()
    assert [(p.name, p.type, p.subtype, p.offset, p.size) for p in theirs] == [
        fact[:5] for fact in facts(DEFAULT)
    ]


def test_what_espressif_writes_is_what_we_write():
    csv = "nvs,data,nvs,0x9000,0x4000\notadata,data,ota,0xd000,0x2000\nphy_init,data,phy,0xf000,0x1000\n"
    csv += (
        "fota,0x40,0x01,0x10000,0x8000\nota_0,app,ota_0,0x20000,0x1f0000\nota_1,app,ota_1,0x210000,0x1f0000\n"
    )
    assert PartitionTable.from_csv(csv).to_binary() == GOOD


def test_places_of_the_default_table_are_those_of_the_settings_page():
    places = tables.places(tables.parse(GOOD, esp32c3), esp32c3)
    assert places.copy() == (0x10000, 0x20000, 0x1F0000, 0x210000, 0x1F0000)
    assert places.otadata.offset == 0xD000


def test_table_without_md5_is_taken_and_one_with_a_wrong_md5_is_not():
    records = b"".join(part.pack() for part in DEFAULT)
    assert facts(tables.parse(records + b"\xff" * 64, esp32c3)) == facts(DEFAULT)
    for at in range(len(records) + 48):
        changed = bytearray(GOOD)
        changed[at] ^= 4
        refused(bytes(changed))


def raw(*partitions, md5=True, end=True):
    body = b"".join(part.pack() for part in partitions)
    if md5:
        body += tables.MD5_MAGIC + hashlib.md5(body).digest()
    return body + tables.BLANK * end


def changed(number, **fields):
    out = tables.default_table(esp32c3)
    for name, value in fields.items():
        setattr(out[number], name, value)
    return raw(*out)


def labelled(label):
    return struct.pack("<2sBBII16sI", b"\xaa\x50", 1, 2, 0x9000, 0x1000, label, 0) + tables.BLANK


MD5_RECORD = GOOD[32 * 6 : 32 * 7]
REFUSED = {
    "blank": (b"\xff" * 0xC00, "blank"),
    "empty": (b"", "does not end"),
    "no-end": (raw(*DEFAULT, end=False), "does not end"),
    "96-full-records": (DEFAULT[0].pack() * 96, "does not end"),
    "zeros": (bytes(0xC00), "record 0"),
    "record-behind-the-md5": (GOOD[: 32 * 7] + DEFAULT[0].pack() + tables.BLANK, "behind the MD5"),
    "two-md5": (GOOD[: 32 * 7] + MD5_RECORD + tables.BLANK, "behind the MD5"),
    "slot-not-aligned-to-64-KiB": (changed(4, offset=0x21000, size=0x1EF000), "aligned"),
    "data-not-aligned": (changed(0, offset=0x9100), "aligned"),
    "no-size": (changed(0, size=0), "no size"),
    "overlap": (changed(0, size=0x5000), "overlaps"),
    "out-of-flash": (changed(5, size=0x200000), "leaves the flash"),
    "wraps": (changed(5, offset=0xFFFF0000, size=0x20000), "leaves the flash"),
    "over-the-settings-page": (changed(0, offset=0x7000, size=0x1000), "over the bootloader"),
    "over-the-table": (changed(0, offset=0x8000, size=0x1000), "over the bootloader"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("label", "name"), [(b"a\0b", "a"), (b"\xff\xfe", "fffe"), ("zwölf".encode(), "zwölf")]
)
def test_label_is_for_people_and_decides_nothing(label, name):
    assert tables.parse(labelled(label), esp32c3)[0].label == name


@pytest.mark.parametrize("name", REFUSED)
def test_table_with_one_thing_wrong_is_refused_for_it(name):
    refused(*REFUSED[name])


LACKS = {
    "no-fota": (raw(*DEFAULT[:3], *DEFAULT[4:]), "no partitions fota"),
    "fota-of-another-subtype": (changed(3, subtype=2), "no partitions fota"),
    "fota-too-small": (changed(3, size=0x7000), "0x7000 bytes"),
    "two-fota": (changed(2, kind=0x40, subtype=1), "2 partitions fota"),
    "no-otadata": (changed(1, subtype=6), "no partitions otadata"),
    "otadata-of-one-sector": (changed(1, size=0x1000), "otadata"),
    "no-ota_1": (changed(5, subtype=0), "slots"),
    "ota_1-is-ota_2": (changed(5, subtype=0x12), "slots"),
    "ota_0-twice": (changed(5, subtype=0x10), "slots"),
}


@pytest.mark.parametrize("name", LACKS)
def test_table_that_lacks_what_we_need_is_whole_but_refused(name):
    tables.parse(LACKS[name][0], esp32c3)
    refused(*LACKS[name], needs=True)


def test_slot_that_no_bootloader_maps_is_refused_on_a_larger_flash_too():
    row = {name: getattr(esp32c3, name) for name in dir(esp32c3) if name.isupper()}
    larger = types.SimpleNamespace(**row)
    larger.FLASH_SIZE = 0x1000000
    wide = tables.default_table(larger)
    with pytest.raises(VerifyError, match="has more than 0x3f0000 bytes"):
        tables.places(tables.parse(tables.build(wide), larger), larger)


def test_95_records_are_the_most():
    one = [tables.Partition(f"p{n}", 0x41, 0, 0x10000 + 0x1000 * n, 0x1000) for n in range(96)]
    assert len(tables.parse(raw(*one[:95], md5=False), esp32c3)) == 95
    refused(raw(*one, md5=False), "does not end")
    assert len(tables.parse(tables.build(one[:94]), esp32c3)) == 94
    with pytest.raises(FormatError, match="do not fit"):
        tables.build(one[:95])
    with pytest.raises(FormatError, match="16 bytes"):
        tables.Partition("seventeen letters", 0, 0, 0, 0).pack()


@pytest.mark.skipif(not esp_world.VECTORS.is_dir(), reason=f"no ESP32 vectors at {esp_world.VECTORS}")
@pytest.mark.parametrize("name", ["factory_md5_picoruby", "ota2_NO_md5_arduino", "utf8_label_md5_idf"])
def test_real_tables_are_read_as_espressif_reads_them(name):
    content = (esp_world.VECTORS / "tables" / f"{name}.bin").read_bytes()
    theirs = [(p.name, p.type, p.subtype, p.offset, p.size) for p in PartitionTable.from_binary(content)]
    assert [fact[:5] for fact in facts(tables.parse(content, esp32c3))] == theirs
    refused(content, needs=True)  # none has a partition of ours


@pytest.mark.parametrize(("sequence", "crc"), [(1, 0x4743989A), (2, 0x55F63774), (3, 0xED4A5011)])
def test_ota_record_is_espressifs_byte_for_byte(sequence, crc):
    made = otadata.Record(sequence, otadata.NEW).pack()
    assert made == OtaDataSelectEntry(sequence).to_bytes()
    assert struct.unpack_from("<I", made, 28)[0] == crc
    found = otadata.read(made)
    assert (found.sequence, found.state, found.slot()) == (sequence, otadata.NEW, (sequence - 1) % 2)


def test_ota_record_with_any_flipped_bit_of_sequence_or_crc_is_none():
    made = otadata.Record(7, otadata.VALID).pack()
    for at in [*range(32), *range(28 * 8, 256)]:
        torn = bytearray(made)
        torn[at // 8] ^= 1 << at % 8
        assert otadata.read(bytes(torn)) is None
    assert otadata.read(b"\xff" * 32) is otadata.read(made[:31]) is None


VALID, INVALID, ABORTED, NEW = otadata.VALID, otadata.INVALID, otadata.ABORTED, otadata.NEW


@pytest.mark.parametrize(
    ("first", "second", "holds"),
    [
        (None, None, None),
        ((1, VALID), (2, NEW), 1),
        ((3, VALID), (2, VALID), 0),
        ((1, otadata.UNDEFINED), (2, otadata.UNDEFINED), 1),
        ((1, VALID), (2, otadata.PENDING_VERIFY), 1),
        ((1, VALID), (2, ABORTED), 0),
        ((1, VALID), (2, INVALID), 0),
        ((1, INVALID), (2, ABORTED), None),
        (None, (5, NEW), 1),
        ((1, 7), None, 0),
    ],
)
def test_active_record(first, second, holds):
    records = [None if one is None else otadata.Record(*one) for one in (first, second)]
    assert otadata.active(records) == holds


@given(st.integers(1, 1000), st.integers(0, 1), st.sampled_from([2, 3, 4]))
def test_request_names_the_slot_as_espressif_would(sequence, sector, slots):
    records = [None, None]
    records[sector] = otadata.Record(sequence, VALID)
    for slot in range(slots):
        at, made = otadata.request(records, slot, slots=slots)
        theirs = OtaDataSelectEntry(sequence)
        same = theirs.ota_slot(slots) == slot
        assert made.slot(slots) == slot
        assert (at, made.sequence) == (
            (sector, sequence) if same else (1 - sector, theirs.incremented(slot, slots).seq)
        )


def test_first_request_goes_into_the_first_sector():
    at, made = otadata.request([None, None], 1)
    assert (at, made.sequence, made.state) == (0, 2, NEW)


def test_answer_keeps_sector_and_sequence_and_is_none_if_it_holds_already():
    records = [otadata.Record(1, VALID), otadata.Record(2, otadata.PENDING_VERIFY)]
    at, made = otadata.answer(records, VALID)
    assert (at, made.sequence, made.state) == (1, 2, VALID)
    assert otadata.answer([records[0], None], VALID) is None
    assert otadata.answer([None, None], VALID) is None


@pytest.mark.parametrize(
    "wrong",
    [
        tables.Partition("tiny", tables.APP, tables.OTA_0, 0x20000, 0x1000),
        tables.Partition("loader", tables.BOOTLOADER, 1, 0, 0x7000),
        tables.Partition("loader", tables.TABLE, 2, 0x8000, 0x1000),
    ],
)
def test_what_the_bootloader_refuses_is_refused_here_too(wrong):
    rest = [part for part in DEFAULT if (part.kind, part.subtype) != (wrong.kind, wrong.subtype)]
    refused(tables.build([wrong, *rest]), needs=True)
