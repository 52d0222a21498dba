"""Re-certification: what the device CA checks before it signs a key that a device asked for over the air.

Nothing is taken on the server's word. The order is signed by the device's factory identity key, whose
certificate this CA issued itself; the request in it is signed by the key that is to be certified.
"""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fota_signer.factory.ca import FOR_EVER, DeviceCa, attestation_value_of, is_renewed, issue, now
from fota_wire import certify
from fota_wire.errors import VerifyError
from fota_wire.host_crypto import public_xy, verify


def certify_order(raw: bytes, device_id: str, ca: DeviceCa, days: int | None = None) -> bytes:
    """Return the certificate, DER, that a device orders. ``device_id``: 18 hex digits; ``days`` None: no end.

    Raises:
        FormatError: malformed.
        VerifyError: not this CA's device, or not signed by its keys.
    """
    factory = _load(certify.unsafe_factory_certificate(raw))
    try:
        factory.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise VerifyError("the order comes with a certificate that this CA has not issued", "ca") from exc
    if is_renewed(factory):
        raise VerifyError(
            "the order comes with a certificate that was ordered itself, not the factory's", "ca"
        )
    key = factory.public_key()
    names = factory.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not isinstance(key, ec.EllipticCurvePublicKey) or len(names) != 1:
        raise VerifyError("the order's factory certificate is not a device's", "ca")
    if names[0].value != device_id:
        raise VerifyError("the order's factory certificate is another device's", "ca")
    serial = bytes.fromhex(device_id)
    order = certify.open_order(raw, public_xy(key), serial, verify)
    until = FOR_EVER if days is None else _end(days)
    try:
        return issue(order.csr, serial, ca, until, attestation_value_of(factory), renewed=True)
    except ValueError as exc:
        raise VerifyError("the certificate request of the order cannot be read", "csr") from exc


def _load(raw: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(raw)
    except ValueError as exc:
        raise VerifyError("the order's factory certificate cannot be read", "ca") from exc


def _end(days: int) -> datetime:
    return now() + timedelta(days=days)
