"""The cells of a 2 MiB STM32U5: two banks of 128 pages of 8 KiB, quad-words, and its option bytes."""

from typing import Any, ClassVar

from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.parts.bus import PowerCutError
from fota_vdev.parts.flash_cells import Geometry

UNLOCK = 1 << 31  # of a write protection area: it may be changed
SWAP_BANK, RDP = 1 << 20, 0xFF
NO_PAGES, ALL_PAGES = UNLOCK | 0x7F, UNLOCK | 0x7F << 16
FACTORY = {
    "optr": 0x1FEF_F8AA,
    "wrp1ar": NO_PAGES,
    "wrp1br": NO_PAGES,
    "wrp2ar": NO_PAGES,
    "wrp2br": NO_PAGES,
}
# what is loaded instead of option bytes that do not fit their complement: the safe side of everything
MISMATCH = {name: ALL_PAGES for name in FACTORY} | {"optr": FACTORY["optr"] & ~RDP | 0x55}  # noqa: C420
STM32U585_FLASH = Geometry(page=8192, pages=128, word=16, options=FACTORY)


class FlashArrayU5(FlashArray):
    """``options`` lie in flash, ``loaded`` are in force: power-up and OBL_LAUNCH copy them over."""

    MORE: ClassVar[tuple[str, ...]] = ("loaded",)

    def __init__(self) -> None:
        super().__init__(STM32U585_FLASH)
        self.loaded = dict(FACTORY)

    @property
    def swapped(self) -> bool:
        """True while bank 2 is mapped low."""
        return bool(self.loaded["optr"] & SWAP_BANK)

    def load_options(self) -> None:
        """Put the option bytes in force."""
        if self.loaded != self.options:
            self.loaded = dict(self.options)
            self.on_change(0, 0, 0)

    def program_options(self, values: dict[str, int]) -> None:
        """Erase and write all option bytes: one operation, as hardware does it.

        Raises:
            PowerCutError: an armed cut falls on it; old, new, or neither is left.
        """
        torn = self._begin("options", 0, 0)
        self.on_change(0, 0, 0)
        if torn is None:
            self.options = dict(values)
            return
        self.options = torn.choice((self.options, dict(values), dict(MISMATCH)))
        raise PowerCutError("power cut while programming option bytes")

    def protected(self, bank: int, page: int) -> bool:
        """Return True if a loaded WRP area covers the page."""
        areas = (self.loaded[f"wrp{bank}ar"], self.loaded[f"wrp{bank}br"])
        return any(area & 0x7F <= page <= area >> 16 & 0x7F for area in areas)

    def protect(self, bank: int, first: int, last: int) -> None:
        """Set area A of a bank as the factory does; in force from the next power-up."""
        self.options[f"wrp{bank}ar"] = UNLOCK | last << 16 | first
        self.on_change(0, 0, 0)

    def state(self) -> dict[str, Any]:
        """Return all that persists, and what is in force."""
        return super().state() | {"loaded": dict(self.loaded)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back a `state`."""
        super().restore(state)
        self.loaded = dict(state["loaded"])
