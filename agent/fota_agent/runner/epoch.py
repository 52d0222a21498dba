"""The key epoch (SPEC 2, 5.2): once ROOT says so, firmware root A is retired on this device, for good.

Only a device that runs a confirmed image of root B may do that: with an image of root A it would not boot
again. Counting is not a right (whoever is on the bus can count), it is a duty that ROOT's threshold imposes.
"""

import struct

from fota_wire.errors import DeviceError, VerifyError

EPOCH_COUNTER, COUNTS_PER_EPOCH = 1, 8
UNPROTECTED_MAGIC, KEYHASH = 0x6907, 0x01
HEADER = "<IIHHI"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine.state import State
    from fota_agent.seams import Board, Hooks, Slot
    from fota_wire.bootreport import BootReport


def due(wanted: int, boot: "BootReport") -> bool:
    """Tell whether ROOT wants a higher epoch than the device has, and the running image is confirmed."""
    return wanted > boot.epoch and not boot.trial and boot.running == boot.confirmed


def raise_epoch(board: "Board", wanted: int, state: "State", hooks: "Hooks") -> bool:
    """Count up to epoch ``wanted`` if the running image is signed by root B; tell whether it was done.

    A power cut leaves a count in between; the next boot goes on from there.

    Raises:
        DeviceError: the element does not answer, or does not count.
    """
    # Only boards whose bootloader knows two roots have these two.
    root_b, count_up = getattr(board, "root_b", None), getattr(board.element, "count_up", None)
    try:
        signed_by = key_hash(board.running)
    except VerifyError:
        signed_by = b""
    if root_b is None or count_up is None or signed_by != root_b:
        return False
    target = wanted * COUNTS_PER_EPOCH
    if count_up(EPOCH_COUNTER, target) < target:
        raise DeviceError("crypto element: the key epoch did not rise")
    hooks.log(f"key epoch {wanted}: firmware root A is retired")
    state.add_event("epoch", f"{wanted}: firmware root A is retired")
    return True


def key_hash(slot: "Slot") -> bytes:
    """Return the KEYHASH of the image in ``slot``, which the bootloader has verified (SPEC 2).

    Raises:
        VerifyError: there is none.
    """
    _, _, header_size, protected_size, payload_size = struct.unpack(HEADER, slot.read(0, 16))
    at = header_size + payload_size + protected_size
    magic, total = struct.unpack("<HH", slot.read(at, 4))
    kind, length = struct.unpack("<HH", slot.read(at + 4, 4))
    while total >= 8:
        if magic == UNPROTECTED_MAGIC and (kind, length) == (KEYHASH, 32):
            return slot.read(at + 8, 32)
        at += 4 + length
        total -= 4 + length
        kind, length = struct.unpack("<HH", slot.read(at + 4, 4))
    raise VerifyError("the running image names no key")
