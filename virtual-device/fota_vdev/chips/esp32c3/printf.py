"""The formats that the ROM's `ets_printf` knows."""

import re
from collections.abc import Callable

CONVERSION = re.compile(rb"%([-0 #+]*)(\*|\d+)?(?:\.(\d+))?(?:hh|h|ll|l|z|j|t)?([diuxXpcs%])")
LONG_LONG = re.compile(rb"%[-0 #+]*\d*ll")


def formatted(pattern: bytes, argument: Callable[[int], int], string: Callable[[int], bytes]) -> bytes:
    """Return the text; ``argument(n)`` gives the n-th argument, ``string(address)`` what lies there."""
    used = 0

    def take() -> int:
        nonlocal used
        used += 1
        return argument(used - 1)

    def one(match: re.Match[bytes]) -> bytes:
        flags, width, precision, kind = match.groups()
        if kind == b"%":
            return b"%"
        size = take() if width == b"*" else int(width or 0)
        value = take()
        if LONG_LONG.match(match.group()):
            value |= take() << 32
        text = _convert(kind, value, string, precision)
        if b"-" in flags:
            return text.ljust(size)
        return text.rjust(size, b"0" if b"0" in flags and kind != b"s" else b" ")

    return CONVERSION.sub(one, pattern)


def _convert(kind: bytes, value: int, string: Callable[[int], bytes], precision: bytes | None) -> bytes:
    if kind == b"s":
        text = string(value) if value else b"(null)"
        return text[: int(precision)] if precision else text
    if kind == b"c":
        return bytes([value & 0xFF])
    if kind in b"di" and value >= 1 << 31:
        value -= 1 << 32
    if kind in (b"x", b"X", b"p"):
        return (f"{value:X}" if kind == b"X" else f"{value:x}").encode()
    return str(value).encode()
