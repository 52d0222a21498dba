"""DSSE envelopes, version 1 (secure-systems-lab/dsse): any payload, signed by anybody; not for devices.

Signed is PAE, ``DSSEv1 LEN(type) type LEN(payload) payload``. Our signatures are ECDSA P-256 over SHA-256, in
DER as the field's tools want them; ``keyid`` is the key id (SPEC 5) in hex, a hint that nobody believes.
"""

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from fota_wire import der
from fota_wire.errors import InputError
from fota_wire.host_json import read_json
from fota_wire.host_keys import held

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fota_wire.host_keys import SigningKey

LIMIT = 1 << 20
"""Bytes of an envelope."""
MAX_SIGNATURES = 16


class Envelope(NamedTuple):
    """A parsed and **unverified** envelope: type (``kind``) and bytes of the ``payload``; ``signatures``."""

    kind: str
    payload: bytes
    signatures: tuple[bytes, ...]

    def signers(self, keys: "Mapping[bytes, bytes]") -> list[bytes]:
        """Return the kids of ``keys`` {kid: x||y} that have signed this, in their order. Other signatures,
        wrong ones as well, do not count.
        """
        digest = _digest(self.kind, self.payload)
        return [
            kid
            for kid, public in keys.items()
            if any(held(public, digest, signature) is not None for signature in self.signatures)
        ]


def sign(kind: str, payload: bytes, keys: "Iterable[SigningKey]") -> bytes:
    """Return an envelope around ``payload`` with a signature by each of ``keys``; ends with a line feed.

    The same payload and keys in files give the same bytes.

    Raises:
        FotaError, Prepared: from a key's ``sign``.
    """
    digest = _digest(kind, payload)
    signatures = [{"keyid": key.kid.hex(), "sig": _text(der.from_raw(key.sign(digest)))} for key in keys]
    envelope = {"payload": _text(payload), "payloadType": kind, "signatures": signatures}
    return json.dumps(envelope, separators=(",", ":")).encode() + b"\n"


def parse(raw: bytes, name: str) -> Envelope:
    """Return the envelope in ``raw``, nothing verified; unknown fields are passed over, as DSSE has it.

    Raises:
        InputError: it is none; ``name`` says where; code ``dsse``.
    """
    if len(raw) > LIMIT:
        raise InputError(f"{name}: longer than {LIMIT} bytes", "dsse")
    found = read_json(raw, name, "dsse")
    if not isinstance(found, dict):
        raise _none(name, "is no object")
    kind, signatures = found.get("payloadType"), found.get("signatures")
    if not isinstance(kind, str) or not kind.isascii() or not kind.isprintable():
        raise _none(name, "has no payloadType")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise _none(name, f"has not 1 to {MAX_SIGNATURES} signatures")
    read = [_bytes(one.get("sig") if isinstance(one, dict) else None, "sig", name) for one in signatures]
    return Envelope(kind, _bytes(found.get("payload"), "payload", name), tuple(read))


def _digest(kind: str, payload: bytes) -> bytes:
    head = f"DSSEv1 {len(kind.encode())} {kind} {len(payload)} "
    return hashlib.sha256(head.encode() + payload).digest()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(value: object, what: str, name: str) -> bytes:
    """Return what is in base64, of either alphabet, as DSSE has it."""
    if isinstance(value, str):
        try:
            return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
        except (ValueError, binascii.Error):
            pass
    raise _none(name, f"has no {what} in base64")


def _none(name: str, why: str) -> InputError:
    return InputError(f"{name}: no DSSE envelope: it {why}", "dsse")
