"""Keys behind PKCS#11 (not for chips): an HSM, a TPM's or a crypto element's module, or SoftHSM2. What is
signed is signed in the token; the key never leaves it.

A place is a URI of RFC 7512: ``pkcs11:token=NAME;object=LABEL?module-path=FILE&pin-source=FILE``.
"""

import _ssl
import ctypes
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from fota_wire.errors import DeviceError, InputError, StorageError
from fota_wire.host_keys import Pin, SigningKey, checked, pin_of_file
from fota_wire.status import CE1, CE5

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEME = "pkcs11:"
MODULE = "FOTA_PKCS11_MODULE"
"""Environment variable: the module of addresses without module-path, which every machine has elsewhere."""
POINT_HEAD = b"\x04\x41\x04"  # OCTET STRING of an uncompressed point
P256 = bytes.fromhex("06082a8648ce3d030107")  # EC_PARAMS: its object identifier


class Which(NamedTuple):
    """Which token is meant: all that is said has to fit."""

    token: str | None
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    slot_id: int | None = None

    def fits(self, token: Any) -> bool:  # noqa: ANN401  the library's own types
        """Tell whether this is it."""
        serial = bytes(token.serial).decode(errors="replace").strip()
        seen = (token.label, token.manufacturer_id, token.model, serial, token.slot.slot_id)
        return all(want is None or want == have for want, have in zip(self, seen, strict=True))

    def __str__(self) -> str:
        """Return how messages call it."""
        named = zip(("", "manufacturer ", "model ", "serial ", "slot "), self, strict=True)
        return " ".join(f"{what}{value}" for what, value in named if value is not None)


class TokenPlace(NamedTuple):
    """Where a key pair is: a token, the pair's ``label`` and ``id`` in it (one may be missing), by a module;
    and where its PIN stands. As `host_keys.Place`.
    """

    which: Which
    label: str
    id: bytes | None
    module: str
    pin_file: Path | None
    text: str

    @property
    def name(self) -> str:
        """The address without what is this machine's."""
        return self.text.partition("?")[0]

    def open(self, ask: "Callable[[str], Pin]") -> SigningKey:
        """Return the key.

        Raises:
            InputError: the address names no key, or no module; or the PIN's file is open to others.
            StorageError, DeviceError: as `Token`; CE5 too if a wrong PIN was tried last, and this one was
                not typed by somebody.
        """
        if not self.label and self.id is None:
            raise InputError(f"{self.name}: names no key: object=LABEL, or id=%01")
        token = self._token(ask, rw=False)
        public = token.public_key(self.label or None, self.id)

        def sign(digest: bytes) -> bytes:
            return token.sign(self.label or None, digest, self.id)

        return checked(self.name, public, sign, lambda said: DeviceError(said, CE5))

    def make(self, label: str, ask: "Callable[[str], Pin]") -> tuple[str, bytes]:
        """Make a pair in the token, called as the address says, else ``label``; return its URI and x||y.

        Raises:
            InputError: there is one of that name.
            StorageError, DeviceError: as `Token`.
        """
        label, id_ = self.label or label, self.id or secrets.token_bytes(8)
        token = self._token(ask, rw=True)
        if token.count(label) or token.count(None, id_):
            raise InputError(f"{self.name}: the token has a key {label} already: choose another name")
        path, _, query = self.text.partition("?")
        kept = [part for part in path.split(";") if part.partition("=")[0] not in ("object", "id", "type")]
        uri = ";".join([*kept, f"object={quote(label, safe='/')}"]) + (f"?{query}" if query else "")
        return uri, token.make(label, id_)

    def _token(self, ask: "Callable[[str], Pin]", *, rw: bool) -> "Token":
        module = self.module or os.environ.get(MODULE, "")
        if not module:
            raise InputError(f"{self.name}: says no module: add ?module-path=FILE, or set {MODULE}")
        flags = _flags(module, self.which)
        pin = pin_of_file(self.pin_file) if self.pin_file else ask(f"PIN of token {self.which}")
        _require_tries(flags, pin, self.which)
        return Token(module, self.which, pin.value, rw=rw)


