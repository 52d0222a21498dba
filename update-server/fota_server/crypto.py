"""The ASSIGN key, and what it signs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from fota_server.answers import NULL, bstr, uint
from fota_wire import assignment, cbor, cose, host_crypto, host_keys, merkle
from fota_wire.errors import FotaError, InputError
from fota_wire.files import read_input
from fota_wire.host_keys import SigningKey


class SignerUnavailable(FotaError):
    """Who holds the ASSIGN key does not answer."""

    exit_code = 5


class Assigner(Protocol):
    """Signs ASSIGNMENTs by the ASSIGN key with the id ``kid``."""

    kid: bytes

    async def assignments(self, payloads: Sequence[bytes], sharing: Sequence[bool]) -> list[bytes]:
        """Return an ASSIGNMENT for each payload; ``sharing``: its device is good with a shared signature.

        Raises:
            SignerUnavailable: nothing was signed.
        """


class AssignSigner:
    """The ASSIGN key, in memory or in a store. It says what is wanted of a device, and signs nothing that one
    would run.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey | SigningKey) -> None:
        if not isinstance(key, SigningKey):
            key = host_keys.in_memory(key)
        self.kid = key.kid
        self.sign = key.sign
        protected = cbor.encode({1: cose.ESP256, 4: self.kid})
        self._before = {  # what is hashed before the payload
            aad: hashlib.sha256(cbor.encode(["Signature1", protected, aad, b""])[:-1])
            for aad in (assignment.AAD, assignment.SHARED_AAD)
        }
        self._head = b"\xd2\x84" + bstr(protected) + b"\xa0"  # tag 18, of 4: protected, unprotected

    async def assignments(self, payloads: Sequence[bytes], sharing: Sequence[bool]) -> list[bytes]:
        """As `Assigner`; at once."""
        return self.sign_all(payloads, sharing)

    def sign_all(self, payloads: Sequence[bytes], sharing: Sequence[bool]) -> list[bytes]:
        """Return an ASSIGNMENT for each payload. Those whose device is good with that share a signature, once
        there are two of them: however slow the key's store is, it is asked once for all that wait.
        """
        shared = iter(self._share([raw for raw, shares in zip(payloads, sharing, strict=True) if shares]))
        return [
            next(shared) if shares else self.alone(raw) for raw, shares in zip(payloads, sharing, strict=True)
        ]

    def _share(self, payloads: list[bytes]) -> list[bytes]:
        """As `assignment.share`, of two or more."""
        if len(payloads) < 2:
            return [self.alone(raw) for raw in payloads]
        top, paths = merkle.grow(payloads)
        size = uint(len(payloads))
        signature = self._signature(bstr(b"\x82" + size + bstr(top)), assignment.SHARED_AAD)
        tail = bstr(self._head + NULL + signature)
        return [
            b"".join((b"\x85", bstr(raw), uint(place), size, bstr(path), tail))
            for place, (raw, path) in enumerate(zip(payloads, paths, strict=True))
        ]

    def alone(self, payload: bytes) -> bytes:
        """Return the ASSIGNMENT with a signature of its own, as of `assignment.build`."""
        embedded = bstr(payload)
        return self._head + embedded + self._signature(embedded, assignment.AAD)

    def _signature(self, embedded: bytes, aad: bytes) -> bytes:
        tbs = self._before[aad].copy()
        tbs.update(embedded)
        return bstr(self.sign(tbs.digest()))


def load_assign_signer(
    path: Path, *, password: str | None = None, allow_example_keys: bool = False, new: bool = False
) -> AssignSigner:
    """Return the signer whose key is in a PEM file, encrypted or not. ``new``: a server is set up with it,
    and it has to say what it is for.

    Raises:
        InputError: no P-256 key, one of another role, the password is missing or wrong, or others on this
            machine can read the file.
        VerifyError: it is one of the published example keys, and these are not allowed (``example-key``).
    """
    secret = password.encode() if password else None
    try:
        key = host_crypto.load_private_key(path, secret, allow_example_keys, role="assign")
    except InputError as exc:
        if exc.code != "password":
            raise
        raise InputError(f"{exc} (FOTA_ASSIGN_PASSWORD)", exc.code) from exc
    xy = host_crypto.public_xy(key)
    if new:
        host_crypto.require_own(read_input(path, 65536), xy, path, "assign")
    host_crypto.require_private(path, xy)
    return AssignSigner(key)
