"""Lines that fit the terminal: the one place that breaks what commands print, between words, under the value.

Only for a terminal. What goes to a file or a pipe stays as it is, a line for each thing.
"""

import io
import os
import re
import textwrap
from collections.abc import Iterator

NARROWEST, DEEPEST, SHALLOW = 20, 32, 4
"""Columns: of a terminal that is taken for one, and of the hanging indent."""
_LABEL = re.compile(r"\s*\S+(?: \S+)* {2,}(?=\S)")
_NOT_TEXT = re.compile(r"[\r\x1b]|^[{\[]")
"""Progress that redraws its line, colours, and JSON, which people copy."""


class Fitted(io.TextIOWrapper):
    """A terminal's standard output or error."""

    def write(self, text: str) -> int:
        """Write, lines that are too long in pieces."""
        columns = self._columns() if isinstance(text, str) else 0  # click looks what happens to bytes
        if columns >= NARROWEST:
            text = "".join("\n".join(fit(line, columns)) for line in _lines(text))
        return super().write(text)

    def _columns(self) -> int:
        try:
            return int(os.environ.get("COLUMNS") or os.get_terminal_size(self.fileno()).columns)
        except (OSError, ValueError):
            return 0


def _lines(text: str) -> Iterator[str]:
    """Yield lines, and the line feeds between them."""
    return iter(re.split(r"(\n)", text))


def fit(line: str, columns: int) -> list[str]:
    """Return a line in pieces of at most ``columns``.

    Pieces behind the first stand under the value, where the line is a label and a value, else two deeper. A
    word that is longer than that, a key say, is broken, too.
    """
    if len(line) <= columns or _NOT_TEXT.search(line):
        return [line]
    label = _LABEL.match(line)
    indent = len(label[0]) if label else len(line) - len(line.lstrip()) + 2
    longest = max(map(len, line.split()), default=0)
    if indent > min(DEEPEST, columns // 2) or columns - indent < longest <= columns - SHALLOW:
        indent = SHALLOW  # where the longest word, a hash say, stays whole
    pieces = textwrap.wrap(
        line, columns, subsequent_indent=" " * indent, break_on_hyphens=False, expand_tabs=False,
        replace_whitespace=False,
    )  # fmt: skip
    return [piece.rstrip() for piece in pieces] or [""]
