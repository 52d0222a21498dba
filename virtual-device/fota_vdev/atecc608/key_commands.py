"""Commands of the P-256 keys: GenKey, Sign, Verify."""

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.context import Context, Refusal, need, sha256
from fota_vdev.atecc608.crc import ECC_FAULT, MISCOMPARE, OK, PARSE
from fota_vdev.atecc608.memory import (
    EXTERNAL_SIGN,
    INTERNAL_SIGN,
    PUB_INFO,
    REQ_RANDOM,
    WRITE_GENKEY,
    TempKey,
)

TYPE_P256_PARAMETER = 4


class KeyCommands(Context):
    """GenKey, Sign, Verify."""

    def _gen_key(self, p1: int, p2: int, data: bytes) -> bytes:
        slot = self._slot(p2)
        need(p1 in (0x00, 0x04, 0x08, 0x0C, 0x10) and len(data) == (3 if p1 == 0x10 else 0), PARSE)
        need(self.nvm.config_locked and self.nvm.is_p256(slot))
        if p1 == 0x10:
            need(not self.nvm.is_private(slot))
            public, head = self.nvm.public_key(slot), b"\x40" + data
        else:
            public = self._private_slot_public(p1, slot)
            head = b"\x40" + bytes([p1]) + p2.to_bytes(2, "little")
        if p1 & 0x18:
            self._public_digest(slot, head, public)
        return bytes([OK]) if p1 == 0x10 else public

    def _private_slot_public(self, p1: int, slot: int) -> bytes:
        need(self.nvm.is_private(slot))
        if p1 & 4:
            need(self.nvm.slot_config(slot) & WRITE_GENKEY and not self.nvm.slot_locked(slot))
            self.nvm.slots[slot][:] = bytes(4) + p256.scalar_from(self._random(40))
        else:
            need(self.nvm.key_config(slot) & PUB_INFO)
        try:
            return p256.public_of(self.nvm.private_key(slot))
        except ValueError:
            raise Refusal(ECC_FAULT) from None

    def _public_digest(self, slot: int, head: bytes, public: bytes) -> None:
        key = self._use_temp_key()
        value = sha256(key.value[:32], head, self._sn8, self._sn01, bytes(25), public)
        self.sram.temp_key = TempKey(value, from_input=key.from_input, key_id=slot, gen_key=True)

    def _sign(self, p1: int, p2: int, data: bytes) -> bytes:
        slot = self._slot(p2)
        need(not data and not p1 & 0x1E, PARSE)
        self._need_data_lock()
        need(self.nvm.config_locked and self.nvm.is_private(slot) and self.nvm.is_p256(slot))
        external = bool(p1 & 0x80)
        need(self.nvm.slot_config(slot) & (EXTERNAL_SIGN if external else INTERNAL_SIGN))
        if external and p1 & 0x20:
            need(not self.nvm.key_config(slot) & REQ_RANDOM)
            digest = self._use_message()[:32]
        else:
            key = self._use_temp_key()
            need(not (self.nvm.key_config(slot) & REQ_RANDOM and key.from_input))
            digest = key.value[:32] if external else sha256(self._internal_message(p1, p2, key))
        try:
            return p256.sign(self.nvm.private_key(slot), digest)
        except ValueError:
            raise Refusal(ECC_FAULT) from None

    def _internal_message(self, p1: int, p2: int, key: TempKey) -> bytes:
        """Return the 55 bytes that Sign(internal) hashes; TempKey has to come from GenDig or GenKey."""
        need(key.gen_dig or key.gen_key)
        nvm, named = self.nvm, key.key_id
        sn = nvm.serial if p1 & 0x40 else bytes(9)
        valid = bool(nvm.key_config(named) & PUB_INFO) and nvm.slots[named][0] >> 4 == 5
        return b"".join(
            (
                key.value[:32],
                b"\x41" + bytes([p1]) + p2.to_bytes(2, "little"),
                nvm.slot_config(named).to_bytes(2, "little"),
                nvm.key_config(named).to_bytes(2, "little"),
                bytes([key.flags, 0, 0]),
                self._sn8 + sn[4:8] + self._sn01 + sn[2:4],
                bytes([not nvm.slot_locked(named), valid, 0]),
            )
        )

    def _verify(self, p1: int, p2: int, data: bytes) -> bytes:
        external, mac = p1 & 3 == 2, bool(p1 & 0x80)
        need(p1 & 3 in (0, 2) and not p1 & 0x5C and len(data) == (128 if external else 64), PARSE)
        self._need_data_lock()
        message = self._use_message() if p1 & 0x20 else self._use_temp_key().value
        if external:
            need(p2 == TYPE_P256_PARAMETER, PARSE)
            public = data[64:]
        else:
            public = self._stored_public(self._slot(p2))
        io_key = self.nvm.io_key
        if mac:
            need(io_key is not None and len(message) == 64 and p1 & 0x20)
        try:
            good = p256.verify(public, message[:32], data[:64])
        except ValueError:
            raise Refusal(ECC_FAULT) from None
        if not good:
            return bytes([MISCOMPARE])
        if not mac or io_key is None:
            return bytes([OK])
        head = b"\x45" + bytes([p1]) + p2.to_bytes(2, "little")
        return sha256(io_key, message[:32], message[32:], data[:64], head)

    def _stored_public(self, slot: int) -> bytes:
        need(self.nvm.is_p256(slot) and not self.nvm.is_private(slot))
        if (
            self.nvm.key_config(slot) & PUB_INFO
        ):  # then the key has to be validated: mark 5 in its first nibble
            need(self.nvm.slots[slot][0] >> 4 == 5)
        return self.nvm.public_key(slot)
