"""The flash cells of an STM32: double words with ECC that a power loss can tear, write protection.

The rules that a program has to obey stand in `flash.py`.
"""

from fota_vdev.parts.bus import PowerCutError
from fota_vdev.parts.flash_cells import FlashCells


class FlashArray(FlashCells):
    """Two banks of pages, programmed by the unit of the geometry."""

    def protected(self, bank: int, page: int) -> bool:
        """Return True if a WRP area of the option bytes covers the page."""
        areas = (self.options[f"wrp{bank}ar"], self.options[f"wrp{bank}br"])
        last = self.geometry.pages - 1
        return any(area & last <= page <= area >> 16 & last for area in areas)

    def protect(self, bank: int, first: int, last: int) -> None:
        """Set write protection area A of a bank to pages first..last."""
        self.options[f"wrp{bank}ar"] = last << 16 | first

    def program(self, bank: int, offset: int, data: bytes) -> None:
        """Program one unit: a double word, or what the geometry says.

        Raises:
            PowerCutError: an armed cut falls on this operation.
        """
        torn = self._begin("program", bank, offset)
        self.on_change(bank, offset, len(data))
        if torn is None:
            self._banks[bank][offset : offset + len(data)] = data
            self.ecc_bad.discard((bank, offset))
            self.counters.double_words[bank] += 1
            return
        old = self.read_phys(bank, offset, len(data))
        done = torn.choice(("none", "some", "some", "some", "all"))
        if done == "all":
            self._banks[bank][offset : offset + len(data)] = data
        elif done == "some":
            self._set_torn(
                bank, offset, bytes(o & (d | torn.getrandbits(8)) for o, d in zip(old, data, strict=True))
            )
        raise PowerCutError(f"power cut while programming bank {bank} offset 0x{offset:05x}")

    def erase(self, bank: int, page: int) -> None:
        """Erase one page.

        Raises:
            PowerCutError: an armed cut falls on this operation.
        """
        size, word = self.geometry.page, self.geometry.word
        offset = page * size
        torn = self._begin("erase", bank, offset)
        self.on_change(bank, offset, size)
        if torn is None:
            self._banks[bank][offset : offset + size] = b"\xff" * size
            self.ecc_bad -= {(bank, o) for o in range(offset, offset + size, word)}
            self.counters.erases[bank, page] += 1
            return
        progress = torn.random()  # early in the erase most words are still old, late most are blank
        for at in range(offset, offset + size, word):
            old = self.read_phys(bank, at, word)
            pick = torn.random()
            if old == self._blank or pick > max(progress, 0.1):
                continue
            if pick < progress * 0.7:
                self._banks[bank][at : at + word] = self._blank
                self.ecc_bad.discard((bank, at))
            else:
                self._set_torn(bank, at, bytes(o | torn.getrandbits(8) for o in old))
        raise PowerCutError(f"power cut while erasing page {page} of bank {bank}")

    def _set_torn(self, bank: int, offset: int, data: bytes) -> None:
        self._banks[bank][offset : offset + len(data)] = data
        self.ecc_bad.add((bank, offset))
