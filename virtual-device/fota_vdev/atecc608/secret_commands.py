"""Commands that make or use shared secrets: ECDH, KDF, AES, with the output protection of ChipOptions."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.context import Context, Refusal, hmac256, need
from fota_vdev.atecc608.crc import ECC_FAULT, OK, PARSE
from fota_vdev.atecc608.memory import AES_ENABLE, ECDH_ALLOWED, ECDH_TO_SLOT, KDF_IV, SLOT_SIZES, TempKey

TEMP_KEY_SLOT = 0xFFFF
KDF_AES_OPTION, ECDH_PROTECTION, KDF_PROTECTION = 1 << 2, 8, 10
CLEAR, ENCRYPTED, TO_TEMP_KEY, TO_SLOT = range(4)
PRF, KDF_AES, HKDF = 0x00, 0x20, 0x40
GFM_POLYNOMIAL = 0xE1 << 120


def prf(key: bytes, message: bytes, size: int) -> bytes:
    """Return ``size`` bytes of P_SHA256 (RFC 5246 section 5)."""
    out, a = b"", message
    while len(out) < size:
        a = hmac256(key, a)
        out += hmac256(key, a + message)
    return out[:size]


def gfm(h: bytes, x: bytes) -> bytes:
    """Return the product of GCM's field (SP 800-38D section 6.3)."""
    z, v, bits = 0, int.from_bytes(h, "big"), int.from_bytes(x, "big")
    for i in range(127, -1, -1):
        z ^= v if bits >> i & 1 else 0
        v = v >> 1 ^ (GFM_POLYNOMIAL if v & 1 else 0)
    return z.to_bytes(16, "big")


