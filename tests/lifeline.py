"""What a test run or the demo has started ends with it, however it ends; and how long nothing may happen.

A process that is killed cannot clean up. So one more process, in a session of its own, reads a pipe whose
other end only we hold: at its end, it ends whatever carries our mark in its environment.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

HANG_S = 1800
"""A guard against what hangs, not a limit: no machine is so slow that a step of ours takes that long."""
GRACE_S = 15
MARK = "RUN_LIFELINE"

T = TypeVar("T")
_line: int | None = None


def until(
    condition: Callable[[], T],
    what: str = "it",
    of: "subprocess.Popen[Any] | None" = None,
    pause_s: float = 0.02,
) -> T:
    """Wait until ``condition()`` holds, and return what it gave: no machine is too slow for that.

    Raises:
        AssertionError: ``of``, the process that has to bring it about, has ended without; or it hangs.
    """
    guard = time.monotonic() + HANG_S
    while True:
        ended = of is not None and of.poll() is not None
        if found := condition():
            return found
        assert not ended, f"{what} did not come: the process has ended"
        assert time.monotonic() < guard, f"{what} did not come: it hangs"
        time.sleep(pause_s)


def hold() -> None:
    """Mark this process's children, and have them ended once it is no more."""
    global _line
    if _line is not None:
        return
    os.environ[MARK] = mark = secrets.token_hex(16)
    reader, _line = os.pipe()
    subprocess.Popen(
        [sys.executable, "-S", __file__, mark],
        stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != MARK},
    ).returncode = 0  # fmt: skip  # it outlives us: nobody waits for it
    os.close(reader)


def marked(mark: str) -> Iterator[int]:
    """Yield the processes that carry ``mark``."""
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and int(place.name) != os.getpid():
            try:
                if f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    yield int(place.name)
            except OSError:  # gone, or somebody else's
                continue


def end_all(mark: str) -> None:
    """End the processes that carry ``mark``: by a word, and those that do not hear it by force."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(mark):
            try:
                os.kill(pid, sig)
            except OSError:
                continue
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end and any(marked(mark)):
            time.sleep(0.1)


def main(mark: str) -> None:
    """Wait for the other end of the pipe to be let go of."""
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(sig, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    end_all(mark)


if __name__ == "__main__":
    main(sys.argv[1])
