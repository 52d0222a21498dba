"""The quick reader of check-ins and REPORTs reads and refuses what the strict parsers of `fota_wire` do."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_world import new_key

from fota_server import reports
from fota_wire import checkin, cose, host_crypto, report
from fota_wire.errors import FotaError

KEY = new_key()
XY = host_crypto.public_xy(KEY)
SIGN = host_crypto.signer(KEY)
NONCE, DEVICE = bytes(range(16)), b"\x01\x23" + bytes(6) + b"\xee"


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


UINT32 = st.integers(0, 0xFFFFFFFF) | st.sampled_from([0, 23, 24, 255, 256, 65535, 65536])
SAYS = st.fixed_dictionaries(
    {
        "slot": st.sampled_from("AB"),
        "image_hash": exactly(32),
        "version": st.text(st.characters(exclude_categories=["Cs"]), max_size=32),
        "sec_cnt": UINT32,
        "floor": UINT32,
        "root_version": UINT32,
        "state": st.sampled_from(report.STATES),
        "installed": st.none() | exactly(32),
        "events": st.lists(st.tuples(st.text("ab ", max_size=9), st.text("cd1", max_size=60)), max_size=3),
        "reset_cause": st.integers(0, 255),
    }
)
PLAIN = {
    "slot": "A",
    "image_hash": bytes(32),
    "version": "1.4.0",
    "sec_cnt": 3,
    "floor": 2,
    "root_version": 1,
    "state": "confirmed",
    "installed": bytes(32),
    "events": [],
    "reset_cause": 4,
}


def built(says: dict[str, object], nonce: bytes = NONCE, device: bytes = DEVICE) -> bytes:
    return report.build(nonce=nonce, device_id=device, kid=cose.kid_of(XY), sign=SIGN, **says)  # type: ignore[arg-type]


def outcome(read: Callable[[], object]) -> object:
    """Return what was read, field by field, or what was wrong with it."""
    try:
        return vars(read())
    except FotaError as exc:
        return type(exc), exc.code, str(exc)


def same_report(raw: bytes, nonce: bytes = NONCE, device: bytes = DEVICE) -> object:
    quick = outcome(lambda: reports.read_report(raw, XY, nonce, device, host_crypto.verify))
    assert quick == outcome(lambda: report.open_report(raw, XY, nonce, device, host_crypto.verify))
    return quick


def same_request(raw: bytes) -> object:
    quick = outcome(lambda: reports.read_request(raw))
    assert quick == outcome(lambda: checkin.parse_request(raw))
    return quick


@given(SAYS, exactly(16), exactly(9))
def test_a_report_is_what_the_parser_reads(says: dict[str, object], nonce: bytes, device: bytes) -> None:
    found = same_report(built(says, nonce, device), nonce, device)
    assert isinstance(found, dict)
    assert found["nonce"] == nonce


def test_what_devices_write_needs_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or all of this would be the parser, held against itself."""
    raw, asked = built(PLAIN), checkin.Request(NONCE, 1, bytes(32), built(PLAIN))
    asked.shares, asked.longest_answer = True, 6000
    first = outcome(lambda: reports.read_report(raw, XY, NONCE, DEVICE, host_crypto.verify))
    again = checkin.encode_request(asked)
    outcome(lambda: reports.read_request(again))
    for module, name in ((report.cbor, "decode"), (checkin.cbor, "decode"), (cose.cbor, "decode")):
        monkeypatch.setattr(module, name, lambda *_args: pytest.fail("asked the parser"))
    other = built(PLAIN, bytes(16), bytes(9))
    found = reports.read_report(other, XY, bytes(16), bytes(9), host_crypto.verify)
    assert isinstance(first, dict)
    assert vars(found) == first | {"nonce": bytes(16), "device_id": bytes(9)}
    asked.nonce, asked.report = bytes(16), other
    read = reports.read_request(checkin.encode_request(asked))
    assert (read.nonce, read.report, read.shares, read.longest_answer) == (bytes(16), other, True, 6000)