def read_uri(text: str) -> TokenPlace:
    """Return what a URI of RFC 7512 names; a key's name in it may be missing where one is made.

    Raises:
        InputError: it is none, names no token, what we do not know, or a PIN.
    """
    path, _, query = text.removeprefix(SCHEME).partition("?")
    found: dict[str, bytes] = {}
    for known, parts in ((_IN_PATH, path.split(";")), (_IN_QUERY, query.split("&") if query else [])):
        for part in parts:
            name, equals, value = part.partition("=")
            if name == "pin-value":
                raise InputError(
                    "a PIN is no part of a key's address, which everybody can read: use pin-source"
                )
            if not equals or name not in known or name in found:
                what = f"{name!r} twice" if name in found else f"{name!r}"
                raise InputError(f"{what} in a {SCHEME} address: it is {_FORM}, or has {_MORE}, each once")
            if not re.fullmatch(r"(?:[^%]|%[0-9A-Fa-f]{2})+", value):
                raise InputError(f"{name} in a {SCHEME} address has no value, or a % that is not %25")
            found[name] = unquote_to_bytes(value)
    texts = {name: _text(name, value) for name, value in found.items() if name != "id"}
    if not {"token", "serial", "slot-id"} & found.keys():
        raise InputError(f"a {SCHEME} address without token: {_FORM}")
    if texts.get("type", "private") != "private":
        raise InputError(f"type={texts['type']} in a {SCHEME} address: a private key is wanted")
    slot = texts.get("slot-id")
    if slot is not None and not re.fullmatch("[0-9]{1,10}", slot):
        raise InputError(f"slot-id in a {SCHEME} address is a number")
    which = Which(
        texts.get("token"),
        texts.get("manufacturer"),
        texts.get("model"),
        texts.get("serial"),
        None if slot is None else int(slot),
    )
    pin_file = _pin_source(texts.get("pin-source"))
    return TokenPlace(
        which, texts.get("object", ""), found.get("id"), texts.get("module-path", ""), pin_file, text
    )


_IN_PATH = ("token", "manufacturer", "model", "serial", "slot-id", "object", "id", "type")
_IN_QUERY = ("module-path", "pin-source")
_FORM = f"{SCHEME}token=NAME;object=LABEL?module-path=FILE&pin-source=FILE"
_MORE = "manufacturer, model, serial, slot-id, id and type before the '?'"


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InputError(f"{name} in a {SCHEME} address is not UTF-8") from exc


def _pin_source(source: str | None) -> Path | None:
    if source is None:
        return None
    file = source.removeprefix("file:")
    if source.startswith("|") or not file:
        raise InputError("pin-source is a file with the PIN in its first line")
    return Path(file.removeprefix("//") if file.startswith("///") else file)


def _require_tries(flags: Any, pin: Pin, which: Which) -> None:  # noqa: ANN401
    """Return if a token may be asked with this PIN: after some wrong ones it locks itself, and a machine that
    tries its file again and again uses them up.

    Raises:
        DeviceError: CE5: it is locked; or a wrong PIN was tried last, and this one comes from a file.
    """
    from pkcs11.constants import TokenFlag

    if flags & TokenFlag.USER_PIN_LOCKED:
        raise DeviceError(
            f"PKCS#11: the PIN of token {which} is locked: its security officer sets another", CE5
        )
    if not pin.typed and flags & (TokenFlag.USER_PIN_COUNT_LOW | TokenFlag.USER_PIN_FINAL_TRY):
        raise DeviceError(
            f"PKCS#11: a wrong PIN was tried on token {which}, which locks itself after some: none from a"
            " file is tried before somebody has typed the right one (the same without pin-source)",
            CE5,
        )


