"""The non-volatile memory of the chip: configuration zone, OTP, slots, counters, locks; and its SRAM."""

import random
from dataclasses import dataclass, field
from typing import Any

from fota_vdev.atecc608.sha256 import Sha256

CONFIG_SIZE, OTP_SIZE = 128, 64
SLOT_SIZES = (36,) * 8 + (416,) + (72,) * 7
COUNTER_MAX = 2_097_151
ADDRESS, CHIP_MODE, SLOT_CONFIG, COUNTERS = 16, 19, 20, 52
LOCK_VALUE, LOCK_CONFIG, SLOT_LOCKED, CHIP_OPTIONS, KEY_CONFIG = 86, 87, 88, 90, 96
OPEN = 0x55

AES_ENABLE, COUNT_MATCH, LATCH_PERMISSION, SECURE_BOOT, KDF_IV, X509_FORMAT = 13, 18, 69, 70, 72, 92
EXTERNAL_SIGN, INTERNAL_SIGN, ECDH_ALLOWED, ECDH_TO_SLOT = 1, 2, 4, 8
NO_MAC, LIMITED_USE, ENCRYPT_READ, SECRET = 1 << 4, 1 << 5, 1 << 6, 1 << 7
WRITE_PUB_INVALID, WRITE_GENKEY, WRITE_ENCRYPTED, WRITE_NEVER = 1 << 12, 1 << 13, 1 << 14, 1 << 15
PRIVATE, PUB_INFO, LOCKABLE, REQ_RANDOM, REQ_AUTH, PERSIST_DISABLE = 1, 2, 1 << 5, 1 << 6, 1 << 7, 1 << 12
TYPE_P256, TYPE_AES = 4, 6
POWER_ON_SELF_TEST, IO_PROTECTION = 1, 2
VALID, INVALID = 0x5, 0xA


def encode_counter(value: int) -> bytes:
    """Return the eight configuration bytes of a counter: two unary and two binary words, big endian."""
    lin_a = 0xFFFF >> value % 32
    lin_b = 0xFFFF >> (value - 16) % 32 if value >= 16 else 0xFFFF
    bin_a, bin_b = value // 32, max(value - 16, 0) // 32
    return b"".join(word.to_bytes(2, "big") for word in (lin_a, lin_b, bin_a, bin_b))


def decode_counter(raw: bytes) -> int | None:
    """Return the value of eight configuration bytes, or None if they are no counter."""
    base = int.from_bytes(raw[4:6], "big") * 32
    return next((v for v in range(base, base + 32) if encode_counter(v) == raw), None)


def factory_config(serial: bytes, revision: bytes) -> bytes:
    """Return the configuration zone of a blank part; ``serial`` is the nine bytes SN0..SN8."""
    zone = bytearray(CONFIG_SIZE)
    zone[0:4], zone[4:8], zone[8:13] = serial[0:4], revision, serial[4:9]
    zone[13:20] = bytes.fromhex("01 01 00 c0 00 00 00")
    zone[20:52] = bytes.fromhex("8320 8720 8f20 c48f 8f8f 8f8f 9f8f 0f0f" + "0f0f" * 8)
    zone[COUNTERS : COUNTERS + 16] = 2 * encode_counter(0)
    zone[84:92] = bytes.fromhex("0000 5555 ffff 0000")
    zone[96:128] = bytes.fromhex("3300 3300 3300 1c00 1c00 1c00 1c00 1c00 3c00" + "3c00" * 6 + "1c00")
    return bytes(zone)


