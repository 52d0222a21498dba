"""The chain of a server's audit trail (not for devices): each row has a hash over the one before and itself.

An exported trail is JSON lines, ASCII, one for each row: ``id`` (from 1, without a gap), ``at`` (seconds
since 1970), ``actor``, ``action``, ``subject``, ``detail`` (an object) and ``hash``. The head of a trail is
the number and the hash of its last row, ``"ROW HASH"``. Whoever can write a trail can chain it anew: what
finds that is a head that was noted elsewhere.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from fota_wire.errors import InputError, VerifyError

START = "0" * 64
MAX_LINE = 16 << 20
_FIELDS = {"id": int, "at": int, "actor": str, "action": str, "subject": str, "detail": dict, "hash": str}
_HEAD = re.compile(r"([0-9]{1,18}) ([0-9a-f]{64})")


def next_hash(before: str, row: Any) -> str:  # noqa: ANN401 - a driver's row, or one not stored yet
    """Return the hash of a row, its ``detail`` as text, behind the hash ``before``."""
    content = [before, *(row[name] for name in ("id", "at", "actor", "action", "subject", "detail"))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def detail_text(detail: object) -> str:
    """Return the one text that a detail is hashed as."""
    return json.dumps(detail, sort_keys=True)


def line_of(row: Any) -> str:  # noqa: ANN401 - a driver's row
    """Return the line of a row of the database, without its end."""
    return json.dumps({name: row[name] for name in _FIELDS} | {"detail": json.loads(row["detail"])})


def verify_chain(rows: Iterable[Any], head: str | None, noted: Iterable[str] = ()) -> str:
    """Return the head of a trail if ``rows``, in order, are all of it and none was altered.

    ``head``: where it has to end; None: that is not known. ``noted``: heads that it has had before.

    Raises:
        VerifyError: names the first row that does not fit.
    """
    had = dict(read_head(text) for text in noted)
    last, before = 0, START
    for row in rows:
        if row["id"] > last + 1:
            raise VerifyError(f"audit trail: rows {last + 1} to {row['id'] - 1} are missing", "audit")
        if row["id"] <= last:
            raise VerifyError(f"audit trail: row {row['id']} comes behind row {last}", "audit")
        if row["hash"] != next_hash(before, row):
            raise VerifyError(f"audit trail: row {row['id']} was altered, or one before it", "audit")
        last, before = row["id"], row["hash"]
        if had.pop(last, before) != before:
            raise VerifyError(f"audit trail: row {last} is another one than was noted", "audit")
    for number in sorted(had):
        raise VerifyError(f"audit trail: ends at row {last}, and has had row {number}", "audit")
    found = f"{last} {before}"
    if head is not None and head != found:
        number = read_head(head)[0]
        if number < last:
            raise VerifyError(
                f"audit trail: goes on behind row {number}, its last one, to row {last}", "audit"
            )
        if number == last:
            raise VerifyError(f"audit trail: row {last} is another one than was noted", "audit")
        raise VerifyError(f"audit trail: ends at row {last}, and has had row {number}", "audit")
    return found


def read_head(text: str) -> tuple[int, str]:
    """Return row and hash of a head.

    Raises:
        InputError: it is none.
    """
    match = _HEAD.fullmatch(text.strip())
    if not match:
        raise InputError(f"{ascii(text)[:40]} is no head of an audit trail: a row's number and 64 hex digits")
    return int(match[1]), match[2]


def read_lines(lines: Iterable[bytes], name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of an exported trail, ``detail`` as the text that is hashed.

    Raises:
        InputError: a line is none; it is named by its number.
    """
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise InputError(f"{name}: line {number}: longer than {MAX_LINE} bytes")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"{name}: line {number} is no row of an audit trail: no JSON") from exc
        if not isinstance(row, dict) or set(row) != set(_FIELDS):
            raise InputError(f"{name}: line {number} is no row of an audit trail")
        if any(type(row[field]) is not kind for field, kind in _FIELDS.items()):
            raise InputError(f"{name}: line {number} is no row of an audit trail: a field of another type")
        yield row | {"detail": detail_text(row["detail"])}
