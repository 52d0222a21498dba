"""P-256 of the model, by OpenSSL through `cryptography`. Public keys are X||Y, signatures r||s."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256 = Prehashed(hashes.SHA256())


def scalar_from(random: bytes) -> bytes:
    """Return a private scalar from 40 random bytes (the bias is below 2**-64)."""
    return (int.from_bytes(random, "big") % (ORDER - 1) + 1).to_bytes(32, "big")


def public_of(scalar: bytes) -> bytes:
    """Return X||Y of a private scalar.

    Raises:
        ValueError: the scalar is 0 or not below the order.
    """
    numbers = (
        ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1()).public_key().public_numbers()
    )
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def sign(scalar: bytes, digest: bytes) -> bytes:
    """Return r||s; the nonce follows RFC 6979, so that runs repeat."""
    key = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(_SHA256, deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _point(public: bytes) -> ec.EllipticCurvePublicKey:
    x, y = int.from_bytes(public[:32], "big"), int.from_bytes(public[32:], "big")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def shared(scalar: bytes, public: bytes) -> bytes:
    """Return the X coordinate that ECDH gives.

    Raises:
        ValueError: the public key is not a point of the curve, or the scalar is out of range.
    """
    key = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    return key.exchange(ec.ECDH(), _point(public))


def verify(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Return True if the signature is good.

    Raises:
        ValueError: the public key is not a point of the curve.
    """
    key = _point(public)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < ORDER and 0 < s < ORDER):
        return False
    try:
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(_SHA256))
    except InvalidSignature:
        return False
    return True
