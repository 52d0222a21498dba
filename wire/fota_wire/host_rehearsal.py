"""Attestations of a rehearsal (SPEC 10): who says that a release was played on devices that are virtual."""

from collections.abc import Mapping
from typing import Any

from fota_wire import host_statement
from fota_wire.errors import VerifyError

PREDICATE_TYPE = "https://fota.invalid/rehearsal/v1"
PASSED = "passed"


def require(
    raw: bytes, name: str, keys: Mapping[bytes, bytes], image: bytes, manifest: bytes
) -> dict[str, Any]:
    """Return the predicate of an attestation that one of ``keys`` {kid: x||y} has signed, about this
    ``image`` (digest of the file) and this ``manifest`` (manifest digest), both SHA-256.

    Raises:
        InputError: no such statement; code ``dsse``, ``statement``.
        VerifyError: signed by none of them, about something else, or not passed; code ``rehearsal``.
    """
    said = host_statement.read(raw, name, keys)
    if not said.signed_by:
        known = ", ".join(kid.hex() for kid in keys) or "none"
        raise VerifyError(f"{name}: signed by no key that counts here: {known}", "rehearsal")
    if said.predicate_type != PREDICATE_TYPE:
        raise VerifyError(
            f"{name}: says {said.predicate_type[:80]!r}, and is no attestation of a rehearsal", "rehearsal"
        )
    if image.hex() not in said.subjects or manifest.hex() not in said.subjects:
        raise VerifyError(f"{name}: is about another image or manifest", "rehearsal")
    if said.predicate.get("result") != PASSED:
        raise VerifyError(f"{name}: says that the rehearsal did not pass", "rehearsal")
    return said.predicate
