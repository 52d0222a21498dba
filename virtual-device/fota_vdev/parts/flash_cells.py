"""What every flash has: cells in banks, ECC marks, wear, options, operations that can be cut.

This is what survives a power loss. How a chip programs and erases is its own.
"""

import ctypes
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fota_vdev.parts.bus import PowerCutError
from fota_vdev.parts.memory import private_memory
from fota_wire.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Sizes of a flash: bytes that are erased at once, such pages of a bank, bytes with one ECC, banks."""

    page: int
    pages: int
    word: int
    options: dict[str, int]
    banks: int = 2

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
    """Wear and work: erases per (bank, page), double words (or what is programmed at once) per bank."""

    erases: Counter[tuple[int, int]]
    double_words: dict[int, int]

    @property
    def total_erases(self) -> int:
        """Page erases over all banks."""
        return sum(self.erases.values())

    @property
    def total_double_words(self) -> int:
        """Double words programmed in all banks."""
        return sum(self.double_words.values())


class FlashCells:
    """Cells by physical bank (from 1) and byte offset; nothing here knows the mapped address.

    ``MORE`` names what a subclass keeps beside it.
    """

    MORE: ClassVar[tuple[str, ...]] = ()

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._blank = b"\xff" * geometry.word
        self._banks = {bank: private_memory(geometry.bank) for bank in self.banks}
        self.ecc_bad: set[tuple[int, int]] = set()
        self.options = dict(geometry.options)
        self.counters = FlashCounters(Counter(), dict.fromkeys(self.banks, 0))
        self.log: list[FlashOp] = []
        self.operations = 0
        # bank, offset, bytes (0: not cells but options): translated code may be stale, marks moved
        self.on_change: Callable[[int, int, int], None] = lambda bank, offset, size: None
        # kind, bank, offset, right before each operation: a cut may be armed for this very one
        self.on_operation: Callable[[str, int, int], None] = lambda kind, bank, offset: None
        self.cut_in: int | None = None
        self.cut_torn: int | None = None
        for cells in self._banks.values():
            cells[:] = b"\xff" * geometry.bank

    @property
    def banks(self) -> range:
        """The numbers of the banks."""
        return range(1, self.geometry.banks + 1)

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
        self.on_change(bank, offset, len(data))

    def set_cells(self, bank: int, data: bytes) -> None:
        """Put the content of a whole bank back, for a snapshot: nothing is counted or told."""
        self._banks[bank][:] = data

    def mark_torn(self, bank: int, offset: int) -> None:
        """Make the double word at ``offset`` one that ECC cannot correct.

        Raises:
            InputError: it is not inside the bank.
        """
        word = self.geometry.word
        self._check(bank, offset, word)
        self.ecc_bad.add((bank, offset // word * word))
        self.on_change(bank, offset, word)

    def _check(self, bank: int, offset: int, n: int) -> None:
        size = self.geometry.bank
        if bank not in self.banks or offset < 0 or n < 0 or offset + n > size:
            raise InputError(
                f"bank {bank} offset 0x{offset:x} + {n} bytes is not inside a flash bank of {size >> 10} KiB"
            )

    def protect(self, bank: int, first: int, last: int) -> None:
        """Protect pages against writing as the factory does, where the chip can do that."""

    def arm_cut(self, operation: int, torn: int | None) -> None:
        """Cut the power at the ``operation``-th flash operation from now (1 = the next one).

        ``torn`` None: the operation does not start. A number: the operation is under way, and the seed says
        which cells have changed by then.
        """
        self.cut_in, self.cut_torn = operation, torn

    def _begin(self, kind: str, bank: int, offset: int) -> random.Random | None:
        """Count one operation; return the dice for a torn one, None for one that completes."""
        self.on_operation(kind, bank, offset)
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
            **{f"bank{bank}": bytes(cells) for bank, cells in self._banks.items()},
            "ecc_bad": sorted(self.ecc_bad),
            "options": dict(self.options),
            "erases": sorted((b, p, n) for (b, p), n in self.counters.erases.items()),
            "double_words": [self.counters.double_words[bank] for bank in self.banks],
            "operations": self.operations,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back a `state`; the log starts anew and an armed cut is forgotten."""
        for bank in self.banks:
            self._banks[bank][:] = state[f"bank{bank}"]
        self.ecc_bad = {(int(b), int(o)) for b, o in state["ecc_bad"]}
        self.options = {name: int(state["options"][name]) for name in self.geometry.options}
        self.counters = FlashCounters(
            Counter({(int(b), int(p)): int(n) for b, p, n in state["erases"]}),
            {bank: int(state["double_words"][bank - 1]) for bank in self.banks},
        )
        self.operations = int(state["operations"])
        self.log = []
        self.cut_in = self.cut_torn = None
