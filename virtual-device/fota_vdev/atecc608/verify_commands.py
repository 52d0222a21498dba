"""Commands that check signatures: Verify in all its modes, and SecureBoot."""

import hmac

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.context import Context, Refusal, need, sha256, xor
from fota_vdev.atecc608.crc import ECC_FAULT, EXECUTION, MISCOMPARE, OK, PARSE
from fota_vdev.atecc608.memory import INVALID, PUB_INFO, SLOT_SIZES, VALID, X509_FORMAT

STORED, VALIDATE_EXTERNAL, EXTERNAL, VALIDATE, INVALIDATE = 0, 1, 2, 3, 7
TYPE_P256_PARAMETER = 4
LENGTHS = {STORED: 64, VALIDATE_EXTERNAL: 64, EXTERNAL: 128, VALIDATE: 83, INVALIDATE: 83}
FULL, FULL_STORE, FULL_COPY, PROHIBIT, ENCRYPTED = 5, 6, 7, 0x40, 0x80
OFF, FULL_BOTH, FULL_SIGNATURE, FULL_DIGEST = range(4)
PERSIST_ENABLE, RANDOM_NONCE = 1 << 3, 1 << 4


class VerifyCommands(Context):
    """Verify, SecureBoot."""

    def _verify(self, p1: int, p2: int, data: bytes) -> bytes:
        mode, mac, from_message = p1 & 7, bool(p1 & 0x80), bool(p1 & 0x20)
        need(not p1 & 0x58 and len(data) == LENGTHS.get(mode), PARSE)
        need(mode in (STORED, EXTERNAL) or not p1 & 0xA0, PARSE)
        self._need_data_lock()
        if mode in (VALIDATE, INVALIDATE):
            return self._validate(self._slot(p2), data, invalidate=mode == INVALIDATE)
        if mode == VALIDATE_EXTERNAL:
            return self._validate_external(self._slot(p2), data)
        key = None if from_message else self._use_temp_key()
        message = b"" if key is None else key.value[:32]
        if key is None or mac:
            message += self._use_message()
        need(not mac or len(message) >= 64)
        if mode == EXTERNAL:
            need(p2 == TYPE_P256_PARAMETER, PARSE)
            public = data[64:]
        else:
            public = self._stored_public(self._slot(p2))
            self._use_key(p2, key)
        self._check(public, message[:32], data[:64])
        if mode == STORED:
            self._prove(p2, key)
        head = b"\x45" + bytes([p1]) + p2.to_bytes(2, "little")
        return self._io_mac(message[:64], data[:64], head) if mac else bytes([OK])

    def _check(self, public: bytes, digest: bytes, signature: bytes) -> None:
        try:
            good = p256.verify(public, digest, signature)
        except ValueError:
            raise Refusal(ECC_FAULT) from None
        need(good, MISCOMPARE)

    def _io_key(self) -> bytes:
        key = self.nvm.io_key
        if key is None:
            raise Refusal(EXECUTION)
        return key

    def _io_mac(self, *parts: bytes) -> bytes:
        return sha256(self._io_key(), *parts)

    def _stored_public(self, slot: int) -> bytes:
        need(self.nvm.is_p256(slot) and not self.nvm.is_private(slot))
        need(not self.nvm.key_config(slot) & PUB_INFO or self.nvm.is_validated(slot))
        return self.nvm.public_key(slot)

    # -- validation of a stored public key by its parent, which ReadKey names -------------------------------

    def _parent(self, slot: int) -> bytes:
        nvm = self.nvm
        need(nvm.is_p256(slot) and not nvm.is_private(slot) and nvm.key_config(slot) & PUB_INFO)
        need(not nvm.slot_locked(slot))
        parent = nvm.slot_config(slot) & 15
        public = self._stored_public(parent)
        self._use_key(parent, self.sram.temp_key)
        return public

    def _validate(self, slot: int, data: bytes, *, invalidate: bool) -> bytes:
        signature, other = data[:64], data[64:]
        parent = self._parent(slot)
        key = self._use_temp_key()
        if self._assume.validation_digest_is_of_the_slot:
            need(key.gen_key and key.key_id == slot)
        if self._assume.validation_names_its_state:
            need(other[17] == invalidate)
        serial = self._sn8 + other[10:14] + self._sn01 + other[14:19]
        self._check(parent, sha256(key.value[:32], b"\x41", other[:10], serial), signature)
        self.nvm.mark(slot, INVALID if invalidate else VALID)
        return bytes([OK])

    def _validate_external(self, slot: int, signature: bytes) -> bytes:
        """Validate by an X.509 certificate whose digest SHA made with the slot's public key inside."""
        parent = self._parent(slot)
        key = self._use_temp_key()
        if key.certificate is None:
            raise Refusal(EXECUTION)
        named, position, blocks = key.certificate
        form = self.nvm.config[X509_FORMAT + (self.nvm.key_config(slot) >> 14)]
        free = form == 0 and self._assume.certificate_format_zero_is_any
        need(named == slot and (free or (position, blocks) == (form & 15, form >> 4)))
        self._check(parent, key.value[:32], signature)
        self.nvm.mark(slot, VALID)
        return bytes([OK])

    # -- SecureBoot ------------------------------------------------------------------------------------------

    def _secure_boot(self, p1: int, p2: int, data: bytes) -> bytes:
        mode, rule = p1 & 7, self.nvm.secure_boot
        need(mode in (FULL, FULL_STORE, FULL_COPY) and not p1 & 0x38 and p2 == 0, PARSE)
        need(len(data) == (32 if mode == FULL_STORE else 96), PARSE)
        need(not self.latches.secure_boot_prohibited)
        if p1 & PROHIBIT and self._assume.prohibited_even_if_refused:
            self.latches.secure_boot_prohibited = True
        need(self.nvm.data_locked and rule & 3 != OFF)
        need(mode == FULL or rule & 3 != FULL_BOTH)
        digest, signature, hashed = data[:32], data[32:], b""
        if p1 & ENCRYPTED:
            key = self._use_temp_key()
            need(not (rule & RANDOM_NONCE and key.from_input) and not key.no_mac)
            hashed = self._io_mac(key.value[:32])
            digest = xor(digest, hashed)
        signature = self._secure_boot_check(mode, digest, signature)
        if mode == FULL_COPY:
            self._remember(digest if rule & 3 == FULL_DIGEST else signature)
        if rule & PERSIST_ENABLE:
            self.latches.persistent = True
        if p1 & PROHIBIT:
            self.latches.secure_boot_prohibited = True
        if not p1 & ENCRYPTED:
            return bytes([OK])
        return sha256(hashed, digest, signature, b"\x80" + bytes([p1, 0, 0]))

    def _secure_boot_check(self, mode: int, digest: bytes, signature: bytes) -> bytes:
        """Check what the mode asks for; return the signature that the MAC covers, if any."""
        rule = self.nvm.secure_boot
        stored = bytes(self.nvm.slots[rule >> 8 & 15])
        if mode == FULL_STORE and rule & 3 == FULL_DIGEST:
            need(hmac.compare_digest(stored[:32], digest), MISCOMPARE)
            return b""
        if mode == FULL_STORE:
            signature = stored[:64]
            need(len(signature) == 64)
        slot = rule >> 12
        public = self._stored_public(slot)
        self._use_key(slot)
        self._check(public, digest, signature)
        return signature

    def _remember(self, value: bytes) -> None:
        slot = self.nvm.secure_boot >> 8 & 15
        need(not self.nvm.slot_locked(slot) and not self.nvm.is_private(slot))
        need(SLOT_SIZES[slot] >= len(value))
        self.nvm.slots[slot][: len(value)] = value
