"""The update engine: a state machine without I/O. Events go in as method calls, the next action comes out.

The runner carries the action out and calls the method of its outcome, or ``failed``. Before it carries an
action out it saves ``engine.state`` if that is urgent: so nothing is done that a power cut could make us
forget. The table of states is in `engine.actions`.

Times are integer milliseconds of a clock that never goes back.
"""

from fota_agent.engine import policy, trial
from fota_agent.engine.actions import (
    ASK_DOWNLOAD,
    ASK_INSTALL,
    CHECKIN,
    COMPARE_INACTIVE,
    COMPARE_RUNNING,
    COMPARE_WRITTEN,
    CONFIRM,
    ERASE,
    FETCH,
    HEALTH,
    IDLE,
    INSPECT,
    NONCE,
    REBOOT,
    REJECT,
    REQUEST,
    RESUME,
    Action,
)
from fota_agent.engine.clock import Clock
from fota_agent.engine.exchange import Exchange
from fota_agent.engine.haste import Haste
from fota_agent.engine.trust import Trust
from fota_wire import checkin
from fota_wire.errors import NO_MEMORY, DeviceError, FotaError, VerifyError
from fota_wire.layout import other_slot
from fota_wire.status import JO2, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine.state import State
    from fota_agent.seams import Identity, Random
    from fota_wire import suit
    from fota_wire.assignment import Assignment
    from fota_wire.bootreport import BootReport
    from fota_wire.root import Root
    from fota_wire.seams import Verify

HEALTH_POLL_MS = 500
URGENT_MS = 1_000  # between two check-ins that somebody asks for
DEFER_MS = 60_000
OFFER_MS = 3_600_000  # how long a local update may wait for the application's consent
FOLLOW_UPS = 3
REPORTED_FAILURES = 5  # so many failures in a row are worth an event
LOSING = 4  # failures for want of memory, nothing gone well between them: what waits to be told is lost
STARVED = 8  # failures for want of memory, nothing gone well between them: the heap is in pieces for good
RUNS, READY, MISSING = "runs", "ready", "missing"


