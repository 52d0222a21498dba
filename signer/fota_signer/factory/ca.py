"""The device CA: its key and certificate, and the device certificates that it issues."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fota_signer.factory.ca_key import LibraryKey
from fota_signer.keys import labelled_pem
from fota_signer.signing import Door
from fota_wire import attestation, certify
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import name_of, read_input
from fota_wire.host_ca import DEVICE_CA, ends_within, pem_certificates, require_ca, time_faults
from fota_wire.host_crypto import load_public_key, require_one
from fota_wire.host_keys import SigningKey
from fota_wire.host_x509 import issued_certificate, key_for, requested_key

if TYPE_CHECKING:
    from fota_wire.host_keys import Place

ATTESTATION_OID = x509.ObjectIdentifier(attestation.EXTENSION_OID)
RENEWED_OID = x509.ObjectIdentifier(certify.RENEWED_OID)
LONGEST_NAMES = 534
"""Bytes of a device CA's name (DER) and key id, which each certificate of it repeats: with all that SPEC 5.6
and 5.7 put into one it then has 1,024 at most. A test holds it."""
FOR_EVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280: no well-defined end; a device does not know the date, and the server can revoke it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceCa:
    """Key and certificate that belong together."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def _name(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError as exc:
        raise InputError(f"{common_name!r} is no name for a certificate: 1 to 64 characters") from exc


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)


def make_ca(common_name: str, days: int) -> DeviceCa:
    """Return a new device CA. Raises InputError: the name is not usable."""
    key = ec.generate_private_key(ec.SECP256R1())
    return DeviceCa(key=key, certificate=_self_signed(key, common_name, days))


def _self_signed(key: ec.EllipticCurvePrivateKey, common_name: str, days: int) -> x509.Certificate:
    name = _name(common_name)
    return (
        _builder(name, name, key.public_key(), now() + timedelta(days=days), _authority(key.public_key()))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )


NOTICE_DAYS = 730
"""A device CA that ends within these is worth a warning: devices are made to be in the field for longer."""


def new_ca(common_name: str, days: int, password: bytes) -> tuple[bytes, bytes]:
    """Return (encrypted key, certificate) of a new device CA, both PEM.

    Raises:
        InputError: the name or the password is not usable.
    """
    made = make_ca(common_name, days)
    return labelled_pem(made.key, "device-ca", password), made.certificate.public_bytes(Encoding.PEM)


def ca_of(key: SigningKey, common_name: str, days: int) -> bytes:
    """Return the certificate, PEM, of a new device CA whose key is there. Raises InputError: as `make_ca`."""
    return _self_signed(LibraryKey(key), common_name, days).public_bytes(Encoding.PEM)


def now() -> datetime:
    """Return the time, UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    until: datetime,
    authority: x509.AuthorityKeyIdentifier,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(authority, critical=False)
    )


def _authority(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _authority_of(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return what names the key of a CA as its own certificate does: OpenSSL finds the issuer by that."""
    try:
        own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return _authority(cast(ec.EllipticCurvePublicKey, ca.public_key()))
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def load_certificate(path: Path) -> x509.Certificate:
    """Return the one certificate in a PEM file. Raises InputError: there is none, or more than one."""
    pem = read_input(path, 65536)
    require_one(pem, "CERTIFICATE", name_of(path))
    return pem_certificates(pem, name_of(path))[0]


def load_ca(
    key: "Path | Place",
    certificate: Path,
    password_file: Path | None = None,
    *,
    allow_example_keys: bool = False,
) -> DeviceCa:
    """Return the device CA of a key, in a file or a store, and a certificate in PEM.

    Raises:
        InputError: a file is missing or no such thing, nobody would believe what this CA issues, a wrong
            password, or the two do not belong together.
        VerifyError: a published example key, which was not allowed.
    """
    loaded = load_certificate(certificate)
    require_ca(loaded, DEVICE_CA, str(certificate))  # before anybody is asked for a password
    _require_short(loaded, str(certificate))
    private = Door(key, password_file, allow_example_keys).open("device-ca")
    if load_public_key(certificate) != private.public:
        raise InputError(f"{private.name} is not the key of the certificate {certificate}")
    return DeviceCa(key=LibraryKey(private), certificate=loaded)


