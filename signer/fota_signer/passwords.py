"""Passwords of key files: from a file, the environment or the terminal; never from the command line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fota_wire.errors import InputError
from fota_wire.files import read_input
from fota_wire.host_crypto import load_private_key, require_role

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VARIABLE = "FOTA_KEY_PASSWORD"


def given_password(password_file: Path | None) -> bytes | None:
    """Return the password from the file (its first line), else from FOTA_KEY_PASSWORD, else None.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    if password_file is not None:
        lines = read_input(password_file, 4096).splitlines()
        if not lines or not lines[0]:
            raise InputError(f"{password_file}: no password in it", "password")
        return lines[0]
    value = os.environ.get(VARIABLE)
    return os.fsencode(value) if value else None


def ask(prompt: str) -> bytes:
    """Ask on the terminal.

    Raises:
        InputError: there is no terminal, or nothing was typed.
    """
    if not sys.stdin.isatty():
        raise InputError(f"no password: set {VARIABLE} or give --password-file", "password")
    import getpass

    value = getpass.getpass(prompt)
    if not value:
        raise InputError("no password given", "password")
    return value.encode()


def new_password(password_file: Path | None) -> bytes:
    """Return the password for a new key; typed twice if it is typed.

    Raises:
        InputError: none, or the two differ.
    """
    value = given_password(password_file)
    if value is None:
        value = ask("Password for the new key: ")
        if ask("Once more: ") != value:
            raise InputError("the two passwords differ", "password")
    return value


def open_key(
    path: Path,
    password_file: Path | None = None,
    allow_example_keys: bool = False,
    *,
    role: str,
    before: Callable[[], None] = lambda: None,
) -> "EllipticCurvePrivateKey":
    """Return the private key of a ``role`` in ``path``, asking for its password if it needs one; ``before``
    that, show what it is to sign.

    Raises:
        InputError: no P-256 key in PEM, one of another role, or the password is wrong.
        VerifyError: a published example key, and these are not allowed.
    """
    pem = read_input(path, 65536)
    require_role(pem, role, path)  # before anybody is asked for a password
    password = given_password(password_file)
    if password is None and b"ENCRYPTED" in pem:
        before()
        password = ask(f"Password of {path}: ")
    return load_private_key(path, password, allow_example_keys, role=role)
