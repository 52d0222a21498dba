"""Types of the seams, for type checkers only; nothing imports this at run time."""

from collections.abc import Callable

Sign = Callable[[bytes], bytes]
"""(digest: 32 bytes) -> r||s, 64 bytes."""

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key x||y: 64 bytes, digest: 32 bytes, r||s: 64 bytes) -> good?"""