class Token:
    """A token's P-256 key pairs, by their labels. A session that was lost (token pulled, daemon restarted,
    module finalized by somebody else) is opened again; a PIN that was refused is never tried again: tokens
    lock themselves.

    Raises:
        StorageError: python-pkcs11 is not installed.
        DeviceError: CE1, no such module or token; CE5, the PIN is wrong.
    """

    def __init__(self, module: str, token: str | Which, pin: str, *, rw: bool = True) -> None:
        self._place = (module, token if isinstance(token, Which) else Which(token), pin, rw)
        self._refused: DeviceError | None = None
        self.session = _open(*self._place)

    def random(self) -> bytes:
        """Return 32 random bytes of the token."""
        return bytes(self._ask(lambda session: session.generate_random(256)))

    def public_key(self, label: str | None, id_: bytes | None = None) -> bytes:
        """Return x || y. DeviceError CE1: no such key, more than one, or not on P-256."""
        from pkcs11 import Attribute, ObjectClass
        from pkcs11.exceptions import AttributeTypeInvalid

        def read(session: Any) -> tuple[bytes, bytes]:  # noqa: ANN401  the library's own types
            found = find(session, ObjectClass.PUBLIC_KEY, label, id_)
            try:
                return bytes(found[Attribute.EC_PARAMS]), bytes(found[Attribute.EC_POINT])
            except AttributeTypeInvalid:  # an RSA key, say
                return b"", b""

        parameters, point = self._ask(read)
        if parameters != P256 or len(point) != 67 or not point.startswith(POINT_HEAD):
            raise DeviceError(f"PKCS#11: key {label or (id_ or b'').hex()} is not on P-256", CE1)
        return bytes(point[3:])

    def sign(self, label: str | None, digest: bytes, id_: bytes | None = None) -> bytes:
        """Return r || s over ``digest`` (32 bytes)."""
        from pkcs11 import Attribute, Mechanism, ObjectClass
        from pkcs11.exceptions import AttributeTypeInvalid

        def sign(session: Any) -> Any:  # noqa: ANN401
            key, pin = find(session, ObjectClass.PRIVATE_KEY, label, id_), None
            with suppress(AttributeTypeInvalid):  # a module of before it
                pin = self._place[2] if key[Attribute.ALWAYS_AUTHENTICATE] else None
            return key.sign(digest, mechanism=Mechanism.ECDSA, pin=pin)

        return bytes(self._ask(sign))

    def count(self, label: str | None, id_: bytes | None = None) -> int:
        """Return how many objects have this label and id."""
        from pkcs11 import Attribute

        wanted = {Attribute.LABEL: label, Attribute.ID: id_}
        sought = {attribute: value for attribute, value in wanted.items() if value is not None}
        return int(self._ask(lambda session: sum(1 for _ in session.get_objects(sought))))

    def has_key(self, label: str) -> bool:
        """Tell whether the pair is there."""
        try:
            self.public_key(label)
        except DeviceError:
            return False
        return True

    def generate_key(self, label: str) -> bytes:
        """Make a new pair inside the token, never to be read out; return its x || y. The old one is gone."""
        from pkcs11 import ObjectClass

        if self.has_key(label):
            self._ask(lambda session: find(session, ObjectClass.PUBLIC_KEY, label).destroy())
            self._ask(lambda session: find(session, ObjectClass.PRIVATE_KEY, label).destroy())
        return self.make(label)

    def make(self, label: str, id_: bytes | None = None) -> bytes:
        """Make a pair inside the token, never to be read out; return its x || y."""
        from pkcs11 import Attribute, KeyType

        def make(session: Any) -> None:  # noqa: ANN401
            parameters = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: P256}, local=True)
            secret = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
            parameters.generate_keypair(store=True, label=label, id=id_, private_template=secret)

        self._ask(make)
        return self.public_key(label, id_)

    def _ask(self, work: "Callable[[Any], Any]") -> Any:  # noqa: ANN401
        """Return what ``work`` gets of the session; of a fresh one if this one is lost. DeviceError."""
        from pkcs11.exceptions import MultipleObjectsReturned, NoSuchKey, PKCS11Error

        try:
            try:
                return work(self.session)
            except MultipleObjectsReturned as exc:
                raise DeviceError("PKCS#11: more than one key is called that: say which by id=", CE1) from exc
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


