"""A REPORT and the check-in around it, read as their makers write them: `report.open_report` and
`checkin.parse_request` say what they are, this comes to the same sooner.

Whatever is not written in just that way goes to those two, and is read or refused by them: nothing is refused
here. tests/server holds both against each other. What a report says beside its nonce and its device is the
same for a whole fleet on one release, and is parsed once.
"""

import hashlib
import re
from functools import lru_cache

from fota_server.answers import bstr
from fota_wire import cbor, checkin, cose
from fota_wire.errors import FormatError
from fota_wire.host_crypto import KEYS_KEPT
from fota_wire.report import AAD, Report, open_report, unsafe_read_payload
from fota_wire.seams import Verify

_BEGIN, _DEVICE = b"\xad\x01\x01\x02\x50", b"\x03\x49"  # of 13: format 1, nonce of 16; device id of 9
_SAID = len(_BEGIN) + 16 + len(_DEVICE) + 9
_SIGNATURE = b"\x58\x40"
_REQUEST = re.compile(
    rb"(?s)([\xa4-\xa9])\x01\x01\x02\x50(.{16})"  # so many fields, format 1, nonce
    rb"(\x03(?:[\x00-\x17]|\x18.|\x19..)\x04(?:\xf6|\x58\x20.{32}))"  # ROOT version, manifest held
    rb"(?:\x05(?:\x58([\x18-\xff])|\x59([\x01-\xff].)))?"  # the size of a REPORT
)
_MOST_REST = 64  # bytes of what a device says of itself behind that: no published values, no ATTESTATION
_MOST_KEPT = 1024
"""Different things that devices say in a report, or in a check-in; none has more than 255 bytes."""


def read_request(raw: bytes) -> checkin.Request:
    """As `checkin.parse_request`, and raises what that raises."""
    return _usual_request(raw) or checkin.parse_request(raw)


def _usual_request(raw: bytes) -> checkin.Request | None:
    """Return a check-in of which all but its nonce and REPORT is what many say; None: ask the parser."""
    usual = _REQUEST.match(raw)
    if not usual or len(raw) > checkin.MAX_REQUEST:
        return None
    count, nonce, known, short, long = usual.groups()
    size, begin = short or long, usual.end()
    end = begin + int.from_bytes(size, "big") if size else begin
    if not begin <= end <= len(raw) <= end + _MOST_REST:
        return None
    try:
        said = _asked(count, known, raw[end:], size is not None)
    except FormatError:
        return None
    request = checkin.Request.__new__(checkin.Request)
    request.__dict__.update(said.__dict__)
    request.nonce, request.report = nonce, raw[begin:end] if size else None
    request.telemetry, request.refused_values = [], []
    return request


@lru_cache(_MOST_KEPT)
def _asked(count: bytes, known: bytes, rest: bytes, with_report: bool) -> checkin.Request:
    """Return what a check-in says with these bytes in it, and with nothing else.

    Raises:
        FormatError: it is not that short, or malformed.
    """
    said = checkin.parse_request(
        count + b"\x01\x01\x02\x50" + bytes(16) + known + (b"\x05\x40" if with_report else b"") + rest
    )
    more = said.telemetry, said.refused_values, said.attestation is not None
    if any(more) or said.report != (b"" if with_report else None):
        raise FormatError("a check-in that says more", "more")
    return said


def read_report(raw: bytes, public_xy: bytes, nonce: bytes, device_id: bytes, verify: Verify) -> Report:
    """As `report.open_report`, and raises what that raises."""
    found = _usual(raw, public_xy, nonce, device_id, verify)
    return found or open_report(raw, public_xy, nonce, device_id, verify)


def _usual(raw: bytes, public_xy: bytes, nonce: bytes, device_id: bytes, verify: Verify) -> Report | None:
    """Return the report if it is good, and has no more than 255 bytes of payload; None: ask the parser."""
    opening, hashed = _frame(public_xy)
    end = len(raw) - 66
    size = end - len(opening) - 2
    said = len(opening) + 2 + _SAID
    if not _SAID < size < 256 or raw[end : end + 2] != _SIGNATURE:
        return None
    if raw[:said] != b"".join((opening, b"\x58", bytes((size,)), _BEGIN, nonce, _DEVICE, device_id)):
        return None
    signature = raw[end + 2 :]
    if not any(signature[:32]) or not any(signature[32:]):
        return None
    tbs = hashed.copy()
    tbs.update(raw[len(opening) : end])
    if verify(public_xy, tbs.digest(), signature) is not True:
        return None
    try:
        found = _read(raw[said:end])
    except FormatError:
        return None
    report = Report.__new__(Report)
    report.__dict__.update(found.__dict__)
    report.nonce, report.device_id = nonce, device_id
    return report


@lru_cache(KEYS_KEPT)
def _frame(public_xy: bytes) -> "tuple[bytes, hashlib._Hash]":
    """Return how a COSE_Sign1 by this key begins, up to its payload, and the hash of what is before that."""
    protected = cbor.encode({1: cose.ESP256, 4: cose.kid_of(public_xy)})
    before = cbor.encode(["Signature1", protected, AAD, b""])[:-1]
    return b"\xd2\x84" + bstr(protected) + b"\xa0", hashlib.sha256(before)


@lru_cache(_MOST_KEPT)
def _read(said: bytes) -> Report:
    return unsafe_read_payload(_BEGIN + bytes(16) + _DEVICE + bytes(9) + said)