class Engine:
    """Decides everything of SPEC 5 for one device.

    ``identity`` holds the constants of the device, ``boot`` what the bootloader reported, ``state`` what
    was kept over the reset. ``settled``: the last check-in was good, nothing is left to do, and the server
    has accepted a report of exactly this. ``heard``: the last check-in brought a fresh answer of ours.
    ``key_order``: what the answer wanted of the device's key (SPEC 5.6).
    ``deferred``: an update waits for consent or its window.
    ``wanted``: the manifest being installed, or None. ``outcome``: the last thing worth telling a person.
    ``clock``: the time as far as the server told it.

    Raises:
        DeviceError: the genesis ROOT of the trust store does not verify.
    """

    def __init__(
        self,
        identity: "Identity",
        boot: "BootReport",
        state: "State",
        verify: "Verify",
        random_below: "Random",
    ) -> None:
        self.identity = identity
        self.boot = boot
        self.state = state
        self.phase = IDLE
        self.trial = boot.trial
        self.settled = False
        self.outcome = ""
        self.error: FotaError | None = None
        self._random_below = random_below
        self.trust = Trust(identity, state, verify)
        self.clock = Clock(state)
        self._haste = Haste(state)
        self._deadlines = trial.Deadlines(state)
        self.deferred = self.heard = False
        self._inactive = other_slot(boot.running)
        self._exchange = Exchange(state, self.trust)
        self._follow_ups = self.key_order = self.failures = self._starved = 0
        self.wanted: suit.Manifest | None = None
        self._campaign = 0
        self._barred: FotaError | None = None  # what a CAMPAIGN has against it
        self._expires = self._poll_at = self._not_before = 0
        self._found: tuple[bytes, str] | None = None  # a manifest digest, and where its image was found
        self._fetching = False
        self._offset = 0

    @property
    def root(self) -> "Root":
        """The newest ROOT."""
        return self.trust.root

    # -- events ------------------------------------------------------------------------------------------

    def start(self, now: int) -> Action:
        """Begin after a reset: account for the trial that was asked for before it."""
        self.outcome = trial.account(self.state, self.boot)
        self._haste.start(now)
        self._deadlines.start(now)
        return self._begin(now)

    def timer(self, now: int) -> Action:
        """The time of an action has come."""
        if self.phase in (ASK_DOWNLOAD, ASK_INSTALL):
            return self._begin(now) if now >= self._poll_at else self._go(Action(self.phase))
        self._in(IDLE)
        return self._fetch() if self._fetching and now < self._expires else self._begin(now)

    def hurry(self, now: int) -> int:
        """Have the next ``timer`` ask the server, even while an update waits for consent; return from when on
        that may be: nobody's haste undoes a back-off, or what the server has asked for.
        """
        at = max(now, self._not_before)
        self._poll_at = min(self._poll_at, at)
        return at

    def queue(self, value: "tuple[str, int, str]") -> None:
        """Keep a published value until the server has it, or there is no memory for what waits."""
        self._exchange.queue(value)

    def unreadable(self) -> None:
        """The server says of the check-in that it is malformed; ``failed`` follows."""
        self._exchange.unreadable()

    def health(self, now: int, healthy: "bool | None") -> Action:
        """The application in its trial is healthy, has failed, or does not know yet."""
        self._in(HEALTH)
        reason = self._deadlines.judge(now, healthy)
        if reason:
            return self._reject(reason)
        if healthy is None:
            return self._wait(now + HEALTH_POLL_MS)
        return self._go(Action(CONFIRM if self._deadlines.is_local else NONCE))

    def nonce(self, now: int, nonce: bytes) -> Action:
        """The element has drawn 16 bytes: they stand for exactly one check-in."""
        self._in(NONCE)
        self._not_before = now + URGENT_MS
        request, claims = self._exchange.begin(now, nonce, self.trial, self.settled)
        return self._go(Action(CHECKIN, request=request, claims=claims))

    def response(self, now: int, raw: "bytes | memoryview", valid_until: int = 0) -> Action:
        """The server has answered; nothing is believed before its ASSIGNMENT has proved fresh and ours.

        ``raw`` may be used for something else afterwards. ``valid_until``: s since 1970, the end of the
        server's certificate, 0 = not known.
        """
        self._in(CHECKIN)
        self.heard = self.settled = False
        self.key_order = 0
        try:
            nonce = self._exchange.take_nonce(now)
            answer = checkin.parse_response(raw)
            self.key_order = answer.key_order
            self.trust.step_roots(answer.roots)
            order = self.trust.open_order(answer, nonce)
            self.heard = True
            if order is None:
                return self._wait(now)
            time = max(order.time, self.clock.passed(now))
            self.clock.learn(now, order.time, valid_until)
            self._exchange.accept(answer)
            if self.trial:
                return self._go(Action(CONFIRM))
            if answer.roots and self.trust.lacks(order, answer):
                return self._wait(now)  # there was no room for more: ask again
            return self._decide(now, order, answer, time)
        except FotaError as exc:
            return self._refuse(now, exc)

    def confirmed(self, now: int) -> Action:
        """The journal says that the running slot is confirmed."""
        self._in(CONFIRM)
        self.trial = False
        self.outcome = "confirmed"
        self.state.pending = self.state.failed = None
        self.state.must_save()
        self.failures, self.error = 0, None
        return self._wait(now)  # tell the server at once

    def rejected(self, _now: int) -> Action:
        """The journal says that the trial is over."""
        self._in(REJECT)
        return self._go(Action(REBOOT))

    def hashed(self, now: int, digest: bytes) -> Action:
        """A slot's first bytes have this SHA-256."""
        phase, wanted = self.phase, self._manifest()
        self._in(COMPARE_RUNNING, COMPARE_INACTIVE, COMPARE_WRITTEN)
        if phase == COMPARE_RUNNING:
            if digest == wanted.digest:
                self._found = (wanted.manifest_digest, RUNS)
                return self._settle(now)
            return self._go(Action(COMPARE_INACTIVE, size=wanted.size))
        if digest == wanted.digest:
            return self._go(Action(INSPECT, size=wanted.size))
        if phase == COMPARE_WRITTEN:
            self.state.writing = None
            self.state.must_save()  # else a reset now would go on behind bytes that are wrong
            error = VerifyError("the download is not the image of the manifest", "image-digest")
            return self._refuse(now, error)
        self._found = (wanted.manifest_digest, MISSING)
        return self._ask(now, ASK_DOWNLOAD)

    def resumed(self, _now: int, offset: int) -> Action:
        """The pages before ``offset`` are complete, those from there on blank."""
        self._in(RESUME)
        self._offset = offset
        return self._fetch()

    def erased(self, _now: int) -> Action:
        """All pages of the image are blank."""
        self._in(ERASE)
        self._offset = 0
        self.state.writing = (self._manifest().manifest_digest, self._inactive)
        self.state.must_save()
        return self._fetch()

    def fetched(self, _now: int) -> Action:
        """All bytes of the image have been written; whether they are the right ones is not known yet."""
        self._in(FETCH)
        self._fetching = False
        self._offset = 0
        return self._go(Action(COMPARE_WRITTEN, size=self._manifest().size))

    def inspected(self, now: int, sec_cnt: int, class_id: bytes) -> Action:
        """The image in the slot is the manifest's and says this of itself; the bootloader checks again."""
        self._in(INSPECT)
        try:
            policy.check_image(sec_cnt, class_id, self.boot.floor, self.root, self.identity)
        except VerifyError as exc:
            return self._give_up(now, exc)
        self._found = (self._manifest().manifest_digest, READY)
        return self._ask(now, ASK_INSTALL)

    def malformed(self, now: int, error: FotaError) -> Action:
        """The image in the slot is the manifest's, and no image that can boot."""
        self._in(INSPECT)
        return self._give_up(now, error)

    def allowed(self, now: int, yes: bool) -> Action:
        """The application lets us go on now, or wants to be asked again later."""
        self._in(ASK_DOWNLOAD, ASK_INSTALL)
        if now >= self._expires:
            return self._stale(now)
        if yes and not self._haste.allows(now):
            self.state.add_event("deferred", "too many installations in short order")
            self.outcome = "too many installations in short order: waiting"
            yes = False
        if not yes:
            self.deferred = True
            self._exchange.open()
            return Action(IDLE, until=min(now + DEFER_MS, max(now, self._poll_at)))  # still asking
        self.deferred = False
        return self._write() if self.phase == ASK_DOWNLOAD else self._install()

    def requested(self, _now: int) -> Action:
        """The journal asks for a trial of the other slot."""
        self._in(REQUEST)
        return self._go(Action(REBOOT))

    def failed(self, now: int, error: FotaError, offset: int = 0, retry_after_s: int = 0) -> Action:
        """An action did not succeed. ``offset``: bytes in the slot that a broken FETCH left behind."""
        self.failures += 1
        self._exchange.drop()
        if self.phase == FETCH:
            bad = isinstance(error, DeviceError)  # the page may be half written: RESUME erases it
            if offset > self._offset and not bad:
                self.failures, self._starved = 1, 0
            self._offset = 0 if bad else offset
            self._fetching = not bad and self.failures < REPORTED_FAILURES
        elif self.phase == REQUEST:
            self.state.pending = None
            self.state.must_save()
        if error.code == NO_MEMORY:
            self._starved += 1
            self._exchange.lighten()
            if self._starved in (LOSING, STARVED):
                self._exchange.lose()
        if self.failures == REPORTED_FAILURES or isinstance(error, DeviceError):
            self.state.add_event("failed", policy.describe(error))
        self.outcome = str(error)
        self.error = error
        if self._starved >= STARVED:
            self._starved = 0
            self.outcome += ": beginning anew"
            return self._go(Action(REBOOT))
        return self._back_off(now, retry_after_s)

    def offer(self, now: int, steps: "list[bytes]", envelope: bytes) -> Action:
        """Somebody on the spot offers an update. FormatError, VerifyError: not this one, or not now."""
        if self.phase not in (IDLE, NONCE) or self._fetching or self.trial:
            raise VerifyError("an update is under way: offer it again later", JO2)
        self.trust.step_known_roots(steps)
        wanted = self.trust.open_offered(envelope)
        self._barred = None  # whoever stands before the device is not the server
        self._pursue(wanted, policy.LOCAL, now + OFFER_MS, now + OFFER_MS)
        self.state.add_event("local", f"sequence {wanted.sequence} offered on the spot")
        return self._go(Action(COMPARE_RUNNING, size=wanted.size))

    # -- decisions ---------------------------------------------------------------------------------------

    def _decide(self, now: int, order: "Assignment", answer: "checkin.Response", time: int) -> Action:
        """Act on a verified ASSIGNMENT. ``time``: s since 1970, as late as anybody has said with proof."""
        self._fetching = self.deferred = False
        if order.manifest_digest is None:
            self.wanted = None
            return self._settle(now)
        wanted = self.trust.open_assigned(order, answer.manifest)
        self._barred, last = None, time
        try:
            last = self.trust.campaign_end(wanted.manifest_digest, answer.campaign, time)
        except FotaError as exc:
            self._barred = exc  # what runs already is none of its business
        expires = now + min(order.valid_for, last - time + 1) * 1000
        self._pursue(wanted, order.campaign, expires, min(expires, now + self._exchange.interval_ms))
        if self.state.failed == (wanted.manifest_digest, order.campaign):
            return self._settle(now)
        found = self._found[1] if self._found and self._found[0] == wanted.manifest_digest else ""
        if found == RUNS:
            return self._settle(now)
        if found:
            return self._ask(now, ASK_INSTALL if found == READY else ASK_DOWNLOAD)
        return self._go(Action(COMPARE_RUNNING, size=wanted.size))

    def _pursue(self, wanted: "suit.Manifest", campaign: int, expires: int, poll_at: int) -> None:
        """This is what is to run; not begun after ``expires``, asked about anew at ``poll_at``."""
        self.wanted, self._campaign = wanted, campaign
        self._expires, self._poll_at = expires, poll_at

    def _write(self) -> Action:
        """Bring the image into the inactive slot; one that was cut goes on."""
        wanted = self._manifest()
        self._found = None
        if self.state.writing == (wanted.manifest_digest, self._inactive):
            return self._fetch() if self._offset else self._go(Action(RESUME, size=wanted.size))
        self.state.writing = None
        self._haste.count()
        self.state.must_save()
        return self._go(Action(ERASE, size=wanted.size))

    def _install(self) -> Action:
        """Have the bootloader try the other slot."""
        wanted = self._manifest()
        self.state.pending = (wanted.manifest_digest, self._inactive, self._campaign)
        self.state.installed, self.state.sequence = wanted.manifest_digest, wanted.sequence
        self.state.writing = None
        self._haste.count()
        self.state.must_save()
        return self._go(Action(REQUEST))

    def _settle(self, now: int) -> Action:
        """Nothing to install. Come back at once while the server lacks a report of it, else later."""
        self.failures, self.error = 0, None
        self.wanted = None
        self.settled = self._exchange.is_reported(self.trial)
        if self.settled:  # one without a report proves little: the server offers nothing for it
            self._starved = 0
            self._exchange.open()
        if not (self.settled and not self.state.telemetry) and self._follow_ups < FOLLOW_UPS:
            self._follow_ups += 1
            return self._wait(max(now, self._not_before) if self.settled else now)
        self._follow_ups = 0
        return self._wait(now + self._exchange.interval_ms)

    # -- steps shared by events --------------------------------------------------------------------------

    def _begin(self, now: int) -> Action:
        self._fetching = False
        if not self.trial:
            return self._go(Action(NONCE))
        reason = self._deadlines.missed(now)
        return self._reject(reason) if reason else self._go(Action(HEALTH))

    def _fetch(self) -> Action:
        self._fetching = True
        return self._go(Action(FETCH, manifest=self._manifest(), offset=self._offset))

    def _ask(self, now: int, kind: str) -> Action:
        if self._barred is not None:
            return self._refuse(now, self._barred)
        if now >= self._expires:
            return self._stale(now)
        return self._go(Action(kind))

    def _stale(self, now: int) -> Action:
        """The answer is too old to act on; the server may have changed its mind. Not in a hurry."""
        self.failures += 1
        self.outcome = "the assignment has expired"
        return self._back_off(now, 0)

    def _reject(self, reason: int) -> Action:
        self.outcome = f"rejected: {label(reason)}"
        return self._go(Action(REJECT, reason=reason))

    def _give_up(self, now: int, error: FotaError) -> Action:
        """Refuse for good: this manifest cannot work on this device in this campaign."""
        self.state.failed = (self._manifest().manifest_digest, self._campaign)
        return self._refuse(now, error)

    def _refuse(self, now: int, error: FotaError) -> Action:
        self.failures += 1
        self.state.add_event("refused", policy.describe(error))
        self.outcome = f"refused: {policy.describe(error)}"
        self.error = error
        return self._back_off(now, 0)

    def _back_off(self, now: int, retry_after_s: int) -> Action:
        self.settled = False
        until = now + policy.back_off_ms(self.failures, self.trial, retry_after_s, self._random_below)
        self._not_before = min(until, self._deadlines.end) if self.trial else until
        return self._wait(self._not_before)

    def _wait(self, until: int) -> Action:
        return self._go(Action(IDLE, until=until))

    def _go(self, action: Action) -> Action:
        self.phase = action.kind
        return action

    def _in(self, *phases: str) -> None:
        if self.phase not in phases:
            raise RuntimeError(f"event does not fit state {self.phase}")

    def _manifest(self) -> "suit.Manifest":
        if self.wanted is None:
            raise RuntimeError(f"no manifest in state {self.phase}")
        return self.wanted
