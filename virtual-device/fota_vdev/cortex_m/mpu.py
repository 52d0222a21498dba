"""The memory protection unit, as far as it says where nothing executes (ARMv7-M B3.5, ARMv8-M D1.2).

Execute-never is enforced in pages of 4 KiB: a page that may be executed in part counts as executable.
Permissions for data, memory types and HFNMIENA = 0 (which frees handlers of NMI and HardFault) are not
modelled: data accesses always pass, and the regions hold in handlers too.
"""

from collections.abc import Callable
from typing import ClassVar

TYPE, CTRL, RNR, RBAR, RASR = 0xD90, 0xD94, 0xD98, 0xD9C, 0xDA0
ENABLE, PRIVDEFENA = 1, 4
REGIONS = 8
PAGE = 4096
CODE_AND_SRAM = 0x4000_0000  # what the default map lets execute, external RAM aside: [0, this)

Region = tuple[int, int, bool]  # begin, end (exclusive), execute-never


class Mpu:
    """Eight regions of ARMv7-M (RASR, aliases up to RASR_A3); higher numbers go first where they overlap."""

    WINDOW: ClassVar[range] = range(TYPE, 0xDBC, 4)

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.reset()

    def reset(self) -> None:
        """Switch off. (Silicon leaves the regions undefined; here they are empty.)"""
        self.ctrl = 0
        self.number = 0
        self.attributes: dict[int, int] = {}
        self.pairs = [(0, 0)] * REGIONS

    @property
    def state(self) -> tuple[int, int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
        """Everything, for snapshots and comparison."""
        return self.ctrl, self.number, tuple(self.pairs), tuple(self.attributes.items())

    @state.setter
    def state(self, state: tuple[int, int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]) -> None:
        self.ctrl, self.number, pairs, attributes = state
        self.pairs, self.attributes = list(pairs), dict(attributes)

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == TYPE:
            return REGIONS << 8
        if offset in (CTRL, RNR):
            return self.ctrl if offset == CTRL else self.number
        if RBAR <= offset < RBAR + 32:
            return self.pairs[self._region(offset)][(offset - RBAR) // 4 % 2]
        return self.attributes.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == CTRL:
            self.ctrl = value & 7
        elif offset == RNR:
            self.number = value % REGIONS
        elif RBAR <= offset < RBAR + 32:
            self._write_pair(offset, value)
        else:
            self.attributes[offset] = value
        if self.ctrl & ENABLE or offset == CTRL:
            self.on_change()

    def _region(self, offset: int) -> int:
        """The region that an alias speaks of: on ARMv7-M all speak of the one in RNR."""
        return self.number

    def _write_pair(self, offset: int, value: int) -> None:
        second = (offset - RBAR) // 4 % 2
        if not second and value & 0x10:  # VALID: the write names its region
            self.number = value & 7
            value &= ~0x1F
        at = self._region(offset)
        base, attributes = self.pairs[at]
        self.pairs[at] = (base, value) if second else (value, attributes)

    def _decode(self, base: int, attributes: int) -> list[Region]:
        """Return the parts of one region: without the sub-regions that SRD takes out."""
        if not attributes & 1:
            return []
        size = 2 << (attributes >> 1 & 31)
        begin, never = base & -size & 0xFFFF_FFFF, bool(attributes >> 28 & 1)
        out = attributes >> 8 & 0xFF
        if size < 256 or not out:
            return [(begin, begin + size, never)]
        part = size // 8
        return [(begin + n * part, begin + (n + 1) * part, never) for n in range(8) if not out >> n & 1]

    def executes(self, address: int) -> bool:
        """Return what the regions say about one address, to the byte; the core is held to whole pages."""
        if not self.ctrl & ENABLE:
            return True
        regions = [part for pair in reversed(self.pairs) for part in self._decode(*pair)]
        never = next((never for begin, end, never in regions if begin <= address < end), None)
        return bool(self.ctrl & PRIVDEFENA) and address < CODE_AND_SRAM if never is None else not never

    def never(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Return the stretches (begin, end) of [begin, end), whole pages, that execute-never covers now."""
        if not self.ctrl & ENABLE:
            return []
        regions = [part for pair in reversed(self.pairs) for part in self._decode(*pair)]
        out: list[tuple[int, int]] = []
        for page in range(begin, end, PAGE):
            if self._executes(regions, page):
                continue
            if out and out[-1][1] == page:
                out[-1] = (out[-1][0], page + PAGE)
            else:
                out.append((page, page + PAGE))
        return out

    def _executes(self, regions: list[Region], page: int) -> bool:
        for begin, end, never in regions:
            if end <= page or begin >= page + PAGE:
                continue
            whole = begin <= page and page + PAGE <= end
            if whole or not never:
                return not never
        return bool(self.ctrl & PRIVDEFENA) and page < CODE_AND_SRAM


class MpuV8(Mpu):
    """Eight regions of ARMv8-M: RBAR and RLAR, which may not overlap; RBAR_A1.. are their neighbours."""

    WINDOW: ClassVar[range] = range(TYPE, 0xDC8, 4)

    def _region(self, offset: int) -> int:
        return (self.number & ~3 | (offset - RBAR) // 8) if offset >= RBAR + 8 else self.number

    def _write_pair(self, offset: int, value: int) -> None:
        at = self._region(offset)
        base, limit = self.pairs[at]
        self.pairs[at] = (base, value) if (offset - RBAR) // 4 % 2 else (value, limit)

    def _decode(self, base: int, attributes: int) -> list[Region]:
        if not attributes & 1:
            return []
        return [(base & ~31, (attributes | 31) + 1, bool(base & 1))]
