"""A key behind PKCS#11 as the ``Element`` of ``fota_agent.seams``: an HSM, a TPM's or a crypto element's
module, or SoftHSM2. Signatures for TLS and reports are made in the token; the key never leaves it.
"""

import _ssl
import ctypes
from typing import TYPE_CHECKING, Any

from fota_wire.errors import DeviceError, InputError
from fota_wire.status import CE1, CE5

if TYPE_CHECKING:
    from collections.abc import Callable

POINT_HEAD = b"\x04\x41\x04"  # OCTET STRING of an uncompressed point


class Pkcs11Element:
    """A token's P-256 key pairs: slot 0 is the pair called ``label``, slot n the one called ``label``-n.
    ``serial`` is the device id; ``key_slot`` the private key that is meant where none is named.

    Raises:
        InputError: python-pkcs11 is not installed.
        DeviceError: CE1, no such module or token; CE5, the PIN is wrong.
    """

    def __init__(self, module: str, token: str, label: str, pin: str, serial: bytes) -> None:
        self.key_slot = 0
        self._serial = serial
        self._label = label
        self._session = _open(module, token, pin)

    def random(self) -> bytes:
        """Return 32 random bytes of the token."""
        return bytes(_ask(lambda: self._session.generate_random(256)))

    def serial_number(self) -> bytes:
        """Return the device id, 9 bytes."""
        return self._serial

    def public_key(self, slot: int | None = None) -> bytes:
        """Return x || y. DeviceError CE1: no such key, or not on P-256."""
        from pkcs11 import Attribute, ObjectClass

        key = self._find(ObjectClass.PUBLIC_KEY, slot)
        point = bytes(_ask(lambda: key[Attribute.EC_POINT]))
        if len(point) != 67 or not point.startswith(POINT_HEAD):
            raise DeviceError(f"PKCS#11: key {self._name(slot)} is not on P-256", CE1)
        return point[3:]

    def sign(self, digest: bytes, slot: int | None = None) -> bytes:
        """Return r || s over ``digest`` (32 bytes)."""
        from pkcs11 import Mechanism, ObjectClass

        key = self._find(ObjectClass.PRIVATE_KEY, slot)
        return bytes(_ask(lambda: key.sign(digest, mechanism=Mechanism.ECDSA)))

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

        def make() -> None:
            named = encode_named_curve_parameters("secp256r1")
            parameters = self._session.create_domain_parameters(
                KeyType.EC, {Attribute.EC_PARAMS: named}, local=True
            )
            secret = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
            parameters.generate_keypair(store=True, label=self._name(slot), private_template=secret)

        if self.has_key(slot):
            for kind in (ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY):
                _ask(self._find(kind, slot).destroy)
        _ask(make)
        return self.public_key(slot)

    def attest(self, num_in: bytes, slot: int = 1) -> tuple[bytes, int, bytes]:
        """Raise DeviceError CE5: a token has no counter to vouch for (SPEC 5.7)."""
        raise DeviceError("PKCS#11: a token attests no counter", CE5)

    def _name(self, slot: int | None) -> str:
        number = self.key_slot if slot is None else slot
        return f"{self._label}-{number}" if number else self._label

    def _find(self, kind: Any, slot: int | None) -> Any:  # noqa: ANN401  the library's own types
        return _ask(lambda: self._session.get_key(object_class=kind, label=self._name(slot)))


def _open(module: str, token: str, pin: str) -> Any:  # noqa: ANN401
    try:
        import pkcs11
    except ModuleNotFoundError as exc:
        raise InputError("PKCS#11 needs python-pkcs11: pip install 'fota[gateway]'") from exc
    try:
        return pkcs11.lib(module).get_token(token_label=token).open(user_pin=pin, rw=True)
    except pkcs11.exceptions.PinIncorrect as exc:
        raise DeviceError(f"PKCS#11: token {token} refuses the PIN", CE5) from exc
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as exc:
        raise DeviceError(f"PKCS#11: no token {token} in {module}: {_reason(exc)}", CE1) from exc
    finally:
        _forget_openssl_errors()


def _ask(work: "Callable[[], Any]") -> Any:  # noqa: ANN401
    from pkcs11.exceptions import NoSuchKey, PKCS11Error

    try:
        return work()
    except NoSuchKey as exc:
        raise DeviceError("PKCS#11: the token has no such key", CE1) from exc
    except PKCS11Error as exc:
        raise DeviceError(f"PKCS#11: the token refused: {_reason(exc)}", CE5) from exc
    finally:
        _forget_openssl_errors()


def _forget_openssl_errors() -> None:
    """Modules that run on OpenSSL themselves (SoftHSM2) leave errors in this thread's queue: ``ssl`` would
    take them for its own.
    """
    ctypes.CDLL(_ssl.__file__).ERR_clear_error()


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
