"""What the demo says, in 80 columns: chapters, who says what, a line where nothing is said for long, and the
table of what was shown.
"""

import os
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

WIDTH = 80
SILENCE_S = 15

_lock = threading.Lock()
LOOK_S = 1
"""How often somebody looks whether nothing was said for long."""
_last = time.monotonic()
_shown: list[tuple[str, str]] = []
_chapters = 0


def plain() -> bool:
    """Tell whether the terminal wants no colours."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _say(text: str) -> None:
    global _last
    with _lock:
        click.echo(text, color=False if plain() else None)
        _last = time.monotonic()


def chapter(title: str) -> None:
    """Print a heading with its number."""
    global _chapters
    _chapters += 1
    lines = textwrap.wrap(f"{_chapters}. {title}", WIDTH, subsequent_indent="   ")
    _say("\n" + click.style("\n".join(lines), bold=True))


def tell(who: str, text: str) -> None:
    """Print a line of ``who``; what does not fit goes on below it."""
    head, *rest = textwrap.wrap(text, WIDTH - 12) or [""]
    lines = [f"  {click.style(f'{who:>8}', fg='cyan')}  {head}", *(f"{'':12}{line}" for line in rest)]
    _say("\n".join(lines))


def shown(claim: str, number: object) -> None:
    """Note what the table at the end has to say."""
    _shown.append((claim, str(number)))


def table() -> None:
    """Print what was shown, with numbers."""
    _say("\n" + click.style("What was shown", bold=True))
    for claim, number in _shown:
        dots = "." * max(WIDTH - 6 - len(claim) - len(number), 2)
        _say(f"  {claim} {dots} {number}")


@contextmanager
def never_silent() -> Iterator[None]:
    """Print a line wherever nothing was said for a while."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            if time.monotonic() - _last >= SILENCE_S:
                tell("", f"... at work for {time.monotonic() - began:.0f} s")

    began = time.monotonic()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
