"""What a CA's certificate has to be, so that what it issues is believed (not for devices).

The rules are those of OpenSSL, which the server and gateways verify with, and of the TLS of chips. A test
holds them against ``openssl verify``.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fota_wire.errors import InputError
from fota_wire.files import name_of, read_input
from fota_wire.host_pem import UNREADABLE

_KNOWN = (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE)
_KNOWN_TO_OPENSSL = (*_KNOWN, ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.CERTIFICATE_POLICIES)
_CURVE_SPELLED_OUT = bytes.fromhex("06072a8648ce3d0201 30")
"""In DER: a key of an elliptic curve (its OID), and a SEQUENCE where the name of the curve is due."""
MAX_JOINED_CAS = 2048
"""Bytes of all CAs in a trust store (SPEC 1.3)."""
PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"


Kind = TypeVar("Kind", bound=x509.ExtensionType)


class CaUse(NamedTuple):
    """What a CA is for: ``name`` in messages, ``usage`` of the certificates that it issues, ``holders`` of
    them; ``p256``: it takes P-256 with SHA-256; ``known``: critical extensions that are understood.
    """

    name: str
    usage: x509.ObjectIdentifier
    holders: str
    p256: bool
    known: tuple[x509.ObjectIdentifier, ...]


DEVICE_CA = CaUse("device CA", ExtendedKeyUsageOID.CLIENT_AUTH, "TLS clients", True, _KNOWN_TO_OPENSSL)
SERVER_CA = CaUse("server CA", ExtendedKeyUsageOID.SERVER_AUTH, "TLS servers", True, _KNOWN)
GATEWAYS_SERVER_CA = SERVER_CA._replace(p256=False, known=_KNOWN_TO_OPENSSL)


def require_ca(certificate: x509.Certificate, use: CaUse, where: str, at: datetime | None = None) -> None:
    """Return if what ``certificate`` issues is believed ``at`` that time (None: now); ``where`` names it.

    Raises:
        InputError: it is not; says why, all of it; code ``ca``.
    """
    faults = ca_faults(certificate, use, at or datetime.now(UTC))
    if faults:
        raise InputError(f"{where}: no usable {use.name}: it {'; it '.join(faults)}", "ca")


def ca_faults(certificate: x509.Certificate, use: CaUse, at: datetime) -> list[str]:
    """Return why nobody believes what ``certificate`` issues, each to be read behind "it"; none if all is
    well.
    """
    try:
        return [
            *_kind_faults(certificate, use),
            *time_faults(certificate, at),
            *_key_faults(certificate, use),
        ]
    except UNREADABLE:
        return ["has a part that cannot be read"]


def is_ca(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate says that it is a CA's."""
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def time_faults(certificate: x509.Certificate, at: datetime) -> list[str]:
    """Return why a certificate does not hold ``at`` a time, to be read behind "it"."""
    if at < certificate.not_valid_before_utc:
        return [f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"]
    if at > certificate.not_valid_after_utc:
        return [f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"]
    return []


def ends_within(certificate: x509.Certificate, days: int, at: datetime | None = None) -> bool:
    """Tell whether a certificate ends in so many days from ``at`` (None: now)."""
    return certificate.not_valid_after_utc < (at or datetime.now(UTC)) + timedelta(days=days)


def pem_certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    """Return all certificates in PEM that ``where`` names. Raises InputError: none, or one is damaged."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        for certificate in certificates:
            certificate.public_key()
    except UNREADABLE as exc:
        raise InputError(f"{where}: not a certificate in PEM") from exc
    if len(certificates) != pem.count(PEM_BEGIN):
        raise InputError(f"{where}: one of its certificates is damaged")
    return certificates


def cas_of(path: Path, use: CaUse | None = None) -> list[bytes]:
    """Return the CAs in a PEM file, DER each. ``use``: what each has to be good for; None: anything.

    Raises:
        InputError: there is none, or one that is not usable.
    """
    certificates = pem_certificates(read_input(path, 65536), name_of(path))
    for certificate in certificates:
        if use is not None:
            require_ca(certificate, use, name_of(path))
    return [certificate_der(certificate) for certificate in certificates]


def joined_cas(paths: Iterable[Path], use: CaUse | None = None) -> bytes:
    """Return all CAs of servers in the PEM files ``paths``, DER behind DER, each once, as a trust store has
    them. ``use``: what each has to be good for; None: somebody else looks.

    Raises:
        InputError: a file holds none, or one that is not usable; or together they are more than fit.
    """
    found = dict.fromkeys(der for path in paths for der in cas_of(path, use))
    joined = b"".join(found)
    if len(joined) > MAX_JOINED_CAS:
        raise InputError(
            f"the {len(found)} server CAs have {len(joined)} bytes together, and a device has room for"
            f" {MAX_JOINED_CAS}: name those that its first contact needs, ROOT names the others"
        )
    return joined


def der_certificates(raw: bytes, where: str) -> list[x509.Certificate]:
    """Return the certificates in DER behind each other. Raises InputError: one cannot be read, or none."""
    found: list[x509.Certificate] = []
    while raw or not found:
        end = 4 + int.from_bytes(raw[2:4], "big") if raw[1:2] == b"\x82" else len(raw)  # as devices do
        found.append(der_certificate(raw[:end], where))
        raw = raw[end:]
    return found


def der_certificate(raw: bytes, where: str) -> x509.Certificate:
    """Return the certificate in DER that ``where`` names. Raises InputError: it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(raw)
        certificate.public_key()
    except UNREADABLE as exc:
        raise InputError(f"{where}: not a certificate in DER") from exc
    return certificate


def short_name(certificate: x509.Certificate) -> str:
    """Return subject and end of a certificate, for messages."""
    return f"{certificate.subject.rfc4514_string()}, until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _kind_faults(certificate: x509.Certificate, use: CaUse) -> list[str]:
    faults = []
    if not is_ca(certificate):
        faults.append("is not the certificate of a CA (basic constraints without CA:TRUE)")
    key_usage = _extension(certificate, x509.KeyUsage)
    if key_usage is not None and not key_usage.key_cert_sign:
        faults.append("may not sign certificates (key usage without keyCertSign)")
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and use.usage not in purposes:
        faults.append(f"is not for the certificates of {use.holders} (extended key usage)")
    if use is DEVICE_CA and _limits_subjects(certificate):
        faults.append("limits whom it certifies (name constraints), and devices are not among them")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in use.known:
            faults.append(f"has a critical extension that is not understood ({extension.oid.dotted_string})")
    return faults


def _limits_subjects(certificate: x509.Certificate) -> bool:
    limits = _extension(certificate, x509.NameConstraints)
    if limits is None:
        return False
    names = [*(limits.permitted_subtrees or ()), *(limits.excluded_subtrees or ())]
    return any(isinstance(name, x509.DirectoryName) for name in names)


def _key_faults(certificate: x509.Certificate, use: CaUse) -> list[str]:
    key = certificate.public_key()
    faults = []
    if use.p256:
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            faults.append("has another kind of key than P-256, which is what devices take")
        if not isinstance(certificate.signature_hash_algorithm, SHA256):
            faults.append("is not signed with SHA-256, which is what devices take")
    if isinstance(key, ec.EllipticCurvePublicKey):
        faults += _form_faults(key, certificate.tbs_certificate_bytes, use)
    if certificate.issuer == certificate.subject:
        try:
            certificate.verify_directly_issued_by(certificate)
        except InvalidSignature:
            faults.append("is damaged: its own signature does not hold")
        except (ValueError, TypeError, UnsupportedAlgorithm):
            faults = faults or ["is signed by itself in a way that cannot be checked any more"]
    return faults


def _form_faults(key: ec.EllipticCurvePublicKey, signed: bytes, use: CaUse) -> list[str]:
    """Return what is wrong with the form of a key, which the library that reads it does not tell."""
    if _CURVE_SPELLED_OUT in signed:
        return ["spells its curve out (explicit parameters), where only the curve's name is taken"]
    if use.p256 and key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) not in signed:
        return ["has a compressed key, which devices do not take"]
    return []


def _extension(certificate: x509.Certificate, kind: type[Kind]) -> Kind | None:
    try:
        value = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    return value


def certificate_der(certificate: x509.Certificate) -> bytes:
    """Return a certificate in DER."""
    return certificate.public_bytes(Encoding.DER)
