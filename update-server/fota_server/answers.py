"""The answer to a check-in, written without a general encoder: `assignment.build` and
`checkin.encode_response` say what it is, this says the same bytes in a tenth of the time.

tests/server holds both against each other for any values; who changes SPEC 5.3 or 5.5 changes both.
"""

import hashlib
from collections.abc import Sequence

from fota_server.crypto import AssignSigner
from fota_wire import assignment, cbor, cose, merkle
from fota_wire.checkin import KEY_ORDER, REFUSED_VALUES

_NULL = b"\xf6"


class Writer:
    """Signs ASSIGNMENTs by one ASSIGN key."""

    def __init__(self, signer: AssignSigner) -> None:
        self._sign = signer.sign
        protected = cbor.encode({1: cose.ESP256, 4: signer.kid})
        self._before = {  # what is hashed before the payload
            aad: hashlib.sha256(cbor.encode(["Signature1", protected, aad, b""])[:-1])
            for aad in (assignment.AAD, assignment.SHARED_AAD)
        }
        self._head = b"\xd2\x84" + _bytes(protected) + b"\xa0"  # tag 18, of 4: protected, unprotected

    def sign(self, payloads: Sequence[bytes], sharing: Sequence[bool]) -> list[bytes]:
        """Return an ASSIGNMENT for each payload. Those whose device is good with that share a signature, once
        there are two of them: however slow the key's store is, it is asked once for all that wait.
        """
        shared = iter(self._share([raw for raw, shares in zip(payloads, sharing, strict=True) if shares]))
        return [
            next(shared) if shares else self.alone(raw) for raw, shares in zip(payloads, sharing, strict=True)
        ]

    def _share(self, payloads: list[bytes]) -> list[bytes]:
        """As `assignment.share`, of two or more."""
        if len(payloads) < 2:
            return [self.alone(raw) for raw in payloads]
        top, paths = merkle.grow(payloads)
        size = _uint(len(payloads))
        signature = self._signature(_bytes(b"\x82" + size + _bytes(top)), assignment.SHARED_AAD)
        tail = _bytes(self._head + _NULL + signature)
        return [
            b"".join((b"\x85", _bytes(raw), _uint(place), size, _bytes(path), tail))
            for place, (raw, path) in enumerate(zip(payloads, paths, strict=True))
        ]

    def alone(self, payload: bytes) -> bytes:
        """Return the ASSIGNMENT with a signature of its own, as of `assignment.build`."""
        embedded = _bytes(payload)
        return self._head + embedded + self._signature(embedded, assignment.AAD)

    def _signature(self, embedded: bytes, aad: bytes) -> bytes:
        tbs = self._before[aad].copy()
        tbs.update(embedded)
        return _bytes(self._sign(tbs.digest()))


def payload(
    nonce: bytes,
    device_id: bytes,
    time: int,
    sequence: int,
    manifest_digest: bytes | None,
    root_version: int,
    campaign: int,
    valid_for: int,
) -> bytes:
    """Return what an ASSIGNMENT says; the fields are those of `assignment.build`."""
    digest = _NULL if manifest_digest is None else _bytes(manifest_digest)
    return b"".join(
        (
            *(b"\xa9\x01\x01\x02", _bytes(nonce), b"\x03", _bytes(device_id), b"\x04", _uint(time)),
            *(b"\x05", _uint(sequence), b"\x06", digest, b"\x07", _uint(root_version)),
            *(b"\x08", _uint(campaign), b"\x09", _uint(valid_for)),
        )
    )


def response(
    signed: bytes,
    steps: Sequence[bytes],
    manifest: bytes | None,
    interval: int,
    nonce: bytes,
    status: str,
    *,
    held: bool,
    key_order: int,
    refused_values: Sequence[int],
) -> bytes:
    """Return the body; ``held``: the device has the manifest, which is left out. As `encode_response`."""
    told = status.encode()
    parts = [bytes([0xA6 + (not held) + bool(key_order) + bool(refused_values)])]
    parts += [b"\x01\x01\x02", _bytes(signed), b"\x03", _head(0x80, len(steps)), *map(_bytes, steps)]
    if not held:
        parts += [b"\x04", _NULL if manifest is None else _bytes(manifest)]
    parts += [b"\x05", _uint(interval), b"\x06", _bytes(nonce), b"\x07", _head(0x60, len(told)), told]
    if key_order:
        parts += [bytes([KEY_ORDER]), _uint(key_order)]
    if refused_values:
        parts += [bytes([REFUSED_VALUES]), _head(0x80, len(refused_values)), *map(_uint, refused_values)]
    return b"".join(parts)


def _bytes(value: bytes) -> bytes:
    return _head(0x40, len(value)) + value


def _uint(value: int) -> bytes:
    return _head(0, value)


def _head(major: int, value: int) -> bytes:
    if value < 0x18:
        return bytes((major | value,))
    if value < 0x100:
        return bytes((major | 0x18, value))
    size = 2 if value < 0x10000 else 4 if value < 0x100000000 else 8
    return bytes((major | {2: 0x19, 4: 0x1A, 8: 0x1B}[size],)) + value.to_bytes(size, "big")
