"""The outermost place: whatever happens in a command ends here, in one line and a documented exit code.

Exit codes: 0 done, 1 refused, 2 no such command line, 3 bad input, 4 server not reachable, 5 this machine's
disk, permissions or memory, 6 device or element, 70 unforeseen (a bug), 130 stopped by hand, 143 told to end.
Nobody needs click here: ``fota sign`` starts without it.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from fota_cli import extras
from fota_wire import files
from fota_wire.errors import FotaError, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

STORAGE, UNFORESEEN, STOPPED, ENDED = 5, 70, 130, 143
LONGEST = 600
DEBUG = "FOTA_DEBUG"
"""Environment variable: ``1`` shows where in the program an error came from."""
_OF_THIS_MACHINE = (
    errno.ENOSPC,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
)


_errors: TextIO | None = None


class _Output(io.FileIO):
    """Standard output or error, whose reader may go: what nobody reads is dropped, and the work goes on."""

    def write(self, data: "Buffer") -> int:
        """Write; all counts as written once nobody reads, and on standard error always.

        Raises:
            StorageError: standard output cannot be written.
        """
        try:
            return super().write(data)
        except OSError as exc:
            if self.fileno() == 1 and not isinstance(exc, BrokenPipeError):
                raise StorageError(f"cannot write standard output: {exc.strerror}") from exc
            return memoryview(data).nbytes


def prepare_streams() -> None:
    """Make the three standard streams usable: closed ones lead nowhere, no character is too much for them.

    A command whose output is cut (``| head``) or closed (``>&-``) does its work, and says how that went.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # closed: what we open next must not be taken for it
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  for the whole process
    sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)


def _stream(old: TextIO | None, fd: int) -> io.TextIOWrapper:
    encoding = "utf-8" if old is None else old.encoding
    kind: type[io.TextIOWrapper] = io.TextIOWrapper
    if os.isatty(fd):
        from fota_cli.fitting import Fitted

        kind = Fitted
    return kind(
        io.BufferedWriter(_Output(fd, "wb", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=fd == 2 or (old is not None and old.isatty()),
    )


def run(command: Callable[[], int | None]) -> NoReturn:
    """Run a command and end the process by its exit code."""
    global _errors
    _errors = None
    files.begin()
    try:
        code = command() or 0
        sys.stdout.flush()
    except BaseException as exc:  # the outermost place; panics are no Exception
        code, text = judge(exc)
        if os.environ.get(DEBUG) == "1" and not isinstance(exc, SystemExit):
            import traceback

            traceback.print_exc(file=_errors or sys.stderr)
        if text:
            complain(text)
    _let_go()
    sys.exit(code)


def complain(text: str) -> None:
    """Print one line about what went wrong."""
    print(f"fota: {text}", file=_errors or sys.stderr)


def be_quiet() -> None:
    """Let nothing but complaints reach standard error from now on."""
    global _errors
    _errors = sys.stderr
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for the whole process


def live() -> bool:
    """Tell whether standard error is a terminal that can redraw a line (TERM=dumb cannot)."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def judge(exc: BaseException) -> tuple[int, str]:
    """Return exit code and line of what ended a command; no line if it has said all."""
    match exc:
        case SystemExit():
            return (exc.code, "") if isinstance(exc.code, int) else (0 if exc.code is None else 1, "")
        case KeyboardInterrupt():
            return STOPPED, "stopped"
        case FotaError():
            return exc.exit_code, f"error: {one_line(str(exc))}"
        case OSError():
            where = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, str | bytes) else ""
            code = STORAGE if exc.errno in _OF_THIS_MACHINE else 3
            return code, f"error: {one_line(where + (exc.strerror or str(exc) or type(exc).__name__))}"
        case ModuleNotFoundError() if (said := extras.hint(exc.name)) is not None:
            return STORAGE, f"error: {said}"
        case UnicodeError():
            return 3, f"error: not text in UTF-8: {one_line(repr(getattr(exc, 'object', '')))[:80]}"
        case EOFError():
            return 3, "error: standard input ended where an answer was asked for"
        case MemoryError():
            return STORAGE, "error: out of memory"
        case RecursionError():
            return 3, "error: the input is nested too deeply"
    what = one_line(f"{type(exc).__name__}: {exc}"[:LONGEST])
    return (
        UNFORESEEN,
        f"unforeseen: {what}; a bug, please report it with what {DEBUG}=1 shows (CONTRIBUTING.md)",
    )


def one_line(text: str) -> str:
    """Return ``text`` without what a terminal would obey in place of show, and not too long for a line."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def _let_go() -> None:
    """Leave nothing to flush to the interpreter's end: what cannot be written would change the exit code."""
    try:
        sys.stdout.flush()
    except (FotaError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
