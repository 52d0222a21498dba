"""Who is at the other end of a device connection: the leaf certificate, read once and remembered."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fota_wire import attestation
from fota_wire.errors import FotaError

_DEVICE_ID = re.compile(r"[0-9a-f]{18}")


class IdentityError(FotaError):
    """The connection has no certificate that names a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A device as its certificate names it; the TLS layer has checked the chain and the possession of the
    key.

    ``device_id`` is 18 hex digits, ``public_key`` 64 bytes x||y, ``certificate`` DER, ``attestation`` the
    KEYHASH of its attestation key or None, the times are seconds since 1970.
    """

    device_id: str
    public_key: bytes
    certificate: bytes
    attestation: bytes | None
    not_before: float
    not_after: float


def is_device_id(text: str) -> bool:
    """Return whether ``text`` is 18 lower-case hex digits (SPEC 5.3)."""
    return _DEVICE_ID.fullmatch(text) is not None


def identify(scope: Mapping[str, Any]) -> Identity:
    """Return the device behind an ASGI scope that carries the TLS extension.

    Raises:
        IdentityError: no certificate, or none that is usable.
    """
    tls = scope.get("extensions", {}).get("tls", {})
    chain = tls.get("client_cert_chain", [])
    if error := tls.get("client_cert_error"):  # a front has shaken hands with whoever came
        code, _, why = error.partition(": ")
        raise IdentityError(f"the device certificate is refused: {why}", code)
    if not chain:
        raise IdentityError(
            "present the device's certificate: this port speaks to devices only", "no-certificate"
        )
    identity = _read_certificate(chain[0])
    # A resumed TLS session is not verified again, so a certificate may have run out since its handshake.
    if not identity.not_before <= time.time() <= identity.not_after:
        raise IdentityError("the device certificate is not valid at this time", "certificate-expired")
    return identity


def claimed_name(scope: Mapping[str, Any]) -> str:
    """Return the first CN of the certificate in an ASGI scope that names no device, or an empty text."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", [])
    try:
        subject = x509.load_pem_x509_certificate(chain[0].encode()).subject if chain else x509.Name([])
    except ValueError:
        return ""
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


@lru_cache(maxsize=4096)
def _read_certificate(pem: str) -> Identity:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = certificate.public_key()
    except ValueError as exc:
        raise IdentityError("the device certificate cannot be read", "certificate") from exc
    if len(names) != 1 or not is_device_id(str(names[0].value)):
        raise IdentityError("the certificate's CN is not a device id of 18 hex digits", "certificate-name")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("the certificate's key is not a P-256 key", "certificate-key")
    numbers = key.public_numbers()
    return Identity(
        device_id=str(names[0].value),
        public_key=numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"),
        certificate=certificate.public_bytes(Encoding.DER),
        attestation=_attestation_key(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _attestation_key(certificate: x509.Certificate) -> bytes | None:
    """Return the KEYHASH in the extension of SPEC 5.7, or None if there is none."""
    oid = x509.ObjectIdentifier(attestation.EXTENSION_OID)
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    raw = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    return raw[2:] if raw[:2] == b"\x04\x20" and len(raw) == 34 else b""
