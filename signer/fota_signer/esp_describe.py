"""Explains an image in Espressif's form, signed by us or not: what is in it, and all for which it is refused.

`fota_wire.esp_image` is strict and stops at the first fault, as the bootloader does; people want to know all.
"""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from fota_wire import esp_image, esp_signature, status
from fota_wire.errors import FotaError, VerifyError
from fota_wire.esp_chips import ROWS
from fota_wire.host_values import uuid_text
from fota_wire.version import format_version

Table = dict[str, object]
_T = TypeVar("_T")
_MODES = {0: "QIO", 1: "QOUT", 2: "DIO", 3: "DOUT"}
_SPEEDS = {0: "40 MHz", 1: "26 MHz", 2: "20 MHz", 0xF: "80 MHz"}
_TEXTS = (("project", 48, 32), ("app_version", 16, 32), ("idf", 112, 32), ("built", 96, 16))


class _Faults(list[str]):
    """What was found against an image: ``IM6 image-hash: sentence``."""

    def of(self, look: Callable[[], _T]) -> _T | None:
        """Return what ``look`` does, or note what it has against the image."""
        try:
            return look()
        except FotaError as exc:
            label = f"{status.label(exc.code)}: " if isinstance(exc.code, int) else ""
            if f"{label}{exc}" not in self:
                self.append(f"{label}{exc}")
            return None


def explain(data: bytes) -> Table:
    """Return the fields of an image that begins with E9, ``refused_for`` all that our bootloader has against
    it.

    Raises:
        VerifyError: IM3, truncated within its header.
    """
    faults = _Faults()
    header = esp_image.Header(data)
    table: Table = {"kind": "image", "form": "Espressif", "chip": header.chip_name, "size": len(data)}
    table["entry"] = f"0x{header.entry:08x}"
    table["flash"] = f"{_MODES.get(header.mode, header.mode)}, {_size(header)}, {_speed(header)}"
    table["revisions"] = f"{esp_image.revision(header.min_rev)} to {_most(header)}"
    faults.of(lambda: esp_image.check_header(header))
    layout = faults.of(lambda: esp_image.read_segments(data, header))
    if layout is not None:
        _explain_content(data, header, layout, table, faults)
    faults.of(lambda: esp_image.parse(data))  # what counts, if nothing of the above was it
    table["file_digest"] = hashlib.sha256(data).hexdigest()
    table["refused_for"] = [*faults]
    return table


def _explain_content(
    data: bytes,
    header: esp_image.Header,
    layout: tuple[list[esp_image.Segment], int],
    table: Table,
    faults: _Faults,
) -> None:
    segments, end = layout
    table["image_size"] = end
    table["segments"] = [
        f"0x{part.address:08x}, {part.size} bytes at 0x{part.offset:x}{_what(data, part)}"
        for part in segments
    ]
    table.update(_descriptor(esp_image.descriptor(data, segments)))
    if header.chip_id in ROWS:
        found = esp_image.EspImage(header, ROWS[header.chip_id], segments, end)
        faults.of(lambda: esp_image.check_memory(found))
    if header.hash_appended == 1:
        faults.of(lambda: esp_image.check_sums(data, segments, end))
    block = faults.of(lambda: esp_image.find_block(data, segments))
    if block is not None:
        table["version"] = format_version(block.version)
        table["security_counter"] = block.sec_cnt
        table["class"] = uuid_text(block.class_id)
        table["keyhash"] = block.key_hash.hex()
    padded = esp_image.padded_size(end)
    if len(data) > padded:
        table["image_hash"] = hashlib.sha256(data[:padded]).hexdigest()
        sector = data[padded : padded + esp_signature.SECTOR]
        table["signatures"] = [
            f"{one.kind}, key digest {one.key_digest.hex()}"
            for one in faults.of(lambda: esp_signature.read_sector(sector)) or []
        ]
    else:
        faults.of(lambda: _raise(VerifyError("image is not signed: it has no signature sector", status.IM4)))


def _raise(exc: VerifyError) -> None:
    raise exc


def _what(data: bytes, part: esp_image.Segment) -> str:
    if part.address:
        return ""
    return ": FOTA block" if data[part.offset : part.offset + 4] == esp_image.BLOCK_MAGIC else ": padding"


def _descriptor(raw: bytes) -> Table:
    """Return what an application descriptor tells people."""
    table: Table = {}
    for name, at, size in _TEXTS if raw else ():
        text = raw[at : at + size].partition(b"\0")[0].decode("ascii", "backslashreplace")
        if text:
            table[name] = text
    if raw:
        table["elf_sha256"] = raw[144:176].hex()
    return table


def _size(header: esp_image.Header) -> str:
    return f"{1 << (header.size_speed >> 4)} MB"


def _speed(header: esp_image.Header) -> str:
    return _SPEEDS.get(header.size_speed & 0xF, f"speed {header.size_speed & 0xF}")


def _most(header: esp_image.Header) -> str:
    return "any" if header.max_rev in (0, esp_image.UNSET_REVISION) else esp_image.revision(header.max_rev)
