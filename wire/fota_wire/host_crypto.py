"""P-256 on the host (not for devices): the ``sign`` and ``verify`` seams over the ``cryptography`` package.

Imports are inside the functions: most commands need none of this, and it is the slowest part of a start.
"""

import binascii
import os
import re
from functools import lru_cache
from pathlib import Path

from fota_wire import der, example_keys
from fota_wire.cose import kid_of
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import name_of, read_input, require_unshared
from fota_wire.host_panic import panics_refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        ECDSA,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

    from fota_wire.seams import Sign

ALLOW_EXAMPLE_KEYS = "FOTA_ALLOW_EXAMPLE_KEYS"
"""Environment variable: ``1`` lets the published throw-away keys be used."""

_LABEL = re.compile(rb"\A# fota ([a-z-]+)(/[A-Za-z0-9._-]+)? ([0-9a-f]{16})\r?\n")
"""First line of the files of ``fota keys`` and ``fota ca``: role, name, key id."""

KEYS_KEPT = 4096
"""Public keys that are kept as objects, those used last: 2 KiB each."""

_PKCS8_HEAD = bytes.fromhex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420")
_PKCS8_PUBLIC = bytes.fromhex("a14403420004")


def verify(public_xy: bytes, digest: bytes, signature: bytes) -> bool:
    """Tell whether r||s is ``public_xy``'s signature of a SHA-256 ``digest``. False also for a point off the
    curve.
    """
    from cryptography.exceptions import InvalidSignature

    if len(public_xy) != 64 or len(digest) != 32 or len(signature) != 64:
        return False
    try:
        _public_key(public_xy).verify(der.from_raw(signature), digest, _ecdsa())
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(KEYS_KEPT)
def _public_key(public_xy: bytes) -> "EllipticCurvePublicKey":
    """Return the key as an object: to make one costs a fifth of what a verification with it does."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public_xy)


def is_public(public_xy: bytes) -> bool:
    """Tell whether these are x||y of a P-256 key."""
    try:
        return len(public_xy) == 64 and _public_key(public_xy) is not None
    except ValueError:
        return False


def signer(key: "EllipticCurvePrivateKey") -> "Sign":
    """Return the ``sign`` seam of a private key; deterministic (RFC 6979)."""

    def sign(digest: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric import utils

        encoded = key.sign(digest, _ecdsa(deterministic=True))
        r, s = utils.decode_dss_signature(encoded)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def public_xy(key: "EllipticCurvePrivateKey | EllipticCurvePublicKey") -> bytes:
    """Return the public key as 64 bytes x||y."""
    from cryptography.hazmat.primitives.asymmetric import ec

    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    numbers = public.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def load_private_key(
    path: Path, password: bytes | None = None, allow_example_keys: bool = False, *, role: str | None = None
) -> "EllipticCurvePrivateKey":
    """Return the P-256 private key in a PEM file. ``role``: what it is to be used for, see `require_role`.

    Raises:
        InputError: no such file, not a P-256 key, password wrong or missing, a key of another role.
        VerifyError: one of the published example keys, and neither ``allow_example_keys`` nor
            FOTA_ALLOW_EXAMPLE_KEYS=1; code ``example-key``.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = read_input(path, 65536)
    require_role(pem, role, path)
    require_one(pem, "PRIVATE KEY", name_of(path))
    encrypted = b"ENCRYPTED" in pem
    if encrypted and password is None:
        raise InputError(f"{name_of(path)}: the key is encrypted: give its password", "password")
    try:
        with panics_refused(quiet=True):
            key = _plain_key(pem) or _pem_key(pem, password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        what = "wrong password, or a damaged file" if encrypted else "not a private key in PEM"
        raise InputError(f"{name_of(path)}: {what}", "password" if encrypted else "key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise InputError(f"{name_of(path)}: not a P-256 key", "key")
    refuse_example_key(public_xy(key), allow_example_keys, name_of(path))
    return key


def _pem_key(pem: bytes, password: bytes | None) -> object:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem, password)


def _plain_key(pem: bytes) -> "EllipticCurvePrivateKey | None":
    """Return the key of an unencrypted PKCS#8 file in its usual form, None if it has any other form.

    The library's general loader imports its SSH formats too: 15 ms, a fifth of a whole ``fota sign``.

    Raises:
        ValueError: the two halves of the key do not belong together.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    _, _, rest = pem.partition(b"-----BEGIN PRIVATE KEY-----\n")
    body, end, _ = rest.partition(b"-----END PRIVATE KEY-----")
    if not end:
        return None
    der = binascii.a2b_base64(body)
    if len(der) != 138 or der[:36] != _PKCS8_HEAD or der[68:74] != _PKCS8_PUBLIC:
        return None
    key = ec.derive_private_key(int.from_bytes(der[36:68], "big"), ec.SECP256R1())
    if public_xy(key) != der[74:]:
        raise ValueError("public and private half differ")
    return key


def require_one(pem: bytes, what: str, where: str) -> None:
    """Return unless ``where`` holds more than one block of PEM called ``what``: one would be left out.

    Raises:
        InputError: it does.
    """
    count = pem.count(what.encode() + b"-----") // 2  # BEGIN and END
    if count > 1:
        raise InputError(f"{where}: holds {count} {what.lower()}s, and one is taken here")


def refuse_example_key(xy: bytes, allow_example_keys: bool, where: str) -> None:
    """Return unless ``xy`` is one of the published throw-away keys and these are not allowed.

    Raises:
        VerifyError: code ``example-key``.
    """
    if allow_example_keys or os.environ.get(ALLOW_EXAMPLE_KEYS) == "1":
        return
    if kid_of(xy) in example_keys.PUBLISHED:
        raise VerifyError(
            f"{where}: a published example key; make your own, or say --allow-example-keys", "example-key"
        )


def label_of(pem: bytes) -> bytes:
    """Return the line with role and name at the head of a key file, b"" if there is none."""
    found = _LABEL.match(pem)
    return found[0] if found else b""


def require_role(pem: bytes, role: str | None, path: Path) -> None:
    """Return unless a key file says of itself that it is for something else; one that says nothing passes.

    It guards against a wrong file, not against a forger: each key has one role (DESIGN 4), and the roots in
    an element are for ever.

    Raises:
        InputError: it is of another role; code ``key-role``.
    """
    found = _LABEL.match(pem)
    if role is not None and found and found[1].decode() != role:
        label = (found[1] + (found[2] or b"")).decode()
        raise InputError(
            f"{name_of(path)}: the key {label}; what is wanted here is a key of role {role}", "key-role"
        )


def require_own(pem: bytes, xy: bytes, path: Path, role: str) -> None:
    """Return if a private key (``pem``, its public half ``xy``) is fit to sign with in a ``role``: it says
    that it is for that, and nobody else can read it. What everybody has, an example key, is no secret.

    Raises:
        InputError: codes ``key-role``, ``mode``; says what to type.
    """
    if kid_of(xy) in example_keys.KIDS:
        return
    require_role(pem, role, path)
    if not label_of(pem):
        raise without_role(path, role)
    require_private(path, xy)


def require_private(path: Path, xy: bytes) -> None:
    """Return if ``path``, with the private key of ``xy``, is a file that only its owner can read, or a
    stream; or the key is an example.

    Raises:
        InputError: group or others can read it, or it is not there; says what to type; code ``mode``.
    """
    if kid_of(xy) in example_keys.KIDS:
        return
    require_unshared(path, "private key")


def without_role(path: Path, role: str) -> InputError:
    """Return what is said of a key that does not say what it is for."""
    return InputError(
        f"{name_of(path)}: the key does not say what it is for; if it is a key of role {role}:"
        f" fota keys import {path} --role {role}/NAME -o NEW",
        "key-role",
    )


def load_public_key(path: Path, role: str | None = None) -> bytes:
    """Return x||y of the P-256 key in a PEM file: a public key, a certificate, or an unencrypted private key.

    ``role``: what it is to be used for, see `require_role`; a certificate is of none.

    Raises:
        InputError: no such file, no such key in it, or one of another role.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    pem = read_input(path, 65536)
    require_role(pem, role, path)
    for what in ("CERTIFICATE", "PRIVATE KEY", "PUBLIC KEY"):
        require_one(pem, what, name_of(path))
    key: object
    try:
        if b"BEGIN CERTIFICATE" in pem and role is not None:
            raise InputError(
                f"{name_of(path)}: a certificate, where the public key of role {role} is wanted; if its key"
                f" is meant: fota keys public {path} -o NEW",
                "key",
            )
        if b"BEGIN CERTIFICATE" in pem:
            from fota_wire.host_pem import pem_certificate

            key = pem_certificate(pem, name_of(path)).public_key()
        elif b"ENCRYPTED" in pem:
            raise InputError(
                f"{name_of(path)}: an encrypted private key: give its public half, of"
                f" fota keys public {path} -o NEW",
                "key",
            )
        elif b"PRIVATE KEY" in pem:
            with panics_refused(quiet=True):
                key = load_pem_private_key(pem, None).public_key()
        else:
            with panics_refused(quiet=True):
                key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InputError(f"{name_of(path)}: no public key in PEM", "key") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise InputError(f"{name_of(path)}: not a P-256 key", "key")
    return public_xy(key)


@lru_cache(2)
def _ecdsa(deterministic: bool = False) -> "ECDSA":
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    return ECDSA(Prehashed(SHA256()), deterministic_signing=deterministic)
