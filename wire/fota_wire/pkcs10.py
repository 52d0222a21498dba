"""The certificate request (PKCS #10) of a key that stays in the chip: what the key signs, and the whole."""

import binascii

from fota_wire import cose, der

_COMMON_NAME = binascii.unhexlify(b"0603550403")
_ECDSA_SHA256 = binascii.unhexlify(b"300a06082a8648ce3d040302")


def request_info(common_name: str, public_xy: bytes) -> bytes:
    """Return the CertificationRequestInfo for CN = ``common_name``: its SHA-256 is what the chip signs."""
    attribute = _der(0x30, _COMMON_NAME + _der(0x0C, common_name.encode()))
    name = _der(0x30, _der(0x31, attribute))
    return _der(0x30, b"\x02\x01\x00" + name + cose.spki(public_xy) + b"\xa0\x00")


def assemble(common_name: str, public_xy: bytes, signature: bytes) -> bytes:
    """Return the request in DER; ``signature`` is r||s over SHA-256 of `request_info`, not checked here."""
    bits = _der(0x03, b"\0" + der.from_raw(signature))
    return _der(0x30, request_info(common_name, public_xy) + _ECDSA_SHA256 + bits)


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        length = bytes((size,))
    else:
        length = bytes((0x81, size)) if size < 0x100 else bytes((0x82, size >> 8, size & 0xFF))
    return bytes((tag,)) + length + body
