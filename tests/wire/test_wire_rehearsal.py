"""Attestations of a rehearsal: taken if a key that counts says of this release that it passed."""

import json
from typing import Any

import pytest

from fota_signer.examples import example_key
from fota_wire import host_dsse, host_rehearsal, host_statement
from fota_wire.cose import kid_of
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_crypto import public_xy
from fota_wire.host_keys import in_memory

IMAGE, MANIFEST = bytes(range(32)), bytes(range(32, 64))
KEY = in_memory(example_key("release-1"))
KEYS = {kid_of(public_xy(example_key("release-1"))): KEY.public}


def attestation(**change: Any) -> bytes:
    said: dict[str, Any] = {
        "subjects": {IMAGE.hex(): "image", MANIFEST.hex(): "manifest"},
        "predicate_type": host_rehearsal.PREDICATE_TYPE,
        "predicate": {"result": "passed"},
        "keys": [KEY],
    }
    return host_statement.sign(**said | change)


def test_attestation_of_what_passed_is_taken() -> None:
    assert host_rehearsal.require(attestation(), "it", KEYS, IMAGE, MANIFEST) == {"result": "passed"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keys": [in_memory(example_key("release-2"))]}, "signed by no key that counts here"),
        ({"predicate_type": "https://slsa.dev/provenance/v1"}, "no attestation of a rehearsal"),
        ({"predicate": {"result": "failed"}}, "did not pass"),
        ({"predicate": {}}, "did not pass"),
        ({"subjects": {IMAGE.hex(): "image"}}, "another image or manifest"),
        ({"subjects": {MANIFEST.hex(): "manifest"}}, "another image or manifest"),
    ],
)
def test_attestation_of_anything_else_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(VerifyError, match=said):
        host_rehearsal.require(attestation(**change), "it", KEYS, IMAGE, MANIFEST)


def test_changed_payload_is_signed_by_nobody() -> None:
    envelope = json.loads(attestation())
    other = json.loads(attestation(predicate={"result": "passed", "seed": 2}))
    with pytest.raises(VerifyError, match="no key that counts"):
        host_rehearsal.require(
            json.dumps(envelope | {"payload": other["payload"]}).encode(), "it", KEYS, IMAGE, MANIFEST
        )


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", host_dsse.sign("text/plain", b"x", [KEY])])
def test_what_is_no_statement_is_an_input_error(raw: bytes) -> None:
    with pytest.raises(InputError):
        host_rehearsal.require(raw, "it", KEYS, IMAGE, MANIFEST)
