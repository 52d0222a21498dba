"""A key behind PKCS#11 as the ``Element`` of ``fota_agent.seams``: an HSM, a TPM's or a crypto element's
module, or SoftHSM2. Signatures for TLS and reports are made in the token; the key never leaves it.
"""

import _ssl
import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fota_wire.errors import DeviceError, StorageError
from fota_wire.status import CE1, CE5

if TYPE_CHECKING:
    from collections.abc import Callable

POINT_HEAD = b"\x04\x41\x04"  # OCTET STRING of an uncompressed point


class Pkcs11Element:
    """A token's P-256 key pairs: slot 0 is the pair called ``label``, slot n the one called ``label``-n.
    ``serial`` is the device id; ``key_slot`` the private key that is meant where none is named. A session
    that was lost (token pulled, daemon restarted, module finalized by somebody else) is opened again.

    Raises:
        StorageError: python-pkcs11 is not installed.
        DeviceError: CE1, no such module or token; CE5, the PIN is wrong.
    """

    def __init__(self, module: str, token: str, label: str, pin: str, serial: bytes) -> None:
        self.key_slot = 0
        self._serial = serial
        self._label = label
        self._place = (module, token, pin)
        self._refused: DeviceError | None = None
        self._session = _open(*self._place)

    def random(self) -> bytes:
        """Return 32 random bytes of the token."""
        return bytes(self._ask(lambda session: session.generate_random(256)))

    def serial_number(self) -> bytes:
        """Return the device id, 9 bytes."""
        return self._serial

    def public_key(self, slot: int | None = None) -> bytes:
        """Return x || y. DeviceError CE1: no such key, or not on P-256."""
        from pkcs11 import Attribute, ObjectClass

        point = bytes(
            self._ask(lambda session: self._find(session, ObjectClass.PUBLIC_KEY, slot)[Attribute.EC_POINT])
        )
        if len(point) != 67 or not point.startswith(POINT_HEAD):
            raise DeviceError(f"PKCS#11: key {self._name(slot)} is not on P-256", CE1)
        return point[3:]

    def sign(self, digest: bytes, slot: int | None = None) -> bytes:
        """Return r || s over ``digest`` (32 bytes)."""
        from pkcs11 import Mechanism, ObjectClass

        def sign(session: Any) -> Any:  # noqa: ANN401  the library's own types
            key = self._find(session, ObjectClass.PRIVATE_KEY, slot)
            return key.sign(digest, mechanism=Mechanism.ECDSA)

        return bytes(self._ask(sign))

    def has_key(self, slot: int) -> bool:
        """Tell whether the pair is there."""
        try:
            self.public_key(slot)
        except DeviceError:
            return False
        return True

    def generate_key(self, slot: int) -> bytes:
        """Make a new pair inside the token, never to be read out; return its x || y. The old one is gone."""
        from pkcs11 import Attribute, KeyType, ObjectClass
        from pkcs11.util.ec import encode_named_curve_parameters

        def make(session: Any) -> None:  # noqa: ANN401
            named = encode_named_curve_parameters("secp256r1")
            parameters = session.create_domain_parameters(
                KeyType.EC, {Attribute.EC_PARAMS: named}, local=True
            )
            secret = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
            parameters.generate_keypair(store=True, label=self._name(slot), private_template=secret)

        if self.has_key(slot):
            self._ask(lambda session: self._find(session, ObjectClass.PUBLIC_KEY, slot).destroy())
            self._ask(lambda session: self._find(session, ObjectClass.PRIVATE_KEY, slot).destroy())
        self._ask(make)
        return self.public_key(slot)

    def attest(self, num_in: bytes, slot: int = 1) -> tuple[bytes, int, bytes]:
        """Raise DeviceError CE5: a token has no counter to vouch for (SPEC 5.7)."""
        raise DeviceError("PKCS#11: a token attests no counter", CE5)

    def _name(self, slot: int | None) -> str:
        number = self.key_slot if slot is None else slot
        return f"{self._label}-{number}" if number else self._label

    def _find(self, session: Any, kind: Any, slot: int | None) -> Any:  # noqa: ANN401
        return session.get_key(object_class=kind, label=self._name(slot))

    def _ask(self, work: "Callable[[Any], Any]") -> Any:  # noqa: ANN401
        """Return what ``work`` gets of the session; of a fresh one if this one is lost. DeviceError."""
        from pkcs11.exceptions import NoSuchKey, PKCS11Error

        try:
            try:
                return work(self._session)
            except (PKCS11Error, RuntimeError):  # no such key, too: who was logged out sees no private ones
                self._open_again()
                return work(self._session)
        except NoSuchKey as exc:
            raise DeviceError("PKCS#11: the token has no such key", CE1) from exc
        except (PKCS11Error, RuntimeError) as exc:
            raise DeviceError(f"PKCS#11: the token refused: {_reason(exc)}", CE5) from exc
        finally:
            _forget_openssl_errors()

    def _open_again(self) -> None:
        """Take a new session. A PIN that was refused once is not tried again: tokens lock themselves."""
        if self._refused is not None:
            raise self._refused
        with suppress(Exception):  # it is lost, that is why; first, since closing logs all of them out
            self._session.close()
        try:
            self._session = _open(*self._place)
        except DeviceError as exc:
            self._refused = exc if exc.code == CE5 else None
            raise


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
