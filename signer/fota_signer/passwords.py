"""Passwords of key files and PINs of tokens: from a file, the environment or the terminal; never from the
command line.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from fota_wire.errors import InputError
from fota_wire.files import read_input, require_secret
from fota_wire.host_keys import Pin, pin_of_file

VARIABLE = "FOTA_KEY_PASSWORD"
NEW_VARIABLE = "FOTA_NEW_KEY_PASSWORD"
MIN_LENGTH, MIN_DIFFERENT = 12, 5
_WELL_KNOWN = (
    *("password", "passwordpassword", "passw", "passwd", "qwerty", "qwertyuiop", "qwertyuiopasdfghjkl"),
    *("asdfghjkl", "letmein", "changeme", "changemeplease", "welcome", "administrator", "admin", "secret"),
    *("iloveyou", "abcdefghijkl", "abcdefghijklm", "correcthorsebatterystaple"),
)
"""By their letters; digits and signs between them make nothing of it."""
_IN_DISGUISE = str.maketrans("0134578@$", "oleastbas")


def given_password(password_file: Path | None) -> bytes | None:
    """Return the password from the file (its first line), else from FOTA_KEY_PASSWORD, else None.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    if password_file is not None:
        require_secret(password_file, "password")
        lines = read_input(password_file, 4096).splitlines()
        if not lines or not lines[0]:
            raise InputError(f"{password_file}: no password in it", "password")
        return lines[0]
    value = os.environ.get(VARIABLE)
    return os.fsencode(value) if value else None


def ask(prompt: str, variable: str = VARIABLE, option: str = "--password-file") -> bytes:
    """Ask on the terminal; ``variable`` and ``option``: how else it might have been given.

    Raises:
        InputError: there is no terminal, or nothing was typed.
    """
    if not sys.stdin.isatty():
        raise InputError(f"no password: set {variable} or give {option}", "password")
    import getpass

    value = getpass.getpass(prompt)
    if not value:
        raise InputError("no password given", "password")
    return value.encode()


def new_password(password_file: Path | None) -> bytes:
    """Return the password for a new key; typed twice if it is typed.

    Raises:
        InputError: none, too weak, or the two differ.
    """
    value = given_password(password_file)
    return _typed_twice() if value is None else checked(value)


def changed_password(password_file: Path | None) -> bytes:
    """Return the next password of a key that has one: from the file, else from FOTA_NEW_KEY_PASSWORD, else
    asked for. Raises InputError as `new_password`.
    """
    if password_file is not None:
        return checked(given_password(password_file) or b"")
    value = os.environ.get(NEW_VARIABLE)
    return checked(os.fsencode(value)) if value else _typed_twice(NEW_VARIABLE, "--new-password-file")


def checked(password: bytes) -> bytes:
    """Return a password that is not guessed in an afternoon.

    Raises:
        InputError: it is; says the rule.
    """
    text = password.decode(errors="replace")
    written = text.lower().rstrip("0123456789!?.")
    letters = {_letters(text.lower()), _letters(written.translate(_IN_DISGUISE))}
    few = len(text) < MIN_LENGTH or len(set(text)) < MIN_DIFFERENT or text.isdecimal()
    if few or not letters.isdisjoint(_WELL_KNOWN):
        raise InputError(
            f"the password is too weak: at least {MIN_LENGTH} characters, {MIN_DIFFERENT} of them different,"
            " not digits alone, and none that everybody knows",
            "password",
        )
    return password


def _letters(text: str) -> str:
    return "".join(character for character in text if character.isalpha())


def _typed_twice(variable: str = VARIABLE, option: str = "--password-file") -> bytes:
    value = checked(ask("New password: ", variable, option))
    if ask("Once more: ", variable, option) != value:
        raise InputError("the two passwords differ", "password")
    return value


def asker(password_file: Path | None, before: Callable[[], None] = lambda: None) -> Callable[[str], Pin]:
    """Return who gives a store its PIN: the file, else whoever is there. No variable does: a password that is
    there for a key file would be tried on a token, which locks itself.
    """

    def ask_pin(what: str) -> Pin:
        if password_file is not None:
            return pin_of_file(password_file)
        if not sys.stdin.isatty():
            raise InputError(
                f"{what}: name its file by pin-source or --password-file, or be there to type it", "password"
            )
        before()
        return Pin(ask(f"{what}: ").decode(), typed=True)

    return ask_pin
