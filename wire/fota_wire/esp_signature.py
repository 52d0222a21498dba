"""Signature sector of Espressif's Secure Boot v2 (SPEC 7.3): 4096 bytes behind an image padded to 4096.

Up to three blocks of 1216 bytes, the rest 0xFF. Blocks of P-256 are read and written; those of P-384, P-192
and RSA are recognised, since a file may carry them beside ours.
"""

import binascii
import hashlib
import struct

from fota_wire import status
from fota_wire.der import ORDER
from fota_wire.errors import VerifyError

SECTOR = 4096
BLOCK = 1216
MAX_BLOCKS = 3
MAGIC = 0xE7
RSA, ECDSA = 2, 3
SHA384 = 1
_P192, _P256, _P384 = 1, 2, 3
_P192_END, _P256_END, _P384_END = 133, 165, 245
_CRC_AT = 1196


class Signature:
    """A block of the sector; its signature is **unverified**.

    ``kind`` for people; ``xy`` x||y and ``signature`` r||s (big endian, 64 bytes) of P-256, empty for every
    other kind; ``digest`` of what was signed; ``key_digest`` 32 bytes, as eFuses hold it.
    """

    def __init__(self, kind: str, xy: bytes, signature: bytes, digest: bytes, key_digest: bytes) -> None:
        self.kind = kind
        self.xy = xy
        self.signature = signature
        self.digest = digest
        self.key_digest = key_digest


def build_block(xy: bytes, signature: bytes, digest: bytes) -> bytes:
    """Return the 1216 bytes of a P-256 block; ``xy`` x||y, ``signature`` r||s, ``digest`` SHA-256."""
    numbers = b"".join([part[::-1] for part in (xy[:32], xy[32:], signature[:32], signature[32:])])
    body = bytes([MAGIC, ECDSA, 0, 0]) + digest + bytes([_P256]) + numbers
    body += bytes(_CRC_AT - len(body))
    return body + struct.pack("<I", binascii.crc32(body)) + bytes(16)


def build_sector(blocks: "list[bytes]") -> bytes:
    """Return the 4096 bytes of a sector with one to three blocks."""
    body = b"".join(blocks)
    return body + b"\xff" * (SECTOR - len(body))


def looks_like_sector(sector: bytes) -> bool:
    """Tell whether these bytes begin as a signature sector does, of whichever kind."""
    return len(sector) >= BLOCK and sector[0] == MAGIC and sector[1] in (RSA, ECDSA) and sector[3] == 0


def read_sector(sector: bytes) -> "list[Signature]":
    """Return the blocks of a sector of 4096 bytes, in their order.

    Raises:
        VerifyError: IM3, shorter. IM4, no block, bytes that belong to none, or a malformed one; IM11, r or s
        of P-256 is not in 1..n-1.
    """
    if len(sector) < SECTOR:
        raise VerifyError("image is truncated: its signature sector is not all there", status.IM3)
    found: list[Signature] = []
    at = 0
    while len(found) < MAX_BLOCKS and sector[at] == MAGIC:
        found.append(_block(sector[at : at + BLOCK], len(found) + 1))
        at += BLOCK
    if sector[at:SECTOR].strip(b"\xff"):
        raise VerifyError(f"signature sector: bytes behind block {len(found)} belong to none", status.IM4)
    if not found:
        raise VerifyError("image is not signed: its signature sector is blank", status.IM4)
    return found


def _block(raw: bytes, number: int) -> Signature:
    name = f"signature block {number}"
    if raw[1] not in (RSA, ECDSA) or raw[2] > SHA384 or raw[3]:
        raise VerifyError(f"{name} is of version {raw[1:4].hex()}, which nobody knows", status.IM4)
    if struct.unpack("<I", raw[_CRC_AT : _CRC_AT + 4])[0] != binascii.crc32(raw[:_CRC_AT]):
        raise VerifyError(f"{name} does not match its CRC", status.IM4)
    if raw[_CRC_AT + 4 :].strip(b"\0"):
        raise VerifyError(f"{name} has bytes behind its CRC", status.IM4)
    if raw[1] == RSA:
        return Signature("RSA-3072", b"", b"", raw[4:36], hashlib.sha256(raw[36:812]).digest())
    other = _other_curve(raw)
    if other:
        return other
    if raw[2] or raw[36] != _P256:
        raise VerifyError(f"{name} is of curve {raw[36]}, which nobody knows", status.IM4)
    if raw[_P256_END:_CRC_AT].strip(b"\0"):
        raise VerifyError(f"{name} has bytes behind its signature", status.IM4)
    parts = [raw[at : at + 32][::-1] for at in (37, 69, 101, 133)]
    for part in parts[2:]:
        if not 0 < int.from_bytes(part, "big") < ORDER:
            raise VerifyError(f"{name}: r or s is not in 1..n-1", status.IM11)
    key_digest = hashlib.sha256(raw[36:101]).digest()
    return Signature("ECDSA P-256", parts[0] + parts[1], parts[2] + parts[3], raw[4:36], key_digest)


def _other_curve(raw: bytes) -> "Signature | None":
    """Return a block of P-384, whose digest of 48 bytes (byte 2 says so) comes first, or of P-192."""
    if raw[2] == SHA384 and raw[52] == _P384 and not raw[_P384_END:_CRC_AT].strip(b"\0"):
        return Signature("ECDSA P-384", b"", b"", raw[4:52], hashlib.sha256(raw[52:149]).digest())
    if raw[2] == 0 and raw[36] == _P192 and not raw[_P192_END:_CRC_AT].strip(b"\0"):
        return Signature("ECDSA P-192", b"", b"", raw[4:36], hashlib.sha256(raw[36:85]).digest())
    return None
