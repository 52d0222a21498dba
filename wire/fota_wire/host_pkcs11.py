"""Keys behind PKCS#11 (not for chips): an HSM, a TPM's or a crypto element's module, or SoftHSM2. What is
signed is signed in the token; the key never leaves it.

A place is a URI of RFC 7512: ``pkcs11:token=NAME;object=LABEL?module-path=FILE&pin-source=FILE``.
"""

import _ssl
import ctypes
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from fota_wire.errors import DeviceError, InputError, StorageError
from fota_wire.status import CE1, CE5

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEME = "pkcs11:"
POINT_HEAD = b"\x04\x41\x04"  # OCTET STRING of an uncompressed point


class Place(NamedTuple):
    """Where a key pair is: a token and the pair's label in it, by a module; and where its PIN stands."""

    token: str
    label: str
    module: str
    pin_file: Path | None


def read_uri(text: str) -> Place:
    """Return what a URI of RFC 7512 names.

    Raises:
        InputError: it is none, names too little, what we do not know, or a PIN.
    """
    path, _, query = text.removeprefix(SCHEME).partition("?")
    found: dict[str, str] = {}
    for part in (*path.split(";"), *(query.split("&") if query else ())):
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise InputError("a PIN is no part of a key's address, which everybody can read: use pin-source")
        if not equals or name not in _NAMES or name in found:
            what = f"{name!r} twice" if name in found else f"{name!r}"
            raise InputError(f"{what} in a {SCHEME} address: it has {', '.join(_NAMES)}, each once")
        found[name] = unquote(value)
    for name in ("token", "object", "module-path"):
        if not found.get(name):
            raise InputError(f"a {SCHEME} address without {name}: {_FORM}")
    if found.get("type", "private") != "private":
        raise InputError(f"type={found['type']} in a {SCHEME} address: a private key is wanted")
    source = found.get("pin-source")
    if source is not None and (source.startswith("|") or not source.removeprefix("file:")):
        raise InputError("pin-source is a file with the PIN in its first line")
    pin_file = Path(source.removeprefix("file:")) if source else None
    return Place(found["token"], found["object"], found["module-path"], pin_file)


_NAMES = ("token", "object", "type", "module-path", "pin-source")
_FORM = f"{SCHEME}token=NAME;object=LABEL?module-path=FILE&pin-source=FILE"


class Token:
    """A token's P-256 key pairs, by their labels. A session that was lost (token pulled, daemon restarted,
    module finalized by somebody else) is opened again; a PIN that was refused is never tried again: tokens
    lock themselves.

    Raises:
        StorageError: python-pkcs11 is not installed.
        DeviceError: CE1, no such module or token; CE5, the PIN is wrong.
    """

    def __init__(self, module: str, token: str, pin: str) -> None:
        self._place = (module, token, pin)
        self._refused: DeviceError | None = None
        self.session = _open(*self._place)

    def random(self) -> bytes:
        """Return 32 random bytes of the token."""
        return bytes(self._ask(lambda session: session.generate_random(256)))

    def public_key(self, label: str) -> bytes:
        """Return x || y. DeviceError CE1: no such key, or not on P-256."""
        from pkcs11 import Attribute, ObjectClass

        point = bytes(
            self._ask(lambda session: find(session, ObjectClass.PUBLIC_KEY, label)[Attribute.EC_POINT])
        )
        if len(point) != 67 or not point.startswith(POINT_HEAD):
            raise DeviceError(f"PKCS#11: key {label} is not on P-256", CE1)
        return point[3:]

    def sign(self, label: str, digest: bytes) -> bytes:
        """Return r || s over ``digest`` (32 bytes)."""
        from pkcs11 import Mechanism, ObjectClass

        def sign(session: Any) -> Any:  # noqa: ANN401  the library's own types
            return find(session, ObjectClass.PRIVATE_KEY, label).sign(digest, mechanism=Mechanism.ECDSA)

        return bytes(self._ask(sign))

    def has_key(self, label: str) -> bool:
        """Tell whether the pair is there."""
        try:
            self.public_key(label)
        except DeviceError:
            return False
        return True

    def generate_key(self, label: str) -> bytes:
        """Make a new pair inside the token, never to be read out; return its x || y. The old one is gone."""
        from pkcs11 import Attribute, KeyType, ObjectClass
        from pkcs11.util.ec import encode_named_curve_parameters

        def make(session: Any) -> None:  # noqa: ANN401
            named = encode_named_curve_parameters("secp256r1")
            parameters = session.create_domain_parameters(
                KeyType.EC, {Attribute.EC_PARAMS: named}, local=True
            )
            secret = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
            parameters.generate_keypair(store=True, label=label, private_template=secret)

        if self.has_key(label):
            self._ask(lambda session: find(session, ObjectClass.PUBLIC_KEY, label).destroy())
            self._ask(lambda session: find(session, ObjectClass.PRIVATE_KEY, label).destroy())
        self._ask(make)
        return self.public_key(label)

    def _ask(self, work: "Callable[[Any], Any]") -> Any:  # noqa: ANN401
        """Return what ``work`` gets of the session; of a fresh one if this one is lost. DeviceError."""
        from pkcs11.exceptions import NoSuchKey, PKCS11Error

        try:
            try:
                return work(self.session)
            except (PKCS11Error, RuntimeError):  # no such key, too: who was logged out sees no private ones
                self._open_again()
                return work(self.session)
        except NoSuchKey as exc:
            raise DeviceError("PKCS#11: the token has no such key", CE1) from exc
        except (PKCS11Error, RuntimeError) as exc:
            raise DeviceError(f"PKCS#11: the token refused: {_reason(exc)}", CE5) from exc
        finally:
            _forget_openssl_errors()

    def _open_again(self) -> None:
        if self._refused is not None:
            raise self._refused
        with suppress(Exception):  # it is lost, that is why; first, since closing logs all of them out
            self.session.close()
        try:
            self.session = _open(*self._place)
        except DeviceError as exc:
            self._refused = exc if exc.code == CE5 else None
            raise


