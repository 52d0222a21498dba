"""``fota strip``: the firmware in an MCUboot image of any layout and key, as it was before it was signed."""

import hashlib

from fota_signer import mcuboot
from fota_wire import image, status
from fota_wire.errors import InputError, VerifyError
from fota_wire.version import format_version

_HASHES = {image.SHA256: "sha256", 0x11: "sha384", 0x12: "sha512"}
_CHANGED = 0x04 | 0x08 | 0x200 | 0x400 | 0x800
"""Flags of a payload that is not what was signed for: encrypted, or compressed."""


def strip(data: bytes) -> tuple[bytes, dict[str, object]]:
    """Return the payload of a signed image, and what its header and protected area said of it. It is whole,
    by the image's own hash; **no signature is checked**.

    Raises:
        InputError: not an MCUboot image, or its payload is encrypted or compressed.
        VerifyError: truncated (IM3), without a hash (IM4), or not what was hashed (IM6).
    """
    if data[:1] == image.ESPRESSIF:
        raise InputError("an ESP32's image: sign anew what esptool made, or the ELF")
    if data[:4] != image.MAGIC.to_bytes(4, "little"):
        raise InputError("not an MCUboot image")
    if len(data) < 32:
        raise VerifyError("image is truncated in its header", status.IM3)
    found = mcuboot.Explained(data)
    if found.flags & _CHANGED:
        raise InputError(f"its payload is encrypted or compressed: flags {found.flag_names()}")
    for code, text in found.faults:
        if code == status.IM3:
            raise VerifyError(text, code)
    hashes = [(kind, value) for kind, value in found.unprotected if kind in _HASHES]
    if not hashes:
        raise VerifyError("it has no hash, so nothing says whether it is whole", status.IM4)
    for kind, value in hashes:
        if hashlib.new(_HASHES[kind], data[: found.hashed_end]).digest() != value:
            raise VerifyError("content does not match its hash", status.IM6)
    protected = dict(found.protected)
    counter, class_id = protected.get(image.SEC_CNT), protected.get(image.CLASS_ID)
    begin = found.load_addr + found.hdr_size
    return found.payload, {
        "version": format_version(found.version),
        "security_counter": None if counter is None else int.from_bytes(counter, "little"),
        "class": None if class_id is None else class_id.hex(),
        "header_size": f"0x{found.hdr_size:x}",
        "linked_for": f"0x{begin:08x}" if found.flags & image.ROM_FIXED else None,
        "size": len(found.payload),
        "digest": hashlib.sha256(found.payload).hexdigest(),
    }
