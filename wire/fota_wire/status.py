"""Status codes (SPEC 6): one append-only list, the twin of the bootloader's ``core/status.h``.

A code is a u32: two letters of the module in the high half, a number in the low half.
"""

OK = 0x5A3C96E1

_TABLE = (
    # short, name, meaning
    ("IM1", "image-magic", "no image in the slot"),
    ("IM2", "image-header", "header field not allowed"),
    ("IM3", "image-size", "sizes do not fit the slot"),
    ("IM4", "image-tlv", "TLV area malformed, or an entry missing, doubled or of the wrong length"),
    ("IM5", "image-tlv-not-allowed", "unprotected entry outside the allow list"),
    ("IM6", "image-hash", "content does not match its hash"),
    ("IM7", "image-class", "made for another device class"),
    ("IM8", "image-key", "KEYHASH is not one of this device's roots"),
    ("IM9", "image-key-retired", "key epoch has left this root behind"),
    ("IM10", "image-signature", "the crypto element says: bad signature"),
    ("IM11", "image-der", "signature is not strict DER"),
    ("IM12", "image-vector", "stack pointer or reset vector outside"),
    ("PO1", "rollback", "security counter below the floor"),
    ("PO2", "counter-step", "security counter too far above the floor"),
    ("PO3", "no-image", "nothing bootable"),
    ("PO4", "tries-exhausted", "the trial was not confirmed in its tries"),
    ("CE1", "element-absent", "no answer on the bus"),
    ("CE2", "element-crc", "damaged answers"),
    ("CE3", "element-timeout", "busy for too long"),
    (
        "CE4",
        "element-forged",
        "an answer's MAC is wrong: somebody is on the bus, or the pairing key is not this chip's",
    ),
    ("CE5", "element-refused", "the element refused a command"),
    ("CE6", "element-self-test", "power-on self-test failed"),
    ("FL1", "flash-program", "program failed or did not read back"),
    ("FL2", "flash-erase", "erase failed"),
    ("FL3", "flash-ecc", "ECC fault while reading"),
    ("JO1", "journal-write", "record could not be written"),
    ("JO2", "journal-in-trial", "a trial is running: confirm or reject first"),
    ("JO3", "journal-running-slot", "the running slot cannot be requested"),
    ("JO4", "journal-no-trial", "no trial is running"),
    ("SE1", "settings", "settings page missing or damaged"),
    ("RN1", "random", "the random number generator failed"),
    ("AP1", "self-test", "the application's self-test failed"),
    ("AP2", "health", "the application was not healthy in time"),
    ("AP3", "no-check-in", "healthy, but the server could not be reached in time to confirm"),
)


def by_short(short: str) -> int:
    """Return the u32 of a short name like ``IM6``."""
    return ord(short[0]) << 24 | ord(short[1]) << 16 | int(short[2:])


STATUS = {by_short(row[0]): row for row in _TABLE}
"""u32 code -> (short, name, meaning)."""

IM1, IM2, IM3, IM4, IM5, IM6, IM7, IM8, IM9, IM10, IM11, IM12 = (0x494D0000 + n for n in range(1, 13))
PO1, PO2, PO3, PO4 = (0x504F0000 + n for n in range(1, 5))
CE1, CE2, CE3, CE4, CE5, CE6 = (0x43450000 + n for n in range(1, 7))
FL1, FL2, FL3 = (0x464C0000 + n for n in range(1, 4))
JO1, JO2, JO3, JO4 = (0x4A4F0000 + n for n in range(1, 5))
SE1 = 0x53450001
RN1 = 0x524E0001
AP1, AP2, AP3 = (0x41500000 + n for n in range(1, 4))


def label(code: int) -> str:
    """Return ``IM6 image-hash``, ``ok``, or the number in hex when it is not in the list."""
    if code == OK:
        return "ok"
    row = STATUS.get(code)
    return f"{row[0]} {row[1]}" if row else f"0x{code:08x}"


def describe(code: int) -> str:
    """Return ``IM6 image-hash: content does not match its hash``."""
    row = STATUS.get(code)
    return f"{row[0]} {row[1]}: {row[2]}" if row else label(code)


def by_name(name: str) -> int:
    """Return the code of a short name (``IM6``) or a long one (``image-hash``); KeyError if unknown."""
    for code, row in STATUS.items():
        if name in (row[0], row[1]):
            return code
    raise KeyError(name)
