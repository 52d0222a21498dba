"""The agent where there are threads: one step at a time, and a thread that nothing but a reset ends."""

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from fota_agent.runner.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Board, Hooks, Transport
    from fota_agent.transport.folder import Folder
    from fota_wire.seams import Verify

LONGEST_PAUSE_S = 60.0
HOOKS = ("health_check", "available", "may_download", "may_install", "progress", "before_reboot", "log")


class ThreadedRunner(Runner):
    """A ``Runner`` that may be called from any thread: who comes second waits."""

    def __init__(
        self,
        board: "Board",
        transport: "Transport",
        hooks: "Hooks",
        verify: "Verify",
        fixed: "str | None" = None,
    ) -> None:
        self._turn = threading.RLock()
        self._stepper = 0
        self.due: int | None = None
        self._wake = threading.Event()
        super().__init__(board, transport, hooks, verify, fixed)

    def step(self) -> int:
        """As ``Runner.step``. RuntimeError: called by a hook, from within a step."""
        self.not_in_a_step()
        with self._turn:
            self._stepper = threading.get_ident()
            try:
                self.due = self._board.ticks_ms()
                wait_ms = super().step()
                self.due = self._board.ticks_ms() + wait_ms
            finally:
                self._stepper = 0
            return wait_ms

    def not_in_a_step(self) -> None:
        """Raise RuntimeError if a hook calls this, from within a step."""
        if self._stepper == threading.get_ident():
            raise RuntimeError("a hook may not step the agent: it is called from within a step")

    def rest_for(self, wait_ms: int) -> None:
        """Sleep for that long, or until somebody asks for a check-in, or publishes: nothing polls."""
        self._wake.wait(min(wait_ms / 1000, LONGEST_PAUSE_S))
        self._wake.clear()

    def wake(self) -> None:
        """End a pause."""
        self._wake.set()

    def check_in(self) -> None:
        """As ``Runner.check_in``."""
        super().check_in()
        self._wake.set()

    def publish(self, value: "tuple[str, int, str]") -> None:
        """As ``Runner.publish``."""
        super().publish(value)
        self._wake.set()

    def offer(self, source: "Folder") -> None:
        """As ``Runner.offer``."""
        with self._turn:
            super().offer(source)
        self._wake.set()

    def save(self) -> bool:
        """As ``Runner.save``."""
        with self._turn:
            return super().save()

    def close(self) -> None:
        """As ``Runner.close``."""
        with self._turn:
            super().close()


def check_parts(
    board: object,
    transport: object,
    hooks: object,
    verify: object,
    server_url: object,
    mirror: object,
    schedule: object,
    tls12: object,
) -> None:
    """Return if an Agent may be made of these. TypeError."""
    if board is None:
        raise TypeError("board is None: board.detect() finds it")
    _has("board", board, "boot_report", "ticks_ms", "save_store")
    _has("transport", transport, "request", "close")
    _has("hooks", hooks, *HOOKS)
    _has("schedule", schedule, "may_download", "may_install")
    if verify is not None and not callable(verify):
        raise TypeError(f"verify is a {type(verify).__name__}, and cannot be called")
    for name, value in (("server_url", server_url), ("mirror", mirror)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} is a {type(value).__name__}, not a str")
    if not isinstance(tls12, bool):
        raise TypeError(f"tls12 is a {type(tls12).__name__}, not True or False")


def _has(name: str, value: object, *methods: str) -> None:
    if isinstance(value, type):
        raise TypeError(f"{name} is a class, not one of its instances")
    for method in methods:
        if value is not None and not hasattr(value, method):
            raise TypeError(f"{name} is a {type(value).__name__}, and has no {method}")


def keep_stepping(runner: Runner) -> None:
    """Step ``runner`` in a thread that does not keep the process alive once its main thread ends."""
    _spawn(lambda: _step_until(runner, threading.Event()))


async def serve(runner: Runner) -> None:
    """Step ``runner`` in a thread until the device is told to reset. When cancelled this ends at once,
    whatever the network does: the step under way ends with the process, or by itself.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    done = loop.create_future()

    def work() -> None:
        _step_until(runner, stop)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(done.cancel)

    _spawn(work)
    try:
        with suppress(asyncio.CancelledError):
            await done
        if not runner.rebooting:  # nobody but a reset has ended the thread: this task was cancelled
            raise asyncio.CancelledError
    finally:
        stop.set()
        runner.wake()


def _spawn(work: "Callable[[], None]") -> None:
    threading.Thread(target=work, name="fota-agent", daemon=True).start()


def _step_until(runner: Runner, stop: threading.Event) -> None:
    """Whatever comes out of a step is no reason to end: told, and tried again, less and less often."""
    runner.every_mistake_is_told()
    pause = 0.0
    while not runner.rebooting and not stop.is_set():
        try:
            runner.rest_for(runner.step())
            pause = 0.0
        except BaseException as exc:  # a board, a clock; sys.exit() would end this thread without a word
            pause = min(LONGEST_PAUSE_S, max(0.5, pause * 2))
            runner.tell(f"the agent starts anew: {type(exc).__name__}: {exc}")
            stop.wait(pause)
