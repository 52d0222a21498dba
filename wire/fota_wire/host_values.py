"""Values that people type (not for devices): numbers, times and UUIDs, with the same words everywhere.

A value that is not usable is an `InputError` (exit code 3), whoever finds it; one that is missing is a
`UsageError` (2).
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from fota_wire.errors import InputError

_SHOWN = 40


class UsageError(InputError):
    """Words that are no command line: an option is missing, or two do not go together."""

    exit_code = 2


def one_of(text: str, words: Iterable[str], what: str) -> str:
    """Return which of ``words`` was typed: in whichever letters, with or without hyphens.

    Raises:
        UsageError: none of them; names them, and the one that was perhaps meant.
    """
    known = {_folded(word): word for word in words}
    typed = _folded(text)
    if typed in known:
        return known[typed]
    import difflib

    near = difflib.get_close_matches(typed, known, 1, 0.5)
    meant = f". Did you mean {known[near[0]]!r}?" if near else ""
    raise UsageError(f"{what}: {shown(text)} is none of {', '.join(known.values())}{meant}")


def _folded(text: str) -> str:
    return text.strip().casefold().replace("-", "").replace("_", "")


_DIGITS = re.compile(r"-?[0-9]{1,30}|0[xX][0-9a-fA-F]{1,16}")
_LAST = datetime(9999, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{0,30})?")
_DEVICE_ID = re.compile("[0-9a-fA-F]{18}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")


def shown(value: object) -> str:
    """Return a value as a message repeats it: in quotes, and cut where it is too long for a line."""
    text = repr(str(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]}...'"


def whole(text: str, what: str, low: int = 0, high: int | None = None) -> int:
    """Return decimal or 0x hexadecimal digits as a number of ``low`` to ``high``.

    Raises:
        InputError: it is none; the message begins with ``what``.
    """
    number = int(text, 16 if text[:2] in ("0x", "0X") else 10) if _DIGITS.fullmatch(text) else None
    if number is None or number < low or (high is not None and number > high):
        limits = f"from {low} on" if high is None else f"of {low} to {high}"
        raise InputError(f"{what}: {shown(text)} is not a whole number {limits}")
    return number


def seconds(text: str, what: str, low: float = 0, high: float = 1e9) -> float:
    """Return a number of seconds. InputError as `whole`."""
    number = float(text) if _DECIMAL.fullmatch(text) else None
    if number is None or not low <= number <= high:
        raise InputError(f"{what}: {shown(text)} is not a number of seconds, {low:g} to {high:.0f}")
    return number


def moment(text: str, what: str) -> int:
    """Return a time such as 2026-12-01T08:00 in seconds since 1970; UTC if no offset is said. InputError as
    `whole`.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InputError(f"{what}: {shown(text)} is no time such as 2026-12-01T08:00 (UTC)") from exc
    read = read if read.tzinfo else read.replace(tzinfo=UTC)
    if not datetime.fromtimestamp(0, UTC) <= read < _LAST:
        raise InputError(f"{what}: {shown(text)} is before 1970 or after 9998")
    return int(read.timestamp())


def device_id(text: str, what: str) -> str:
    """Return the id of a device in its one shape, as certificates have it; capitals are taken.

    Raises:
        InputError: it is none; the message begins with ``what``.
    """
    if not _DEVICE_ID.fullmatch(text.strip()):
        raise InputError(f"{what}: {shown(text)} is not the id of a device, 18 hex digits")
    return text.strip().lower()


def uuid_bytes(text: str, what: str) -> bytes:
    """Return the 16 bytes of a UUID, typed with or without hyphens. InputError: it is none, or names nothing:
    nil and max (RFC 9562 5.9, 5.10), which a variable that nobody set, or blank flash, look like.
    """
    if not _UUID.fullmatch(text):
        raise InputError(f"{what}: {shown(text)} is not a UUID")
    raw = bytes.fromhex(text.replace("-", ""))
    if raw in (bytes(16), b"\xff" * 16):
        raise InputError(f"{what}: {text} names nobody: a UUID of its own is wanted")
    return raw


def uuid_text(raw: bytes) -> str:
    """Return 16 bytes as a UUID with hyphens."""
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
