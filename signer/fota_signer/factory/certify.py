"""Re-certification: what the device CA checks before it signs a key that a device asked for over the air.

Nothing is taken on the server's word. The order is signed by the device's factory identity key, whose
certificate this CA issued itself; the request in it is signed by the key that is to be certified.
"""

from datetime import datetime, timedelta

from fota_signer.factory.ca import FOR_EVER, DeviceCa, attestation_value_of, is_renewed, issue, now
from fota_wire import certify
from fota_wire.errors import VerifyError
from fota_wire.host_crypto import verify
from fota_wire.host_x509 import issued_certificate, key_for


def certify_order(raw: bytes, device_id: str, ca: DeviceCa, days: int | None = None) -> bytes:
    """Return the certificate, DER, that a device orders. ``device_id``: 18 hex digits; ``days`` None: no end.

    Raises:
        FormatError: malformed.
        VerifyError: not this CA's device, or not signed by its keys.
    """
    factory = issued_certificate(
        certify.unsafe_factory_certificate(raw), ca.certificate, "the order's factory certificate"
    )
    if is_renewed(factory):
        raise VerifyError(
            "the order comes with a certificate that was ordered itself, not the factory's", "ca"
        )
    factory_xy = key_for(factory, device_id)
    if factory_xy is None:
        raise VerifyError("the order's factory certificate is another device's", "device")
    serial = bytes.fromhex(device_id)
    order = certify.open_order(raw, factory_xy, serial, verify)
    return issue(order.csr, serial, ca, end_of(days), attestation_value_of(factory), renewed=True)


def end_of(days: int | None) -> datetime:
    """Return when a certificate of so many days ends; None: never."""
    return FOR_EVER if days is None else now() + timedelta(days=days)
