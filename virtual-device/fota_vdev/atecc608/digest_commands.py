"""Commands that make and check digests: Nonce, GenDig, MAC, CheckMac. Formulas of the 508A's public sheet."""

import hmac

from fota_vdev.atecc608.context import Refusal, need, sha256
from fota_vdev.atecc608.crc import MISCOMPARE, OK, PARSE
from fota_vdev.atecc608.memory import NO_MAC, TempKey
from fota_vdev.atecc608.state_commands import StateCommands

BLOCK2_TEMP_KEY, BLOCK1_TEMP_KEY, FROM_INPUT, OTP88, OTP64, SERIAL = 1, 2, 4, 0x10, 0x20, 0x40
CONFIG, OTP, DATA, SHARED_NONCE, COUNTER, KEY_CONFIG = range(6)


class DigestCommands(StateCommands):
    """Nonce, GenDig, MAC, CheckMac."""

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
        need(p1 <= KEY_CONFIG, PARSE)
        need(len(data) in {SHARED_NONCE: (32,), DATA: (0, 4)}.get(p1, (0,)), PARSE)
        key = self._any_temp_key()
        if p1 == SHARED_NONCE:
            self.sram.temp_key = self._shared_nonce(p2, data, key)
            return bytes([OK])
        head, middle, no_mac = b"\x15" + bytes([p1]) + p2.to_bytes(2, "little"), bytes(25), False
        if p1 == DATA:
            slot = self._slot(p2)
            self._need_data_lock()
            no_mac = bool(self.nvm.slot_config(slot) & NO_MAC)
            need(data or not no_mac, PARSE)
            head = data if no_mac else head
            value = self._secret(slot, key)
        elif p1 in (COUNTER, KEY_CONFIG):
            value, middle = bytes(32), self._state_digested(p1, p2)
        else:
            zone = self.nvm.read_config() if p1 == CONFIG else bytes(self.nvm.otp)
            need(32 * p2 + 32 <= len(zone), PARSE)
            value = zone[32 * p2 : 32 * p2 + 32]
        self.sram.temp_key = TempKey(
            sha256(value, head, self._sn8, self._sn01, middle, key.value[:32]),
            from_input=key.from_input,
            key_id=p2 & 15 if p1 == DATA else 0,
            gen_dig=p1 == DATA,
            no_mac=key.no_mac or no_mac,
            digested=p1 != COUNTER or self._assume.gendig_counter_feeds_sign,
        )
        return bytes([OK])

    def _shared_nonce(self, p2: int, data: bytes, key: TempKey) -> TempKey:
        """Mix TempKey with 32 bytes of the host; bit 15 of ``p2`` says which of the two comes first."""
        need(not p2 & 0x7F00, PARSE)
        first, last = (key.value[:32], data) if p2 & 0x8000 else (data, key.value[:32])
        head = bytes([0x15, SHARED_NONCE, p2 & 0xFF, 0])
        value = sha256(first, head, self._sn8, self._sn01, bytes(25), last)
        return TempKey(value, from_input=key.from_input, no_mac=key.no_mac, digested=True)

    def _state_digested(self, zone: int, p2: int) -> bytes:
        """Return the 25 bytes that stand for a counter or for the configuration of a slot."""
        if zone == COUNTER:
            need(p2 <= 1, PARSE)
            need(self._assume.gendig_counter_feeds_mac)
            return b"\x00" + self.nvm.counters[p2].to_bytes(4, "little") + bytes(20)
        slot, nvm = self._slot(p2), self.nvm
        rules = nvm.slot_config(slot).to_bytes(2, "little") + nvm.key_config(slot).to_bytes(2, "little")
        return b"\x00" + rules + bytes([not nvm.slot_locked(slot)]) + bytes(19)

    def _mac(self, p1: int, p2: int, data: bytes) -> bytes:
        slot = self._slot(p2 & 0xFF)
        need(not p1 & 0x88 and len(data) == (0 if p1 & BLOCK2_TEMP_KEY else 32), PARSE)
        self._need_data_lock()
        key = self._message_key(p1)
        temp = key.value[:32] if key else b""
        if p1 & BLOCK1_TEMP_KEY:
            first = temp
        else:
            need(not self.nvm.slot_config(slot) & NO_MAC)
            first = self._secret(slot, key)
        second = temp if p1 & BLOCK2_TEMP_KEY else data
        otp8 = bytes(self.nvm.otp[0:8]) if p1 & (OTP88 | OTP64) else bytes(8)
        otp3 = bytes(self.nvm.otp[8:11]) if p1 & OTP88 else bytes(3)
        sn = self.nvm.serial if p1 & SERIAL else bytes(9)
        head = b"\x08" + bytes([p1]) + p2.to_bytes(2, "little")
        return sha256(first, second, head, otp8, otp3, self._sn8, sn[4:8], self._sn01, sn[2:4])

    def _message_key(self, p1: int) -> TempKey | None:
        """Return the TempKey that bits 0 and 1 ask for, of the source that bit 2 names, or None."""
        if not p1 & (BLOCK1_TEMP_KEY | BLOCK2_TEMP_KEY):
            return None
        key = self._use_temp_key()
        need(key.from_input == bool(p1 & FROM_INPUT) and not key.no_mac)
        return key

    def _check_mac(self, p1: int, p2: int, data: bytes) -> bytes:
        slot = self._slot(p2)
        need(not p1 & ~0x27 and len(data) == 77, PARSE)
        self._need_data_lock()
        key = self._message_key(p1)
        temp = key.value[:32] if key else b""
        challenge, response, other = data[:32], data[32:64], data[64:]
        first = temp if p1 & BLOCK1_TEMP_KEY else self._secret(slot, key)
        second = temp if p1 & BLOCK2_TEMP_KEY else challenge
        otp8 = bytes(self.nvm.otp[0:8]) if p1 & OTP64 else bytes(8)
        serial = self._sn8 + other[7:11] + self._sn01 + other[11:13]
        if not hmac.compare_digest(sha256(first, second, other[:4], otp8, other[4:7], serial), response):
            raise Refusal(MISCOMPARE)
        if not p1 & BLOCK1_TEMP_KEY:
            self._prove(slot, key)
        return bytes([OK])
