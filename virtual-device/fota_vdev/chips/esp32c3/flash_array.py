"""The cells of the SPI flash beside an ESP32-C3: 4 MiB NOR, pages of 256 bytes, sectors of 4 KiB; and eFuses.

This is what survives a power loss. The commands of the flash chip stand in `flash_chip.py`.
"""

import random
from typing import Any

from fota_vdev.chips.esp32c3.efuse import FACTORY
from fota_vdev.parts.bus import PowerCutError
from fota_vdev.parts.flash_cells import FlashCells, Geometry

SIZE, SECTOR, PAGE = 4 << 20, 4096, 256
BANK = 1  # there is one; other chips have two
GEOMETRY = Geometry(page=SECTOR, pages=SIZE // SECTOR, word=1, options=FACTORY, banks=1)


class NorFlash(FlashCells):
    """Programming clears bits, erasing sets them; nothing marks cells that a power loss left in between.

    ``options`` are the eFuse words, by the names of `efuse.py`; ``double_words`` counts programmed pages.
    """

    def __init__(self) -> None:
        super().__init__(GEOMETRY)
        self.changed: set[int] = set()  # sectors, since somebody last looked

    def write_phys(self, bank: int, offset: int, data: bytes) -> None:
        """Set cells as a programmer does: no rules, no wear.

        Raises:
            InputError: the range is not inside the flash.
        """
        self._mark(offset, len(data))
        super().write_phys(bank, offset, data)

    def restore(self, state: dict[str, Any]) -> None:
        """Take back a `state`; the log starts anew and an armed cut is forgotten."""
        super().restore(state)
        self._mark(0, SIZE)
        self.on_change(BANK, 0, SIZE)

    def set_cells(self, bank: int, data: bytes) -> None:
        """Put the content of the flash back, for a snapshot, and remember which sectors were others."""
        for block in range(0, SIZE, 16 * SECTOR):
            if self._banks[bank][block : block + 16 * SECTOR] != data[block : block + 16 * SECTOR]:
                for at in range(block, block + 16 * SECTOR, SECTOR):
                    if self._banks[bank][at : at + SECTOR] != data[at : at + SECTOR]:
                        self._mark(at, SECTOR)
        super().set_cells(bank, data)

    def _mark(self, offset: int, n: int) -> None:
        self.changed.update(range(offset // SECTOR, -(-(offset + n) // SECTOR)))

    def _set(self, offset: int, data: bytes) -> None:
        self._banks[BANK][offset : offset + len(data)] = data
        self._mark(offset, len(data))
        self.on_change(BANK, offset, len(data))

    def program(self, offset: int, data: bytes) -> None:
        """Program up to one page: bits of ``data`` that are 0 become 0.

        Raises:
            PowerCutError: an armed cut falls on this operation; any of these bits may be 0 or 1 by then.
        """
        torn = self._begin("program", BANK, offset)
        old = self._banks[BANK][offset : offset + len(data)]
        new = bytes(o & d for o, d in zip(old, data, strict=True))
        if torn is None:
            self._set(offset, new)
            self.counters.double_words[BANK] += 1
            return
        done = torn.choice(("none", "some", "some", "some", "front", "all"))
        if done == "some":
            rest = bytes(torn.getrandbits(8) for _ in new)
        elif done == "front":  # the bytes of a page that came first are further
            there = torn.randrange(len(new) + 1)
            rest = bytes(there) + b"\xff" * (len(new) - there)
        else:
            rest = (b"\xff" if done == "none" else b"\0") * len(new)
        self._set(offset, bytes(o & (n | r) for o, n, r in zip(old, new, rest, strict=True)))
        raise PowerCutError(f"power cut while programming flash offset 0x{offset:06x}")

    def erase(self, offset: int, size: int = SECTOR) -> None:
        """Erase a sector, or the ``size`` bytes of a block.

        Raises:
            PowerCutError: an armed cut falls on this operation; any bit may be old or set by then.
        """
        torn = self._begin("erase", BANK, offset)
        if torn is None:
            self._set(offset, b"\xff" * size)
            for sector in range(offset // SECTOR, (offset + size) // SECTOR):
                self.counters.erases[BANK, sector] += 1
            return
        self._set(offset, _half_erased(self._banks[BANK][offset : offset + size], torn))
        raise PowerCutError(f"power cut while erasing flash offset 0x{offset:06x}")


def _half_erased(old: bytes, torn: random.Random) -> bytes:
    """Early in an erase few bits are set, late nearly all; the cells of a sector differ in it."""
    progress = torn.random()
    out = bytearray(old)
    for at in range(0, len(old), 16):
        pick = torn.random()
        if pick < progress * 0.7:
            out[at : at + 16] = b"\xff" * 16
        elif pick < progress:
            out[at : at + 16] = bytes(
                o | r for o, r in zip(old[at : at + 16], torn.randbytes(16), strict=True)
            )
    return bytes(out)
