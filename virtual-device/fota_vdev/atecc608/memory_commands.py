"""Commands of the zones: Read, Write, Lock."""

import hmac

from fota_vdev.atecc608.context import Context, Refusal, need, sha256, xor
from fota_vdev.atecc608.crc import EXECUTION, MISCOMPARE, OK, PARSE, crc16
from fota_vdev.atecc608.memory import (
    COUNTERS,
    ENCRYPT_READ,
    INVALID,
    LOCK_CONFIG,
    LOCK_VALUE,
    LOCKABLE,
    PUB_INFO,
    SECRET,
    SLOT_SIZES,
    WRITE_ENCRYPTED,
    WRITE_GENKEY,
    WRITE_NEVER,
    WRITE_PUB_INVALID,
    decode_counter,
)


class MemoryCommands(Context):
    """Read, Write, Lock."""

    def _place(self, zone: int, p2: int, size: int) -> tuple[int, int]:
        """Return (slot or -1, byte offset) of a Read or Write address."""
        if zone == 2:
            slot, offset = p2 >> 3 & 15, (p2 >> 8) * 32 + (p2 & 7) * 4
            limit, known = SLOT_SIZES[slot], p2 & 0x80 == 0
        else:
            slot, offset = -1, (p2 >> 3) * 32 + (p2 & 7) * 4
            limit, known = (128, 64)[zone], True
        need(known and offset < limit and (size == 4 or p2 & 7 == 0), PARSE)
        return slot, offset

    def _read(self, p1: int, p2: int, data: bytes) -> bytes:
        zone, size = p1 & 3, 32 if p1 & 0x80 else 4
        need(zone <= 2 and not p1 & 0x7C and not data, PARSE)
        slot, offset = self._place(zone, p2, size)
        if zone == 0:
            raw = self.nvm.read_config()
        elif zone == 1:
            need(self.nvm.data_locked)
            raw = bytes(self.nvm.otp)
        else:
            need(self.nvm.data_locked or not self._assume.unlocked_writes_are_blocks)
            need(not self.nvm.is_private(slot))
            self._touch(slot)
            raw = bytes(self.nvm.slots[slot])
            rule = self.nvm.slot_config(slot) & (SECRET | ENCRYPT_READ)
            if rule == SECRET | ENCRYPT_READ:
                need(size == 32)
                return xor(self._bound_key(self.nvm.slot_config(slot) & 15), self._padded(raw, offset))
            need(not rule)
        return self._padded(raw, offset)[:size]

    def _padded(self, raw: bytes, offset: int) -> bytes:
        """Return the 32 bytes at ``offset``, filled up if the zone ends before."""
        return raw[offset : offset + 32].ljust(32, bytes([self._assume.past_slot]))

    def _bound_key(self, slot: int) -> bytes:
        """Return and use up a TempKey that a random nonce and GenDig of ``slot`` made."""
        key = self._use_temp_key()
        need(key.gen_dig and key.key_id == slot and not key.from_input and not key.no_mac)
        return key.value[:32]

    def _write(self, p1: int, p2: int, data: bytes) -> bytes:
        zone, size, encrypted = p1 & 3, 32 if p1 & 0x80 else 4, bool(p1 & 0x40)
        need(zone <= 2 and not p1 & 0x3C and len(data) == size + (32 if encrypted else 0), PARSE)
        slot, offset = self._place(zone, p2, size)
        if zone == 0:
            need(not encrypted, PARSE)
            self._write_config(offset, data)
        elif zone == 1:
            need(not self.nvm.data_locked and self.nvm.config_locked and size == 32 and not encrypted)
            self.nvm.otp[offset : offset + 32] = data
        else:
            plain = self._decrypt(p1, p2, slot, data) if encrypted else data
            self._check_slot_write(slot, size, encrypted=encrypted)
            self._touch(slot)
            room = self.nvm.slots[slot]
            kept = plain[: len(room) - offset]
            room[offset : offset + len(kept)] = kept
            if self.nvm.is_p256(slot) and self.nvm.key_config(slot) & PUB_INFO:
                self.nvm.mark(slot, INVALID)
        return bytes([OK])

    def _write_config(self, offset: int, data: bytes) -> None:
        need(not self.nvm.config_locked)
        touched = set(range(offset, offset + len(data)))
        need(not touched & (set(range(16)) | set(range(84, 88))))
        self.nvm.config[offset : offset + len(data)] = data

    def _lock_config(self) -> None:
        """Lock the zone; from then on, its counter bytes are counters."""
        raw = self.nvm.config[COUNTERS : COUNTERS + 16]
        for i, value in enumerate(decode_counter(bytes(raw[8 * i : 8 * i + 8])) for i in (0, 1)):
            if value is None:
                raise Refusal(EXECUTION)
            self.nvm.counters[i] = value
        self.nvm.config[LOCK_CONFIG] = 0

    def _check_slot_write(self, slot: int, size: int, *, encrypted: bool) -> None:
        nvm = self.nvm
        need(nvm.config_locked and not nvm.slot_locked(slot) and not nvm.is_private(slot))
        if not nvm.data_locked:
            need(size == 32 or not self._assume.unlocked_writes_are_blocks)
            return
        rule = nvm.slot_config(slot)
        if rule & WRITE_ENCRYPTED:
            need(encrypted)
        else:
            need(not encrypted and not rule & (WRITE_NEVER | WRITE_GENKEY))
            need(not rule & WRITE_PUB_INVALID or not nvm.is_validated(slot))

    def _decrypt(self, p1: int, p2: int, slot: int, data: bytes) -> bytes:
        """Return the plain text of an encrypted write; TempKey has to be GenDig of the slot's write key."""
        need(p1 & 0x80)
        key = self._bound_key(self.nvm.slot_config(slot) >> 8 & 15)
        plain = xor(data[:32], key)
        head = b"\x12" + bytes([p1]) + p2.to_bytes(2, "little")
        mac = sha256(key, head, self._sn8, self._sn01, bytes(25), plain)
        need(hmac.compare_digest(mac, data[32:]), MISCOMPARE)
        return plain

    def _lock(self, p1: int, p2: int, data: bytes) -> bytes:
        need(not data and not p1 & 0x40, PARSE)
        kind = p1 & 3
        if kind == 0:
            need(not self.nvm.config_locked)
            need(p1 & 0x80 or crc16(self.nvm.read_config()) == p2.to_bytes(2, "little"))
            self._lock_config()
        elif kind == 1:
            need(self.nvm.config_locked and not self.nvm.data_locked)
            content = b"".join(bytes(slot) for slot in self.nvm.slots) + bytes(self.nvm.otp)
            need(p1 & 0x80 or crc16(content) == p2.to_bytes(2, "little"))
            self.nvm.config[LOCK_VALUE] = 0
        elif kind == 2:
            slot = p1 >> 2 & 15
            need(self.nvm.config_locked and not self.nvm.slot_locked(slot))
            need(self.nvm.key_config(slot) & LOCKABLE)
            self.nvm.lock_slot(slot)
        else:
            raise Refusal(PARSE)
        return bytes([OK])
