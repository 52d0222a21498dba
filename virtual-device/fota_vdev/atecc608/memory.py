"""The non-volatile memory of the chip: configuration zone, OTP, slots, counters, locks; and its SRAM."""

import random
from dataclasses import dataclass, field
from typing import Any

CONFIG_SIZE, OTP_SIZE = 128, 64
SLOT_SIZES = (36,) * 8 + (416,) + (72,) * 7
COUNTER_MAX = 2_097_151
ADDRESS, CHIP_MODE, SLOT_CONFIG, COUNTERS = 16, 19, 20, 52
LOCK_VALUE, LOCK_CONFIG, SLOT_LOCKED, CHIP_OPTIONS, KEY_CONFIG = 86, 87, 88, 90, 96
OPEN = 0x55

EXTERNAL_SIGN, INTERNAL_SIGN, NO_MAC, ENCRYPT_READ, SECRET = 1, 2, 1 << 4, 1 << 6, 1 << 7
WRITE_PUB_INVALID, WRITE_GENKEY, WRITE_ENCRYPTED, WRITE_NEVER = 1 << 12, 1 << 13, 1 << 14, 1 << 15
PRIVATE, PUB_INFO, LOCKABLE, REQ_RANDOM = 1, 2, 1 << 5, 1 << 6
TYPE_P256 = 4


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
    zone[84:92] = bytes.fromhex("0000 5555 ffff 0000")
    zone[96:128] = bytes.fromhex("3300 3300 3300 1c00 1c00 1c00 1c00 1c00 3c00" + "3c00" * 6 + "1c00")
    return bytes(zone)


@dataclass(slots=True, repr=False)  # it holds secrets, and a traceback shows what repr shows
class Nvm:
    """What survives without power. Counter bytes of ``config`` are computed when read."""

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

    @property
    def chip_options(self) -> int:
        """ChipOptions, as a 16-bit number."""
        return int.from_bytes(self.config[CHIP_OPTIONS : CHIP_OPTIONS + 2], "little")

    @property
    def io_key(self) -> bytes | None:
        """The IO protection key, or None if ChipOptions does not enable it."""
        return bytes(self.slots[self.chip_options >> 12][:32]) if self.chip_options & 2 else None

    def private_key(self, slot: int) -> bytes:
        """The scalar in a private slot."""
        return bytes(self.slots[slot][4:36])

    def public_key(self, slot: int) -> bytes:
        """X||Y stored in a public slot as ``pad4 X pad4 Y``."""
        raw = self.slots[slot]
        return bytes(raw[4:36] + raw[40:72])

    def read_config(self) -> bytes:
        """The configuration zone with its counters."""
        zone = bytearray(self.config)
        zone[COUNTERS : COUNTERS + 16] = encode_counter(self.counters[0]) + encode_counter(self.counters[1])
        return bytes(zone)

    def torn(self, after: "Nvm", dice: random.Random, *, may_add: bool) -> "Nvm":
        """Return what is left if power fails while this memory becomes ``after``."""
        mixed = after.copy()
        zones = [
            (mixed.config, self.config),
            (mixed.otp, self.otp),
            *zip(mixed.slots, self.slots, strict=True),
        ]
        for new, old in zones:
            for at in range(0, len(new), 4):
                if dice.random() < 0.5:
                    new[at : at + 4] = old[at : at + 4]
        for i, (before, value) in enumerate(zip(self.counters, after.counters, strict=True)):
            if value != before:
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
    """TempKey with its flags; ``value`` is empty while it is not valid."""

    value: bytes = b""
    from_input: bool = False
    key_id: int = 0
    gen_dig: bool = False
    gen_key: bool = False
    no_mac: bool = False

    @property
    def flags(self) -> int:
        """The flag byte that Sign(internal) hashes."""
        flags = (self.from_input, self.gen_dig, self.gen_key, self.no_mac)
        return self.key_id & 15 | sum(bit << 4 + i for i, bit in enumerate(flags))


@dataclass(slots=True, repr=False)
class Sram:
    """What idle keeps, and sleep, watchdog and power-off lose."""

    temp_key: TempKey = field(default_factory=TempKey)
    message: bytes = b""
    alternate: bytes = b""
    sha: bytearray | None = None
