"""The flash cells of an STM32: two banks, ECC marks, wear, option bytes, and operations that can be cut.

This is what survives a power loss. The rules that a program has to obey stand in `flash.py`.
"""

import ctypes
import mmap
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fota_vdev.parts.bus import PowerCutError
from fota_wire.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Sizes of a dual-bank flash: bytes of a page, pages of a bank, bytes programmed at once."""

    page: int
    pages: int
    word: int
    options: dict[str, int]

    @property
    def bank(self) -> int:
        """Bytes of a bank."""
        return self.page * self.pages


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashOp:
    """One operation: number since the array was made, "program" or "erase", physical place, was it torn."""

    number: int
    kind: str
    bank: int
    offset: int
    torn: bool = False


@dataclass(slots=True)
class FlashCounters:
    """Wear and work: erases per (bank 1..2, page 0..255), double words programmed per bank."""

    erases: Counter[tuple[int, int]]
    double_words: dict[int, int]

    @property
    def total_erases(self) -> int:
        """Page erases over both banks."""
        return sum(self.erases.values())

    @property
    def total_double_words(self) -> int:
        """Double words programmed in both banks."""
        return sum(self.double_words.values())


class FlashArray:
    """Cells by physical bank (1 or 2) and byte offset; nothing here knows the mapped address."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._blank = b"\xff" * geometry.word
        self._banks = {bank: mmap.mmap(-1, geometry.bank) for bank in (1, 2)}
        self.ecc_bad: set[tuple[int, int]] = set()
        self.options = dict(geometry.options)
        self.counters = FlashCounters(Counter(), {1: 0, 2: 0})
        self.log: list[FlashOp] = []
        self.operations = 0
        self.on_change: Callable[[], None] = lambda: None  # translated code may be stale, marks moved
        self.cut_in: int | None = None
        self.cut_torn: int | None = None
        for cells in self._banks.values():
            cells[:] = b"\xff" * geometry.bank

    def pointer(self, bank: int) -> int:
        """Host address of a bank's cells, for mapping them into the emulator."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._banks[bank]))

    def read_phys(self, bank: int, offset: int, n: int) -> bytes:
        """Return ``n`` bytes as they lie in the cells, ECC not looked at.

        Raises:
            InputError: the range is not inside the bank.
        """
        self._check(bank, offset, n)
        return self._banks[bank][offset : offset + n]

    def write_phys(self, bank: int, offset: int, data: bytes) -> None:
        """Set cells as a factory programmer does: no rules, no wear, ECC made good.

        Raises:
            InputError: the range is not inside the bank.
        """
        self._check(bank, offset, len(data))
        self._banks[bank][offset : offset + len(data)] = data
        word = self.geometry.word
        first = offset // word * word
        self.ecc_bad -= {(bank, o) for o in range(first, offset + len(data), word)}
        self.on_change()

    def mark_torn(self, bank: int, offset: int) -> None:
        """Make the double word at ``offset`` one that ECC cannot correct.

        Raises:
            InputError: it is not inside the bank.
        """
        word = self.geometry.word
        self._check(bank, offset, word)
        self.ecc_bad.add((bank, offset // word * word))
        self.on_change()

    def _check(self, bank: int, offset: int, n: int) -> None:
        size = self.geometry.bank
        if bank not in (1, 2) or offset < 0 or n < 0 or offset + n > size:
            raise InputError(
                f"bank {bank} offset 0x{offset:x} + {n} bytes is not inside a flash bank of {size >> 10} KiB"
            )

    def protected(self, bank: int, page: int) -> bool:
        """Return True if a WRP area of the option bytes covers the page."""
        areas = (self.options[f"wrp{bank}ar"], self.options[f"wrp{bank}br"])
        last = self.geometry.pages - 1
        return any(area & last <= page <= area >> 16 & last for area in areas)

    def protect(self, bank: int, first: int, last: int) -> None:
        """Set write protection area A of a bank to pages first..last."""
        self.options[f"wrp{bank}ar"] = last << 16 | first

    def arm_cut(self, operation: int, torn: int | None) -> None:
        """Cut the power at the ``operation``-th flash operation from now (1 = the next one).

        ``torn`` None: the operation does not start. A number: the operation is under way, and the seed says
        which cells have changed by then.
        """
        self.cut_in, self.cut_torn = operation, torn

    def program(self, bank: int, offset: int, data: bytes) -> None:
        """Program one unit: a double word, or what the geometry says.

        Raises:
            PowerCutError: an armed cut falls on this operation.
        """
        torn = self._begin("program", bank, offset)
        self.on_change()
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
        self.on_change()
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

    def _begin(self, kind: str, bank: int, offset: int) -> random.Random | None:
        """Count one operation; return the dice for a torn one, None for one that completes."""
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in == 0:
                self.cut_in = None
                if self.cut_torn is None:
                    raise PowerCutError(f"power cut before {kind} in bank {bank} at offset 0x{offset:05x}")
                self._log(kind, bank, offset, torn=True)
                return random.Random(self.cut_torn)  # noqa: S311  a seed that repeats is the point
        self._log(kind, bank, offset, torn=False)
        return None

    def _log(self, kind: str, bank: int, offset: int, *, torn: bool) -> None:
        self.operations += 1
        self.log.append(FlashOp(number=self.operations, kind=kind, bank=bank, offset=offset, torn=torn))

    def bad_in(self, bank: int, offset: int, n: int) -> int | None:
        """Offset of the first unit (double word) in the range whose ECC cannot correct it, or None."""
        if not self.ecc_bad:
            return None
        hits = [
            o for b, o in self.ecc_bad if b == bank and o + self.geometry.word > offset and o < offset + n
        ]
        return min(hits, default=None)

    def state(self) -> dict[str, Any]:
        """Return all that persists, as plain data."""
        return {
            "bank1": bytes(self._banks[1]),
            "bank2": bytes(self._banks[2]),
            "ecc_bad": sorted(self.ecc_bad),
            "options": dict(self.options),
            "erases": sorted((b, p, n) for (b, p), n in self.counters.erases.items()),
            "double_words": [self.counters.double_words[1], self.counters.double_words[2]],
            "operations": self.operations,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back a `state`; the log starts anew and an armed cut is forgotten."""
        for bank in (1, 2):
            self._banks[bank][:] = state[f"bank{bank}"]
        self.ecc_bad = {(int(b), int(o)) for b, o in state["ecc_bad"]}
        self.options = {name: int(state["options"][name]) for name in self.geometry.options}
        self.counters = FlashCounters(
            Counter({(int(b), int(p)): int(n) for b, p, n in state["erases"]}),
            {1: int(state["double_words"][0]), 2: int(state["double_words"][1])},
        )
        self.operations = int(state["operations"])
        self.log = []
        self.cut_in = self.cut_torn = None
