"""Partition tables as CSV, as ESP-IDF's projects have them: ``name, type, subtype, offset, size, flags``.

A line that is empty or begins with ``#`` is none. Numbers are decimal or ``0x``, with ``K`` or ``M`` behind
them. No offset: behind the partition before it, applications at the next 64 KiB, all else at the next sector.
A size below zero is where the partition ends. Loader and table, if they are named, lie where they are.
"""

from typing import TYPE_CHECKING

from fota_wire import esp_partitions as tables
from fota_wire.errors import InputError

if TYPE_CHECKING:
    from fota_wire.host_chips import Espressif

TYPES = {
    "app": tables.APP,
    "data": tables.DATA,
    "bootloader": tables.BOOTLOADER,
    "partition_table": tables.TABLE,
}
SUBTYPES = {
    tables.APP: {
        "factory": 0x00,
        "test": 0x20,
        "tee_0": 0x30,
        "tee_1": 0x31,
        **{f"ota_{number}": tables.OTA_0 + number for number in range(16)},
    },
    tables.DATA: {
        "ota": 0x00,
        "phy": 0x01,
        "nvs": 0x02,
        "coredump": 0x03,
        "nvs_keys": 0x04,
        "efuse": 0x05,
        "undefined": 0x06,
        "esphttpd": 0x80,
        "fat": 0x81,
        "spiffs": 0x82,
        "littlefs": 0x83,
        "tee_ota": 0x90,
    },
    tables.BOOTLOADER: {"primary": 0x00},
    tables.TABLE: {"primary": 0x00},
}
UNDEFINED = 0x06
FLAGS = {"": 0, "encrypted": tables.ENCRYPTED, "readonly": tables.READ_ONLY}
UNITS = {"k": 1 << 10, "m": 1 << 20}


def read_csv(data: bytes, chip: "Espressif", name: str) -> list[tables.Partition]:
    """Return the partitions of a CSV in UTF-8, in its order; what FOTA needs of them is not looked at.

    Raises:
        InputError: no such text, a line that is none, a name twice, an offset within the partition before.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except ValueError:
        raise InputError(f"{name}: no partition table: neither a binary one nor a CSV in UTF-8") from None
    found: list[tables.Partition] = []
    end = chip.TABLE_OFFSET + chip.TABLE_SIZE
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            part = _placed([field.strip() for field in (text + ",,,,,").split(",")], end, chip)
        except ValueError as exc:
            raise InputError(f"{name}, line {number}: {exc}") from exc
        if part.label in [other.label for other in found]:
            raise InputError(f"{name}, line {number}: there is a partition {part.label!r} already")
        end = end if _is_fixed(part) else part.end
        found.append(part)
    if not found:
        raise InputError(f"{name}: no partition table: no line names a partition")
    return found


def _placed(fields: list[str], end: int, chip: "Espressif") -> tables.Partition:
    """Return the partition of a line; ``end``: of the one before. ValueError: it is none."""
    label, kind_text, subtype_text, offset_text, size_text, flags_text, *rest = fields
    if any("$" in field for field in fields):
        raise ValueError("variables are not replaced: give the CSV with their values")
    if any(rest):
        raise ValueError("more than six fields")
    if len(label.encode()) > 16:
        raise ValueError(f"{label!r} has more than 16 bytes")
    kind = _number(kind_text, TYPES, "type", 0xFE)
    known = SUBTYPES.get(kind, {})
    if not subtype_text and kind == tables.APP:
        raise ValueError("an application's partition needs a subtype")
    subtype = _number(subtype_text, known, "subtype", 0xFE) if subtype_text else UNDEFINED
    flags = 0
    for flag in flags_text.split(":"):
        if flag not in FLAGS:
            raise ValueError(f"flag {flag!r} is none of encrypted, readonly")
        flags |= FLAGS[flag]
    if kind in (tables.BOOTLOADER, tables.TABLE):
        return _fixed(label, kind, subtype, flags, chip)
    alignment = chip.SLOT_ALIGNMENT if kind == tables.APP else tables.SECTOR
    offset = _number(offset_text, {}, "offset") if offset_text else -(-end // alignment) * alignment
    if offset < end:
        raise ValueError(f"0x{offset:x} lies in front of 0x{end:x}, where what is before it ends")
    size = _number(size_text, {}, "size", below=-0xFFFFFFFF)
    size = size if size >= 0 else -size - offset
    if size <= 0:
        raise ValueError("it has no size")
    return tables.Partition(label, kind, subtype, offset, size, flags)


def _fixed(label: str, kind: int, subtype: int, flags: int, chip: "Espressif") -> tables.Partition:
    """Return loader or table, whose offset and size no line says. ValueError: a second one of them."""
    if subtype:
        raise ValueError("of bootloader and partition table only the primary ones are taken")
    if kind == tables.BOOTLOADER:
        return tables.Partition(label, kind, subtype, chip.BOOTLOADER_OFFSET, chip.TABLE_OFFSET, flags)
    return tables.Partition(label, kind, subtype, chip.TABLE_OFFSET, chip.TABLE_SIZE, flags)


def _is_fixed(part: tables.Partition) -> bool:
    return part.kind in (tables.BOOTLOADER, tables.TABLE)


def _number(text: str, names: dict[str, int], what: str, above: int = 0xFFFFFFFF, below: int = 0) -> int:
    """Return a number or what a word stands for. ValueError: neither, or out of range."""
    if text.lower() in names:
        return names[text.lower()]
    unit = UNITS.get(text[-1:].lower(), 1)
    try:
        value = int(text if unit == 1 else text[:-1], 0) * unit
    except ValueError:
        known = f", nor one of {', '.join(names)}" if names else ""
        raise ValueError(f"{what} {text!r} is no number{known}") from None
    if not below <= value <= above:
        raise ValueError(f"{what} {text} is out of range")
    return value
