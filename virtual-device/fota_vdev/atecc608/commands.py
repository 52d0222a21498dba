"""What the commands do. An `Executor` works on a copy of the memory; the chip commits it when time is up."""

import hashlib
from collections.abc import Callable

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.atecc608.crc import ECC_FAULT, EXECUTION, MISCOMPARE, OK, PARSE, crc16
from fota_vdev.atecc608.memory import (
    COUNTER_MAX,
    COUNTERS,
    EXTERNAL_SIGN,
    INTERNAL_SIGN,
    LOCK_CONFIG,
    LOCK_VALUE,
    LOCKABLE,
    NO_MAC,
    PUB_INFO,
    REQ_RANDOM,
    SECRET,
    SLOT_SIZES,
    WRITE_ENCRYPTED,
    WRITE_GENKEY,
    WRITE_NEVER,
    WRITE_PUB_INVALID,
    Nvm,
    Sram,
    TempKey,
    decode_counter,
)

# opcode: (name, maximum time in ms at clock divider M0, M1, M2)
TIMES_MS: dict[int, tuple[str, tuple[int, int, int]]] = {
    0x02: ("Read", (5, 5, 5)),
    0x08: ("MAC", (55, 55, 55)),
    0x12: ("Write", (45, 45, 45)),
    0x15: ("GenDig", (25, 35, 35)),
    0x16: ("Nonce", (20, 20, 20)),
    0x17: ("Lock", (35, 35, 35)),
    0x1B: ("Random", (23, 23, 23)),
    0x20: ("UpdateExtra", (10, 10, 10)),
    0x24: ("Counter", (25, 25, 25)),
    0x30: ("Info", (5, 5, 5)),
    0x40: ("GenKey", (115, 215, 653)),
    0x41: ("Sign", (115, 220, 665)),
    0x45: ("Verify", (105, 295, 1085)),
    0x47: ("SHA", (36, 42, 75)),
}
NOT_MODELLED = {0x1C: "DeriveKey", 0x28: "CheckMac", 0x43: "ECDH", 0x46: "PrivWrite", 0x51: "AES",
                0x56: "KDF", 0x77: "SelfTest", 0x80: "SecureBoot"}  # fmt: skip


class Refusal(Exception):
    """The command ends with a status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status:02x}")
        self.status = status


def sha256(*parts: bytes) -> bytes:
    """Return SHA-256 of the parts joined."""
    return hashlib.sha256(b"".join(parts)).digest()


def need(condition: object, status: int = EXECUTION) -> None:
    """End the command with ``status`` unless ``condition`` holds."""
    if not condition:
        raise Refusal(status)


class Executor:
    """Runs one command at a time on ``nvm`` and ``sram``. ``random`` gives fresh random bytes."""

    def __init__(self, assumptions: Assumptions, random: Callable[[int], bytes]) -> None:
        self._assume = assumptions
        self._random = random
        self.nvm: Nvm
        self.sram = Sram()
        self._commands = {
            0x02: self._read, 0x08: self._mac, 0x12: self._write, 0x15: self._gen_dig, 0x16: self._nonce,
            0x17: self._lock, 0x1B: self._random_numbers, 0x20: self._update_extra, 0x24: self._counter,
            0x30: self._info, 0x40: self._gen_key, 0x41: self._sign, 0x45: self._verify, 0x47: self._sha,
        }  # fmt: skip

    def run(self, opcode: int, p1: int, p2: int, data: bytes) -> bytes:
        """Return the payload of the response: a status byte or the command's output.

        TempKey and the message digest buffer do not survive a refused command.
        """
        if opcode not in self._commands:
            return bytes([PARSE])
        try:
            return self._commands[opcode](p1, p2, data)
        except Refusal as exc:
            if self._assume.clear_after_use:
                self.sram.temp_key, self.sram.message = TempKey(), b""
            return bytes([exc.status])

    # -- small helpers -------------------------------------------------------------------------------------

    @property
    def _sn8(self) -> bytes:
        return self.nvm.serial[8:9]

    @property
    def _sn01(self) -> bytes:
        return self.nvm.serial[0:2]

    def _use_temp_key(self) -> TempKey:
        key = self.sram.temp_key
        need(key.value)
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

    # -- small commands --------------------------------------------------------------------------------------

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

    # -- nonce, digests --------------------------------------------------------------------------------------

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

    # -- keys and signatures ---------------------------------------------------------------------------

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

    # -- memory ----------------------------------------------------------------------------------------------

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
            need(not self.nvm.is_private(slot) and not self.nvm.slot_config(slot) & SECRET)
            raw = bytes(self.nvm.slots[slot])
        return raw[offset : offset + size].ljust(size, bytes([self._assume.past_slot]))

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
            room = self.nvm.slots[slot]
            kept = plain[: len(room) - offset]
            room[offset : offset + len(kept)] = kept
        return bytes([OK])

    def _write_config(self, offset: int, data: bytes) -> None:
        need(not self.nvm.config_locked)
        touched = set(range(offset, offset + len(data)))
        need(not touched & (set(range(16)) | set(range(84, 88))))
        zone = bytearray(self.nvm.read_config())
        zone[offset : offset + len(data)] = data
        counters = [decode_counter(bytes(zone[COUNTERS + 8 * i : COUNTERS + 8 * i + 8])) for i in (0, 1)]
        half_written = COUNTERS <= offset < COUNTERS + 16 and len(data) == 4
        for i, value in enumerate(counters):
            need(value is not None or half_written)
            if value is not None:
                self.nvm.counters[i] = value
        self.nvm.config[:] = zone

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
            need(not encrypted and not rule & (WRITE_NEVER | WRITE_GENKEY | WRITE_PUB_INVALID))

    def _decrypt(self, p1: int, p2: int, slot: int, data: bytes) -> bytes:
        """Return the plain text of an encrypted write; TempKey has to be GenDig of the slot's write key."""
        key = self._use_temp_key()
        write_key = self.nvm.slot_config(slot) >> 8 & 15
        need(p1 & 0x80 and key.gen_dig and key.key_id == write_key and not key.from_input)
        plain = bytes(a ^ b for a, b in zip(data[:32], key.value[:32], strict=True))
        head = b"\x12" + bytes([p1]) + p2.to_bytes(2, "little")
        need(sha256(key.value[:32], head, self._sn8, self._sn01, bytes(25), plain) == data[32:], MISCOMPARE)
        return plain

    def _lock(self, p1: int, p2: int, data: bytes) -> bytes:
        need(not data and not p1 & 0x40, PARSE)
        kind = p1 & 3
        if kind == 0:
            need(not self.nvm.config_locked)
            need(p1 & 0x80 or crc16(self.nvm.read_config()) == p2.to_bytes(2, "little"))
            self.nvm.config[LOCK_CONFIG] = 0
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


TYPE_P256_PARAMETER = 4
