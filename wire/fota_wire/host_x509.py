"""Certificates and requests that others made (not for devices): taken, or refused in one line."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from fota_wire.errors import VerifyError
from fota_wire.host_crypto import public_xy
from fota_wire.host_panic import panics_refused
from fota_wire.host_pem import UNREADABLE


def issued_certificate(raw: bytes, ca: x509.Certificate, what: str) -> x509.Certificate:
    """Return the certificate in DER that ``ca`` has issued itself; ``what`` names it in the refusal.

    Raises:
        VerifyError: it cannot be read, or is another CA's; code ``ca``.
    """
    try:
        with panics_refused():
            certificate = x509.load_der_x509_certificate(raw)
            certificate.verify_directly_issued_by(ca)
    except (*UNREADABLE, InvalidSignature) as exc:
        raise VerifyError(f"{what} is of another CA, or cannot be read", "certificate") from exc
    return certificate


def key_for(holder: x509.Certificate | x509.CertificateSigningRequest, common_name: str) -> bytes | None:
    """Return x||y of the P-256 key of what is made out to exactly this name, else None."""
    try:
        with panics_refused():
            key, name = holder.public_key(), holder.subject.rfc4514_string()
    except UNREADABLE:
        return None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return None
    return public_xy(key) if name == f"CN={common_name}" else None


def requested_key(csr: bytes, common_name: str) -> bytes:
    """Return x||y of the key that a certificate request (PKCS #10, DER) is for, and that has signed it.

    Raises:
        VerifyError: it cannot be read, its signature is bad, or name or kind of key are others; code ``csr``.
    """
    try:
        with panics_refused():
            request = x509.load_der_x509_csr(csr)
            key = key_for(request, common_name) if request.is_signature_valid else None
    except UNREADABLE as exc:
        raise VerifyError("the certificate request cannot be read", "csr") from exc
    if key is None:
        raise VerifyError(
            "the certificate request is of another device, not for a P-256 key, or not signed by it", "csr"
        )
    return key
