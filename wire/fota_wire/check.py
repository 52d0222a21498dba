"""Field checks at the trust boundary: each returns its argument, typed, or raises FormatError."""

from fota_wire.errors import FormatError

MAX_GROUP = 32
UINT_MAX = (1 << 63) - 1
"""Largest integer of any message: what SQL databases and signed 64-bit machines hold."""


def uint(value: object, what: str, limit: int = UINT_MAX) -> int:
    """Return an integer of 0..limit."""
    if type(value) is not int or not 0 <= value <= limit:
        raise FormatError(f"{what} is not an integer of 0..{limit}", "field")
    return value


def bstr(value: object, what: str, size: int | None = None, limit: int = 8192) -> bytes:
    """Return a byte string of exactly ``size`` or else at most ``limit`` bytes; of a view, a copy."""
    if isinstance(value, memoryview):
        value = bytes(value)
    if not isinstance(value, bytes):
        raise FormatError(f"{what} is not a byte string", "field")
    if size is not None and len(value) != size:
        raise FormatError(f"{what} has {len(value)} bytes, not {size}", "field")
    if len(value) > limit:
        raise FormatError(f"{what} is longer than {limit} bytes", "limit")
    return value


def blob(value: object, what: str, limit: int) -> "bytes | memoryview":
    """Return a byte string of at most ``limit`` bytes; a view stays a view."""
    if not isinstance(value, memoryview):
        return bstr(value, what, None, limit)
    if len(value) > limit:
        raise FormatError(f"{what} is longer than {limit} bytes", "limit")
    return value


def tstr(value: object, what: str, limit: int = 256) -> str:
    """Return a text of at most ``limit`` characters."""
    if not isinstance(value, str):
        raise FormatError(f"{what} is not a text", "field")
    if len(value) > limit:
        raise FormatError(f"{what} is longer than {limit} characters", "limit")
    return value


def campaign_group(value: object) -> str:
    """Return a campaign group (SPEC 5.8): 1 to MAX_GROUP letters, digits, ``.``, ``_`` and ``-``."""
    text = tstr(value, "campaign group", MAX_GROUP)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    if not text or not all(letter in letters for letter in text):
        raise FormatError("campaign group is not 1 to 32 letters, digits, '.', '_' or '-'", "campaign-group")
    return text


def array(value: object, what: str, low: int, high: int) -> "list[object]":
    """Return an array of ``low`` to ``high`` elements."""
    if not isinstance(value, list):
        raise FormatError(f"{what} is not an array", "field")
    if not low <= len(value) <= high:
        raise FormatError(f"{what} has {len(value)} elements, not {low} to {high}", "limit")
    return value


def fields(
    value: object, what: str, required: "tuple[object, ...]", optional: "tuple[object, ...]" = ()
) -> "dict[object, object]":
    """Return a map that has all ``required`` keys, and no other than those and the ``optional`` ones."""
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a map", "field")
    for key in required:
        if key not in value:
            raise FormatError(f"{what} has no field {key}", "field-missing")
    for key in value:
        if key not in required and key not in optional:
            raise FormatError(f"{what} has an unknown field {key}", "field-unknown")
    return value