@dataclass(slots=True, repr=False)  # it holds secrets, and a traceback shows what repr shows
class Nvm:
    """What survives without power. Counter bytes of a locked ``config`` are computed when read."""

    config: bytearray
    otp: bytearray = field(default_factory=lambda: bytearray(b"\xff" * OTP_SIZE))
    slots: list[bytearray] = field(default_factory=lambda: [bytearray(b"\xff" * n) for n in SLOT_SIZES])
    counters: list[int] = field(default_factory=lambda: [0, 0])

    def copy(self) -> "Nvm":
        """Return an independent copy."""
        return Nvm(
            bytearray(self.config),
            bytearray(self.otp),
            [bytearray(s) for s in self.slots],
            list(self.counters),
        )

    @property
    def serial(self) -> bytes:
        """SN0..SN8."""
        return bytes(self.config[0:4] + self.config[8:13])

    @property
    def config_locked(self) -> bool:
        """True once the configuration zone is locked."""
        return self.config[LOCK_CONFIG] != OPEN

    @property
    def data_locked(self) -> bool:
        """True once data and OTP zones are locked."""
        return self.config[LOCK_VALUE] != OPEN

    def slot_locked(self, slot: int) -> bool:
        """True once the slot itself is locked."""
        return not int.from_bytes(self.config[SLOT_LOCKED : SLOT_LOCKED + 2], "little") >> slot & 1

    def lock_slot(self, slot: int) -> None:
        """Lock a slot for ever."""
        bits = int.from_bytes(self.config[SLOT_LOCKED : SLOT_LOCKED + 2], "little") & ~(1 << slot)
        self.config[SLOT_LOCKED : SLOT_LOCKED + 2] = bits.to_bytes(2, "little")

    def slot_config(self, slot: int) -> int:
        """SlotConfig of a slot, as a 16-bit number."""
        return int.from_bytes(self.config[SLOT_CONFIG + 2 * slot : SLOT_CONFIG + 2 * slot + 2], "little")

    def key_config(self, slot: int) -> int:
        """KeyConfig of a slot, as a 16-bit number."""
        return int.from_bytes(self.config[KEY_CONFIG + 2 * slot : KEY_CONFIG + 2 * slot + 2], "little")

    def is_private(self, slot: int) -> bool:
        """True if the slot holds an ECC private key."""
        return bool(self.key_config(slot) & PRIVATE)

    def is_p256(self, slot: int) -> bool:
        """True if the slot's key type is P-256."""
        return self.key_config(slot) >> 2 & 7 == TYPE_P256

    def is_aes(self, slot: int) -> bool:
        """True if the slot's key type is AES-128."""
        return self.key_config(slot) >> 2 & 7 == TYPE_AES

    def is_validated(self, slot: int) -> bool:
        """True if a public key that needs validation has it: the first nibble of the slot is 5."""
        return bool(self.key_config(slot) & PUB_INFO) and self.slots[slot][0] >> 4 == VALID

    def mark(self, slot: int, nibble: int) -> None:
        """Set the validity nibble of a public key."""
        self.slots[slot][0] = nibble << 4 | self.slots[slot][0] & 15

    def counter_limit(self, index: int) -> int:
        """Where a counter stops: at its maximum; Counter0 also at the number, little endian and repeated,
        at the start of the slot that CountMatch names.
        """
        if index or not self.config[COUNT_MATCH] & 1:
            return COUNTER_MAX
        raw = bytes(self.slots[self.config[COUNT_MATCH] >> 4][:8])
        return min(int.from_bytes(raw[:4], "little"), COUNTER_MAX) if raw[:4] == raw[4:] else 0

    @property
    def secure_boot(self) -> int:
        """SecureBoot configuration, as a 16-bit number."""
        return int.from_bytes(self.config[SECURE_BOOT : SECURE_BOOT + 2], "little")

    @property
    def chip_options(self) -> int:
        """ChipOptions, as a 16-bit number."""
        return int.from_bytes(self.config[CHIP_OPTIONS : CHIP_OPTIONS + 2], "little")

    @property
    def io_key(self) -> bytes | None:
        """The IO protection key, or None if ChipOptions does not enable it."""
        return bytes(self.slots[self.chip_options >> 12][:32]) if self.chip_options & IO_PROTECTION else None

    def private_key(self, slot: int) -> bytes:
        """The scalar in a private slot."""
        return bytes(self.slots[slot][4:36])

    def public_key(self, slot: int) -> bytes:
        """X||Y stored in a public slot as ``pad4 X pad4 Y``."""
        raw = self.slots[slot]
        return bytes(raw[4:36] + raw[40:72])

    def read_config(self) -> bytes:
        """The configuration zone with its counters; until it is locked, they are what was written."""
        zone = bytearray(self.config)
        if not self.config_locked:
            return bytes(zone)
        zone[COUNTERS : COUNTERS + 16] = encode_counter(self.counters[0]) + encode_counter(self.counters[1])
        return bytes(zone)

    def torn(self, after: "Nvm", dice: random.Random, *, may_add: bool, mixes: bool) -> "Nvm":
        """Return what is left if power fails while this memory becomes ``after``: the old content or the new;
        with ``mixes`` words of both. Counters keep the old count, the new one or, with ``may_add``, one more.
        """
        mixed = (after if mixes or dice.random() < 0.5 else self).copy()
        zones = [
            (mixed.config, self.config),
            (mixed.otp, self.otp),
            *zip(mixed.slots, self.slots, strict=True),
        ]
        for new, old in zones if mixes else ():
            for at in range(0, len(new), 4):
                if dice.random() < 0.5:
                    new[at : at + 4] = old[at : at + 4]
        for i, (before, value) in enumerate(zip(self.counters, after.counters, strict=True)):
            if value != before and self.config_locked:  # until the lock they are bytes of the zone
                mixed.counters[i] = dice.choice([before, value, min(value + may_add, COUNTER_MAX)])
        return mixed

    def state(self) -> dict[str, Any]:
        """Return everything as plain data; it holds secrets."""
        return {
            "config": self.config.hex(),
            "otp": self.otp.hex(),
            "slots": [slot.hex() for slot in self.slots],
            "counters": list(self.counters),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Nvm":
        """Return the memory of a `state`."""
        slots = [bytearray.fromhex(slot) for slot in state["slots"]]
        return cls(
            bytearray.fromhex(state["config"]),
            bytearray.fromhex(state["otp"]),
            slots,
            [int(c) for c in state["counters"]],
        )


@dataclass(slots=True, repr=False)
class TempKey:
    """TempKey with its flags; ``value`` is empty while it is not valid.

    ``digested``: it came from GenDig of any zone, while ``gen_dig``, a flag on the wire, tells of data slots.
    ``ephemeral``: it is a private key of GenKey, for ECDH alone. ``certificate``: SHA made it with a stored
    public key in it: (slot, number of the 64-byte block, number of blocks).
    """

    value: bytes = b""
    from_input: bool = False
    key_id: int = 0
    gen_dig: bool = False
    gen_key: bool = False
    no_mac: bool = False
    digested: bool = False
    ephemeral: bool = False
    certificate: tuple[int, int, int] | None = None

    @property
    def flags(self) -> int:
        """The flag byte that Sign(internal) hashes."""
        flags = (self.from_input, self.gen_dig, self.gen_key, self.no_mac)
        return self.key_id & 15 | sum(bit << 4 + i for i, bit in enumerate(flags))


@dataclass(slots=True, repr=False)
class ShaContext:
    """A SHA-256 or, with ``outer``, an HMAC under way; ``public`` is (slot, block) of a hashed public key."""

    sha: Sha256 = field(default_factory=Sha256)
    outer: bytes = b""
    public: tuple[int, int] | None = None


@dataclass(slots=True, repr=False)
class Sram:
    """What idle keeps, and sleep, watchdog and power-off lose. ``authorised`` is the slot of a proven key."""

    temp_key: TempKey = field(default_factory=TempKey)
    message: bytes = b""
    alternate: bytes = b""
    sha: ShaContext | None = None
    authorised: int | None = None


@dataclass(slots=True)
class Latches:
    """What sleep and watchdog keep, and only power-off loses."""

    persistent: bool = False
    secure_boot_prohibited: bool = False
