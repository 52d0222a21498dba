"""Private keys to sign with, wherever they are kept (not for devices): files, tokens, a cloud, a program.

A key's name is a path (PEM), or a URI whose scheme is one of STORES: a module with ``read_uri(text)``, which
returns a `Place`. Another store is another row here and one such module: whoever signs sees a `SigningKey`.
"""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from fota_wire import cose, der, host_crypto
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import read_line, require_secret, require_unshared

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from fota_wire.seams import Sign

STORES = {"pkcs11": "fota_wire.host_pkcs11", "awskms": "fota_wire.host_kms", "exec": "fota_wire.host_exec"}
ROLES = (
    "root",
    "release",
    "image",
    "evidence",
    "assign",
    "campaign",
    "log",
    "device-ca",
    "server-ca",
    "server",
)


class SigningKey(NamedTuple):
    """A private P-256 key: its ``name`` in messages, ``public`` x||y, ``sign`` a SHA-256 digest to r||s."""

    name: str
    public: bytes
    sign: "Sign"

    @property
    def kid(self) -> bytes:
        """The key id (SPEC 5)."""
        return cose.kid_of(self.public)


class Pin(NamedTuple):
    """What opens a store; ``typed`` just now by somebody, and not found in a file."""

    value: str
    typed: bool


def pin_of_file(path: Path) -> Pin:
    """Return the PIN in the first line of a file.

    Raises:
        InputError, StorageError: there is none, or others can read the file.
    """
    require_secret(path, "PIN")
    require_unshared(path, "PIN")
    return Pin(read_line(path, "PIN").strip(), typed=False)


class Place(Protocol):
    """Where a store keeps a key, as its URI says it; nothing was opened yet."""

    @property
    def name(self) -> str:
        """The store and the key, in messages; nothing in it is secret."""

    @property
    def label(self) -> str:
        """What the store calls the key, if it does: with ROLE/NAME it says what it is for."""

    def open(self, ask: "Callable[[str], Pin]") -> SigningKey:
        """Return the key, whose every signature is verified by its public half before it is handed out.
        ``ask``: gives the PIN of what it is told, where the store wants one and the URI does not say one.

        Raises:
            FotaError: there is no such key, or the store does not let it be used.
        """

    def make(self, label: str, ask: "Callable[[str], Pin]") -> "tuple[str, bytes]":
        """Make a key called ``label`` in the store, never to leave it; return its URI and x||y.

        Raises:
            FotaError: one of that name is there, or none can be made here.
        """


def place_of(text: str) -> Path | Place:
    """Return what a key's name names. A file whose name begins like a URI is ``./pkcs11:...``.

    Raises:
        InputError: a URI that names no key.
    """
    scheme, colon, _ = text.partition(":")
    if not colon or scheme not in STORES:
        return Path(text)
    return cast(Place, import_module(STORES[scheme]).read_uri(text))


def role_of(label: str) -> str | None:
    """Return the role that ROLE/NAME says, None if it says none."""
    role, slash, _ = label.partition("/")
    return role if slash and role in ROLES else None


def require_role(place: Place, role: str) -> None:
    """Return unless a key says of itself that it is for something else, as `host_crypto.require_role`.

    Raises:
        InputError: it does; code ``key-role``.
    """
    if role_of(place.label) not in (role, None):
        raise InputError(
            f"{place.name}: the key {place.label}; what is wanted here is a key of role {role}", "key-role"
        )


def in_memory(key: "EllipticCurvePrivateKey", name: str = "a key in memory") -> SigningKey:
    """Return a key of the library's as one to sign with; it signs by RFC 6979."""
    return SigningKey(name, host_crypto.public_xy(key), host_crypto.signer(key))


def checked(
    name: str, public: bytes, sign: "Callable[[bytes], bytes]", fault: "Callable[[str], Exception]"
) -> SigningKey:
    """Return a key of which no signature is handed out that does not hold; ``sign`` gives r||s or DER.

    ``fault``: the error to raise of a store that signs wrongly.
    """

    def sign_checked(digest: bytes) -> bytes:
        raw = held(public, digest, sign(digest))
        if raw is None:
            raise fault(f"{name}: what it signed does not hold by the key's public half")
        return raw

    return SigningKey(name, public, sign_checked)


def held(public: bytes, digest: bytes, signature: bytes) -> bytes | None:
    """Return r||s of a signature, itself r||s or DER, if ``public`` made it over ``digest``; else None."""
    forms = [signature] if len(signature) == 64 else []
    with suppress(VerifyError):
        forms.append(der.to_raw(signature))
    return next((raw for raw in forms if host_crypto.verify(public, digest, raw)), None)
