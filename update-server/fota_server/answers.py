"""The answer to a check-in, written without a general encoder: `assignment.build` and
`checkin.encode_response` say what it is, this and `crypto.py` the same bytes in a tenth of the time.

tests/server holds both against each other for any values; who changes SPEC 5.3 or 5.5 changes both.
"""

from collections.abc import Sequence
from functools import lru_cache

from fota_wire.checkin import CAMPAIGN, KEY_ORDER, REFUSED_VALUES

NULL = b"\xf6"


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
    wanted = _wanted(time, sequence, manifest_digest, root_version, campaign, valid_for)
    return b"".join((b"\xa9\x01\x01\x02", bstr(nonce), b"\x03", bstr(device_id), wanted))


@lru_cache(64)
def _wanted(
    time: int, sequence: int, manifest_digest: bytes | None, root_version: int, campaign: int, valid_for: int
) -> bytes:
    """Return what is the same for all of a second who are wanted to have the same."""
    digest = NULL if manifest_digest is None else bstr(manifest_digest)
    return b"".join(
        (
            *(b"\x04", uint(time), b"\x05", uint(sequence), b"\x06", digest),
            *(b"\x07", uint(root_version), b"\x08", uint(campaign), b"\x09", uint(valid_for)),
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
    campaign: bytes | None = None,
) -> bytes:
    """Return the body; ``held``: the device has the manifest, which is left out. As `encode_response`."""
    told = status.encode()
    parts = [bytes([0xA6 + (not held) + bool(key_order) + bool(refused_values) + (campaign is not None)])]
    parts += [b"\x01\x01\x02", bstr(signed), b"\x03", head(0x80, len(steps)), *map(bstr, steps)]
    if not held:
        parts += [b"\x04", NULL if manifest is None else bstr(manifest)]
    parts += [b"\x05", uint(interval), b"\x06", bstr(nonce), b"\x07", head(0x60, len(told)), told]
    if key_order:
        parts += [bytes([KEY_ORDER]), uint(key_order)]
    if refused_values:
        parts += [bytes([REFUSED_VALUES]), head(0x80, len(refused_values)), *map(uint, refused_values)]
    if campaign is not None:
        parts += [bytes([CAMPAIGN]), bstr(campaign)]
    return b"".join(parts)


def bstr(value: bytes) -> bytes:
    """Return a byte string, encoded."""
    return head(0x40, len(value)) + value


def uint(value: int) -> bytes:
    """Return an integer of 0 and above, encoded."""
    return head(0, value)


def head(major: int, value: int) -> bytes:
    """Return the head of an item: its major type, in the upper three bits, and its number."""
    if value < 0x18:
        return bytes((major | value,))
    if value < 0x100:
        return bytes((major | 0x18, value))
    size = 2 if value < 0x10000 else 4 if value < 0x100000000 else 8
    return bytes((major | {2: 0x19, 4: 0x1A, 8: 0x1B}[size],)) + value.to_bytes(size, "big")
