"""DSSE envelopes and in-toto statements: others' libraries read them, and nothing else is taken."""

import base64
import json
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from evidence_judges import STATEMENT, judge
from hypothesis import given
from hypothesis import strategies as st

from fota_wire import host_dsse, host_keys, host_statement
from fota_wire.errors import InputError

PRIVATE = [ec.derive_private_key(number, ec.SECP256R1()) for number in (7, 8, 9)]
KEYS = [host_keys.in_memory(key) for key in PRIVATE]
KNOWN = {key.kid: key.public for key in KEYS}
SUBJECTS = {"ab" * 32: "payload/é", "cd" * 32: ""}
KIND = "https://example.com/claim/v1"
RAW = host_statement.sign(SUBJECTS, KIND, {"good": True}, KEYS[:2])


def changed(**fields):
    return json.dumps({**json.loads(RAW), **fields}).encode()


def saying(**fields):
    payload = json.loads(base64.b64decode(json.loads(RAW)["payload"]))
    return changed(payload=base64.b64encode(json.dumps({**payload, **fields}).encode()).decode())


def test_statement_says_what_was_signed_and_by_whom() -> None:
    found = host_statement.read(RAW, "a", KNOWN)
    assert found == (SUBJECTS, KIND, {"good": True}, (KEYS[0].kid, KEYS[1].kid))
    assert host_statement.sign(SUBJECTS, KIND, {"good": True}, KEYS[:2]) == RAW  # RFC 6979, one form
    assert host_statement.read(RAW, "a", {KEYS[2].kid: KEYS[2].public}).signed_by == ()


def test_statement_is_one_for_securesystemslib_and_in_toto(tmp_path) -> None:
    file, words = tmp_path / "statement.json", []
    for key, private in zip(KEYS, PRIVATE, strict=True):
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / key.kid.hex()).write_bytes(public)
        words += [key.kid.hex(), tmp_path / key.kid.hex()]
    file.write_bytes(RAW)
    said = judge(STATEMENT, file, *words[:4])
    assert said.returncode == 0, said.stderr
    assert judge(STATEMENT, file, *words).returncode  # the third has not signed
    file.write_bytes(saying(predicate={"good": False}))
    assert judge(STATEMENT, file, *words[:4]).returncode


def test_envelope_of_others_is_read_in_either_alphabet_with_fields_nobody_knows() -> None:
    urlsafe = json.loads(RAW)["payload"].replace("+", "-").replace("/", "_")
    for raw in (changed(payload=urlsafe), changed(more=1), saying(more=[1])):
        assert host_statement.read(raw, "a", {}).subjects == SUBJECTS


@pytest.mark.parametrize("index", range(0, len(base64.b64decode(json.loads(RAW)["payload"])), 7))
def test_a_flipped_byte_of_the_payload_is_signed_by_nobody(index) -> None:
    payload = bytearray(base64.b64decode(json.loads(RAW)["payload"]))
    payload[index] ^= 1
    raw = changed(payload=base64.b64encode(payload).decode())
    assert host_dsse.parse(raw, "a").signers(KNOWN) == []


def test_a_payload_of_another_type_is_signed_by_nobody() -> None:
    assert host_dsse.parse(changed(payloadType="text/plain"), "a").signers(KNOWN) == []
    with pytest.raises(InputError, match=r"^a: its payload is 'text/plain'"):
        host_statement.read(changed(payloadType="text/plain"), "a", KNOWN)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "is no object"),
        (b'{"payload":"","payload":""}', "twice"),
        (changed(payloadType=1), "payloadType"),
        (changed(payloadType="a\nb"), "payloadType"),
        (changed(payload="é"), "no payload in base64"),
        (changed(payload="a"), "no payload in base64"),
        (changed(signatures=[]), "1 to 16 signatures"),
        (changed(signatures=[{"sig": "AA=="}] * 17), "1 to 16 signatures"),
        (changed(signatures=[1]), "no sig in base64"),
        (changed(payload=base64.b64encode(b"{").decode()), "not JSON"),
        (saying(_type="https://in-toto.io/Statement/v0.1"), "_type"),
        (saying(predicateType=""), "predicateType"),
        (saying(predicate=[]), "predicate is no object"),
        (saying(subject=[]), "1 to 64 subjects"),
        (saying(subject=[{"digest": {"sha1": "00" * 20}}]), "no SHA-256"),
        (saying(subject=[{"digest": {"sha256": "AB" * 32}}]), "no SHA-256"),
        (saying(subject=[{"name": 1, "digest": {"sha256": "ab" * 32}}]), "name is no text"),
        (b" " * host_dsse.LIMIT + b"{}", "longer than"),
    ],
)
def test_what_is_no_statement_is_refused_in_a_line(raw, said) -> None:
    with pytest.raises(InputError, match=said) as caught:
        host_statement.read(raw, "a", KNOWN)
    assert str(caught.value).startswith("a: ")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200) | st.text().map(lambda text: changed(payload=text, payloadType=text)))
def test_any_bytes_are_a_statement_or_are_refused(raw) -> None:
    with suppress(InputError):
        host_statement.read(raw, "a", KNOWN)


def test_a_signature_in_either_form_counts_and_a_wrong_one_does_not() -> None:
    envelope = host_dsse.parse(RAW, "a")
    assert all(signature[0] == 0x30 for signature in envelope.signatures)
    wrong = envelope._replace(signatures=(envelope.signatures[0][:-1] + b"\0", b"", bytes(64)))
    assert wrong.signers(KNOWN) == []
