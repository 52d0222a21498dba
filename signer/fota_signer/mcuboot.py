"""Explains an MCUboot image of any profile: what is in it, and all for which our bootloader refuses it.

`fota_wire.image` is strict and stops at the first fault, as the bootloader does; people want to know all.
"""

import hashlib
import struct

from fota_wire import der, image, layout, status
from fota_wire.chips import stm32l476
from fota_wire.errors import VerifyError
from fota_wire.host_chips import STM32, Stm32

_FLAGS = {
    0x01: "PIC",
    0x04: "ENCRYPTED_AES128",
    0x08: "ENCRYPTED_AES256",
    0x10: "NON_BOOTABLE",
    0x20: "RAM_LOAD",
    0x100: "ROM_FIXED",
    0x200: "COMPRESSED_LZMA1",
    0x400: "COMPRESSED_LZMA2",
    0x800: "COMPRESSED_ARM_THUMB",
}
_NAMES = {
    0x02: "PUBKEY",
    0x11: "SHA384",
    0x12: "SHA512",
    0x20: "RSA2048_PSS",
    0x21: "ECDSA224",
    0x23: "RSA3072_PSS",
    0x24: "ED25519",
    0x25: "SIG_PURE",
    0x30: "ENC_RSA2048",
    0x31: "ENC_KW",
    0x32: "ENC_EC256",
    0x33: "ENC_X25519",
    0x34: "ENC_X25519_SHA512",
    0x40: "DEPENDENCY",
    0x60: "BOOT_RECORD",
    0x70: "DECOMP_SIZE",
    0x71: "DECOMP_SHA",
    0x72: "DECOMP_SIGNATURE",
    0x73: "COMP_DEC_SIZE",
    **image.TLV_NAMES,
}
_SIGNATURES = (0x20, 0x21, 0x23, 0x24)
_HASHES = (0x11, 0x12)
_TRAILER = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
Entry = tuple[int, bytes]


def tlv_name(kind: int) -> str:
    """Return MCUboot's name of a TLV type."""
    return _NAMES.get(kind, "vendor's own" if kind & 0xFF >= 0xA0 else "unknown")


