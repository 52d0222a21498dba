"""Commands of the private keys: GenKey, Sign."""

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.context import Context, Refusal, need, sha256
from fota_vdev.atecc608.crc import ECC_FAULT, OK, PARSE
from fota_vdev.atecc608.memory import (
    EXTERNAL_SIGN,
    INTERNAL_SIGN,
    PUB_INFO,
    WRITE_GENKEY,
    TempKey,
)

TEMP_KEY_SLOT = 0xFFFF


class KeyCommands(Context):
    """GenKey, Sign."""

    def _gen_key(self, p1: int, p2: int, data: bytes) -> bytes:
        if p2 == TEMP_KEY_SLOT:
            return self._ephemeral(p1, data)
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

    def _ephemeral(self, p1: int, data: bytes) -> bytes:
        """Make a private key in TempKey, where ECDH alone finds it."""
        need(p1 == 0x04 and not data, PARSE)
        need(self.nvm.config_locked)
        scalar = p256.scalar_from(self._random(40))
        self.sram.temp_key = TempKey(scalar, ephemeral=True)
        return p256.public_of(scalar)

    def _private_slot_public(self, p1: int, slot: int) -> bytes:
        need(self.nvm.is_private(slot))
        self._use_key(slot, making=True)
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
        self.sram.temp_key = TempKey(
            value, from_input=key.from_input, key_id=slot, gen_key=True, no_mac=key.no_mac
        )

    def _sign(self, p1: int, p2: int, data: bytes) -> bytes:
        slot = self._slot(p2)
        need(not data and not p1 & 0x1E, PARSE)
        self._need_data_lock()
        need(self.nvm.config_locked and self.nvm.is_private(slot) and self.nvm.is_p256(slot))
        external = bool(p1 & 0x80)
        need(self.nvm.slot_config(slot) & (EXTERNAL_SIGN if external else INTERNAL_SIGN))
        if external and p1 & 0x20:
            self._use_key(slot)
            digest = self._use_message()[:32]
        else:
            key = self._use_temp_key()
            self._use_key(slot, key)
            digest = key.value[:32] if external else sha256(self._internal_message(p1, p2, key))
        try:
            return p256.sign(self.nvm.private_key(slot), digest)
        except ValueError:
            raise Refusal(ECC_FAULT) from None

    def _internal_message(self, p1: int, p2: int, key: TempKey) -> bytes:
        """Return the 55 bytes that Sign(internal) hashes; TempKey has to come from GenDig or GenKey."""
        need(key.digested or key.gen_key)
        nvm, named = self.nvm, key.key_id
        sn = nvm.serial if p1 & 0x40 else bytes(9)
        valid = not nvm.is_private(named) and nvm.is_p256(named) and nvm.is_validated(named)
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