def find(session: Any, kind: Any, label: str) -> Any:  # noqa: ANN401
    """Return a key object of the library's. Its NoSuchKey: there is none."""
    return session.get_key(object_class=kind, label=label)


def _open(module: str, token: str, pin: str) -> Any:  # noqa: ANN401
    try:
        import pkcs11
    except ModuleNotFoundError as exc:
        raise StorageError(
            "PKCS#11 needs the Python library of that name: pip install python-pkcs11"
        ) from exc
    try:
        library = pkcs11.lib(module)
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as exc:
        why = _reason(exc).rpartition(f"{module}: ")[2]
        raise DeviceError(f"PKCS#11: {module} is no module that can be loaded: {why}", CE1) from exc
    try:
        found = _find_token(library, token)
        try:
            return found.open(user_pin=pin, rw=True)
        except pkcs11.exceptions.UserAlreadyLoggedIn:  # by another session of this process
            return found.open(rw=True)
    except pkcs11.exceptions.PinIncorrect as exc:
        raise DeviceError(f"PKCS#11: token {token} refuses the PIN", CE5) from exc
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as exc:
        raise DeviceError(f"PKCS#11: no token {token} in {module}: {_reason(exc)}", CE1) from exc
    finally:
        _forget_openssl_errors()


def _find_token(library: Any, label: str) -> Any:  # noqa: ANN401
    """Return the token of that name. PKCS11Error: there is none.

    Some modules (SoftHSM2) look for tokens when they are initialized, and never again: where they know of no
    token at all, so that nobody in this process can have a session, they are made to look again.
    """
    from pkcs11.constants import TokenFlag
    from pkcs11.exceptions import NoSuchToken, PKCS11Error

    try:
        return library.get_token(token_label=label)
    except NoSuchToken:
        if any(token.flags & TokenFlag.TOKEN_INITIALIZED for token in library.get_tokens()):
            raise
    except PKCS11Error:  # finalized by somebody else in this process
        pass
    with suppress(PKCS11Error):
        library.finalize()
    library.initialize()
    return library.get_token(token_label=label)


def _forget_openssl_errors() -> None:
    """Modules that run on OpenSSL themselves (SoftHSM2) leave errors in this thread's queue: ``ssl`` would
    take them for its own.
    """
    ctypes.CDLL(_ssl.__file__).ERR_clear_error()


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
