"""Guesses for which address a raw binary was linked: the file itself does not say.

Every address is tried that could be its first byte's. Where the file's pointers (vectors, literal pools,
tables) land tells one from another: odd ones begin functions, even ones begin texts, none leads out of the
file. With the right address most of them do, with any other next to none: of 60 binaries (newlib and
picolibc, -O0 to -O2, 4 KiB to 200 KiB, ten addresses) the right one was ahead of the second by 6 to 16.
"""

import re
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

ALIGNMENT = 0x100
"""Of a vector table with 33 to 64 entries; those of a product's own chip ask for 0x200."""
SAMPLE = 64
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


def guesses(payload: bytes) -> list[Guess]:
    """Return the addresses that the vector table in ``payload`` allows, those with most points first."""
    reset = struct.unpack_from("<I", payload, 4)[0] & ~1
    size = len(payload)
    words = _pointers(payload, reset)
    odd = _sample([word - 1 for word in words if word & 1])
    even = _sample([word for word in words if not word & 1])
    every = sorted(odd + even)
    hits = Counter(chain(_bases(odd, _functions(payload)), _bases(even, _texts(payload))))
    found = []
    first = -(-(reset - size + 1) // ALIGNMENT) * ALIGNMENT
    for base in range(max(first, 0), reset - 7, ALIGNMENT):
        if payload[reset - base : reset - base + 4] not in _BLANK:  # else there is no code
            outside = len(every) - bisect_left(every, base + size) + bisect_left(every, base)
            found.append(Guess(hits[base] - outside, base))
    return sorted(found, reverse=True)


def _bases(words: list[int], targets: Iterable[int]) -> Iterator[int]:
    """Return each address of the first byte by which one of ``words`` points to one of ``targets``."""
    by_rest: dict[int, list[int]] = {}
    for target in targets:
        by_rest.setdefault(target % ALIGNMENT, []).append(target)
    return (word - target for word in words for target in by_rest.get(word % ALIGNMENT, ()))


def best(found: list[Guess]) -> int | None:
    """Return the one address that speaks for itself, None if no one does."""
    if not found or (len(found) > 1 and found[0].score < found[1].score + LEAD):
        return None
    return found[0].address


def _pointers(payload: bytes, reset: int) -> list[int]:
    """Return the aligned words that could point into a file whose code begins at ``reset``, sorted."""
    size = len(payload)
    low, high = max(reset - size, 0), reset + size
    tops = payload[3::4]
    found = set()
    for top in range(low >> 24, min(high >> 24, 0xFF) + 1):
        for match in re.finditer(re.escape(bytes([top])), tops):
            word = int.from_bytes(payload[4 * match.start() : 4 * match.start() + 4], "little")
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
