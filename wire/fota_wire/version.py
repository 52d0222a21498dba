"""Versions for people: ``major.minor.revision`` and, if not zero, ``+build`` (SPEC 2). Not the security
counter.
"""

from fota_wire.errors import InputError

_LIMITS = (0xFF, 0xFF, 0xFFFF, 0xFFFFFFFF)


def parse_version(text: str) -> "tuple[int, int, int, int]":
    """Return (major, minor, revision, build) of ``1.2.3`` or ``1.2.3+4``.

    Raises:
        InputError: not such a text, a number that begins with 0 (a version is written in one way), or one
            too large for the header (255.255.65535+4294967295).
    """
    main, plus, build = text.partition("+")
    parts = main.split(".") + ([build] if plus else ["0"])
    if len(parts) != 4 or not all(part.isdigit() and part.isascii() for part in parts):
        raise InputError(f"version {text!r} is not like 1.2.3 or 1.2.3+4")
    if any(part[0] == "0" and len(part) > 1 for part in parts):
        raise InputError(f"version {text!r}: a number in it begins with 0")
    for part, limit in zip(parts, _LIMITS):  # noqa: B905  MicroPython's zip has no strict
        if len(part) > 10 or int(part) > limit:
            raise InputError(f"version {text!r}: {part} is above {limit}")
    return int(parts[0]), int(parts[1]), int(parts[2]), int(parts[3])


def format_version(version: "tuple[int, int, int, int]") -> str:
    """Return the text of (major, minor, revision, build)."""
    major, minor, revision, build = version
    return f"{major}.{minor}.{revision}" + (f"+{build}" if build else "")
