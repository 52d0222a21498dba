"""The time as far as the server told it, and what that says of certificates (DESIGN 6).

An ASSIGNMENT carries the server's time, signed over this boot's nonce; from there on uptime counts.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.engine.state import State

DAY_S = 86_400
LAST_S = 1 << 40  # beyond is no time but a lie, which must not get into what is stored and sent
RELEASED_S = 1_790_000_000  # 2026-09-21: a clock that says less was never set
ASK = " (is this device's clock right?)"


class Clock:
    """``learn`` from each verified ASSIGNMENT; ``state.time`` keeps, to a day, a time that has passed."""

    def __init__(self, state: "State") -> None:
        self._state = state
        self._told: tuple[int, int] | None = None
        self._sure = (0, 0)  # the latest told that has passed for sure, and when it was

    def learn(self, now_ms: int, time_s: int, valid_until: int) -> None:
        """Take the server's time. ``valid_until``: end of the certificate over which it came, 0 = not known.

        It decides later which certificates count as expired, what is kept over a reset for good. So there it
        may not run ahead of the certificate over which it came: else one stolen ASSIGN key could make every
        later server look expired.
        """
        if time_s > LAST_S:
            return
        self._told = (time_s, now_ms)
        if time_s > valid_until:
            return
        if time_s > self.passed(now_ms):
            self._sure = (time_s, now_ms)
        if self._state.time + DAY_S <= time_s:
            self._state.time = time_s
            self._state.dirty = True

    def time(self, now_ms: int) -> "int | None":
        """Return s since 1970, or None while no server has told."""
        if self._told is None:
            return None
        time_s, at_ms = self._told
        return time_s + (now_ms - at_ms) // 1000

    def passed(self, now_ms: int) -> int:
        """Return a time in s since 1970 that has passed for sure, 0 = none known."""
        time_s, at_ms = self._sure
        return max(self._state.time, time_s and time_s + (now_ms - at_ms) // 1000)


class Dates:
    """How certificates' dates are checked: by the device's own ``clock()``, as far as that can be right.

    A clock that says less than ``RELEASED_S``, or than a time that has ``passed()``, was never set. Then
    nobody can say whether a certificate is valid *yet*; that it has not ended before a time that is known to
    have passed is still checked. A clock that runs ahead cannot be told from a long sleep: it counts. Both
    return s since 1970.
    """

    def __init__(self, passed: "Callable[[], int]", clock: "Callable[[], float]") -> None:
        self._passed = passed
        self._clock = clock

    def now(self) -> "tuple[int, bool]":
        """Return the time by which certificates are judged, and whether it is a clock's."""
        passed, clock = max(RELEASED_S, self._passed()), int(self._clock())
        return (passed, False) if clock < passed else (clock, True)

    def complaint(self, begin: int, end: int) -> str:
        """Return what is wrong with a certificate, valid from ``begin`` to ``end``, or an empty text."""
        now, is_set = self.now()
        if end < now:
            return "certificate has expired" + (ASK if is_set else "")
        return "certificate is not valid yet" + ASK if is_set and now < begin else ""
