"""The trial of a new image: how the last one ended, and how long the present one may take. No I/O."""

from fota_agent.engine.policy import LOCAL
from fota_wire.journal import REJECTED, REVERTED
from fota_wire.status import AP1, AP2, AP3, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine.state import State
    from fota_wire.bootreport import BootReport

HEALTH_MS = 60_000
TRIAL_MS = 3_600_000  # a healthy trial that could not check in by then goes back, and may come again


def account(state: "State", boot: "BootReport") -> str:
    """Find out how the trial went that was asked for before the reset, and keep its reason for the report.

    Returns that in one line; empty if there is nothing to tell.
    """
    pending, outcome = state.pending, ""
    if pending is None or (boot.running == pending[1] and boot.trial):
        return ""
    if boot.running != pending[1] and boot.candidate == pending[1] and boot.state in (REJECTED, REVERTED):
        code = "reverted" if boot.state == REVERTED else "rejected"
        outcome = f"{code}: {label(boot.reason)}"
        state.add_event(code, label(boot.reason))
        if boot.reason != AP3:  # nothing was wrong with the image: the server may assign it again
            state.failed = (pending[0], pending[2])
    state.pending = None
    state.dirty = True
    return outcome


class Deadlines:
    """Of the trial that runs, from ``start`` on. ``end``: when it is given up for want of a check-in."""

    def __init__(self, state: "State") -> None:
        self._state = state
        self._health_by = self.end = 0

    def start(self, now: int) -> None:
        """The device has booted."""
        self._health_by, self.end = now + HEALTH_MS, now + TRIAL_MS

    def missed(self, now: int) -> int:
        """Return the reason to end the trial for want of a check-in, or 0."""
        return AP3 if now >= self.end else 0

    def judge(self, now: int, healthy: "bool | None") -> int:
        """Return the reason to end the trial for the application's verdict, or 0."""
        if healthy is False:
            return AP1
        return AP2 if healthy is None and now >= self._health_by else 0

    @property
    def is_local(self) -> bool:
        """True if no server asked for it: being healthy has to be enough, perhaps none can be reached."""
        return self._state.pending is not None and self._state.pending[2] == LOCAL
