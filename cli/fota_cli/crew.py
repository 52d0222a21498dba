"""Processes that are copies of this one, made at any moment: the cheapest snapshot of device and agent.

`split` goes on in two processes, the way ``fork`` does; the copy does its work, gives an answer and is gone.
"""

import json
import os
import selectors
import signal
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn


class Lost(Exception):
    """A copy ended without an answer: killed, or out of memory."""


class Crew:
    """At most ``jobs`` copies at a time. ``heard(tag, answer)``: called as answers come, an `Lost` in their
    place where there is none. Use as a context manager: whatever ends the block ends the copies, too.
    """

    def __init__(self, jobs: int, heard: Callable[[Any, Any], None]) -> None:
        self._jobs, self._heard = jobs, heard
        self._selector = selectors.DefaultSelector()
        self._out: int | None = None
        self.running = 0

    @property
    def is_copy(self) -> bool:
        """True in a copy."""
        return self._out is not None

    def __enter__(self) -> "Crew":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing of a copy goes further than this; the copies of the first process end here."""
        if self._out is not None:
            os._exit(1)
        for key in list(self._selector.get_map().values()):
            pid = key.data[0]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.close(key.fd)
            os.waitpid(pid, 0)
        self._selector.close()

    def split(self, tag: object) -> bool:
        """Return True in a new copy, False in the process that goes on; waits for room first."""
        while self.running >= self._jobs:
            self.listen()
        inward, outward = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(inward)
            self._out = outward
            return True
        os.close(outward)
        self.running += 1
        self._selector.register(inward, selectors.EVENT_READ, (pid, tag, bytearray()))
        return False

    def answer(self, value: object) -> NoReturn:
        """Give a copy's answer, JSON, and end it."""
        raw = json.dumps(value).encode()
        try:
            while raw and self._out is not None:
                raw = raw[os.write(self._out, raw) :]
        finally:
            os._exit(0)

    def finish(self) -> None:
        """Wait for all answers."""
        while self.running:
            self.listen()

    def listen(self) -> None:
        """Wait until something comes of a copy, and tell the answers that are whole."""
        for key, _ in self._selector.select():
            pid, tag, so_far = key.data
            more = os.read(key.fd, 1 << 16)
            so_far += more
            if more:
                continue
            self._selector.unregister(key.fd)
            os.close(key.fd)
            _, status = os.waitpid(pid, 0)
            self.running -= 1
            self._heard(tag, _value(bytes(so_far), status))


def _value(raw: bytes, status: int) -> Any:  # noqa: ANN401
    if status == 0 and raw:
        return json.loads(raw)
    code = os.waitstatus_to_exitcode(status)
    return Lost(f"its process was ended by signal {-code}" if code < 0 else "its process broke off")
