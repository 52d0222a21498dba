"""The update engine: a state machine without I/O. Events go in as method calls, the next action comes out.

The runner carries the action out and calls the method of its outcome, or ``failed``. Before it carries an
action out it saves ``engine.state`` if that is dirty: so nothing is done that a power cut could make us
forget.

    state      action                            outcome -> next state
    ---------  --------------------------------
    ----------------------------------------------------------------- IDLE       WAIT until a time
    timer -> NONCE, or HEALTH in a trial HEALTH     ask whether the trial is healthy  health -> NONCE |
    HEALTH again | REJECT NONCE      draw 16 bytes from the element    nonce -> CHECKIN CHECKIN    send the
    check-in                 response -> IDLE | CONFIRM | COMPARE_RUNNING CONFIRM    write the journal:
    confirmed      confirmed -> IDLE REJECT     write the journal: trial over     rejected -> REBOOT
    COMPARE_*  hash a slot                       hashed -> IDLE (runs already) | INSPECT | RESUME | ERASE |
    refused RESUME     find the last complete page       resumed -> FETCH ERASE      erase the pages of the
    image      erased -> FETCH FETCH      download into the slot            fetched -> COMPARE_WRITTEN
    INSPECT    read the image's own counters     inspected -> ASK; malformed: refused ASK        ask the
    application               allowed -> REQUEST | ASK later | IDLE when the answer is stale REQUEST
    write the journal: staged         requested -> REBOOT REBOOT     reset                             none:
    the next boot begins anew

Times are integer milliseconds of a clock that never goes back.
"""

from fota_agent import policy
from fota_agent.actions import (
    ASK,
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
    Claims,
)
from fota_agent.state import State
from fota_wire import assignment, checkin, suit
from fota_wire import root as roots
from fota_wire.errors import DeviceError, FotaError, VerifyError
from fota_wire.journal import REJECTED, REVERTED
from fota_wire.layout import other_slot
from fota_wire.status import AP1, AP2, AP3, STATUS, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Identity, Random
    from fota_wire.bootreport import BootReport
    from fota_wire.seams import Verify

NONCE_LIFE_MS = 60_000
TRIAL_MS = 3_600_000  # a healthy trial that could not check in by then goes back, and may come again
HEALTH_POLL_MS = 500
HEALTH_MS = 60_000
DEFER_MS = 60_000
BACKOFF_BASE_MS, BACKOFF_MAX_MS = 2_000, 3_600_000
TRIAL_BACKOFF_MAX_MS = 30_000
INTERVAL_MAX_S = 7 * 86_400
RETRY_AFTER_MAX_S = 86_400
FOLLOW_UPS = 3
REPORTED_FAILURES = 5  # so many failures in a row are worth an event


