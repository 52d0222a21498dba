"""The throw-away keys of ``keys.example/``: derived from a published constant, so that all can make and know
them.
"""

import datetime
import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fota_signer.keys import PublicKey, plain_pem
from fota_wire import example_keys, host_crypto

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NOT_BEFORE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2036, 1, 1, tzinfo=datetime.UTC)
README = """# Throw-away keys

Made by `fota keys example` from a constant that everybody can read. They protect nothing.
Whatever signs, provisions, makes a ROOT or runs a server refuses them
unless it is told `--allow-example-keys` (or `FOTA_ALLOW_EXAMPLE_KEYS=1`).
"""


def example_key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the published private key of ``name`` (:data:`fota_wire.example_keys.NAMES`)."""
    digest = hashlib.sha256(example_keys.SEED + b"\0" + name.encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest, "big") % (ORDER - 1) + 1, ec.SECP256R1())


def example_files() -> dict[str, bytes]:
    """Return {file name: content} of the whole set: private and public PEM each, certificates, README."""
    files = {"README.md": README.encode()}
    for name in example_keys.NAMES:
        key = example_key(name)
        files[f"{name}.pem"] = plain_pem(key)
        files[f"{name}.pub.pem"] = PublicKey(xy=host_crypto.public_xy(key)).pem()
    for name in ("device-ca", "server-ca"):
        files[f"{name}.crt"] = _certificate(name, name).public_bytes(Encoding.PEM)
    files["server.crt"] = _certificate("server", "server-ca").public_bytes(Encoding.PEM)
    return files


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fota example {name}")])


def _certificate(name: str, issuer: str) -> x509.Certificate:
    """Return a certificate without chance: fixed dates, serial number from its name, RFC 6979 signature."""
    is_ca = name == issuer
    key, ca_key = example_key(name).public_key(), example_key(issuer)
    serial = int.from_bytes(hashlib.sha256(b"serial " + name.encode()).digest()[:15], "big") | 1
    builder = (
        x509.CertificateBuilder(_name(issuer), _name(name), key, serial, NOT_BEFORE, NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(_usage(is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if not is_ca:
        addresses = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", "::1")]
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses])
        builder = builder.add_extension(names, critical=False)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(ca_key, hashes.SHA256(), ecdsa_deterministic=True)


def _usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
