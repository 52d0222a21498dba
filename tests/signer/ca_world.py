"""CA certificates of every kind that people bring along, made on the spot: usable ones and others."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fota_signer.factory.request import certificate_request
from fota_wire import pkcs10
from fota_wire.host_crypto import public_xy, signer

CLIENT, SERVER, ANY = (
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
DAY = timedelta(days=1)
CERT_SIGN, NO_CERT_SIGN = (
    x509.KeyUsage(False, False, False, False, False, True, True, False, False),
    x509.KeyUsage(True, False, False, False, False, False, False, False, False),
)


def make_ca(
    *,
    key=None,
    ca=True,
    path_length=None,
    usage=CERT_SIGN,
    purposes=(),
    starts=-DAY,
    ends=3650 * DAY,
    key_id="usual",
    more=(),
    issuer=None,
    signed_with=None,
    name="a CA",
):
    """Return (certificate, key). ``more``: [(extension, critical)]; ``issuer``: (certificate, key)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer[0].subject if issuer else own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length if ca else None), True)
    if usage is not None:
        builder = builder.add_extension(usage, True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
    if key_id == "usual":
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    elif key_id is not None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(key_id), False)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    signing = signed_with or (issuer[1] if issuer else key)
    return builder.sign(signing, hashes.SHA256()), key


def request_of(serial: bytes):
    """Return the certificate request, DER, of a chip with this serial number."""
    import hashlib

    key = ec.generate_private_key(ec.SECP256R1())
    xy = public_xy(key)
    digest = hashlib.sha256(pkcs10.request_info(serial.hex(), xy)).digest()
    return certificate_request(serial.hex(), xy, signer(key)(digest))
