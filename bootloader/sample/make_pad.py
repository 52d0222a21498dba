"""Write PAD bytes that do not compress (SHA-256 in counter mode): ballast for benchmarks."""

import hashlib
import sys
from pathlib import Path


def pad(size: int) -> bytes:
    """Return ``size`` bytes, always the same ones."""
    blocks = (hashlib.sha256(i.to_bytes(8, "little")).digest() for i in range(size // 32 + 1))
    return b"".join(blocks)[:size]


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(pad(int(sys.argv[2])))
