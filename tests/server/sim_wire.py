"""What a device of a simulated fleet says and reads: the bytes of `report.build`, and what `parse_response`
and `open_assignment` make of an answer, in a fifth of their time.

What many devices say or are told alike is written, read or verified once; what is a device's own (its nonce,
its id, its leaf in the tree, its signature) is looked at each time. test_server_simulated.py holds both
against each other.
"""

import hashlib
import re
from functools import lru_cache

from fleet_world import hash_of

from fota_wire import assignment, cbor, checkin, cose, host_crypto, merkle, report
from fota_wire import root as roots
from fota_wire.errors import FormatError, VerifyError
from fota_wire.seams import Sign

NOBODY = bytes(16), bytes(9)  # nonce and device, in what is the same for all
_ANSWER = re.compile(rb"(?s)\xa7\x01\x01\x02(?:\x58(.)|\x59(..))")  # up to the ASSIGNMENT
_REST = re.compile(
    rb"(?s)\x03\x80\x04(?:\xf6|\x40)\x05(?:([\x00-\x17])|\x18(.)|\x19(..)|\x1a(.{4}))"  # no ROOT, interval
    rb"\x06\x50(.{16})\x07(?:[\x60-\x77]|\x78.)(.*)\Z"
)


class Speaker:
    """Signs reports by one key; ``said`` are the fields of `report.build`, but for nonce and device."""

    def __init__(self, public_xy: bytes, sign: Sign) -> None:
        self.public_xy, self.sign, self.kid = public_xy, sign, cose.kid_of(public_xy)
        protected = cbor.encode({1: cose.ESP256, 4: self.kid})
        self._head = cbor.encode(cbor.Tag(18, [protected, {}, 0, 0]))[:-2]
        self._before = hashlib.sha256(cbor.encode(["Signature1", protected, report.AAD, b""])[:-1])

    def report(self, nonce: bytes, device_id: bytes, *said: object) -> bytes:
        """Return a signed REPORT."""
        before, after = _said(*said)
        payload = before + nonce + b"\x03\x49" + device_id + after
        embedded = b"\x58" + bytes((len(payload),)) + payload
        tbs = self._before.copy()
        tbs.update(embedded)
        return self._head + embedded + b"\x58\x40" + self.sign(tbs.digest())


@lru_cache(1024)
def _said(
    version: str, state: str, installed: bytes | None, events: tuple[tuple[str, str], ...]
) -> tuple[bytes, bytes]:
    """Return a REPORT's payload up to its nonce, and behind its device's id."""
    fields: dict[str, object] = {
        "slot": "A",
        "image_hash": bytes.fromhex(hash_of(version)),
        "version": version,
        "sec_cnt": 1,
    }
    fields |= {"floor": 0, "root_version": 1, "state": state, "installed": installed, "events": [*events]}
    nonce, device = NOBODY
    raw = report.build(
        nonce=nonce,
        device_id=device,
        reset_cause=4,
        kid=bytes(8),
        sign=lambda _: bytes(64),
        **fields,  # type: ignore[arg-type]
    )
    payload = cose.parse_sign1(raw[:-64] + b"\1" * 64).payload or b""
    assert len(payload) < 256
    begin, end = payload.index(nonce), payload.index(b"\x03\x49" + device) + 11
    return payload[:begin], payload[end:]


def read_answer(raw: bytes) -> checkin.Response:
    """As `checkin.parse_response`."""
    found = _ANSWER.match(raw)
    if not found:
        return checkin.parse_response(raw)
    end = found.end() + int.from_bytes(found[1] or found[2], "big")
    rest = _REST.match(raw, end)
    if not rest:
        return checkin.parse_response(raw)
    interval = next(part for part in rest.groups() if part is not None)
    signed, status = raw[found.end() : end], rest[6].decode()
    return checkin.Response(signed, [], None, int.from_bytes(interval, "big"), rest[5], status)


def open_assignment(raw: bytes, root: roots.Root, nonce: bytes, device_id: bytes) -> assignment.Assignment:
    """As `assignment.open_assignment`; nonce and device are those of the answer's reader."""
    if raw[:2] != b"\x85\x58":
        return assignment.open_assignment(raw, root, nonce, device_id, host_crypto.verify)
    end = 3 + raw[2]
    payload = raw[3:end]
    place, end = _uint(raw, end)
    size, end = _uint(raw, end)
    length, end = _uint(raw, end)
    top = merkle.climb(payload, place, size, raw[end : end + length])
    if not _is_signed(raw[end + length :], size, top, root):
        raise VerifyError("the signature of a shared ASSIGNMENT is wrong", "signature")
    if payload[5:21] != nonce or payload[23:32] != device_id:
        raise VerifyError("ASSIGNMENT answers another nonce, or another device", "nonce")
    return _told(payload[:5] + bytes(16) + payload[21:23] + bytes(9) + payload[32:])


def _uint(raw: bytes, pos: int) -> tuple[int, int]:
    """Return the number in a head, and where that ends."""
    size = {24: 1, 25: 2}.get(raw[pos] & 31)
    if size is None:
        return raw[pos] & 31, pos + 1
    return int.from_bytes(raw[pos + 1 : pos + 1 + size], "big"), pos + 1 + size


@lru_cache(1024)
def _is_signed(raw: bytes, size: int, top: bytes, root: roots.Root) -> bool:
    """Tell whether a tree is signed by an ASSIGN key of ``root``; ``raw``: a COSE_Sign1, as a byte string."""
    signature = cbor.decode(raw)
    if not isinstance(signature, bytes):
        raise FormatError("no signature", "cose-shape")
    signed = cose.parse_sign1(signature, detached=True)
    key = root.role_keys(roots.ASSIGN)[signed.kid]
    tbs = signed.tbs(assignment.SHARED_AAD, cbor.encode([size, top]))
    return host_crypto.verify(key, tbs, signed.signature)


@lru_cache(1024)
def _told(payload: bytes) -> assignment.Assignment:
    return assignment.unsafe_read_payload(payload)
