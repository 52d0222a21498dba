"""The one door to a private key: whoever signs comes through here, wherever the key is kept.

A key in a room without a network signs in two steps: with ``prepare`` the digest goes to a file and nothing
else happens; with ``attach`` the same command, of the same inputs, takes the signature that was carried back.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fota_signer import passwords
from fota_wire.cose import kid_of
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import STREAM, name_of, read_input
from fota_wire.host_crypto import (
    label_of,
    load_private_key,
    load_public_key,
    public_xy,
    refuse_example_key,
    require_own,
    require_role,
    without_role,
)
from fota_wire.host_keys import SigningKey, held, in_memory
from fota_wire.host_keys import require_role as require_role_of
from fota_wire.host_values import UsageError

if TYPE_CHECKING:
    from fota_wire.host_keys import Place

MAX_SIGNATURE = 4096


class Prepared(Exception):
    """A ``digest`` is to be signed elsewhere by the key ``kid``, and goes to ``file``; ``show`` what of."""

    def __init__(self, file: Path, kid: bytes, digest: bytes, show: Callable[[], None]) -> None:
        super().__init__()
        self.file, self.kid, self.digest, self.show = file, kid, digest, show


class Door(NamedTuple):
    """What a command was told of the key to sign with; ``key``: of two steps, the public half."""

    key: "Path | Place"
    password_file: Path | None = None
    allow_example_keys: bool = False
    prepare: Path | None = None
    attach: Path | None = None

    def open(self, role: str, before: Callable[[], None] = lambda: None) -> SigningKey:
        """Return the key of a ``role``; ``before`` a password or PIN is asked for, show what is to be signed.

        Raises:
            UsageError: two steps, and not told by whose public half.
            InputError: no such key, one of another role or of none, or the password is wrong; or others on
                this machine can read the file.
            VerifyError: a published example key, and these are not allowed; or, from the key's ``sign``, what
                was carried back is no signature of this.
            FotaError: a store does not let it be used. Prepared: from the key's ``sign``.
        """
        if self.prepare is not None or self.attach is not None:
            key = self._carried(role, before)
        elif isinstance(self.key, Path):
            key = self._of_file(self.key, role, before)
        else:
            require_role_of(self.key, role)
            key = self.key.open(passwords.asker(self.password_file, before))
        refuse_example_key(key.public, self.allow_example_keys, key.name)
        return key

    def _of_file(self, path: Path, role: str, before: Callable[[], None]) -> SigningKey:
        pem = read_input(path, 65536)
        require_role(pem, role, path)  # before anybody is asked for a password
        encrypted, labelled = b"ENCRYPTED" in pem, bool(label_of(pem))
        if b"-----BEGIN PUBLIC KEY-----" in pem:
            raise InputError(
                f"--key: {name_of(path)} is a public key, expected a private key (or --prepare, --attach)"
            )
        if encrypted and not labelled:
            raise without_role(path, role)
        password = passwords.given_password(self.password_file)
        if password is None and encrypted:
            before()
            password = passwords.ask(f"Password of {path}: ")
        key = load_private_key(path, password, self.allow_example_keys, role=role)
        require_own(pem, public_xy(key), path, role)
        return in_memory(key, name_of(path))

    def _carried(self, role: str, before: Callable[[], None]) -> SigningKey:
        if not isinstance(self.key, Path):
            raise UsageError("--prepare and --attach: --key is the file of the public half")
        prepare, attach = self.prepare or STREAM, self.attach
        if self.prepare is not None and attach is not None:
            raise UsageError("--prepare and --attach are two steps: one of them")
        name, public = name_of(self.key), load_public_key(self.key, role)

        def sign(digest: bytes) -> bytes:
            if attach is None:
                raise Prepared(prepare, kid_of(public), digest, before)
            raw = held(public, digest, read_input(attach, MAX_SIGNATURE))
            if raw is None:
                raise VerifyError(
                    f"{name_of(attach)}: no signature of {name} over {digest.hex()}: of another digest or"
                    " key, or other inputs than were prepared",
                    "signature",
                )
            return raw

        return SigningKey(name, public, sign)
