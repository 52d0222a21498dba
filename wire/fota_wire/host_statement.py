"""in-toto Statements, version 1, in DSSE envelopes: who says what about which files; not for devices.

{"_type": TYPE, "subject": [{"name", "digest": {"sha256"}}], "predicateType": a URI, "predicate": an object}
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fota_wire import host_dsse
from fota_wire.errors import InputError
from fota_wire.host_json import read_json

if TYPE_CHECKING:
    from fota_wire.host_keys import SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
TYPE = "https://in-toto.io/Statement/v1"
MAX_SUBJECTS = 64
_HEX = re.compile("[0-9a-f]{64}")


class Statement(NamedTuple):
    """What somebody says: about ``subjects`` {SHA-256 in hex: name}, ``predicate_type`` and ``predicate``;
    ``signed_by``: kids of those who said it, of the keys that were asked for.
    """

    subjects: dict[str, str]
    predicate_type: str
    predicate: dict[str, Any]
    signed_by: tuple[bytes, ...]


def sign(
    subjects: Mapping[str, str],
    predicate_type: str,
    predicate: Mapping[str, Any],
    keys: "Iterable[SigningKey]",
) -> bytes:
    """Return a signed statement about ``subjects`` {SHA-256 in hex: name}: a DSSE envelope, as a file has it.

    Its payload has one form: keys in order, no blanks.

    Raises:
        FotaError, Prepared: from a key's ``sign``.
    """
    statement = {
        "_type": TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for sha256, name in subjects.items()],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    payload = json.dumps(
        statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return host_dsse.sign(PAYLOAD_TYPE, payload.encode(), keys)


def read(raw: bytes, name: str, keys: Mapping[bytes, bytes]) -> Statement:
    """Return the statement in a DSSE envelope, and who of ``keys`` {kid: x||y} has signed it: perhaps nobody.

    Fields that nobody here knows are passed over, as in-toto has it, and digests of other kinds than SHA-256.

    Raises:
        InputError: no envelope, or no such statement in it; ``name`` says where; codes ``dsse``,
            ``statement``.
    """
    envelope = host_dsse.parse(raw, name)
    if envelope.kind != PAYLOAD_TYPE:
        raise InputError(f"{name}: its payload is {envelope.kind!r:.80}, not {PAYLOAD_TYPE}", "statement")
    found = read_json(envelope.payload, name, "statement")
    if not isinstance(found, dict) or found.get("_type") != TYPE:
        raise _none(name, f"its _type is not {TYPE}")
    kind, predicate = found.get("predicateType"), found.get("predicate", {})
    if not isinstance(kind, str) or not kind:
        raise _none(name, "it has no predicateType")
    if not isinstance(predicate, dict):
        raise _none(name, "its predicate is no object")
    subjects = found.get("subject")
    if not isinstance(subjects, list) or not 1 <= len(subjects) <= MAX_SUBJECTS:
        raise _none(name, f"it has not 1 to {MAX_SUBJECTS} subjects")
    named = dict(_subject(one, name) for one in subjects)
    return Statement(named, kind, predicate, tuple(envelope.signers(keys)))


def _subject(value: object, name: str) -> tuple[str, str]:
    digest = value.get("digest") if isinstance(value, dict) else None
    sha256 = digest.get("sha256") if isinstance(digest, dict) else None
    if not isinstance(value, dict) or not isinstance(sha256, str) or not _HEX.fullmatch(sha256):
        raise _none(name, "a subject has no SHA-256 in hex")
    called = value.get("name", "")
    if not isinstance(called, str):
        raise _none(name, "a subject's name is no text")
    return sha256, called


def _none(name: str, why: str) -> InputError:
    return InputError(f"{name}: no in-toto Statement v1: {why}", "statement")
