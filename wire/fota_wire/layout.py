"""What is the same on every chip; what differs is in the chip's row (`fota_wire.chips`). SPEC 1."""

HEADER_SIZE = 0x200  # of an image in MCUboot's form: vectors are behind it

SLOT_A = 0x5A
SLOT_B = 0xA5
SLOT_NONE = 0xC3
SLOT_NAMES = {SLOT_A: "A", SLOT_B: "B", SLOT_NONE: "none"}
SLOT_BANKS = {SLOT_A: 1, SLOT_B: 2}

BOOT_REPORT_SIZE = 128
HEALTH_UNKNOWN = 0
HEALTH_GOOD = 0x600D600D
HEALTH_BAD = 0xBAD0BAD0

SEC_CNT_MAX = 262143


def other_slot(slot: int) -> int:
    """Return slot B for A and A for B."""
    return SLOT_A if slot == SLOT_B else SLOT_B