def aes(key: bytes, block: bytes, *, decrypt: bool = False) -> bytes:
    """Return one block of AES-128."""
    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 (the chip's primitive is one block)
    engine = cipher.decryptor() if decrypt else cipher.encryptor()
    return engine.update(block) + engine.finalize()


class SecretCommands(Context):
    """ECDH, KDF, AES."""

    def _protect(self, field: int, kind: int) -> None:
        """Hold where a secret goes against ChipOptions."""
        least = self.nvm.chip_options >> field & 3
        need(kind >= least if self._assume.output_protection_is_a_scale else kind == least or not least)

    def _store(self, slot: int, secret: bytes) -> None:
        need(not self.nvm.is_private(slot) and not self.nvm.slot_locked(slot))
        need(len(secret) <= SLOT_SIZES[slot])
        self.nvm.slots[slot][: len(secret)] = secret

    def _ecdh(self, p1: int, p2: int, data: bytes) -> bytes:
        need(not p1 & 0xF0 and len(data) == 64, PARSE)
        self._need_data_lock()
        copy, encrypted, slot = p1 >> 2 & 3, bool(p1 & 2), 0
        if p1 & 1:
            need(copy, PARSE)
            scalar = self._use_ephemeral()
        else:
            slot = self._slot(p2)
            need(self.nvm.is_private(slot) and self.nvm.is_p256(slot))
            need(self.nvm.slot_config(slot) & ECDH_ALLOWED)
            self._use_key(slot, self.sram.temp_key if self.sram.temp_key.value else None)
            scalar = self.nvm.private_key(slot)
        if copy == 0:  # as on the 508: SlotConfig says where
            copy = 1 if self.nvm.slot_config(slot) & ECDH_TO_SLOT else 3
        try:
            secret = p256.shared(scalar, data)
        except ValueError:
            raise Refusal(ECC_FAULT) from None
        if copy == 1:
            need(not p1 & 1, PARSE)
            self._protect(ECDH_PROTECTION, TO_SLOT)
            self._store(slot | 1 if self._assume.ecdh_slot_is_the_odd_neighbour else slot, secret)
        elif copy == 2:
            self._protect(ECDH_PROTECTION, TO_TEMP_KEY)
            self.sram.temp_key = TempKey(secret, from_input=True)
        else:
            self._protect(ECDH_PROTECTION, ENCRYPTED if encrypted else CLEAR)
            return self._io_encrypt(secret) if encrypted else secret
        return bytes([OK])

    def _use_ephemeral(self) -> bytes:
        key = self.sram.temp_key
        need(key.ephemeral)
        if self._assume.clear_after_use:
            self.sram.temp_key = TempKey()
        return key.value

    def _kdf(self, p1: int, p2: int, data: bytes) -> bytes:
        need(not p1 & 0x80 and p1 & 0x60 != 0x60 and p1 >> 2 & 7 <= 5 and len(data) >= 4, PARSE)
        self._need_data_lock()
        details, message, algorithm = int.from_bytes(data[:4], "little"), data[4:], p1 & 0x60
        need(len(message) == (16 if algorithm == KDF_AES else details >> 24), PARSE)
        source = self._kdf_source(p1 & 3, p2 & 0xFF)
        first, second = self._derive(algorithm, details, source, message)
        return self._deliver(p1 >> 2 & 7, p2 >> 8, first) + second

    def _kdf_source(self, source: int, slot: int) -> bytes:
        if source == 2:
            return self._kdf_slot(self._slot(slot))
        if source == 3:
            need(self.sram.alternate)
            return self.sram.alternate
        value = self._any_temp_key().value
        need(len(value) == 64 or source == 0)
        if not self._assume.kdf_and_aes_keep_temp_key:
            self.sram.temp_key = TempKey()
        return value[32:] if source else value

    def _kdf_slot(self, slot: int) -> bytes:
        self._secret(slot)
        return bytes(self.nvm.slots[slot])

    def _derive(self, algorithm: int, details: int, key: bytes, message: bytes) -> tuple[bytes, bytes]:
        """Return what goes to the target, and what PRF's AEAD mode sends to the output besides."""
        if algorithm == PRF:
            size = 16 * ((details & 3) + 1)
            need(len(key) >= size and details >> 9 & 3 <= 1)
            long = details >> 8 & 1
            out = prf(key[:size], message, 64 if long else 32)
            need(long or not details >> 9 & 1)
            return (out[:32], out[32:]) if details >> 9 & 1 else (out, b"")
        if algorithm == KDF_AES:
            need(self.nvm.chip_options & KDF_AES_OPTION and self.nvm.config[AES_ENABLE] & 1)
            at = 16 * (details & 3)
            need(len(key) >= at + 16)
            return aes(key[at : at + 16], message) + bytes(16), b""
        need(details & 3 in (2, 3), PARSE)  # messages in a slot or in TempKey are not modelled
        if details & 3 == 3:
            place, special = self.nvm.config[KDF_IV], bytes(self.nvm.config[KDF_IV + 1 : KDF_IV + 3])
            need(message[place : place + 2] == special)
        return hmac256(bytes(32) if details & 4 else key[:32], message), b""

    def _deliver(self, target: int, slot: int, value: bytes) -> bytes:
        if target in (4, 5):
            self._protect(KDF_PROTECTION, ENCRYPTED if target == 5 else CLEAR)
            return self._io_encrypt(value) if target == 5 else value
        self._protect(KDF_PROTECTION, TO_SLOT if target == 2 else TO_TEMP_KEY)
        if target == 2:
            self._store(self._slot(slot), value)
        elif target == 3:
            need(len(value) == 32)
            self.sram.alternate = value
        else:
            lower = b"" if target == 0 else self._any_temp_key().value[:32]
            need(target == 0 or len(value) == 32)
            self.sram.temp_key = TempKey(lower + value, from_input=True)
        return bytes([OK])

    def _aes(self, p1: int, p2: int, data: bytes) -> bytes:
        mode, at = p1 & 7, 16 * (p1 >> 6)
        need(mode in (0, 1, 3) and not p1 & 0x38 and len(data) == (32 if mode == 3 else 16), PARSE)
        need(self.nvm.config[AES_ENABLE] & 1)
        if mode == 3:
            return gfm(data[:16], data[16:])
        self._need_data_lock()
        if p2 == TEMP_KEY_SLOT:
            key = self._any_temp_key().value
            if not self._assume.kdf_and_aes_keep_temp_key:
                self.sram.temp_key = TempKey()
        else:
            slot = self._slot(p2)
            need(self.nvm.is_aes(slot))
            self._secret(slot)
            key = bytes(self.nvm.slots[slot])
        need(len(key) >= at + 16)
        return aes(key[at : at + 16], data, decrypt=mode == 1)
