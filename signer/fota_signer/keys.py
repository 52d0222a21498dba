"""Makes key files and shows their public half."""

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization import PublicFormat as Public

from fota_signer.pkcs8 import encrypted_pem
from fota_wire import cose, host_crypto
from fota_wire.errors import InputError
from fota_wire.host_keys import ROLES
from fota_wire.host_panic import panics_refused


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """Public half of a key: ``xy`` 64 bytes, ``key_hash`` 32 bytes, ``kid`` 8 bytes."""

    xy: bytes

    @property
    def kid(self) -> bytes:
        """The key id (SPEC 5)."""
        return cose.kid_of(self.xy)

    @property
    def key_hash(self) -> bytes:
        """The KEYHASH (SPEC 2)."""
        return cose.key_hash(self.xy)

    def pem(self) -> bytes:
        """Return SubjectPublicKeyInfo in PEM."""
        return load_der_public_key(cose.spki(self.xy)).public_bytes(Encoding.PEM, Public.SubjectPublicKeyInfo)


def check_label(label: str) -> None:
    """Return if ``label`` is ROLE/NAME.

    Raises:
        InputError: it is not, or the role is unknown.
    """
    role, _, name = label.partition("/")
    if role not in ROLES or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InputError(f"{label!r} is not ROLE/NAME with a role of {', '.join(ROLES)}")


def new_key_pem(label: str, password: bytes) -> tuple[bytes, PublicKey]:
    """Return (encrypted PKCS#8 PEM with a comment line, public half) of a fresh P-256 key.

    Raises:
        InputError: the label is not ROLE/NAME, or the password is empty.
    """
    check_label(label)
    key = ec.generate_private_key(ec.SECP256R1())
    return labelled_pem(key, label, password), PublicKey(xy=host_crypto.public_xy(key))


def labelled_pem(key: ec.EllipticCurvePrivateKey, label: str, password: bytes) -> bytes:
    """Return the key file of a private key: a line that says what it is for, and the key, encrypted.

    Raises:
        InputError: the password is empty.
    """
    if not password:
        raise InputError("a key file needs a password", "password")
    public = PublicKey(xy=host_crypto.public_xy(key))
    return label_line(public, label) + encrypted_pem(key, password)


def label_line(public: PublicKey, label: str) -> bytes:
    """Return the first line of a key file: what it is for, and which key it is."""
    return f"# fota {label} {public.kid.hex()}\n".encode()


def read_any(data: bytes, password: bytes | None, where: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 private key in whatever holds one: SEC 1 or PKCS #8, PEM or DER, encrypted or not.

    Raises:
        InputError: it holds none, or the password is wrong or missing.
    """
    host_crypto.require_one(data, "PRIVATE KEY", where)
    load = load_pem_private_key if b"-----BEGIN" in data else load_der_private_key
    key: object
    try:
        with panics_refused(quiet=True):
            key = load(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        if "password" in str(exc).lower() or "decrypt" in str(exc).lower():
            raise InputError(f"{where}: wrong password, or none for an encrypted key", "password") from exc
        raise InputError(f"{where}: not a private key in PEM or DER", "key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise InputError(f"{where}: not a P-256 key", "key")
    return key


def plain_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return unencrypted PKCS#8 PEM: for throw-away keys only."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def show(path: Path, password: bytes | None = None) -> PublicKey:
    """Return the public half of a PEM file: public key, certificate, or private key (password if encrypted).

    Raises:
        InputError: no such file or key, or a wrong password.
    """
    if password is None:
        return PublicKey(xy=host_crypto.load_public_key(path))
    key = host_crypto.load_private_key(
        path, password, allow_example_keys=True
    )  # its public half is no secret
    return PublicKey(xy=host_crypto.public_xy(key))
