"""Makes key files and shows their public half."""

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from cryptography.hazmat.primitives.serialization import PublicFormat as Public

from fota_wire import cose, host_crypto
from fota_wire.errors import InputError

ROLES = ("root", "release", "image", "assign", "device-ca", "server-ca", "server")


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
    if not password:
        raise InputError("a key file needs a password", "password")
    key = ec.generate_private_key(ec.SECP256R1())
    public = PublicKey(xy=host_crypto.public_xy(key))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    return f"# fota {label} {public.kid.hex()}\n".encode() + pem, public


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
