"""A key behind PKCS#11 as the ``Element`` of ``fota_agent.seams``; what signs is the token."""

from fota_wire.errors import DeviceError
from fota_wire.host_pkcs11 import Token
from fota_wire.status import CE5


class Pkcs11Element:
    """A token's P-256 key pairs: slot 0 is the pair called ``label``, slot n the one called ``label``-n.
    ``serial`` is the device id; ``key_slot`` the private key that is meant where none is named.

    Raises:
        StorageError, DeviceError: as `Token`, here and from each call.
    """

    def __init__(self, module: str, token: str, label: str, pin: str, serial: bytes) -> None:
        self.key_slot = 0
        self._serial = serial
        self._label = label
        self.token = Token(module, token, pin)

    def random(self) -> bytes:
        """Return 32 random bytes of the token."""
        return self.token.random()

    def serial_number(self) -> bytes:
        """Return the device id, 9 bytes."""
        return self._serial

    def public_key(self, slot: int | None = None) -> bytes:
        """Return x || y. DeviceError CE1: no such key, or not on P-256."""
        return self.token.public_key(self._name(slot))

    def sign(self, digest: bytes, slot: int | None = None) -> bytes:
        """Return r || s over ``digest`` (32 bytes)."""
        return self.token.sign(self._name(slot), digest)

    def has_key(self, slot: int) -> bool:
        """Tell whether the pair is there."""
        return self.token.has_key(self._name(slot))

    def generate_key(self, slot: int) -> bytes:
        """Make a new pair inside the token, never to be read out; return its x || y. The old one is gone."""
        return self.token.generate_key(self._name(slot))

    def attest(self, num_in: bytes, slot: int = 1) -> tuple[bytes, int, bytes]:
        """Raise DeviceError CE5: a token has no counter to vouch for (SPEC 5.7)."""
        raise DeviceError("PKCS#11: a token attests no counter", CE5)

    def _name(self, slot: int | None) -> str:
        number = self.key_slot if slot is None else slot
        return f"{self._label}-{number}" if number else self._label
