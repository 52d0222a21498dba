"""A certificate in PEM as it lies in a file: read, or refused in one line."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from fota_wire.errors import InputError
from fota_wire.host_panic import panics_refused

UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What the library raises for bytes that are not what they should be; it parses late, so on any access."""


def pem_certificate(pem: bytes, where: str) -> x509.Certificate:
    """Return the certificate in PEM that ``where`` names. Raises InputError: there is none."""
    try:
        with panics_refused():
            certificate = x509.load_pem_x509_certificate(pem)
            certificate.public_key()
    except UNREADABLE as exc:
        raise InputError(f"{where}: not a certificate in PEM") from exc
    return certificate