def test_a_report_by_another_key_or_for_another_nonce_or_device_is_refused_as_before() -> None:
    raw = built(PLAIN)
    assert same_report(raw, bytes(16))[1] == "nonce"  # type: ignore[index]
    assert same_report(raw, NONCE, bytes(9))[1] == "device"  # type: ignore[index]
    other = host_crypto.public_xy(new_key())
    for read in (report.open_report, reports.read_report):
        assert (
            outcome(lambda read=read: read(raw, other, NONCE, DEVICE, host_crypto.verify))[1] == "report-key"
        )  # type: ignore[index,misc]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_byte_of_a_report_that_is_changed_is_refused_as_before(flip: int) -> None:
    raw = built(PLAIN)
    for place in range(len(raw)):
        found = same_report(raw[:place] + bytes((raw[place] ^ flip,)) + raw[place + 1 :])
        assert isinstance(found, tuple), place


def test_every_length_of_a_report_is_refused_as_before() -> None:
    raw = built(PLAIN)
    for end in range(len(raw)):
        assert isinstance(same_report(raw[:end]), tuple)
    assert isinstance(same_report(raw + b"\0"), tuple)


@given(SAYS, st.integers(0, 400), st.binary(min_size=0, max_size=3))
def test_a_report_whose_maker_signs_what_is_malformed_is_refused_as_before(
    says: dict[str, object], place: int, put: bytes
) -> None:
    """The device's own key is no proof that it can write."""
    payload = cose.parse_sign1(built(says)).payload
    assert payload is not None
    place %= len(payload)
    bent = payload[:place] + put + payload[place + 1 :]
    same_report(cose.sign1(bent, cose.kid_of(XY), SIGN, report.AAD))


VALUES = st.lists(
    st.tuples(st.sampled_from(["climate", "a/b", "?"]), st.integers(0, 9), st.just("21.5")), max_size=2
)


@given(
    exactly(16),
    UINT32,
    st.none() | exactly(32),
    st.none() | st.binary(max_size=700),
    VALUES,
    st.none() | st.binary(max_size=40),
    st.integers(checkin.LEAST_ANSWER, checkin.MAX_RESPONSE),
    st.booleans(),
    st.none() | st.text("abc-", max_size=32),
    st.integers(0, 800),
    st.binary(max_size=2),
)
def test_a_check_in_is_what_the_parser_reads(
    nonce: bytes,
    root: int,
    digest: bytes | None,
    raw: bytes | None,
    values: list[tuple[str, int, str]],
    attestation: bytes | None,
    longest: int,
    shares: bool,
    group: str | None,
    place: int,
    put: bytes,
) -> None:
    asked = checkin.Request(nonce, root, digest, raw)
    asked.telemetry, asked.attestation = values, attestation
    asked.longest_answer, asked.shares, asked.group = longest, shares, group
    body = checkin.encode_request(asked)
    assert isinstance(same_request(body), dict)
    place %= len(body)
    same_request(body[:place] + put + body[place + 1 :])


def test_every_byte_of_a_check_in_that_is_changed_is_read_or_refused_as_before() -> None:
    asked = checkin.Request(NONCE, 24, bytes(32), built(PLAIN))
    asked.shares, asked.longest_answer = True, 6000
    body = checkin.encode_request(asked)
    for place in range(len(body)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            same_request(body[:place] + bytes((body[place] ^ flip,)) + body[place + 1 :])
    for end in range(len(body)):
        same_request(body[:end])


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 7000])
def test_the_report_of_a_check_in_may_have_any_length(size: int) -> None:
    found = same_request(checkin.encode_request(checkin.Request(NONCE, 1, None, bytes(size))))
    assert isinstance(found, dict)
    assert found["report"] == bytes(size)


@pytest.mark.parametrize("opening", [b"\x58\x17", b"\x59\x00\x17", b"\x59\x00\xff", b"\x5a\x00\x00\x01\x00"])
def test_a_report_whose_length_is_not_written_shortest_is_refused_as_before(opening: bytes) -> None:
    body = b"\xa5\x01\x01\x02\x50" + NONCE + b"\x03\x01\x04\xf6\x05" + opening
    found = same_request(body + bytes(int.from_bytes(opening[1:], "big")))
    assert isinstance(found, tuple)
