"""SYSCFG with its remap, and the system memory that identifies the chip."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.parts.bus import Peripheral, UnmodelledError

MEMRMP, FB_MODE = 0x00, 1 << 8
UID_BASE, FLASH_SIZE_BASE, PACKAGE_BASE, OPTION_BASE = 0x7590, 0x75E0, 0x7500, 0x7800


class Syscfg(Peripheral):
    """SYSCFG, base 0x4001_0000. Only main flash can be mapped at 0 (MEM_MODE = 0)."""

    name = "SYSCFG"
    STATE: ClassVar[tuple[str, ...]] = ("memrmp", "regs")

    def __init__(self) -> None:
        self.on_remap: Callable[[], None] = lambda: None
        self.memrmp = 0
        self.reset()

    def reset(self) -> None:
        """Map bank 1 at 0x0800_0000."""
        changed = bool(self.memrmp & FB_MODE)
        self.memrmp = 0
        self.regs = {
            0x04: 0x7C00_0001,
            0x08: 0,
            0x0C: 0,
            0x10: 0,
            0x14: 0,
            0x18: 0,
            0x1C: 0,
            0x20: 0,
            0x24: 0,
        }
        if changed:
            self.on_remap()

    @property
    def fb_mode(self) -> bool:
        """True while bank 2 is mapped at 0x0800_0000."""
        return bool(self.memrmp & FB_MODE)

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == MEMRMP:
            return self.memrmp
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        return self.regs[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register; FB_MODE takes effect after the storing instruction."""
        if offset == MEMRMP:
            if value & 7:
                raise UnmodelledError(f"MEM_MODE {value & 7}: only main flash is modelled at address 0")
            changed = (self.memrmp ^ value) & FB_MODE
            self.memrmp = value & FB_MODE
            if changed:
                self.on_remap()
        elif offset in self.regs:
            self.regs[offset] = value
        else:
            raise self.unmodelled(offset, "write to")


class SystemMemory(Peripheral):
    """0x1FFF_0000: unique id, flash size and option bytes to read. The ROM loader is not there."""

    name = "system memory"
    narrow = True

    def __init__(self, array: FlashArray, seed: int) -> None:
        self._array = array
        self._uid = (0x0027_0041, 0x3330_4710, seed & 0xFFFF_FFFF)

    def reset(self) -> None:
        """Nothing to reset: read only."""

    def read(self, offset: int) -> int:
        """Return a word."""
        if UID_BASE <= offset < UID_BASE + 12:
            return self._uid[(offset - UID_BASE) // 4]
        if offset == FLASH_SIZE_BASE:
            return 0xFFFF_0400  # 1024 KiB
        options = self._array.options
        banks = {
            OPTION_BASE: ("optr", "wrp1ar", "wrp1br"),
            OPTION_BASE + 0x8000: ("optr", "wrp2ar", "wrp2br"),
        }
        for base, (optr, area_a, area_b) in banks.items():
            places = {0x00: optr, 0x18: area_a, 0x20: area_b}
            for at, name in places.items():
                if offset == base + at:
                    return options[name]
                if offset == base + at + 4:
                    return options[name] ^ 0xFFFF_FFFF
        raise self.unmodelled(offset, "read of")
