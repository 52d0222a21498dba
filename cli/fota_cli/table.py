"""Plain tables and times for the terminal."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return ``rows`` in aligned columns under ``headings``; None is shown as a dash."""
    cells = [list(headings), *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def ago(seconds: int | None) -> str | None:
    """Return a time (seconds since 1970) as its distance from now."""
    if seconds is None:
        return None
    age = max(int(time.time()) - seconds, 0)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if age >= 2 * unit:
            return f"{age // unit} {name} ago"
    return f"{age} s ago"


def date(seconds: int | None) -> str | None:
    """Return a time (seconds since 1970) in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
