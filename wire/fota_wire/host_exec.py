"""Keys that another program signs with (not for devices): a vendor's tool, another cloud, a script.

``exec:COMMAND ARGUMENTS?public=FILE``: COMMAND gets the 32 bytes of a SHA-256 digest on standard input and
writes the signature, r||s or DER, to standard output; FILE has the public half. No shell reads the line.
"""

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fota_wire.errors import DeviceError, InputError
from fota_wire.files import read_input
from fota_wire.host_keys import Pin, SigningKey, checked

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEME = "exec:"
FORM = f"{SCHEME}COMMAND ARGUMENTS?public=FILE"


class ExecPlace(NamedTuple):
    """What to call, and where the public half is. As `host_keys.Place`."""

    command: tuple[str, ...]
    public: Path

    @property
    def name(self) -> str:
        """The program without its arguments."""
        return SCHEME + self.command[0]

    @property
    def label(self) -> str:
        """What the file with the public half says that the key is for. InputError: there is no such file."""
        from fota_wire.host_crypto import label_of

        words = label_of(read_input(self.public, 65536)).split()
        return words[2].decode() if words else ""

    def open(self, ask: "Callable[[str], Pin]") -> SigningKey:
        """Return the key; the program is called when it is to sign.

        Raises:
            InputError: no public half. From ``sign``: InputError, no such program; DeviceError, it failed.
        """
        from fota_wire.host_crypto import load_public_key

        return checked(self.name, load_public_key(self.public), self._sign, DeviceError)

    def make(self, label: str, ask: "Callable[[str], Pin]") -> tuple[str, bytes]:
        """Raise InputError: it is the program's own to make keys."""
        raise InputError(f"{self.name}: no key is made by a program that signs: use its own tools")

    def _sign(self, digest: bytes) -> bytes:
        try:  # its standard error is ours: it may have to say "touch the key"
            done = subprocess.run(self.command, input=digest, stdout=subprocess.PIPE, check=False)
        except OSError as exc:
            raise InputError(f"{self.name}: {exc.strerror}") from exc
        if done.returncode != 0:
            raise DeviceError(f"{self.name}: ended with {done.returncode}, and no signature")
        return done.stdout


def read_uri(text: str) -> ExecPlace:
    """Return what an address says.

    Raises:
        InputError: it names no command or no public half.
    """
    line, mark, file = text.removeprefix(SCHEME).rpartition("?public=")
    try:
        command = tuple(shlex.split(line))
    except ValueError as exc:
        raise InputError(f"an {SCHEME} address whose quotes do not close: {FORM}") from exc
    if not mark or not command or not command[0] or not file:
        raise InputError(f"an {SCHEME} address is {FORM}: what signs, and whose signature it is")
    return ExecPlace(command, Path(file))
