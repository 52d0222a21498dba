"""Commands that make digests (Nonce, GenDig, MAC, SHA), and the small ones (Info, Random, Counter)."""

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.context import Context, Refusal, need, sha256
from fota_vdev.atecc608.crc import OK, PARSE
from fota_vdev.atecc608.memory import (
    COUNTER_MAX,
    NO_MAC,
    TempKey,
)


class DigestCommands(Context):
    """Nonce, GenDig, MAC, SHA, Info, Random, Counter, UpdateExtra."""

    def _info(self, p1: int, p2: int, data: bytes) -> bytes:
        need(not data and p1 <= 2, PARSE)
        if p1 == 0:
            return bytes(self.nvm.config[4:8])
        if p1 == 1:
            slot = self._slot(p2)
            need(self.nvm.is_p256(slot))
            return bytes([self._key_valid(slot), 0, 0, 0])
        return bytes([self.sram.temp_key.flags, bool(self.sram.temp_key.value) << 7, 0, 0])

    def _key_valid(self, slot: int) -> bool:
        try:
            if self.nvm.is_private(slot):
                p256.public_of(self.nvm.private_key(slot))
            else:
                p256.verify(self.nvm.public_key(slot), bytes(32), bytes(64))
        except ValueError:
            return False
        return True

    def _fresh(self, n: int) -> bytes:
        if self.nvm.config_locked:
            return self._random(n)
        pattern = self._assume.unlocked_random
        return (pattern * n)[:n]

    def _random_numbers(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 <= 1 and p2 == 0 and not data, PARSE)
        return self._fresh(32)

    def _counter(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 <= 1 and p2 <= 1 and not data, PARSE)
        need(self.nvm.config_locked)
        if p1 == 1:
            need(self.nvm.counters[p2] < COUNTER_MAX)
            self.nvm.counters[p2] += 1
        return self.nvm.counters[p2].to_bytes(4, "little")

    def _update_extra(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 <= 1 and not data and p2 < 256, PARSE)
        need(not self.nvm.config_locked or self.nvm.config[84 + p1] == 0)
        self.nvm.config[84 + p1] = p2
        return bytes([OK])

    def _nonce(self, p1: int, p2: int, data: bytes) -> bytes:
        if p1 & 3 == 3:
            return self._pass_through(p1, p2, data)
        need(p1 <= 1 and p2 & 0x7FFF == 0 and len(data) == 20, PARSE)
        drawn = self._fresh(32)
        value = sha256(drawn, data, b"\x16", bytes([p1]), b"\x00")
        self.sram.temp_key = TempKey(value)
        return value if p2 & 0x8000 else drawn

    def _pass_through(self, p1: int, p2: int, data: bytes) -> bytes:
        size = 64 if p1 & 0x20 else 32
        target = p1 & 0xC0
        need(p2 == 0 and not p1 & 0x1C and len(data) == size and target != 0xC0, PARSE)
        if target == 0x00:
            self.sram.temp_key = TempKey(data, from_input=True)
        elif target == 0x40:
            self.sram.message = data
        else:
            need(size == 32, PARSE)
            self.sram.alternate = data
        return bytes([OK])

    def _gen_dig(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 in (0, 1, 2, 4) and not data, PARSE)
        key = self.sram.temp_key
        need(key.value)
        middle = bytes(25)
        if p1 == 2:
            slot = self._slot(p2)
            self._need_data_lock()
            need(not self.nvm.is_private(slot))
            value, no_mac = bytes(self.nvm.slots[slot][:32]), bool(self.nvm.slot_config(slot) & NO_MAC)
        elif p1 == 4:
            need(p2 <= 1, PARSE)
            need(self._assume.gendig_counter_feeds_mac)
            value, no_mac = bytes(32), False
            middle = b"\x00" + self.nvm.counters[p2].to_bytes(4, "little") + bytes(20)
        else:
            zone = self.nvm.read_config() if p1 == 0 else bytes(self.nvm.otp)
            need(32 * p2 + 32 <= len(zone), PARSE)
            value, no_mac = zone[32 * p2 : 32 * p2 + 32], False
        tail = b"\x15" + bytes([p1]) + p2.to_bytes(2, "little") + self._sn8 + self._sn01
        self.sram.temp_key = TempKey(
            sha256(value, tail, middle, key.value[:32]),
            from_input=key.from_input,
            key_id=p2 & 15 if p1 == 2 else 0,
            gen_dig=True,
            no_mac=key.no_mac or no_mac,
        )
        return bytes([OK])

    def _mac(self, p1: int, p2: int, data: bytes) -> bytes:
        slot = self._slot(p2 & 0xFF)
        need(not p1 & 0x88 and len(data) == (0 if p1 & 1 else 32), PARSE)
        self._need_data_lock()
        temp = b""
        if p1 & 3:
            key = self._use_temp_key()
            need(key.from_input == bool(p1 & 4) and not key.no_mac)
            temp = key.value[:32]
        if not p1 & 2:
            need(not self.nvm.is_private(slot) and not self.nvm.slot_config(slot) & NO_MAC)
        first = temp if p1 & 2 else bytes(self.nvm.slots[slot][:32])
        second = temp if p1 & 1 else data
        otp8 = bytes(self.nvm.otp[0:8]) if p1 & 0x30 else bytes(8)
        otp3 = bytes(self.nvm.otp[8:11]) if p1 & 0x10 else bytes(3)
        sn = self.nvm.serial if p1 & 0x40 else bytes(9)
        head = b"\x08" + bytes([p1]) + p2.to_bytes(2, "little")
        return sha256(first, second, head, otp8, otp3, self._sn8, sn[4:8], self._sn01, sn[2:4])

    def _sha(self, p1: int, p2: int, data: bytes) -> bytes:
        step, target = p1 & 7, p1 & 0xC0
        if step == 0:
            need(not data, PARSE)
            self.sram.sha = bytearray()
            return bytes([OK])
        context = self.sram.sha
        need(context is not None)
        if context is None or step not in (1, 2, 3):
            raise Refusal(PARSE)
        if step == 3:
            slot = self._slot(p2)
            need(self.nvm.is_p256(slot) and not self.nvm.is_private(slot))
            context += self.nvm.slots[slot][:64]
            return bytes([OK])
        need(p2 == len(data) and (len(data) == 64 if step == 1 else len(data) < 64), PARSE)
        context += data
        if step == 1:
            return bytes([OK])
        self.sram.sha = None
        digest = sha256(bytes(context))
        if target == 0x00:
            self.sram.temp_key = TempKey(digest, from_input=True)
        elif target == 0x40:
            self.sram.message = digest
        return digest
