"""A timer that is set and called off again with each request, and hardly ever goes."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls ``ring`` when it was set ``seconds`` ago and not called off. The loop has one timer for it, which
    looks when it is due whether it still is: to set it anew costs a look at the clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._ring = ring
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def is_set(self) -> bool:
        """Tell whether it may go."""
        return self._due is not None

    def set(self) -> None:
        """Have it go in so many seconds, and not before."""
        self._due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._look)

    def off(self) -> None:
        """Not now."""
        self._due = None

    def close(self) -> None:
        """Never more."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        due, self._timer = self._due, None
        if due is None:
            return
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
            return
        self._due = None
        self._ring()
