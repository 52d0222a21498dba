"""Tells files of a build for an ESP32 from others, by a few bytes: every ``fota sign`` asks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fota_wire.host_chips import Chip

XTENSA, RISC_V = 94, 243
IMAGE, TABLE, TABLE_SUM = b"\xe9", b"\xaa\x50", b"\xeb\xeb"
_ELF = b"\x7fELF"
_TABLE_AT = 0x8000
_BOOTLOADERS = (0x1000, 0x2000)
"""Where bootloaders begin that do not at 0."""


def is_espressif(data: bytes, chip: "Chip | None") -> bool:
    """Tell whether a file is for an ESP32: by its bytes, or because ``chip`` is one."""
    if chip is not None and chip.FORM == "espressif":
        return True
    if data[:4] == _ELF:
        return int.from_bytes(data[18:20], "little") in (XTENSA, RISC_V)
    return data[:1] == IMAGE or data[:2] == TABLE or is_whole_flash(data)


def is_whole_flash(data: bytes) -> bool:
    """Tell whether there is a partition table where flash has it, behind a bootloader."""
    if data[_TABLE_AT : _TABLE_AT + 2] != TABLE:
        return False
    begins = [0, *(at for at in _BOOTLOADERS if not data[:at].strip(b"\xff"))]
    if not any(data[at : at + 1] == IMAGE for at in begins):
        return False
    return data[_TABLE_AT + 32 : _TABLE_AT + 34] in (TABLE, TABLE_SUM, b"\xff\xff")
