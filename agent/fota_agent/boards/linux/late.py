"""A crypto element that may not be there yet: the program that holds the agent goes on without it."""

from contextlib import suppress
from typing import TYPE_CHECKING

from fota_wire.element import IDENTITY_SLOT
from fota_wire.errors import DeviceError
from fota_wire.status import CE1, CE5

if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Element


class LateElement:
    """The ``Element`` that ``find`` opens: looked for at once, and again with each call until it is there.
    Until then a call raises what looking for it raised. A refusal (CE5, as of a PIN) is for good: tokens
    lock themselves.

    ``serial`` and ``public_xy``, device id and key of the factory's certificate, are what it has to have,
    and are known without it.

    Raises:
        InputError, StorageError: from ``find``, at once: what nobody but a person mends.
    """

    def __init__(self, find: "Callable[[], Element]", serial: bytes, public_xy: bytes) -> None:
        self._find = find
        self._serial = serial
        self._public_xy = public_xy
        self._key_slot = IDENTITY_SLOT
        self._refused: DeviceError | None = None
        self._element: Element | None = None
        with suppress(DeviceError):
            self._found()

    @property
    def key_slot(self) -> int:
        """The private key that is meant where none is named."""
        return self._key_slot

    @key_slot.setter
    def key_slot(self, slot: int) -> None:
        self._key_slot = slot
        if self._element is not None:
            self._element.key_slot = slot

    def random(self) -> bytes:
        """Return 32 random bytes."""
        return self._found().random()

    def serial_number(self) -> bytes:
        """Return the device id, 9 bytes."""
        return self._serial

    def public_key(self, slot: int | None = None) -> bytes:
        """Return x || y; of the factory's key without asking."""
        if (self._key_slot if slot is None else slot) == IDENTITY_SLOT:
            return self._public_xy
        return self._found().public_key(slot)

    def generate_key(self, slot: int) -> bytes:
        """Make a new private key in ``slot``; return its x || y. The old one is gone."""
        return self._found().generate_key(slot)

    def attest(self, num_in: bytes, slot: int = 1) -> tuple[bytes, int, bytes]:
        """Return (32 random bytes, Counter0, r || s) by the attestation key over both and ``num_in`` (20)."""
        return self._found().attest(num_in, slot)

    def sign(self, digest: bytes, slot: int | None = None) -> bytes:
        """Return r || s over ``digest`` (32 bytes)."""
        return self._found().sign(digest, slot)

    def _found(self) -> "Element":
        if self._refused is not None:
            raise self._refused
        if self._element is None:
            try:
                element = self._find()
            except DeviceError as exc:
                self._refused = exc if exc.code == CE5 else None
                raise
            self._require_own(element)
            element.key_slot = self._key_slot
            self._element = element
        return self._element

    def _require_own(self, element: "Element") -> None:
        if element.serial_number() != self._serial:
            raise DeviceError("the crypto element is not the one of this gateway", CE1)
        if element.public_key(IDENTITY_SLOT) != self._public_xy:
            raise DeviceError("the crypto element's key is not the one of the device certificate", CE1)
