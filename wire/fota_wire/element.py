"""Layout of the crypto element (SPEC 1.4): what the factory writes before it locks the chip; and the CRC."""

IDENTITY_SLOT, ATTESTATION_SLOT, NEXT_SLOT = 0, 1, 2
MAC_SLOT, IO_SLOT, ROOT_B_SLOT, ROOT_A_SLOT = 4, 6, 14, 15
SLOT_NAMES = {
    0: "identity key", 1: "attestation key", 2: "next key", 4: "pairing key", 6: "IO key", 7: "boot digest",
    8: "free", 10: "device certificate", 11: "signer key", 12: "signer certificate",
    14: "root B", 15: "root A",
}  # fmt: skip
LOCKED_SLOTS = (IDENTITY_SLOT, ATTESTATION_SLOT, MAC_SLOT, IO_SLOT, ROOT_B_SLOT, ROOT_A_SLOT)
CONFIG_SIZE = 128
COUNTER_MAX = 2097151

# slot: (SlotConfig, KeyConfig) as they lie in the zone
UNUSED = (b"\x8f\x8f", b"\x1c\x00")
SLOTS = {
    0: (b"\x81\x20", b"\x33\x00"),
    1: (b"\x82\x20", b"\x33\x00"),
    2: (b"\x81\x20", b"\x33\x00"),
    4: (b"\x8f\x0f", b"\x3c\x00"),
    6: (b"\x9f\x0f", b"\x3c\x00"),
    7: (b"\x8f\x8f", b"\x1c\x00"),
    8: (b"\x0f\x0f", b"\x3c\x00"),
    10: (b"\x0f\x8f", b"\x1c\x00"),
    11: (b"\x0f\x8f", b"\x10\x00"),
    12: (b"\x0f\x8f", b"\x1c\x00"),
    14: (b"\x0f\x0f", b"\x30\x00"),
    15: (b"\x0f\x0f", b"\x30\x00"),
}
LATCHED_SLOTS = (IDENTITY_SLOT, ATTESTATION_SLOT, NEXT_SLOT)
PERSIST_DISABLE = 0x10  # in the second byte of KeyConfig: usable only while the persistent latch is set
SECURE_BOOT = b"\x03\xf7"
CHIP_OPTIONS = b"\x02\x60"
LATCH_PERMISSION = 0x80 | IO_SLOT  # byte 69: the persistent latch is set only after proof of the IO key
# parts of the zone that a locked chip of ours has: (offset, end); counters move, locks and serial are its own
FIXED = ((18, 52), (68, 72), (90, 128))


def slot_rules(slot: int, latched: bool = False) -> "tuple[bytes, bytes]":
    """Return SlotConfig and KeyConfig of a slot, two bytes each. ``latched``: as `fota provision --latch`."""
    slot_config, key_config = SLOTS.get(slot, UNUSED)
    if latched and slot in LATCHED_SLOTS:
        key_config = bytes((key_config[0], key_config[1] | PERSIST_DISABLE))
    return slot_config, key_config


def is_latched(zone: bytes) -> bool:
    """Tell whether a configuration zone of ours asks for the persistent latch."""
    return zone[69] == LATCH_PERMISSION


def counter_bytes(value: int) -> bytes:
    """Return the eight bytes of a monotonic counter: two unary and two binary words, big endian."""
    words = (
        0xFFFF >> value % 32,
        0xFFFF >> (value - 16) % 32 if value >= 16 else 0xFFFF,
        value // 32,
        (value - 16) // 32 if value >= 16 else 0,
    )
    return b"".join(word.to_bytes(2, "big") for word in words)


def wanted_config(zone: bytes, counters: tuple[int, int] = (0, 0), latched: bool = False) -> bytes:
    """Return the configuration zone that a chip whose zone is ``zone`` now has to have before its lock.

    ``latched``: its private keys are usable only while the persistent latch is set.
    """
    out = bytearray(zone)
    for slot in range(16):
        slot_config, key_config = slot_rules(slot, latched)
        out[20 + 2 * slot : 22 + 2 * slot] = slot_config
        out[96 + 2 * slot : 98 + 2 * slot] = key_config
    out[52:68] = counter_bytes(counters[0]) + counter_bytes(counters[1])
    out[18:20] = bytes(2)  # CountMatch off; ChipMode: short watchdog, fastest clock, byte 16 is the address
    out[68] = 0  # UseLock off
    out[69] = LATCH_PERMISSION if latched else 0
    out[92:96] = bytes(4)  # no certificate validates a key
    out[70:72] = SECURE_BOOT
    out[90:92] = CHIP_OPTIONS
    return bytes(out)


def crc16(data: bytes) -> bytes:
    """Return the chip's CRC, two bytes as they go over the wire: polynomial 0x8005, bits LSB first."""
    crc = 0
    for byte in data:
        for bit in range(8):
            out = crc >> 15 ^ byte >> bit & 1
            crc = crc << 1 & 0xFFFF ^ (0x8005 if out else 0)
    return crc.to_bytes(2, "little")