class Engine:
    """Decides everything of SPEC 5 for one device.

    ``identity`` holds the constants of the device, ``boot`` what the bootloader reported, ``state`` what
    was kept over the reset. ``settled``: the last check-in was good, nothing is left to do, and the server
    has accepted a report of exactly this. ``wanted``: the manifest being installed, or None. ``outcome``:
    the last thing worth telling a person.

    Raises:
        DeviceError: the genesis ROOT of the trust store does not verify.
    """

    def __init__(
        self, identity: "Identity", boot: "BootReport", state: State, verify: "Verify", random_below: "Random"
    ) -> None:
        self.identity = identity
        self.boot = boot
        self.state = state
        self.phase = IDLE
        self.trial = boot.trial
        self.settled = False
        self.outcome = ""
        self.error: FotaError | None = None
        self._verify = verify
        self._random_below = random_below
        self.root = policy.newest_root(identity.genesis_root, state.roots, verify)
        self._held = policy.held_digest(state.envelope)
        self._inactive = other_slot(boot.running)
        self._nonce: bytes | None = None
        self._nonce_at = 0
        self._sent: Claims | None = None
        self._reported: tuple[object, ...] | None = None
        self._follow_ups = 0
        self.failures = 0
        self._interval_s = 1
        self.wanted: suit.Manifest | None = None
        self._campaign = 0
        self._expires = 0
        self._runs: bytes | None = None  # manifest digest that the running slot was found to hold
        self._fetching = False
        self._offset = 0
        self._health_by = self._trial_by = 0

    # -- events ------------------------------------------------------------------------------------------

    def start(self, now: int) -> Action:
        """Begin after a reset: account for the trial that was asked for before it."""
        self._account_for_trial()
        self._health_by, self._trial_by = now + HEALTH_MS, now + TRIAL_MS
        return self._begin(now)

    def timer(self, now: int) -> Action:
        """The time of an action has come."""
        if self.phase == ASK:
            return self._ask(now)
        self._in(IDLE)
        return self._fetch() if self._fetching and now < self._expires else self._begin(now)

    def health(self, now: int, healthy: "bool | None") -> Action:
        """The application in its trial is healthy, has failed, or does not know yet."""
        self._in(HEALTH)
        if healthy is False:
            return self._reject(AP1)
        if healthy is None:
            if now >= self._health_by:
                return self._reject(AP2)
            return self._wait(now + HEALTH_POLL_MS)
        return self._go(Action(NONCE))

    def nonce(self, now: int, nonce: bytes) -> Action:
        """The element has drawn 16 bytes: they stand for exactly one check-in."""
        self._in(NONCE)
        self._nonce, self._nonce_at = nonce, now
        server_nonce, self.state.nonce = self.state.nonce, None
        self._sent = None if server_nonce is None else self._claims(server_nonce)
        request = checkin.Request(nonce, self.root.version, self._held)
        return self._go(Action(CHECKIN, request=request, claims=self._sent))

    def response(self, now: int, raw: bytes) -> Action:
        """The server has answered; nothing is believed before its ASSIGNMENT has proved fresh and ours."""
        self._in(CHECKIN)
        nonce, self._nonce = self._nonce, None
        try:
            if nonce is None or now - self._nonce_at > NONCE_LIFE_MS:
                raise VerifyError("the answer came too late for its nonce", "nonce-expired")
            answer = checkin.parse_response(raw)
            self._step_roots(answer.roots)
            order = self._open_order(answer, nonce)
            if order is None:
                return self._wait(now)
            self._take_report_status(answer)
            if self.trial:
                return self._go(Action(CONFIRM))
            return self._decide(now, order, answer)
        except FotaError as exc:
            return self._refuse(now, exc)

    def confirmed(self, now: int) -> Action:
        """The journal says that the running slot is confirmed."""
        self._in(CONFIRM)
        self.trial = False
        self.outcome = "confirmed"
        self.state.pending = self.state.failed = None
        self.state.dirty = True
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
                self._runs = wanted.manifest_digest
                return self._settle(now)
            return self._go(Action(COMPARE_INACTIVE, size=wanted.size))
        if digest == wanted.digest:
            return self._go(Action(INSPECT, size=wanted.size))
        if phase == COMPARE_WRITTEN:
            self.state.writing = None
            self.state.dirty = True
            return self._refuse(
                now, VerifyError("the download is not the image of the manifest", "image-digest")
            )
        if self.state.writing == (wanted.manifest_digest, self._inactive):
            return self._go(Action(RESUME, size=wanted.size))
        if self.state.writing is not None:
            self.state.writing = None
            self.state.dirty = True
        return self._go(Action(ERASE, size=wanted.size))

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
        self.state.dirty = True
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
        return self._ask(now)

    def malformed(self, now: int, error: FotaError) -> Action:
        """The image in the slot is the manifest's, and no image that can boot."""
        self._in(INSPECT)
        return self._give_up(now, error)

    def allowed(self, now: int, yes: bool) -> Action:
        """The application lets us go on now, or wants to be asked again later."""
        self._in(ASK)
        if now >= self._expires:
            return self._stale(now)
        if not yes:
            return Action(IDLE, until=now + DEFER_MS)  # still in ASK
        digest = self._manifest().manifest_digest
        self.state.pending = (digest, self._inactive, self._campaign)
        self.state.installed = digest
        self.state.writing = None
        self.state.dirty = True
        return self._go(Action(REQUEST))

    def requested(self, _now: int) -> Action:
        """The journal asks for a trial of the other slot."""
        self._in(REQUEST)
        return self._go(Action(REBOOT))

    def failed(self, now: int, error: FotaError, offset: int = 0, retry_after_s: int = 0) -> Action:
        """An action did not succeed. ``offset``: bytes of complete pages that a broken FETCH left behind."""
        self.failures += 1
        self._nonce = None
        if self.phase == FETCH:
            if offset > self._offset:
                self.failures = 1
            self._offset = offset
            self._fetching = self.failures < REPORTED_FAILURES
        elif self.phase == REQUEST:
            self.state.pending = None
            self.state.dirty = True
        if self.failures == REPORTED_FAILURES or isinstance(error, DeviceError):
            self.state.add_event("failed", describe(error))
        self.outcome = str(error)
        self.error = error
        return self._back_off(now, retry_after_s)

    # -- decisions ---------------------------------------------------------------------------------------

    def _decide(self, now: int, order: "assignment.Assignment", answer: "checkin.Response") -> Action:
        """Act on a verified ASSIGNMENT."""
        self._fetching = False
        if order.manifest_digest is None:
            self.wanted = None
            return self._settle(now)
        wanted = self._open_manifest(order, answer.manifest)
        self.wanted, self._campaign = wanted, order.campaign
        self._expires = now + order.valid_for * 1000
        hopeless = self.state.failed == (wanted.manifest_digest, order.campaign)
        if hopeless or self._runs == wanted.manifest_digest:
            return self._settle(now)
        return self._go(Action(COMPARE_RUNNING, size=wanted.size))

    def _open_order(self, answer: "checkin.Response", nonce: bytes) -> "assignment.Assignment | None":
        """Return the verified ASSIGNMENT, or None if more ROOT steps than one answer holds come before it."""
        try:
            device_id = self.identity.device_id
            order = assignment.open_assignment(answer.assignment, self.root, nonce, device_id, self._verify)
        except VerifyError as exc:
            if len(answer.roots) == checkin.MAX_ROOT_STEPS and exc.code in ("assign-key", "root-missing"):
                return None
            raise
        if order.root_version < self.root.version:
            raise VerifyError(f"ASSIGNMENT refers to old ROOT {order.root_version}", "freeze")
        return order

    def _open_manifest(self, order: "assignment.Assignment", envelope: "bytes | None") -> "suit.Manifest":
        """Return the manifest that the ASSIGNMENT names, once all that can be checked without I/O holds."""
        if order.manifest_digest != self._held:
            if envelope is None:
                raise VerifyError("the server withholds the manifest it assigns", "manifest-missing")
        elif envelope is None:
            envelope = self.state.envelope
        try:
            manifest = policy.open_manifest(order, envelope or b"", self.root, self.identity, self._verify)
        except FotaError:
            self._held = None  # ROOT may have moved on: let the server send it anew
            raise
        if self.state.envelope != envelope:
            self.state.envelope = envelope
            self.state.dirty = True
        self._held = manifest.manifest_digest
        return manifest

    def _step_roots(self, steps: "list[bytes]") -> None:
        """Walk the ROOT chain; every verified step counts, whatever comes after it."""
        for raw in steps:
            self.root = roots.step(self.root, raw, self._verify)
            self.state.roots.append(raw)
            self.state.dirty = True

    def _take_report_status(self, answer: "checkin.Response") -> None:
        sent, self._sent = self._sent, None
        if sent is not None and answer.report_status == "accepted":
            kept = [event for event in self.state.events if event not in sent.events]
            if kept != self.state.events:
                self.state.events = kept
                self.state.dirty = True
            self._reported = sent.content()
        self.state.nonce = answer.nonce
        self._interval_s = answer.interval

    def _settle(self, now: int) -> Action:
        """Nothing to install. Come back at once while the server lacks a report of it, else later."""
        self.failures, self.error = 0, None
        self.wanted = None
        self.settled = self._reported == self._claims(b"").content() and not self.state.events
        if not self.settled and self._follow_ups < FOLLOW_UPS:
            self._follow_ups += 1
            return self._wait(now)
        self._follow_ups = 0
        return self._wait(now + max(1, min(self._interval_s, INTERVAL_MAX_S)) * 1000)

    def _account_for_trial(self) -> None:
        """Find out how the trial went that was asked for before the reset; keep its reason for the report."""
        pending, boot = self.state.pending, self.boot
        if pending is None or (boot.running == pending[1] and boot.trial):
            return
        if boot.running != pending[1] and boot.candidate == pending[1] and boot.state in (REJECTED, REVERTED):
            code = "reverted" if boot.state == REVERTED else "rejected"
            self.outcome = f"{code}: {label(boot.reason)}"
            self.state.add_event(code, label(boot.reason))
            if boot.reason != AP3:  # nothing was wrong with the image: the server may assign it again
                self.state.failed = (pending[0], pending[2])
        self.state.pending = None
        self.state.dirty = True

    # -- steps shared by events --------------------------------------------------------------------------

    def _begin(self, now: int) -> Action:
        self._fetching = False
        if not self.trial:
            return self._go(Action(NONCE))
        if now >= self._trial_by:
            return self._reject(AP3)
        return self._go(Action(HEALTH))

    def _fetch(self) -> Action:
        self._fetching = True
        return self._go(Action(FETCH, manifest=self._manifest(), offset=self._offset))

    def _ask(self, now: int) -> Action:
        if now >= self._expires:
            return self._stale(now)
        return self._go(Action(ASK))

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
        self.state.add_event("refused", describe(error))
        self.outcome = f"refused: {describe(error)}"
        self.error = error
        return self._back_off(now, 0)

    def _back_off(self, now: int, retry_after_s: int) -> Action:
        """Wait a random time below a limit that doubles with each failure (full jitter)."""
        cap = TRIAL_BACKOFF_MAX_MS if self.trial else BACKOFF_MAX_MS
        delay = self._random_below(policy.backoff_limit_ms(self.failures, BACKOFF_BASE_MS, cap))
        self.settled = False
        return self._wait(now + max(delay, min(retry_after_s, RETRY_AFTER_MAX_S) * 1000))

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

    def _claims(self, nonce: bytes) -> Claims:
        return Claims(nonce, self.root.version, self.trial, self.state.installed, list(self.state.events))


def describe(error: FotaError) -> str:
    """Return one short line for an event: the status of SPEC 6 first, where the error carries one."""
    if (
        isinstance(error.code, int)
        and error.code in STATUS
        and not str(error).startswith(STATUS[error.code][0])
    ):
        return f"{label(error.code)}: {error}"
    return str(error)