def find(session: Any, kind: Any, label: str | None, id_: bytes | None = None) -> Any:  # noqa: ANN401
    """Return a key object of the library's. Its NoSuchKey: there is none; MultipleObjectsReturned."""
    return session.get_key(object_class=kind, label=label, id=id_)


def _library(module: str) -> Any:  # noqa: ANN401
    try:
        import pkcs11
    except ModuleNotFoundError as exc:
        raise StorageError(
            "PKCS#11 needs the Python library of that name: pip install python-pkcs11"
        ) from exc
    try:
        return pkcs11.lib(module)
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as exc:
        why = _reason(exc).rpartition(f"{module}: ")[2]
        raise DeviceError(f"PKCS#11: {module} is no module that can be loaded: {why}", CE1) from exc


def _flags(module: str, which: Which) -> Any:  # noqa: ANN401
    """Return what a token says of itself. DeviceError CE1: it is not there."""
    return _in_token(module, which, lambda token: token.flags)


def _open(module: str, which: Which, pin: str, rw: bool = True) -> Any:  # noqa: ANN401
    def log_in(token: Any) -> Any:  # noqa: ANN401
        from pkcs11.exceptions import UserAlreadyLoggedIn

        try:
            return token.open(user_pin=pin, rw=rw)
        except UserAlreadyLoggedIn:  # by another session of this process
            return token.open(rw=rw)

    return _in_token(module, which, log_in)


def _in_token(module: str, which: Which, work: "Callable[[Any], Any]") -> Any:  # noqa: ANN401
    """Return what ``work`` gets of the token that is meant.

    Raises:
        StorageError, DeviceError: as `Token`.
    """
    library = _library(module)
    from pkcs11 import exceptions as p11

    try:
        return work(_find_token(library, which))
    except p11.PinLocked as exc:
        raise DeviceError(f"PKCS#11: token {which} has locked its PIN", CE5) from exc
    except (p11.PinIncorrect, p11.PinInvalid, p11.PinLenRange) as exc:
        raise DeviceError(f"PKCS#11: token {which} refuses the PIN", CE5) from exc
    except p11.MultipleTokensReturned as exc:
        raise DeviceError(
            f"PKCS#11: more than one token is {which} in {module}: say which by serial=", CE1
        ) from exc
    except (p11.PKCS11Error, RuntimeError) as exc:
        raise DeviceError(f"PKCS#11: no token {which} in {module}: {_reason(exc)}", CE1) from exc
    finally:
        _forget_openssl_errors()


def _find_token(library: Any, which: Which) -> Any:  # noqa: ANN401
    """Return the token that is meant. PKCS11Error: there is none, or more than one.

    Some modules (SoftHSM2) look for tokens when they are initialized, and never again: where they know of no
    token at all, so that nobody in this process can have a session, they are made to look again.
    """
    from pkcs11.constants import TokenFlag
    from pkcs11.exceptions import MultipleTokensReturned, NoSuchToken, PKCS11Error

    try:
        return _the_one(library, which)
    except MultipleTokensReturned:
        raise
    except NoSuchToken:
        if any(token.flags & TokenFlag.TOKEN_INITIALIZED for token in library.get_tokens()):
            raise
    except PKCS11Error:  # finalized by somebody else in this process
        pass
    with suppress(PKCS11Error):
        library.finalize()
    library.initialize()
    return _the_one(library, which)


def _the_one(library: Any, which: Which) -> Any:  # noqa: ANN401
    from pkcs11.exceptions import MultipleTokensReturned, NoSuchToken

    found = [token for token in library.get_tokens() if which.fits(token)]
    if len(found) > 1:
        raise MultipleTokensReturned
    if not found:
        raise NoSuchToken
    return found[0]


def _forget_openssl_errors() -> None:
    """Modules that run on OpenSSL themselves (SoftHSM2) leave errors in this thread's queue: ``ssl`` would
    take them for its own.
    """
    ctypes.CDLL(_ssl.__file__).ERR_clear_error()


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
