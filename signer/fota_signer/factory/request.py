"""The certificate request (PKCS #10) of a key that stays in the chip, checked."""

from fota_wire import pkcs10
from fota_wire.errors import VerifyError


def certificate_request(common_name: str, public_xy: bytes, signature: bytes) -> bytes:
    """Return the request in DER; ``signature`` is r||s over SHA-256 of `pkcs10.request_info`.

    Raises:
        VerifyError: the signature is not this key's.
    """
    from cryptography.x509 import load_der_x509_csr

    raw = pkcs10.assemble(common_name, public_xy, signature)
    if not load_der_x509_csr(raw).is_signature_valid:
        raise VerifyError("the chip's signature under its certificate request is not of its identity key")
    return raw
