"""The server's log: lines on standard error that cannot be made a flood, nor stop the server.

Who sends nonsense to a server makes it write; whoever reads the log may stop reading. So lines of one kind
are counted after the first few, and a thread of its own does the writing: with nobody reading, lines are
dropped and counted, and the server goes on.
"""

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fota_server import request_id

WINDOW_S = 60
BURST = 10  # lines of one kind in one window
MAX_KINDS = 256
MAX_QUEUED = 1000
_TICK_S = 1.0


@dataclass(slots=True)
class Limiter:
    """Which lines are written: ``BURST`` of a kind in ``WINDOW_S`` seconds; the others are counted. Pure."""

    windows: dict[object, tuple[float, int, str]] = field(default_factory=dict)
    """By kind: when it began, how many lines, and the first of them."""

    def admit(self, kind: object, line: str, now: float) -> bool:
        """Tell whether to write one more line of this kind."""
        if kind not in self.windows and len(self.windows) >= MAX_KINDS:
            kind = None  # all kinds beyond are one
        began, count, first = self.windows.setdefault(kind, (now, 0, line))
        self.windows[kind] = began, count + 1, first
        return count < BURST

    def ended(self, now: float) -> list[tuple[str, int]]:
        """Forget the windows that have ended; of those with more lines than were written return the first
        line, and how many were not.
        """
        over = [kind for kind, (began, _, _) in self.windows.items() if now - began >= WINDOW_S]
        closed = [self.windows.pop(kind) for kind in over]
        return [(first, count - BURST) for _, count, first in closed if count > BURST]


class LogHandler(logging.Handler):
    """Writes to the file descriptor ``fd`` from a thread of its own; ``emit`` never waits."""

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._fd = fd
        self._clock = clock
        self._limiter = Limiter()
        self._queue: queue.Queue[str | None] = queue.Queue(MAX_QUEUED)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count it. The handler's lock is held."""
        try:
            line = record.getMessage()
            if self._limiter.admit(_kind(record), line, self._clock()):
                self._put(self.format(record))
        except Exception:  # a line that cannot be formatted must not end what it tells about
            self.handleError(record)

    def finish(self, timeout_s: float = 2.0) -> None:
        """Write what waits, for at most ``timeout_s`` seconds: nobody may be reading."""
        self._tell_ended(everything=True)
        self._put(None)
        self._thread.join(timeout_s)

    def _put(self, line: str | None) -> None:
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def _tell_ended(self, *, everything: bool = False) -> None:
        with self.lock or threading.RLock():
            ended = self._limiter.ended(float("inf") if everything else self._clock())
        for first, count in ended:
            self._put(self._own(f"{count} more in the last {WINDOW_S} s like: {first}"))

    def _own(self, text: str) -> str:
        """Return a line of the log about itself."""
        about_itself = {"msg": text, "levelno": logging.WARNING, "levelname": "WARNING"}
        return self.format(logging.makeLogRecord(about_itself))

    def _write(self) -> None:
        while True:
            try:
                line = self._queue.get(timeout=_TICK_S)
            except queue.Empty:
                line = ""
            if line is None:
                return
            if line:
                self._write_line(line)
            if self._dropped and self._queue.empty():
                dropped, self._dropped = self._dropped, 0
                self._write_line(self._own(f"{dropped} lines dropped: nobody read the log"))
            self._tell_ended()

    def _write_line(self, line: str) -> None:
        data = line.encode(errors="backslashreplace") + b"\n"
        try:
            while data:  # not through sys.stderr: a write that waits for ever would hold its lock at the end
                data = data[os.write(self._fd, data) :]
        except OSError:  # the reader is gone for good, or the disk is full: the server goes on
            self._dropped += 1


def _kind(record: logging.LogRecord) -> tuple[object, ...]:
    """Return what makes lines alike: their wording, and of a mistake of ours the place where it happened."""
    trace = record.exc_info[2] if record.exc_info else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace is not None else ()
    return (str(record.msg)[:200], *place)


class _AsText(logging.Formatter):
    """What clients sent may be in a message: it stays on its line, and moves no cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        request = request_id.current.get()
        return f"fota-server: {one_line(record.message)}" + (f" (request {request})" if request else "")


class _AsJson(logging.Formatter):
    """An object a line: ``time`` (UTC), ``level``, ``message``; ``request`` and ``trace`` if there are."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": one_line(record.getMessage()),
        }
        request = request_id.current.get()
        if request:
            said["request"] = request
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said)


FORMS: dict[str, type[logging.Formatter]] = {"text": _AsText, "json": _AsJson}
"""By what ``--log`` calls them."""


def one_line(text: str) -> str:
    """Return ``text`` with what does not print written as Python escapes it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def log_to_stderr(form: str) -> LogHandler:
    """Send all warnings of this process to standard error, in one of `FORMS`; call ``finish`` at the end."""
    handler = LogHandler(2)
    handler.setFormatter(FORMS[form]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # its lines are ours already, in other words
    return handler
