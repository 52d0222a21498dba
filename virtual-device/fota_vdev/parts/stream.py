"""Random bytes that repeat by seed."""

import hashlib


class Stream:
    """SHA-256 in counter mode: deterministic by seed, and its position is saved so that nothing repeats."""

    def __init__(self, label: str, seed: int, position: int = 0) -> None:
        self.label = label
        self.seed = seed
        self.position = position

    def take(self, n: int) -> bytes:
        """Return the next ``n`` bytes; every call starts a new block."""
        out = b""
        while len(out) < n:
            text = f"{self.label}|{self.seed}|{self.position}"
            out += hashlib.sha256(text.encode()).digest()
            self.position += 1
        return out[:n]
