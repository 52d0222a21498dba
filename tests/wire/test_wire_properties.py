"""Properties of the wire formats: round trips, and no byte of anything signed may change."""

import itertools
import struct

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fota_signer.examples import example_key
from fota_wire import assignment, cbor, checkin, cose, der, host_crypto, report, suit
from fota_wire import root as roots
from fota_wire.errors import FormatError, FotaError, VerifyError

KEYS = {
    name: (host_crypto.public_xy(example_key(name)), host_crypto.signer(example_key(name)))
    for name in ("root-1", "root-2", "root-3", "release-1", "release-2", "release-3", "assign", "image-b")
}
NONCE, DEVICE = bytes(16), bytes(9)

integers = st.integers(-(2**64), 2**64 - 1)
keys = st.one_of(integers, st.binary(max_size=30), st.text(max_size=30))
items = st.recursive(
    st.one_of(integers, st.binary(max_size=300), st.text(max_size=30), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


def test_longest_shared_assignment_keeps_the_limit():
    most = (1 << 63) - 1
    payload = {1: 1, 2: NONCE, 3: DEVICE, 4: most, 5: most, 6: bytes(32), 7: most, 8: most, 9: 0xFFFFFFFF}
    made = assignment.share([cbor.encode(payload)] * 256, kid("assign"), KEYS["assign"][1])
    assert max(map(len, made)) == 466 <= assignment.MAX_ASSIGNMENT


def xy(name):
    return KEYS[name][0]


def kid(name):
    return cose.kid_of(xy(name))


def make_envelope():
    text = suit.build_text("example.com", "demo", "1.1.0")
    raw = suit.build_envelope(suit.build_manifest(3, b"v" * 16, b"c" * 16, b"d" * 32, 99, text), [], text)
    for name in ("release-1", "release-3"):
        raw = suit.add_signature(raw, kid(name), KEYS[name][1])
    return raw


def make_root():
    roles = {
        roots.ROOT: (2, [xy(f"root-{n}") for n in (1, 2, 3)]),
        roots.RELEASE: (2, [xy(f"release-{n}") for n in (1, 2, 3)]),
        roots.ASSIGN: (1, [xy("assign")]),
    }
    raw = roots.build_root(1, roles, 3, 4, (b"r" * 32,))
    for name in ("root-1", "root-3"):
        raw = roots.FORM.add_signature(raw, kid(name), KEYS[name][1])
    return raw


def make_assignment():
    return assignment.build(
        nonce=NONCE,
        device_id=DEVICE,
        time=1,
        sequence=3,
        manifest_digest=b"m" * 32,
        root_version=1,
        campaign=0,
        valid_for=60,
        kid=kid("assign"),
        sign=KEYS["assign"][1],
    )


def make_shared(place=4, size=7):
    """An ASSIGNMENT whose signature answers others as well."""
    payloads = [cbor.encode({1: 1, 2: bytes([n]) * 16}) for n in range(size)]
    payloads[place] = cose.parse_sign1(make_assignment()).payload
    return assignment.share(payloads, kid("assign"), KEYS["assign"][1])[place]


def make_report(events=()):
    return report.build(
        nonce=NONCE,
        device_id=DEVICE,
        slot="B",
        image_hash=b"h" * 32,
        version="1.0.0",
        sec_cnt=2,
        floor=1,
        root_version=1,
        state="trial",
        installed=b"m" * 32,
        events=list(events),
        reset_cause=4,
        kid=kid("image-b"),
        sign=KEYS["image-b"][1],
    )


ROOT = make_root()


def open_order(raw):
    root = roots.open_genesis(ROOT, host_crypto.verify)
    return assignment.open_assignment(raw, root, NONCE, DEVICE, host_crypto.verify)


OPENERS = {
    "envelope": (
        make_envelope(),
        lambda raw: suit.open_envelope(
            raw, {kid(f"release-{n}"): xy(f"release-{n}") for n in (1, 2, 3)}, 2, host_crypto.verify
        ),
    ),
    "envelope as devices read it": (
        make_envelope(),
        lambda raw: suit.open_envelope(
            memoryview(raw),
            {kid(f"release-{n}"): xy(f"release-{n}") for n in (1, 2, 3)},
            2,
            host_crypto.verify,
            brief=True,
        ),
    ),
    "root": (ROOT, lambda raw: roots.open_genesis(raw, host_crypto.verify)),
    "assignment": (
        make_assignment(),
        lambda raw: open_order(raw),
    ),
    "shared-assignment": (make_shared(), lambda raw: open_order(raw)),
    "report": (
        make_report([("AP1", "self-test")]),
        lambda raw: report.open_report(raw, xy("image-b"), NONCE, DEVICE, host_crypto.verify),
    ),
}


@given(items)
def test_parts_are_the_encoding_and_few(item):
    parts = cbor.encode_parts(item)
    assert b"".join(parts) == cbor.encode(item)
    assert all(len(one) + len(two) > cbor.SHORT for one, two in itertools.pairwise(parts))


@given(
    st.dictionaries(
        integers, st.one_of(st.lists(items, max_size=4), st.dictionaries(keys, items, max_size=4))
    )
)
def test_what_is_only_counted_is_passed_over_and_the_rest_read(fields):
    left_out = tuple(list(fields)[::2])
    expected = {key: len(value) if key in left_out else value for key, value in fields.items()}
    assert dict(cbor.pairs(cbor.encode(fields), left_out)) == expected


@given(items)
def test_cbor_item_survives_and_agrees_with_cbor2(item):
    raw = cbor.encode(item)
    assert cbor.decode(raw, max_depth=40) == item
    assert raw == cbor2.dumps(item, canonical=True) or any(True for _ in _maps(item))
    assert cbor.encode(cbor2.loads(raw)) == raw


def _maps(item):
    """Yield maps: ``canonical`` sorts their keys by length first (RFC 7049), we by bytes (RFC 8949)."""
    if isinstance(item, dict):
        yield item
    for inner in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from _maps(inner)


@given(st.binary(max_size=64))
def test_cbor_any_bytes_refused_or_the_one_encoding(raw):
    try:
        item = cbor.decode(raw)
    except FormatError:
        return
    assert cbor.encode(item) == raw


@pytest.mark.parametrize("kind", OPENERS)
def test_untouched_message_accepted(kind):
    raw, opener = OPENERS[kind]
    opener(raw)


@pytest.mark.parametrize("kind", OPENERS)
@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_refused(kind, data):
    raw, opener = OPENERS[kind]
    position = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FotaError):
        opener(bytes(changed))


@pytest.mark.parametrize("kind", OPENERS)
def test_any_truncation_refused(kind):
    raw, opener = OPENERS[kind]
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            opener(raw[:length])


@given(st.integers(1, der.ORDER - 1), st.integers(1, der.ORDER - 1))
def test_der_signature_survives_and_agrees_with_the_library(r, s):
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    encoded = der.from_raw(raw)
    assert encoded == encode_dss_signature(r, s)
    assert decode_dss_signature(encoded) == (r, s)
    assert der.to_raw(encoded) == raw


@given(st.binary(min_size=1, max_size=80))
def test_der_any_bytes_refused_or_the_one_encoding(raw):
    try:
        signature = der.to_raw(raw)
    except VerifyError:
        return
    assert der.from_raw(signature) == raw


@pytest.mark.parametrize(
    "raw",
    [
        "3006020100020101",  # r = 0
        "3006020181020101",  # r negative
        "300702020001020101",  # r not minimal
        "300602010102010100",  # one byte behind
        "308106020101020101",  # long form
        "3005020101020101",  # sequence too short
        "30060201010201",  # cut
        "3006030101020101",  # not an INTEGER
    ],
)
def test_der_not_strict_refused(raw):
    with pytest.raises(VerifyError):
        der.to_raw(bytes.fromhex(raw))


def test_report_with_too_many_events_keeps_the_newest():
    raw = make_report([("n", str(number)) for number in range(20)])
    opened = report.open_report(raw, xy("image-b"), NONCE, DEVICE, host_crypto.verify)
    assert [detail for _, detail in opened.events] == [str(number) for number in range(4, 20)]


@pytest.mark.parametrize("held", [None, b"m" * 32])
@pytest.mark.parametrize("body", [None, b"r" * 100])
@pytest.mark.parametrize("telemetry", [[], [("a/b", 0, "1"), ("c", 1_795_000_000, '{"t": 21.5}')]])
def test_checkin_request_survives(held, body, telemetry):
    request = checkin.Request(b"n" * 16, 3, held, body)
    request.telemetry = telemetry
    assert vars(checkin.parse_request(checkin.encode_request(request))) == vars(request)


@pytest.mark.parametrize("held", [True, False])
def test_checkin_response_survives(held):
    response = checkin.Response(b"a", [b"r"], None if held else b"m", 60, b"n" * 16, "accepted")
    raw = checkin.encode_response(response, manifest_held=held)
    assert vars(checkin.parse_response(raw)) == vars(response)
    assert (4 in cbor.decode(raw)) is not held


@pytest.mark.parametrize(("size", "accepted"), [(8192, True), (8193, False)])
def test_checkin_request_at_its_limit(size, accepted):
    empty = checkin.encode_request(checkin.Request(bytes(16), 1, None, b"r" * 300))
    raw = checkin.encode_request(checkin.Request(bytes(16), 1, None, bytes(300 + size - len(empty))))
    assert len(raw) == size
    if accepted:
        checkin.parse_request(raw)
    else:
        with pytest.raises(FormatError):
            checkin.parse_request(raw)


def test_error_body_survives():
    assert checkin.parse_error(checkin.encode_error("busy", "later")) == ("busy", "later")


def test_wrong_point_is_no_crash_but_a_refusal():
    assert host_crypto.verify(struct.pack("64x"), bytes(32), b"\1" * 64) is False
