"""The certificate request (PKCS #10) of a key that stays in the chip: bytes to sign, and the signed whole."""

from fota_wire import cose
from fota_wire.errors import VerifyError

_COMMON_NAME = bytes.fromhex("0603550403")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:
        length = bytes([size])
    else:
        length = b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + body


def _integer(value: bytes) -> bytes:
    digits = value.lstrip(b"\0") or b"\0"
    return _der(0x02, b"\0" * (digits[0] >> 7) + digits)


def request_info(common_name: str, public_xy: bytes) -> bytes:
    """Return the CertificationRequestInfo (RFC 2986) for CN = ``common_name``: what the chip signs."""
    attribute = _der(0x30, _COMMON_NAME, _der(0x0C, common_name.encode()))
    return _der(0x30, b"\x02\x01\x00", _der(0x30, _der(0x31, attribute)), cose.spki(public_xy), b"\xa0\x00")


def certificate_request(common_name: str, public_xy: bytes, signature: bytes) -> bytes:
    """Return the request in DER; ``signature`` is r||s over SHA-256 of `request_info`.

    Raises:
        VerifyError: the signature is not this key's.
    """
    from cryptography.x509 import load_der_x509_csr

    bits = _der(0x03, b"\0" + _der(0x30, _integer(signature[:32]), _integer(signature[32:])))
    raw = _der(0x30, request_info(common_name, public_xy), _ECDSA_SHA256, bits)
    if not load_der_x509_csr(raw).is_signature_valid:
        raise VerifyError("the chip's signature under its certificate request is not of its identity key")
    return raw
