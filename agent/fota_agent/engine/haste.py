"""A limit on wear: so many erasures and installations in short order, then a few a day.

Who holds the ASSIGN key and the server can have released versions installed in turn, for ever. Flash takes
10,000 erasures of a page: without a limit some hours of that would end a device. Time counts while the device
runs, since it has no other; so resets do not help the attacker.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine.state import State

BURST = 32  # acts: an update is two (erase, install), a rollback one
CALM_MS = 4 * 3_600_000


class Haste:
    """Counts acts that wear the flash, over resets, in ``state.haste``."""

    def __init__(self, state: "State") -> None:
        self._state = state
        self._since = 0

    def start(self, now: int) -> None:
        """The device has booted."""
        self._since = now

    def allows(self, now: int) -> bool:
        """Tell whether one more act is within the limit: each ``CALM_MS`` without one gives one back."""
        passed = (now - self._since) // CALM_MS
        if passed > 0 and self._state.haste:
            self._state.haste = max(0, self._state.haste - passed)
            self._since += passed * CALM_MS
            self._state.dirty = True
        return self._state.haste < BURST

    def count(self) -> None:
        """Account for one act; the caller saves the state before it acts."""
        self._state.haste = min(self._state.haste + 1, BURST)
