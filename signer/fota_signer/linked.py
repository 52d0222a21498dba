"""Guesses for which address a raw binary was linked: the file itself does not say.

Every address is tried that could be its first byte's. Where the file's pointers (vectors, literal pools,
tables) land tells one from another: odd ones begin functions, even ones begin texts, none leads out of the
file. With the right address most of them do, with any other next to none: of 24 binaries with newlib (-O0 to
-O2, 22 KiB to 77 KiB, four addresses) the right one was ahead of the second by 18 at least, and of small ones
without a library by 2.
"""

import re
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

ALIGNMENT = 0x100
"""Of a vector table with 33 to 64 entries; those of a product's own chip ask for 0x200."""
LOOK = 0x20000
"""Bytes from the first one on that are looked at first, and no others if they leave no doubt: so that what a
signature costs does not grow with the file.
"""
CLEAR = 8
"""Points by which one address has to be ahead of all others for the first bytes to be enough."""
SAMPLE = 128
"""Pointers of each kind that are looked at, spread over all of them."""
LEAD = 2
"""Points by which one address has to be ahead of all others to be believed."""
_BLANK = (b"\0\0\0\0", b"\xff\xff\xff\xff")
_PADDING = (b"\0\0", b"\0\xbf")
_MARKS = re.compile(rb"[\xb5\xe9\xbd\xe7\x47\xe8]")  # high bytes of the halfwords that `_functions` knows
_TEXT = re.compile(rb"\0[\x20-\x7e]{3}")


class Guess(NamedTuple):
    """What speaks for an address: ``score`` in points."""

    score: int
    address: int


def address_of(payload: bytes) -> int | None:
    """Return the address of the first byte, None if the file shows none."""
    if len(payload) > LOOK:
        clear = _best(guesses(payload, LOOK), CLEAR)
        if clear is not None:
            return clear
    return _best(guesses(payload, len(payload)), LEAD)


def guesses(payload: bytes, look: int) -> list[Guess]:
    """Return addresses by what the first ``look`` bytes show, those with most points first.

    Of those that nothing speaks for, there are two at most.
    """
    size, reset = len(payload), _reset(payload)
    words = _pointers(payload[:look], size, reset)
    odd = _sample([word - 1 for word in words if word & 1])
    even = _sample([word for word in words if not word & 1])
    every = sorted(odd + even)
    seen = payload[:look]
    hits = Counter(chain(_bases(odd, _functions(seen)), _bases(even, _texts(seen))))
    found = []
    for base, count in hits.items():
        if begins_at(payload, base):
            outside = len(every) - bisect_left(every, base + size) + bisect_left(every, base)
            found.append(Guess(count - outside, base))
    others = (base for base in _allowed(size, reset) if base not in hits and begins_at(payload, base))
    found.extend(Guess(0, base) for base in islice(others, 2))
    return sorted(found, reverse=True)


def begins_at(payload: bytes, address: int) -> bool:
    """Tell whether there is code where the reset vector points, if the first byte is at ``address``."""
    at = _reset(payload) - address
    return address >= 0 and 8 <= at < len(payload) and payload[at : at + 4] not in _BLANK


def _allowed(size: int, reset: int) -> range:
    """Return the addresses of a first byte by which the reset vector leads into the file."""
    return range(max(-(-(reset - size + 1) // ALIGNMENT) * ALIGNMENT, 0), reset - 7, ALIGNMENT)


def _reset(payload: bytes) -> int:
    return int(struct.unpack_from("<I", payload, 4)[0] & ~1)


def _bases(words: list[int], targets: Iterable[int]) -> Iterator[int]:
    """Return each address of the first byte by which one of ``words`` points to one of ``targets``."""
    by_rest: dict[int, list[int]] = {}
    for target in targets:
        by_rest.setdefault(target % ALIGNMENT, []).append(target)
    return (word - target for word in words for target in by_rest.get(word % ALIGNMENT, ()))


def _best(found: list[Guess], lead: int) -> int | None:
    """Return the one address that speaks for itself, None if no one does."""
    if not found or (len(found) > 1 and found[0].score < found[1].score + lead):
        return None
    return found[0].address


def _pointers(seen: bytes, size: int, reset: int) -> list[int]:
    """Return the aligned words that could point into a file of ``size`` bytes, code at ``reset``; sorted."""
    low, high = max(reset - size, 0), reset + size
    tops = seen[3::4]
    found = set()
    for top in range(low >> 24, min(high >> 24, 0xFF) + 1):
        for match in re.finditer(re.escape(bytes([top])), tops):
            word = int.from_bytes(seen[4 * match.start() : 4 * match.start() + 4], "little")
            if low < word < high:
                found.add(word)
    return sorted(found)


def _sample(words: list[int]) -> list[int]:
    return words[:: -(-len(words) // SAMPLE)] if words else []


def _texts(payload: bytes) -> set[int]:
    """Return where texts seem to begin: behind the end of another."""
    return {match.start() + 1 for match in _TEXT.finditer(payload)}


def _functions(payload: bytes) -> set[int]:
    """Return where functions seem to begin: at a push of lr, and behind the end of the one before."""
    found = set()
    high = payload[1::2]
    for match in _MARKS.finditer(high):
        at = 2 * match.start()
        low, top = payload[at], payload[at + 1]
        if top == 0xB5 or (top == 0xE9 and low == 0x2D):
            found.add(at)
        elif top in (0xBD, 0xE7) or (top == 0x47 and low == 0x70):  # pop {pc}, b, bx lr
            found.add(at + 2)
            if payload[at + 2 : at + 4] in _PADDING:
                found.add(at + 4)
        elif top == 0xE8 and low == 0xBD:
            found.add(at + 4)
    return found
