"""The time as far as the server told it (DESIGN 6): for a device without a clock of its own.

An ASSIGNMENT carries the server's time, signed over this boot's nonce; from there on uptime counts.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.state import State

DAY_S = 86_400
LAST_S = 1 << 40  # beyond is no time but a lie, which must not get into what is stored and sent


class Clock:
    """``learn`` from each verified ASSIGNMENT; ``state.time`` keeps, to a day, a time that has passed."""

    def __init__(self, state: "State") -> None:
        self._state = state
        self._told: tuple[int, int] | None = None

    def learn(self, now_ms: int, time_s: int, valid_until: int) -> None:
        """Take the server's time. ``valid_until``: end of the certificate over which it came, 0 = not known.

        What is kept over a reset decides later which certificates count as expired. So it may not run ahead
        of the certificate over which it came: else one stolen ASSIGN key could make every later server
        look expired, for good.
        """
        if time_s > LAST_S:
            return
        self._told = (time_s, now_ms)
        if self._state.time + DAY_S <= time_s <= valid_until:
            self._state.time = time_s
            self._state.dirty = True

    def time(self, now_ms: int) -> "int | None":
        """Return s since 1970, or None while no server has told."""
        if self._told is None:
            return None
        time_s, at_ms = self._told
        return time_s + (now_ms - at_ms) // 1000