class Explained:
    """The fields of the header by name, ``protected`` and ``unprotected`` [(type, value)], ``payload``, and
    ``faults`` [(status code, sentence)]; ``hashed_end``: what is in front of it is hashed.
    """

    def __init__(self, data: bytes) -> None:
        """Look at ``data``, which has at least the 32 bytes of an MCUboot header."""
        self.faults: list[tuple[int, str]] = []
        fields = struct.unpack_from("<IIHHIIBBHII", data)
        self.load_addr, self.hdr_size, self.protect_size, self.img_size, self.flags = fields[1:6]
        self.version: tuple[int, int, int, int] = fields[6:10]
        self.pad = fields[10]
        self._header()
        end = self.hashed_end = self.hdr_size + self.img_size
        self.payload = data[self.hdr_size : end]
        self.protected: list[Entry] = []
        self.unprotected: list[Entry] = []
        if end > len(data):
            self._fault(status.IM3, f"truncated: {end} bytes of header and payload, {len(data)} are there")
            return
        self.hashed_end = self._areas(data, end)
        self._required()
        self._hash(data[: self.hashed_end])
        if self.flags & image.PROGRAM == 0:
            try:
                image.check_vectors(self.payload[:8], len(self.payload))
            except VerifyError as exc:
                self._fault(status.IM12, str(exc))

    def flag_names(self) -> str:
        """Return the flags by their names."""
        names = [name for bit, name in _FLAGS.items() if self.flags & bit]
        rest = self.flags & ~sum(_FLAGS)
        return f"0x{self.flags:x} ({', '.join(names + ([f'0x{rest:x}'] if rest else [])) or 'none'})"

    def _fault(self, code: int, text: str) -> None:
        self.faults.append((code, text))

    def _header(self) -> None:
        if self.hdr_size != layout.HEADER_SIZE:
            self._fault(status.IM2, f"header of 0x{self.hdr_size:x} bytes, not 0x{layout.HEADER_SIZE:x}")
        if self.pad:
            self._fault(status.IM2, "the last word of the header is not 0")
        if self.flags not in (0, image.ROM_FIXED, image.PROGRAM):
            self._fault(status.IM2, f"flags {self.flag_names()}: only none, or ROM_FIXED, is allowed")
        if self.flags & image.ROM_FIXED and self.load_addr != stm32l476.SLOT_ADDRESS:
            self._fault(
                status.IM2, f"linked for a slot at 0x{self.load_addr:08x}, not 0x{stm32l476.SLOT_ADDRESS:08x}"
            )

    def _areas(self, data: bytes, pos: int) -> int:
        """Read both TLV areas from ``pos`` on; return where what is hashed ends."""
        if data[pos : pos + 2] == struct.pack("<H", image.PROTECTED_MAGIC):
            self.protected, stop = self._entries(data, pos, "protected")
            if stop - pos != self.protect_size:
                self._fault(
                    status.IM4, f"protected area of {stop - pos} bytes, the header says {self.protect_size}"
                )
            pos = stop
        else:
            self._fault(status.IM4, "no protected area: no SEC_CNT and no class UUID under the signature")
        if data[pos : pos + 2] != struct.pack("<H", image.UNPROTECTED_MAGIC):
            self._fault(status.IM4, "no unprotected area: no hash and no signature")
            return pos
        self.unprotected, stop = self._entries(data, pos, "unprotected")
        room = image.MAX_PROGRAM if self.flags == image.PROGRAM else self._chip().SLOT_SIZE
        if stop > room:
            self._fault(status.IM3, f"{stop} bytes do not fit a slot of {room}")
        rest = data[stop:]
        if rest:
            what = (
                "MCUboot's trailer of a padded slot" if _TRAILER in rest[-64:] else "which belong to nothing"
            )
            self._fault(status.IM4, f"{len(rest)} bytes behind the last entry, {what}")
        return pos

    def _chip(self) -> Stm32:
        """Return the row of the chip that the image names; that of the STM32L476 if it names none of ours."""
        names = [value.decode("ascii", "replace") for kind, value in self.protected if kind == image.CHIP]
        return STM32.get(names[0] if names else "", stm32l476)

    def _entries(self, data: bytes, pos: int, name: str) -> tuple[list[Entry], int]:
        total = struct.unpack_from("<H", data, pos + 2)[0] if pos + 4 <= len(data) else 0
        end = min(pos + total, len(data))
        if total < 4 or pos + total > len(data):
            self._fault(
                status.IM3 if total >= 4 else status.IM4, f"{name} area of {total} bytes does not fit"
            )
        entries: list[Entry] = []
        pos += 4
        while pos < end:
            kind, size = struct.unpack_from("<HH", data, pos) if end - pos >= 4 else (0, end)
            if size > end - pos - 4:
                self._fault(status.IM4, f"{name} area ends within an entry")
                break
            entries.append((kind, data[pos + 4 : pos + 4 + size]))
            pos += 4 + size
        return entries, end

    def _required(self) -> None:
        for kind, _ in self.unprotected:
            if kind not in image.ALLOW_LIST:
                self._fault(status.IM5, f"unprotected entry {_title(kind)} is not allowed: nobody signed it")
        self._one("protected", image.SEC_CNT, 4)
        self._one("protected", image.CLASS_ID, 16)
        self._one("unprotected", image.SHA256, 32, _HASHES)
        self._one("unprotected", image.KEYHASH, 32, (0x02,))
        self._one("unprotected", image.ECDSA_SIG, None, _SIGNATURES)
        kinds = [kind for kind, _ in self.unprotected]
        if image.KEYHASH in kinds and image.ECDSA_SIG in kinds[: kinds.index(image.KEYHASH)]:
            self._fault(status.IM4, "KEYHASH follows the signature")
        for kind, value in self.protected:
            if kind == image.SEC_CNT and len(value) == 4:
                counter = int.from_bytes(value, "little")
                if not 1 <= counter <= layout.SEC_CNT_MAX:
                    self._fault(status.IM4, f"SEC_CNT {counter} is not in 1..{layout.SEC_CNT_MAX}")
        for kind, value in self.unprotected:
            if kind == image.ECDSA_SIG:
                try:
                    der.to_raw(value)
                except VerifyError as exc:
                    self._fault(status.IM11, f"{exc} of P-256")

    def _one(self, area: str, kind: int, size: int | None, instead: tuple[int, ...] = ()) -> None:
        """Note what is wrong with an entry of which there has to be one; ``instead``: what others have."""
        entries = self.protected if area == "protected" else self.unprotected
        values = [value for found, value in entries if found == kind]
        name = image.TLV_NAMES[kind]
        if len(values) != 1:
            others = [tlv_name(found) for found, _ in entries if found in instead]
            if any(found == kind for found, _ in self.unprotected) and area == "protected":
                others.append("one that is not protected")
            hint = f" (there is {', '.join(others)})" if others and not values else ""
            self._fault(status.IM4, f"{len(values) or 'no'} {area} entries {name}, not 1{hint}")
        elif size is not None and len(values[0]) != size:
            self._fault(status.IM4, f"entry {name} has {len(values[0])} bytes, not {size}")

    def _hash(self, hashed: bytes) -> None:
        digest = hashlib.sha256(hashed).digest()
        wrong = [value for kind, value in self.unprotected if kind == image.SHA256 and value != digest]
        if wrong and len(wrong[0]) == 32:
            self._fault(status.IM6, "content does not match its hash")


def _title(kind: int) -> str:
    return f"0x{kind:02x} {tlv_name(kind)}"


def explain(data: bytes) -> dict[str, object]:
    """Return the fields of an MCUboot image, ``refused_for`` all that our bootloader has against it.

    Raises:
        VerifyError: IM3, truncated within the 32 bytes of its header.
    """
    if len(data) < 32:
        raise VerifyError("image is truncated in its header", status.IM3)
    found = Explained(data)
    try:
        image.parse_image(data, programs=True)
    except VerifyError as exc:  # the word that counts
        if isinstance(exc.code, int) and exc.code not in [code for code, _ in found.faults]:
            found.faults.append((exc.code, str(exc)))
    major, minor, revision, build = found.version
    return {
        "kind": "image",
        "profile": "MCUboot, not ours",
        "version": f"{major}.{minor}.{revision}" + (f"+{build}" if build else ""),
        "header_size": f"0x{found.hdr_size:x}",
        "payload_size": found.img_size,
        "size": len(data),
        "flags": found.flag_names(),
        "load_address": f"0x{found.load_addr:08x}",
        "file_digest": hashlib.sha256(data).hexdigest(),
        "tlvs": tlv_lines(found.protected, found.unprotected),
        "refused_for": [f"{status.label(code)}: {text}" for code, text in found.faults],
    }


def tlv_lines(protected: list[Entry], unprotected: list[Entry]) -> list[str]:
    """Return a line for each entry."""
    return [
        f"{area} {_title(kind)}: {value.hex()}"
        for area, entries in (("protected", protected), ("unprotected", unprotected))
        for kind, value in entries
    ]
