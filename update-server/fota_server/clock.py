"""The server's clock, and what it cannot be asked: when it is put forward, no time has passed."""

import time
from collections.abc import Callable

JUMP_S = 30
"""So far a clock moves beside the time that has passed, and it has jumped; so it has if a machine slept."""


def now() -> int:
    """Return the time in seconds since 1970."""
    return int(time.time())


class Watch:
    """Sees when a clock jumps. ``wall``: the clock; ``steady``: one that cannot be set. Both in seconds."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._steady = wall, steady
        self._apart = wall() - steady()
        self._began, self._jumped = int(wall()), 0

    def lasts_since(self, then: int, at: int) -> int:
        """Return since when what began at ``then`` has surely lasted ``at`` some time of the clock.

        Since the last jump, if it began before; what began in the future, since then or since we look.
        """
        wall = self._wall()
        apart = wall - self._steady()
        if abs(apart - self._apart) > JUMP_S:
            self._jumped = self._began = int(wall)
        self._apart = apart
        return self._began if then > at else max(then, self._jumped)


watch = Watch()
