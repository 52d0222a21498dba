"""The C structures of the bootloader's core (`bootloader/core/*.h`), as its build for the host has them."""

import ctypes


class Image(ctypes.Structure):
    """`fota_image_t`: where the parts of a parsed image lie."""

    _fields_ = [
        ("base", ctypes.c_void_p),
        ("hashed_size", ctypes.c_uint32),
        ("version", ctypes.c_void_p),
        ("sec_cnt", ctypes.c_void_p),
        ("class_id", ctypes.c_void_p),
        ("hash", ctypes.c_void_p),
        ("key_hash", ctypes.c_void_p),
        ("der", ctypes.c_void_p),
        ("rs", ctypes.c_uint8 * 64),
    ]


class Layout(ctypes.Structure):
    """`fota_layout_t`: slots, where images run, and the RAM that a stack may lie in."""

    _fields_ = [
        ("slots", ctypes.c_void_p * 2),
        ("slot_size", ctypes.c_uint32),
        ("run_address", ctypes.c_uint32),
        ("ram_low", ctypes.c_uint32),
        ("ram_high", ctypes.c_uint32),
    ]


class Record(ctypes.Structure):
    """`fota_record_t`: one record of the boot journal, 16 bytes (SPEC 3)."""

    _fields_ = [
        ("sequence", ctypes.c_uint32),
        ("confirmed", ctypes.c_uint8),
        ("candidate", ctypes.c_uint8),
        ("state", ctypes.c_uint8),
        ("tries", ctypes.c_uint8),
        ("reason", ctypes.c_uint32),
        ("crc", ctypes.c_uint32),
    ]

    def decision(self) -> tuple[int, int, int, int, int]:
        """What it says, without its sequence and checksum."""
        return (self.confirmed, self.candidate, self.state, self.tries, self.reason)


class View(ctypes.Structure):
    """`fota_view_t`: what the policy knows."""

    _fields_ = [
        ("record", ctypes.POINTER(Record)),
        ("status", ctypes.c_uint32 * 2),
        ("tries", ctypes.c_uint8),
        ("writable", ctypes.c_bool),
    ]


class Step(ctypes.Structure):
    """`fota_step_t`: what the policy wants."""

    _fields_ = [
        ("action", ctypes.c_int),
        ("slot", ctypes.c_uint8),
        ("trial", ctypes.c_bool),
        ("write", ctypes.c_bool),
        ("status", ctypes.c_uint32),
        ("record", Record),
    ]


ACTIONS = {0x35: "verify", 0x56: "write", 0x6A: "boot", 0x9C: "halt"}  # fota_action_t


def next_step(
    core: ctypes.CDLL, record: Record, seen: tuple[int, int], tries: int = 3, *, writable: bool = True
) -> tuple[object, ...]:
    """What policy in C wants, as (action, what it carries ...); ``seen``: verdict on each slot."""
    view, step = View(ctypes.pointer(record), seen, tries, writable), Step()
    core.fota_policy_next(ctypes.byref(view), ctypes.byref(step))
    action, written = ACTIONS[step.action], step.record.decision()
    carried: dict[str, tuple[object, ...]] = {
        "verify": (step.slot,),
        "write": written,
        "boot": (step.slot, bool(step.trial), written if step.write else None),
        "halt": (step.status,),
    }
    return action, *carried[action]
