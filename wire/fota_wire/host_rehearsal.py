"""Attestations of a rehearsal (SPEC 10): who says that a release was played on devices that are virtual."""

from collections.abc import Mapping
from typing import Any

from fota_wire import host_statement
from fota_wire.errors import VerifyError
from fota_wire.host_statement import Statement

PREDICATE_TYPE = "https://fota.invalid/rehearsal/v1"
PASSED = "passed"


def read(raw: bytes, name: str, keys: Mapping[bytes, bytes]) -> Statement:
    """Return the statement in an attestation, and who of ``keys`` {kid: x||y} has signed it: perhaps nobody.

    Raises:
        InputError: no such statement; code ``dsse``, ``statement``.
    """
    return host_statement.read(raw, name, keys)


def require_about(said: Statement, image: bytes, manifest: bytes) -> None:
    """Return if a statement says of this ``image`` (digest of the file) and ``manifest`` (manifest digest),
    both SHA-256, that the rehearsal passed, whoever says so.

    Raises:
        VerifyError: it does not; code ``rehearsal``.
    """
    if said.predicate_type != PREDICATE_TYPE:
        found = said.predicate_type[:80]
        raise VerifyError(f"it says {found!r}, and is no attestation of a rehearsal", "rehearsal")
    if image.hex() not in said.subjects or manifest.hex() not in said.subjects:
        raise VerifyError("it is about another image or manifest", "rehearsal")
    if said.predicate.get("result") != PASSED:
        raise VerifyError("it says that the rehearsal did not pass", "rehearsal")


def require(
    raw: bytes, name: str, keys: Mapping[bytes, bytes], image: bytes, manifest: bytes
) -> dict[str, Any]:
    """Return the predicate of an attestation that one of ``keys`` {kid: x||y} has signed, as `require_about`.

    Raises:
        InputError: no such statement; code ``dsse``, ``statement``.
        VerifyError: signed by none of them, about something else, or not passed; code ``rehearsal``.
    """
    said = read(raw, name, keys)
    if not said.signed_by:
        known = ", ".join(kid.hex() for kid in keys) or "none"
        raise VerifyError(f"{name}: signed by no key that counts here: {known}", "rehearsal")
    try:
        require_about(said, image, manifest)
    except VerifyError as exc:
        raise VerifyError(f"{name}: {exc}", exc.code) from exc
    return said.predicate
