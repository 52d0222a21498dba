"""Records in flash and RAM: journal, boot report, settings, trust store; status codes; versions."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fota_wire import bootreport, cbor, journal, settings, status
from fota_wire.chips import esp32c3
from fota_wire.errors import FormatError, InputError, VerifyError
from fota_wire.journal import EMPTY, NONE, REJECTED, STAGED, TRIAL, Record
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NONE
from fota_wire.version import format_version, parse_version

BLANK = b"\xff" * journal.PAGE_SIZE


def page(*records):
    cells = b"".join(record if isinstance(record, bytes) else journal.pack(record) for record in records)
    return cells + BLANK[len(cells) :]


def confirmed(sequence, slot=SLOT_A):
    return Record(sequence, slot, SLOT_NONE, NONE)


def test_blank_journal_is_empty_and_erases_page_0_first():
    assert journal.scan(BLANK, BLANK) == (EMPTY, 0, 0)


def test_highest_sequence_wins_in_either_page():
    assert journal.scan(page(confirmed(1)), page(confirmed(3), confirmed(2)))[0].sequence == 3
    assert journal.scan(page(confirmed(9), confirmed(2)), page(confirmed(3)))[1:] == (0, 2)


def test_torn_cell_is_absent_but_not_written_again():
    torn = journal.pack(confirmed(2))[:8] + b"\xff" * 8
    assert journal.scan(page(confirmed(1), torn), BLANK) == (confirmed(1), 0, 2)


def test_hole_is_not_written():
    assert journal.scan(page(confirmed(1), b"\xff" * 16, confirmed(2)), BLANK) == (confirmed(2), 0, 3)


def test_ecc_fault_read_as_zeros_is_absent():
    assert journal.scan(page(confirmed(1), bytes(16)), BLANK) == (confirmed(1), 0, 2)


@pytest.mark.parametrize(("count", "where"), [(127, (0, 127)), (128, (1, 0))])
def test_full_page_turns_over(count, where):
    full = page(*[confirmed(number + 1) for number in range(count)])
    assert journal.scan(full, BLANK)[1:] == where


def test_full_second_page_turns_back_to_the_first():
    full = page(*[confirmed(number + 200) for number in range(128)])
    assert journal.scan(page(confirmed(1)), full)[1:] == (0, 0)


@pytest.mark.parametrize(
    ("state", "running", "slot", "result"),
    [
        (confirmed(4), SLOT_A, SLOT_B, Record(5, SLOT_A, SLOT_B, STAGED)),
        (Record(4, SLOT_A, SLOT_B, REJECTED), SLOT_A, SLOT_B, Record(5, SLOT_A, SLOT_B, STAGED)),
        (confirmed(4), SLOT_B, SLOT_A, Record(5, SLOT_B, SLOT_A, STAGED)),
        (EMPTY, SLOT_A, SLOT_B, Record(1, SLOT_A, SLOT_B, STAGED)),
        (Record(4, SLOT_A, SLOT_B, TRIAL, 2), SLOT_B, SLOT_A, status.JO2),
        (confirmed(4), SLOT_A, SLOT_A, status.JO3),
        (confirmed(4), SLOT_A, SLOT_NONE, status.JO3),
        (confirmed(journal.SEQUENCE_MAX), SLOT_A, SLOT_B, status.JO1),
    ],
)
def test_request(state, running, slot, result):
    if isinstance(result, Record):
        assert journal.request(state, running, slot) == result
        assert journal.unpack(journal.pack(result)) == result
        return
    with pytest.raises(VerifyError) as caught:
        journal.request(state, running, slot)
    assert caught.value.code == result


def test_confirm_in_trial_makes_the_running_slot_the_confirmed_one():
    assert journal.confirm(Record(4, SLOT_A, SLOT_B, TRIAL, 2), SLOT_B) == confirmed(5, SLOT_B)


def test_confirm_again_writes_nothing():
    assert journal.confirm(confirmed(4), SLOT_A) is None
    assert journal.confirm(EMPTY, SLOT_A) == confirmed(1)


def test_reject_ends_the_trial_with_its_reason():
    state = Record(4, SLOT_A, SLOT_B, TRIAL, 2)
    assert journal.reject(state, SLOT_B, status.AP1) == Record(5, SLOT_A, SLOT_B, TRIAL, 0, status.AP1)


@pytest.mark.parametrize("running", [SLOT_A, SLOT_B])
def test_reject_without_trial_refused(running):
    with pytest.raises(VerifyError) as caught:
        journal.reject(Record(4, SLOT_A, SLOT_B, STAGED), SLOT_A, status.AP1)
    assert caught.value.code == status.JO4
    with pytest.raises(VerifyError):
        journal.reject(confirmed(4), running, status.AP1)


@given(st.integers(0, 15), st.integers(1, 255))
def test_record_with_a_changed_byte_is_absent(position, mask):
    raw = bytearray(journal.pack(Record(77, SLOT_A, SLOT_B, TRIAL, 3)))
    raw[position] ^= mask
    assert journal.unpack(bytes(raw)) is None


def make_report():
    report = bootreport.BootReport()
    report.running = SLOT_B
    report.trial = True
    report.version = (1, 2, 3, 4)
    report.status_a = status.IM6
    report.image_hash = bytes(range(32))
    report.sequence = 9
    return report


def test_boot_report_survives_with_fields_at_the_offsets_of_the_spec():
    raw = bootreport.pack(make_report())
    assert len(raw) == bootreport.SIZE
    assert raw[:8].hex() == "4642505201008000"
    assert (raw[8], raw[13]) == (SLOT_B, 1)
    assert raw[16:24] == bytes((1, 2, 3, 0, 4, 0, 0, 0))
    assert raw[40:44] == status.IM6.to_bytes(4, "little")
    assert raw[52:84] == bytes(range(32))
    assert raw[92:96] == b"\x09\0\0\0"
    assert vars(bootreport.unpack(raw)) == vars(make_report())
    assert bootreport.unpack(raw).version_text == "1.2.3+4"


@given(st.integers(0, 127), st.integers(1, 255))
def test_boot_report_with_a_changed_byte_refused(position, mask):
    raw = bytearray(bootreport.pack(make_report()))
    raw[position] ^= mask
    with pytest.raises(FormatError):
        bootreport.unpack(bytes(raw))


def make_settings(**changes):
    fields = {"class_id": b"c" * 16, "serial": b"s" * 9, "io_key": b"i" * 32, "mac_key": b"m" * 32}
    fields |= {"root_a": b"a" * 32, "root_b": b"b" * 32}
    return settings.Settings(**fields | changes)


def test_settings_survive_with_fields_at_the_offsets_of_the_spec():
    raw = settings.pack(make_settings(max_step=7))
    assert len(raw) == 256
    assert raw[8:24] == b"c" * 16
    assert raw[24:33] == b"s" * 9
    assert raw[33:40] == bytes((0x60, 3, 16, 7, 0, 0, 0))
    assert raw[40:168] == b"i" * 32 + b"m" * 32 + b"a" * 32 + b"b" * 32
    assert vars(settings.unpack(raw)) == vars(make_settings(max_step=7))


@given(st.integers(0, 255), st.integers(1, 255))
def test_settings_with_a_changed_byte_refused(position, mask):
    raw = bytearray(settings.pack(make_settings()))
    raw[position] ^= mask
    with pytest.raises(FormatError):
        settings.unpack(bytes(raw))


@pytest.mark.parametrize("changes", [{"tries": 0}, {"tries": 16}, {"watchdog_s": 31}, {"io_key": b"short"}])
def test_settings_out_of_range_refused(changes):
    with pytest.raises(FormatError):
        make_settings(**changes)


def make_trust_store(**changes):
    fields = {"genesis_root": b"r" * 700, "server_ca": b"c" * 500, "device_cert": b"d" * 500}
    fields |= {"server_url": "https://localhost:8443", "vendor_id": b"v" * 16, "class_id": b"k" * 16}
    return settings.TrustStore(**fields | changes)


def test_trust_store_survives_with_blank_flash_behind():
    raw = settings.pack_trust_store(make_trust_store())
    assert vars(settings.unpack_trust_store(raw + BLANK)) == vars(make_trust_store())


@pytest.mark.parametrize("chip", ["stm32u585", "esp32c3"])
def test_trust_store_says_its_chip_and_one_of_before_says_none(chip):
    said = settings.pack_trust_store(make_trust_store(chip=chip))
    assert settings.unpack_trust_store(said + BLANK).chip == chip
    before = settings.pack_trust_store(make_trust_store())
    assert settings.unpack_trust_store(before).chip == ""
    assert cbor.decode(before[8:]).keys() == {1, 2, 3, 4, 5, 6}


def test_trust_store_has_the_room_of_its_chip():
    large = make_trust_store(genesis_root=b"r" * 4096, server_ca=b"c" * 1200, device_cert=b"d" * 1024)
    raw = settings.pack_trust_store(large, esp32c3.TRUST_STORE_SIZE)
    assert vars(settings.unpack_trust_store(raw + BLANK)) == vars(large)
    with pytest.raises(InputError, match="room is for 6144"):
        settings.pack_trust_store(large)


def test_trust_store_too_large_refused():
    with pytest.raises(InputError):
        settings.pack_trust_store(make_trust_store(genesis_root=b"r" * 4096, server_ca=b"c" * 2048))


def test_device_certificate_longer_than_a_device_can_send_is_refused():
    longest = make_trust_store(device_cert=b"d" * 1024)
    assert settings.unpack_trust_store(settings.pack_trust_store(longest)).device_cert == b"d" * 1024
    with pytest.raises(InputError, match="1025 bytes: devices take up to 1024"):
        settings.pack_trust_store(make_trust_store(device_cert=b"d" * 1025))


@pytest.mark.parametrize("raw", [b"", BLANK, settings.pack_trust_store(make_trust_store())[:-1]])
def test_trust_store_damaged_refused(raw):
    with pytest.raises(FormatError):
        settings.unpack_trust_store(raw)


def test_status_codes_are_those_of_the_spec():
    text = (Path(__file__).parents[2] / "SPEC.md").read_text()
    table = re.findall(r"^\| ([A-Z]{2}\d+) \| ([a-z-]+) \| (.+) \|$", text, re.MULTILINE)
    assert table == list(status.STATUS.values())
    for short, name, _ in table:
        assert (
            getattr(status, short) == status.by_short(short) == status.by_name(name) == status.by_name(short)
        )


def test_status_described_for_people():
    assert status.describe(status.IM6) == "IM6 image-hash: content does not match its hash"
    assert status.describe(status.OK) == "ok"
    assert status.label(0x12345678) == "0x12345678"


@pytest.mark.parametrize("text", ["0.0.0", "1.2.3", "255.255.65535+4294967295"])
def test_version_survives(text):
    assert format_version(parse_version(text)) == text


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "256.0.0", "1.0.65536", "1.0.0+", "1.-1.0", "1.0.x", "\u0661.0.0"]
)
def test_version_malformed_refused(text):
    with pytest.raises(InputError):
        parse_version(text)
