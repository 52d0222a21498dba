"""What every command works with: memory, SRAM, the rules of a slot's key, and how a command is refused."""

import hashlib
import hmac
from collections.abc import Callable

from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.atecc608.crc import EXECUTION, PARSE
from fota_vdev.atecc608.memory import (
    LIMITED_USE,
    PERSIST_DISABLE,
    REQ_AUTH,
    REQ_RANDOM,
    Latches,
    Nvm,
    Sram,
    TempKey,
)


class Refusal(Exception):
    """The command ends with a status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status:02x}")
        self.status = status


def sha256(*parts: bytes) -> bytes:
    """Return SHA-256 of the parts joined."""
    return hashlib.sha256(b"".join(parts)).digest()


def hmac256(key: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA-256."""
    return hmac.digest(key, message, "sha256")


def xor(a: bytes, b: bytes) -> bytes:
    """Return the exclusive or of two strings of one length."""
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def need(condition: object, status: int = EXECUTION) -> None:
    """End the command with ``status`` unless ``condition`` holds."""
    if not condition:
        raise Refusal(status)


class Context:
    """State that commands share. ``random`` gives fresh random bytes."""

    def __init__(self, assumptions: Assumptions, random: Callable[[int], bytes]) -> None:
        self._assume = assumptions
        self._random = random
        self.nvm: Nvm
        self.sram = Sram()
        self.latches = Latches()

    @property
    def _sn8(self) -> bytes:
        return self.nvm.serial[8:9]

    @property
    def _sn01(self) -> bytes:
        return self.nvm.serial[0:2]

    def _any_temp_key(self) -> TempKey:
        """Return a valid TempKey that is no private key, and leave it."""
        key = self.sram.temp_key
        need(key.value and not key.ephemeral)
        return key

    def _use_temp_key(self) -> TempKey:
        """Return a valid TempKey that is no private key; it is gone afterwards."""
        key = self._any_temp_key()
        if self._assume.clear_after_use:
            self.sram.temp_key = TempKey()
        return key

    def _use_message(self) -> bytes:
        message = self.sram.message
        need(len(message) >= 32)
        if self._assume.clear_after_use:
            self.sram.message = b""
        return message

    def _slot(self, p2: int) -> int:
        need(p2 < 16, PARSE)
        return p2

    def _need_data_lock(self) -> None:
        need(self.nvm.data_locked or not self._assume.sign_needs_data_lock)

    def _use_key(self, slot: int, temp_key: TempKey | None = None, *, making: bool = False) -> None:
        """Hold the use of a slot as a key against its KeyConfig and SlotConfig.

        ``temp_key`` is what the key works on: ReqRandom wants one from a random nonce. ``making``: GenKey.
        """
        self._need_permission(slot, making=making)
        if self.nvm.key_config(slot) & REQ_RANDOM and not making:
            from_input = temp_key.from_input if temp_key else self._assume.req_random_bars_other_sources
            need(not from_input)
        if self.nvm.slot_config(slot) & LIMITED_USE and self._assume.limited_use_counts:
            self._count(0)

    def _need_permission(self, slot: int, *, making: bool = False) -> None:
        """Hold the use of a slot against the persistent latch and the authorisation that it may want."""
        rule = self.nvm.key_config(slot)
        if rule & PERSIST_DISABLE and not (making and self._assume.genkey_ignores_persist_disable):
            need(self.latches.persistent)
        if rule & REQ_AUTH:
            need(self.sram.authorised == rule >> 8 & 15)
            if self._assume.authorisation_serves_once:
                self.sram.authorised = None

    def _touch(self, slot: int) -> None:
        """Read or write a slot, which asks for permission only if that is assumed."""
        if not self._assume.permission_is_for_uses_only:
            self._need_permission(slot)

    def _count(self, index: int) -> None:
        """Increment a counter, unless it stands at its limit."""
        limit = self.nvm.counter_limit(index)
        need(self.nvm.counters[index] < limit)
        self.nvm.counters[index] += 1

    def _secret(self, slot: int, temp_key: TempKey | None = None) -> bytes:
        """Return the 32 bytes of a symmetric key that the command may use."""
        need(not self.nvm.is_private(slot))
        self._use_key(slot, temp_key)
        return bytes(self.nvm.slots[slot][:32])

    def _prove(self, slot: int, temp_key: TempKey | None) -> None:
        """Note that the host has shown that it knows the key of ``slot``."""
        random = temp_key is not None and not temp_key.from_input
        if random or not self._assume.authorisation_needs_random_nonce:
            self.sram.authorised = slot

    def _io_encrypt(self, plain: bytes) -> bytes:
        """Return output for the host that holds the IO protection key: data under a fresh nonce, nonce."""
        io_key = self.nvm.io_key
        if io_key is None:
            raise Refusal(EXECUTION)
        nonce = self._random(32)
        stream = b"".join(sha256(io_key, nonce[at // 2 : at // 2 + 16]) for at in range(0, len(plain), 32))
        return xor(plain, stream) + nonce
