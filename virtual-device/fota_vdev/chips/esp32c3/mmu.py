"""The cache and its MMU (EXTMEM 0x600C_4000, table 0x600C_5000): which flash page shows at which address.

The cache is taken to hold everything that it ever could have: once a page was mapped while the cache was on,
its bytes and its entry stay as they were until they are invalidated, whatever flash and table say since.
Code that forgets to invalidate always reads the past here; on the chip it does so now and then.
"""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.bus import Peripheral

PAGE, ENTRIES = 64 << 10, 128
INVALID = 1 << 8
CTRL, CTRL1, SYNC_CTRL, SYNC_ADDR, SYNC_SIZE, PRELOAD, AUTOLOAD, CACHE_STATE, FREEZE = (
    0x00, 0x04, 0x28, 0x2C, 0x30, 0x34, 0x40, 0xB0, 0xCC,
)  # fmt: skip
ENABLE, SHUT_IBUS, SHUT_DBUS = 1, 1, 2
INVALIDATE, SYNC_DONE = 1, 2
WINDOW = 8 << 20


class MmuTable(Peripheral):
    """128 entries: bit 8 invalid, [7:0] page of flash."""

    name = "MMU"
    STATE: ClassVar[tuple[str, ...]] = ("entries",)

    def __init__(self) -> None:
        self.on_write: Callable[[int], None] = lambda index: None
        self.reset()

    def reset(self) -> None:
        """Nothing is mapped."""
        self.entries = [INVALID] * ENTRIES

    def read(self, offset: int) -> int:
        """Return an entry."""
        if offset >= 4 * ENTRIES:
            raise self.unmodelled(offset, "read of")
        return self.entries[offset // 4]

    def write(self, offset: int, value: int) -> None:
        """Change an entry."""
        if offset >= 4 * ENTRIES:
            raise self.unmodelled(offset, "write to")
        self.entries[offset // 4] = value & 0x1FF
        self.on_write(offset // 4)


class Cache(Plain):
    """Control of the cache. ``shown`` are the entries that it works by; ``cold`` that it holds nothing."""

    STATE: ClassVar[tuple[str, ...]] = ("regs", "shown", "cold")

    def __init__(self, table: MmuTable, warn: Callable[[str], None]) -> None:
        super().__init__("EXTMEM", {CTRL1: SHUT_IBUS | SHUT_DBUS, SYNC_CTRL: SYNC_DONE, CACHE_STATE: 1})
        self.table = table
        self._warn = warn
        self.shown = [INVALID] * ENTRIES
        self.cold = True
        self.on_change: Callable[[], None] = lambda: None  # buses or entries: windows are to be mapped anew
        self.on_invalidate: Callable[[int, int], None] = lambda begin, end: None  # offsets in the window
        table.on_write = self._entry_written

    def reset(self) -> None:
        """Off, empty."""
        super().reset()
        self.shown = [INVALID] * ENTRIES
        self.cold = True
        self.on_change()

    @property
    def on(self) -> bool:
        """True while it is enabled."""
        return bool(self.regs.get(CTRL, 0) & ENABLE)

    @property
    def buses(self) -> tuple[bool, bool]:
        """Whether instructions (0x4200_0000) and data (0x3C00_0000) are answered."""
        shut = self.regs[CTRL1]
        return self.on and not shut & SHUT_IBUS, self.on and not shut & SHUT_DBUS

    def _entry_written(self, index: int) -> None:
        old, new = self.shown[index], self.table.entries[index]
        if not self.on or old == new:
            return
        if old & INVALID:
            self.shown[index] = new
            self.on_change()
        else:
            self._warn("an entry of the MMU was changed while the cache was on: invalidate it, then")

    def invalidate(self, begin: int = 0, end: int = WINDOW) -> None:
        """Forget what was read from [begin, end) of the window."""
        for index in range(-(-begin // PAGE), end // PAGE):
            self.shown[index] = self.table.entries[index]
        if begin == 0 and end == WINDOW and not self.on:
            self.cold = True
        self.on_invalidate(begin, end)
        self.on_change()

    def enable(self, *, on: bool) -> None:
        """Switch it on or off; entries are taken over for pages of which it holds nothing."""
        if on and not self.on:
            for index, entry in enumerate(self.table.entries):
                if self.cold or self.shown[index] & INVALID:
                    self.shown[index] = entry
            if self.cold:
                self.on_invalidate(0, WINDOW)
            self.cold = False
        self.regs[CTRL] = self.regs.get(CTRL, 0) & ~ENABLE | (ENABLE if on else 0)
        self.on_change()

    def read(self, offset: int) -> int:
        """Return a register; what was started is done."""
        value = super().read(offset)
        if offset == FREEZE:
            return value & 1 | (value & 1) << 2
        if offset in (PRELOAD, AUTOLOAD):
            return value & ~1 | (2 if offset == PRELOAD else 8)
        return value

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == CTRL:
            self.enable(on=bool(value & ENABLE))
            self.regs[CTRL] = value
        elif offset == SYNC_CTRL:
            super().write(offset, value & ~INVALIDATE | SYNC_DONE)
            if value & INVALIDATE:
                self._sync()
        elif offset == CTRL1:
            super().write(offset, value)
            self.on_change()
        elif offset != CACHE_STATE:
            super().write(offset, value)

    def _sync(self) -> None:
        size = self.regs.get(SYNC_SIZE, 0)
        if size:
            begin = self.regs.get(SYNC_ADDR, 0) & (WINDOW - 1)
            self.invalidate(begin, min(begin + size, WINDOW))
        else:
            self.invalidate()