def _require_short(ca: x509.Certificate, where: str) -> None:
    size = len(ca.subject.public_bytes()) + len(_authority_of(ca).key_identifier or b"")
    if size > LONGEST_NAMES:
        raise InputError(
            f"{where}: the device CA's name and key id have {size} bytes, of {LONGEST_NAMES} at most:"
            f" devices take certificates of up to {certify.MAX_CERTIFICATE} bytes, and each repeats them",
            "limit",
        )


def notice(certificate: x509.Certificate, at: datetime | None = None) -> str | None:
    """Return what a factory has to know of a CA that is right today, or None."""
    if not ends_within(certificate, NOTICE_DAYS, at):
        return None
    end = certificate.not_valid_after_utc
    return f"the device CA ends on {end:%Y-%m-%d}, and no certificate of it holds longer: make its successor"


def issue(
    request_der: bytes,
    serial: bytes,
    ca: DeviceCa,
    until: datetime = FOR_EVER,
    attestation_value: bytes | None = None,
    *,
    renewed: bool = False,
) -> bytes:
    """Return the device certificate for a request, DER: CN = 18 hex digits of the serial, TLS client only.

    ``attestation_value``: of the extension that names the attestation key (SPEC 5.7). ``renewed``: ordered
    over the air (SPEC 5.6).

    Raises:
        VerifyError: the request is not signed by its key, for another name, or not for a P-256 key; or the
            CA has ended, or does so before ``until``.
    """
    require_in_force(ca, until)
    xy = requested_key(request_der, serial.hex())
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + xy)
    builder = (
        _builder(_name(serial.hex()), ca.certificate.subject, public, until, _authority_of(ca.certificate))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    if attestation_value is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(ATTESTATION_OID, attestation_value), critical=False
        )
    if renewed:
        builder = builder.add_extension(x509.UnrecognizedExtension(RENEWED_OID, b"\x05\x00"), critical=False)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def require_in_force(ca: DeviceCa, until: datetime = FOR_EVER) -> None:
    """Return if a CA is in its time, and a certificate of it that ends at ``until`` does not outlive it.

    Raises:
        VerifyError: code ``ca``. A certificate for ever ends with its CA.
    """
    faults = time_faults(ca.certificate, now())
    if faults:
        raise VerifyError(f"the device CA {faults[0]}", "ca")
    end = ca.certificate.not_valid_after_utc
    if until != FOR_EVER and until > end:
        raise VerifyError(
            f"the certificate would outlive its CA, which ends on {end:%Y-%m-%d}: fewer days", "ca"
        )


def is_renewed(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate was ordered over the air, not issued by the factory."""
    return any(extension.oid == RENEWED_OID for extension in certificate.extensions)


def attestation_value_of(certificate: x509.Certificate) -> bytes | None:
    """Return the value of a certificate's attestation extension, or None."""
    try:
        value = certificate.extensions.get_extension_for_oid(ATTESTATION_OID).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def require_issued(certificate_der: bytes, serial: bytes, identity_xy: bytes, ca: DeviceCa) -> None:
    """Return if a recorded certificate is this CA's, for this chip and key.

    Raises:
        VerifyError: it is not.
    """
    certificate = issued_certificate(
        certificate_der, ca.certificate, "step certificate: the recorded certificate"
    )
    if key_for(certificate, serial.hex()) != identity_xy:
        raise VerifyError("step certificate: the recorded certificate is for another key than the chip's")


def pem(certificate_der: bytes) -> str:
    """Return a certificate in PEM."""
    return x509.load_der_x509_certificate(certificate_der).public_bytes(Encoding.PEM).decode()
