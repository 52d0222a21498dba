"""Status codes (SPEC 6): one append-only list, the twin of the bootloader's ``core/status.h``.

A code is a u32: two letters of the module in the high half, a number in the low half.
"""

OK = 0x5A3C96E1

_NAMES = """
IM1 image-magic
IM2 image-header
IM3 image-size
IM4 image-tlv
IM5 image-tlv-not-allowed
IM6 image-hash
IM7 image-class
IM8 image-key
IM9 image-key-retired
IM10 image-signature
IM11 image-der
IM12 image-vector
IM13 image-chip
IM14 image-revision
IM15 image-segment
PO1 rollback
PO2 counter-step
PO3 no-image
PO4 tries-exhausted
CE1 element-absent
CE2 element-crc
CE3 element-timeout
CE4 element-forged
CE5 element-refused
CE6 element-self-test
FL1 flash-program
FL2 flash-erase
FL3 flash-ecc
JO1 journal-write
JO2 journal-in-trial
JO3 journal-running-slot
JO4 journal-no-trial
SE1 settings
RN1 random
AP1 self-test
AP2 health
AP3 no-check-in
PT1 partition-table
OD1 ota-data
"""
"""One text: a tuple for each would cost a device a kilobyte of flash."""
_MEANINGS = (
    "no image in the slot",
    "header field not allowed",
    "sizes do not fit the slot",
    "TLV area malformed, or an entry missing, doubled or of the wrong length",
    "unprotected entry outside the allow list",
    "content does not match its hash",
    "made for another device class",
    "KEYHASH is not one of this device's roots",
    "key epoch has left this root behind",
    "the crypto element says: bad signature",
    "signature is not strict DER",
    "stack pointer or reset vector outside",
    "made for another chip",
    "not for this revision of the chip",
    "a segment is not aligned, wraps, overlaps, or leaves its region; or the entry is in none",
    "security counter below the floor",
    "security counter too far above the floor",
    "nothing bootable",
    "the trial was not confirmed in its tries",
    "nobody acknowledges on the bus: absent, without power, or busy since before",
    "damaged answers",
    "it answered, and then no more: busy, or gone",
    "an answer's MAC is wrong: somebody is on the bus, or the pairing key is not this chip's",
    "the element refused a command",
    "power-on self-test failed",
    "program failed or did not read back",
    "erase failed",
    "ECC fault while reading",
    "record could not be written",
    "a trial is running: confirm or reject first",
    "the running slot cannot be requested",
    "no trial is running",
    "settings page missing or damaged",
    "the random number generator failed",
    "the application's self-test failed",
    "the application was not healthy in time",
    "healthy, but the server could not be reached in time to confirm",
    "damaged, missing, or without a partition that is needed: the copy of the places is used",
    "no fault: the application asked for this trial by OTA data",
)


def by_short(short: str) -> int:
    """Return the u32 of a short name like ``IM6``."""
    return ord(short[0]) << 24 | ord(short[1]) << 16 | int(short[2:])


# a device has no use for the meanings, and no room: its firmware leaves out what is not mentioned
STATUS = {
    by_short(line.split(" ")[0]): (line.split(" ")[0], line.split(" ")[1], _MEANINGS[at])
    for at, line in enumerate(_NAMES.strip().split("\n"))
}
"""u32 code -> (short, name, meaning)."""

IM1, IM2, IM3, IM4, IM5, IM6, IM7, IM8, IM9, IM10, IM11, IM12 = (0x494D0000 + n for n in range(1, 13))
IM13, IM14, IM15 = (0x494D0000 + n for n in range(13, 16))
PO1, PO2, PO3, PO4 = (0x504F0000 + n for n in range(1, 5))
CE1, CE2, CE3, CE4, CE5, CE6 = (0x43450000 + n for n in range(1, 7))
FL1, FL2, FL3 = (0x464C0000 + n for n in range(1, 4))
JO1, JO2, JO3, JO4 = (0x4A4F0000 + n for n in range(1, 5))
SE1 = 0x53450001
RN1 = 0x524E0001
AP1, AP2, AP3 = (0x41500000 + n for n in range(1, 4))
PT1 = 0x50540001
OD1 = 0x4F440001


def label(code: int) -> str:
    """Return ``IM6 image-hash``, ``ok``, or the number in hex when it is not in the list."""
    return "ok" if code == OK else _line(code) or f"0x{code:08x}"


def short_of(code: int) -> str:
    """Return ``IM6``, or an empty string when the code is not in the list."""
    return _line(code).split(" ")[0]


def _line(code: int) -> str:
    at = _NAMES.find(f"\n{chr(code >> 24)}{chr(code >> 16 & 0xFF)}{code & 0xFFFF} ") + 1
    return _NAMES[at : _NAMES.find("\n", at)] if at else ""


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
