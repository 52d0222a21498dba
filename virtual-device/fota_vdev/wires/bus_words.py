"""What a command of the ATECC608 asks for and what its answer says, in words."""

from collections.abc import Callable

from fota_wire.element import SLOT_NAMES

STATUS_TEXT = {
    0x01: "miscompare",
    0x03: "parse error",
    0x05: "ECC fault",
    0x07: "self-test failed",
    0x08: "health test failed",
    0x0F: "refused by configuration or state",
    0xFF: "damaged command",
}
ZONES = {0: "configuration", 1: "OTP", 2: "slot"}
INFO = {0: "revision", 1: "key valid?", 2: "state", 3: "GPIO", 4: "latch"}
SECURE_BOOT = {5: "full", 6: "compare with what is stored", 7: "full, and store"}
SHA = ("start", "update", "end", "public key", "HMAC start", "HMAC end", "read context", "write context")
PASS_THROUGH_TO = {0x00: "TempKey", 0x40: "digest buffer", 0x80: "alternate key buffer"}
Words = Callable[[int, int, int], str]


def slot(number: int) -> str:
    """Return a slot with the name it has in SPEC 1.4."""
    name = SLOT_NAMES.get(number)
    return f"slot {number} ({name})" if name else f"slot {number}"


def _place(p1: int, p2: int) -> str:
    size = 32 if p1 & 0x80 else 4
    offset = (p2 >> 8 if p1 & 3 == 2 else p2 >> 3) * 32 + (p2 & 7) * 4
    zone = slot(p2 >> 3 & 15) if p1 & 3 == 2 else ZONES.get(p1 & 3, "?")
    return f"{zone}, {size} bytes at {offset}"


def _write(p1: int, p2: int, n: int) -> str:
    return _place(p1, p2) + (", encrypted" if p1 & 0x40 else "")


def _lock(p1: int, p2: int, n: int) -> str:
    what = {0: "configuration", 1: "data and OTP", 2: slot(p1 >> 2 & 15)}.get(p1 & 3, "?")
    return what + ("" if p1 & 0x80 or p1 & 3 == 2 else f" under checksum {p2:04x}")


def _nonce(p1: int, p2: int, n: int) -> str:
    if p1 & 3 == 3:
        return f"{n} bytes as they are to {PASS_THROUGH_TO.get(p1 & 0xC0, '?')}"
    return f"random, with {n} bytes of the host, to TempKey"


def _gen_key(p1: int, p2: int, n: int) -> str:
    what = {0x04: "new private key in", 0x0C: "new private key, digest, in", 0x00: "public key of",
            0x08: "public key, digest, of", 0x10: "digest of public key in"}.get(p1 & 0x1C, "?")  # fmt: skip
    return f"{what} {slot(p2)}" if p2 != 0xFFFF else f"{what} TempKey"


def _sign(p1: int, p2: int, n: int) -> str:
    what = "message of the host" if p1 & 0x80 else "message made inside"
    return f"{what}, {slot(p2)}"


def _verify(p1: int, p2: int, n: int) -> str:
    kinds = {0: "stored", 1: "validate, external", 2: "external", 3: "validate", 7: "invalidate"}
    mac = ", with MAC" if p1 & 0x80 else ""
    return f"{kinds.get(p1 & 7, '?')}{'' if p1 & 7 == 2 else ' ' + slot(p2)}{mac}"


def _mac(p1: int, p2: int, n: int) -> str:
    return f"{slot(p2)} over {'TempKey' if p1 & 1 else 'a challenge'}"


def _gen_dig(p1: int, p2: int, n: int) -> str:
    zones = {
        0: "configuration block",
        1: "OTP block",
        3: "shared nonce",
        4: "Counter",
        5: "key configuration",
    }
    return slot(p2) if p1 == 2 else f"{zones.get(p1, '?')}{'' if p1 == 4 else ' '}{p2}"


def _secure_boot(p1: int, p2: int, n: int) -> str:
    text = SECURE_BOOT.get(p1 & 7, "?")
    return text + (", digest encrypted" if p1 & 0x80 else "") + (", then no more" if p1 & 0x40 else "")


def _info(p1: int, p2: int, n: int) -> str:
    if p1 == 4 and p2 & 2:
        return "set latch" if p2 & 1 else "clear latch"
    return INFO.get(p1, "?") + (f" {slot(p2)}" if p1 == 1 else "")


COMMANDS: dict[int, tuple[str, Words]] = {
    0x02: ("Read", lambda p1, p2, n: _place(p1, p2)),
    0x08: ("MAC", _mac),
    0x12: ("Write", _write),
    0x13: ("Delete", lambda p1, p2, n: ""),
    0x15: ("GenDig", _gen_dig),
    0x16: ("Nonce", _nonce),
    0x17: ("Lock", _lock),
    0x1B: ("Random", lambda p1, p2, n: ""),
    0x1C: ("DeriveKey", lambda p1, p2, n: slot(p2)),
    0x20: ("UpdateExtra", lambda p1, p2, n: f"byte {84 + p1} := {p2:02x}"),
    0x24: ("Counter", lambda p1, p2, n: f"{'increment' if p1 else 'read'} Counter{p2}"),
    0x28: ("CheckMac", lambda p1, p2, n: f"{slot(p2)} over {'TempKey' if p1 & 1 else 'a challenge'}"),
    0x30: ("Info", _info),
    0x40: ("GenKey", _gen_key),
    0x41: ("Sign", _sign),
    0x43: ("ECDH", lambda p1, p2, n: slot(p2)),
    0x45: ("Verify", _verify),
    0x46: ("PrivWrite", lambda p1, p2, n: slot(p2)),
    0x47: ("SHA", lambda p1, p2, n: SHA[p1 & 7]),
    0x51: ("AES", lambda p1, p2, n: ("encrypt", "decrypt", "?", "GFM")[p1 & 3]),
    0x56: ("KDF", lambda p1, p2, n: ""),
    0x77: ("SelfTest", lambda p1, p2, n: f"tests {p1:02x}"),
    0x80: ("SecureBoot", _secure_boot),
}
ANSWERS = {0x08: "MAC", 0x16: "random number", 0x1B: "random number", 0x40: "public key", 0x41: "signature",
           0x45: "MAC: good signature", 0x47: "digest", 0x80: "MAC: good"}  # fmt: skip


def command_words(opcode: int, p1: int, p2: int, n: int) -> tuple[str, str]:
    """Return name and meaning of a command that takes ``n`` bytes of data."""
    name, words = COMMANDS.get(opcode, (f"opcode {opcode:02x}", lambda p1, p2, n: "not known"))
    return name, words(p1, p2, n)


def answer_words(opcode: int, out: tuple[int | None, ...]) -> str:
    """Return what an answer's payload says: a status, a number, or how many bytes of what."""
    if None in out:
        return f"{len(out)} bytes, masked"
    known = bytes(byte for byte in out if byte is not None)
    if len(known) == 1:
        return "ok" if known[0] == 0 else STATUS_TEXT.get(known[0], f"status {known[0]:02x}")
    if opcode == 0x24:
        return f"= {int.from_bytes(known, 'little')}"
    if opcode == 0x30:
        return f"= {known.hex()}"
    return f"{ANSWERS.get(opcode, 'data')}, {len(known)} bytes"
