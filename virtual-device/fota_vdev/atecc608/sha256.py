"""SHA-256 (FIPS 180-4) whose state can leave the chip and come back, which hashlib's cannot."""

import functools
import struct

MASK, BLOCK = 0xFFFF_FFFF, 64


def _fraction(n: int, root: int) -> int:
    """Return the first 32 bits of the fractional part of the square (2) or cube (3) root of ``n``."""
    low, high = 0, 1 << 40
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**root <= n << 32 * root else (low, middle - 1)
    return low & MASK


_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
START = tuple(_fraction(n, 2) for n in _PRIMES[:8])
_ROUND = tuple(_fraction(n, 3) for n in _PRIMES[:64])


def _rotate(x: int, n: int) -> int:
    return (x >> n | x << 32 - n) & MASK


@functools.lru_cache(maxsize=1 << 14)  # campaigns hash the same bytes thousands of times
def compress(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    """Return the state after a block of 64 bytes; `START` is the first."""
    w = list(struct.unpack(">16I", block))
    for t in range(16, 64):
        x, y = w[t - 15], w[t - 2]
        s0 = _rotate(x, 7) ^ _rotate(x, 18) ^ x >> 3
        s1 = _rotate(y, 17) ^ _rotate(y, 19) ^ y >> 10
        w.append((w[t - 16] + s0 + w[t - 7] + s1) & MASK)
    a, b, c, d, e, f, g, h = state
    for k, word in zip(_ROUND, w, strict=True):
        s1 = _rotate(e, 6) ^ _rotate(e, 11) ^ _rotate(e, 25)
        t1 = h + s1 + (e & f ^ ~e & MASK & g) + k + word
        s0 = _rotate(a, 2) ^ _rotate(a, 13) ^ _rotate(a, 22)
        t2 = s0 + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (t1 + t2) & MASK, a, b, c, (d + t1) & MASK, e, f, g
    return tuple((old + new) & MASK for old, new in zip(state, (a, b, c, d, e, f, g, h), strict=True))


class Sha256:
    """A hash under way. The exported context is ``length LE4 | state BE32 | 0..63 bytes not yet hashed``."""

    def __init__(self) -> None:
        self._state: tuple[int, ...] = START
        self._rest = b""
        self.length = 0

    def update(self, data: bytes) -> None:
        """Add ``data``."""
        self.length += len(data)
        self._rest += data
        while len(self._rest) >= BLOCK:
            self._state, self._rest = compress(self._state, self._rest[:BLOCK]), self._rest[BLOCK:]

    def digest(self) -> bytes:
        """Return the 32 bytes; the hash may go on."""
        last = self._rest + b"\x80" + bytes(-(self.length + 9) % BLOCK) + (8 * self.length).to_bytes(8, "big")
        state = self._state
        for at in range(0, len(last), BLOCK):
            state = compress(state, last[at : at + BLOCK])
        return struct.pack(">8I", *state)

    def context(self) -> bytes:
        """Return the 36 to 99 bytes of the context."""
        return self.length.to_bytes(4, "little") + struct.pack(">8I", *self._state) + self._rest

    @classmethod
    def from_context(cls, raw: bytes) -> "Sha256":
        """Return the hash of a `context`.

        Raises:
            ValueError: the length does not fit.
        """
        made = cls()
        made.length, made._rest = int.from_bytes(raw[:4], "little"), raw[36:]
        if len(raw) < 36 or len(made._rest) != made.length % BLOCK:
            raise ValueError("context of a wrong length")
        made._state = struct.unpack(">8I", raw[4:36])
        return made
