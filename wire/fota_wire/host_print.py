"""What a command says of its result (not for devices): a table, lines or one JSON object."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fota_wire.files import STREAM


def printable(value: Any) -> Any:  # noqa: ANN401  JSON
    """Return JSON with what a terminal would obey in place of show turned into question marks.

    Versions and events are words of devices, errors those of servers and mirrors, names of files those of
    whoever sent them: none of them may draw an operator's table or an agent's log.
    """
    if isinstance(value, str):
        return "".join(character if character.isprintable() else "?" for character in value)
    if isinstance(value, list | tuple):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {key: printable(item) for key, item in value.items()}
    return value


def print_result(
    values: Mapping[str, Any], as_json: bool, text: str | None = None, *, output: Path | None = None
) -> None:
    """Print a result: one JSON object, else ``text``, else a line for each value.

    ``output``: where the command wrote to; if that was standard output, this goes to standard error.
    """
    told = lines_of(values) if text is None else text
    click.echo(json.dumps(dict(values)) if as_json else told, err=output == STREAM)


def lines_of(values: Mapping[str, Any]) -> str:
    """Return names and values in two columns; lists take a line for each item."""
    width = max(map(len, values), default=0) + 2
    lines = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        for number, item in enumerate(items or ["-"]):
            label = name.replace("_", " ") if number == 0 else ""
            lines.append(f"{label:{width}}{in_words(item)}")
    return "\n".join(lines)


def in_words(value: object) -> str:
    """Return one value for people: yes and no, a dash for what is not there."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(item)}" for name, item in value.items())
    return "-" if value is None else str(printable(str(value)))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return ``rows`` in aligned columns under ``headings``; None is shown as a dash."""
    cells = [list(headings), *([in_words(cell) for cell in row] for row in rows)]
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
