"""One check-in at a time: its nonce, what it tells the server, and what counts as told. No I/O."""

from fota_agent.engine import telemetry
from fota_agent.engine.actions import Claims
from fota_agent.engine.state import LOST, lost_text
from fota_wire import checkin
from fota_wire.errors import VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine.state import State
    from fota_agent.engine.trust import Trust

REPORT_LIFE_MS = 86_400_000  # a report that was accepted says for so long what is unchanged
NONCE_LIFE_MS = 300_000  # a handshake and the longest answer, on the slowest line
TRIAL_ENDS = ("reverted", "rejected")  # codes of events that a rollout waits for
INTERVAL_MAX_S = 7 * 86_400


class Exchange:
    """Bookkeeping between ``begin`` and ``accept``; a nonce stands for exactly one check-in."""

    def __init__(self, state: "State", trust: "Trust") -> None:
        self._state = state
        self._trust = trust
        self._nonce: bytes | None = None
        self._nonce_at = 0
        self._claims: Claims | None = None
        self._values: list[tuple[str, int, str]] = []
        self._closed = any(code == LOST for code, _ in state.events)  # for what is published
        self._lost = 0
        self._most = 0 if self._closed else checkin.MAX_TELEMETRY  # values, and events, in one check-in
        self._bare = False  # the last good check-in carried none
        self._reported: tuple[object, ...] | None = None  # by the last report, in this boot
        self._reported_at = 0
        self._interval_s = 1

    def begin(
        self, now: int, nonce: bytes, trial: bool, settled: bool
    ) -> "tuple[checkin.Request, Claims | None]":
        """Return the request, and what the report in it says: None without a nonce of the server for it, or
        where none is needed (SPEC 5.5). ``settled``: the last answer came, and left nothing to do.
        """
        self._nonce, self._nonce_at = nonce, now
        self._claims = None
        if not (settled and self.is_reported(trial) and now - self._reported_at < REPORT_LIFE_MS):
            server_nonce, self._state.nonce = self._state.nonce, None
            if server_nonce is not None:
                self._claims = self._now_true(server_nonce, trial)
        request = checkin.Request(nonce, self._trust.root.version, self._trust.held)
        request.shares = request.receipts = True
        request.group = self._trust.group
        request.telemetry = self._values = telemetry.batch(self._state, self._most)
        return request, self._claims

    def take_nonce(self, now: int) -> bytes:
        """Return the nonce of the check-in that was begun, once. VerifyError if that is too long ago."""
        nonce, self._nonce = self._nonce, None
        if nonce is None or now - self._nonce_at > NONCE_LIFE_MS:
            raise VerifyError("the answer came too late for its nonce", "nonce-expired")
        return nonce

    def drop(self) -> None:
        """Forget the nonce: no answer to it counts any more."""
        self._nonce = None

    def unreadable(self) -> None:
        """The server cannot read the check-in. If that is for a value, fewer and fewer go, until it is found:
        the one without which the check-in was good.
        """
        if self._bare and len(self._values) == 1:
            telemetry.delivered(self._state, self._values)
            self._tell_refused([self._values[0][0]])
        self._most = len(self._values) // 2

    def queue(self, value: "tuple[str, int, str]") -> None:
        """Keep a published value until the server has it."""
        if self._closed:
            self._lost += 1
        else:
            telemetry.add(self._state, value)

    def lighten(self) -> None:
        """There was no memory: of what waits nothing is told before a check-in was good without it."""
        self._most = 0

    def lose(self) -> None:
        """There was none without it either: what waits is lost, all but how the last trial ended, and nothing
        is kept before ``open``, in the next boot neither.
        """
        state = self._state
        kept = [event for event in state.events if event[0] in TRIAL_ENDS][-1:]
        kept += [event for event in state.events if event[0] == LOST]
        self._lost += len(state.events) - len(kept) + len(state.telemetry)
        state.events, state.telemetry = kept, []
        self._tell_lost()
        if not self._closed:  # else it is stored that nothing waits
            self._closed = True
            state.must_save()

    def open(self) -> None:
        """Nothing is left to do, or it waits for consent: what is published is kept again."""
        self._closed = False
        self._tell_lost()

    def _tell_lost(self) -> None:
        """Have one event say how much was lost since the server was told of it."""
        state = self._state
        if not self._lost:
            return
        for event in [event for event in state.events if event[0] == LOST]:
            self._lost += int(event[1].split()[0])
            state.events.remove(event)
        state.add_event(LOST, lost_text(self._lost))
        self._lost = 0

    def accept(self, answer: "checkin.Response") -> None:
        """The answer has proved fresh and ours: what was sent with the question is with the server."""
        sent, self._claims = self._claims, None
        if sent is not None and answer.report_status == "accepted":
            kept = [event for event in self._state.events if event not in sent.events]
            if kept != self._state.events:
                self._state.events = kept
                self._state.dirty = True
            self._reported, self._reported_at = sent.content(), self._nonce_at
        elif sent is not None or answer.nonce != self._state.nonce:
            self._reported = None  # it was refused; or another nonce than the one at hand asks for one
        telemetry.delivered(self._state, self._values)
        self._state.nonce = answer.nonce
        self._interval_s = answer.interval
        self._bare = not self._values
        self._most = min(2 * self._most + 1, checkin.MAX_TELEMETRY)
        self._tell_refused([v[0] for place, v in enumerate(self._values) if place in answer.refused_values])

    def _tell_refused(self, topics: "list[str]") -> None:
        if topics:
            self._state.add_event("value", "not taken by the server: " + ", ".join(topics))

    def is_reported(self, trial: bool) -> bool:
        """Tell whether the server has accepted a report of exactly what is true now."""
        return self._reported == self._now_true(b"", trial).content() and not self._state.events

    @property
    def interval_ms(self) -> int:
        """Until the next check-in, as the server wishes."""
        return max(1, min(self._interval_s, INTERVAL_MAX_S)) * 1000

    def _now_true(self, nonce: bytes, trial: bool) -> Claims:
        state = self._state
        return Claims(nonce, self._trust.root.version, trial, state.installed, state.events[: self._most])
