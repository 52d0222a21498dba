"""Carries out what the engine decides: network, flash, crypto element, journal. No decision is made here."""

from fota_agent.engine import actions
from fota_agent.engine.engine import STARVED, Engine
from fota_agent.engine.state import State
from fota_agent.engine.state import decode as decode_state
from fota_agent.runner import epoch
from fota_agent.runner.attest import attest
from fota_agent.runner.heard import Heard
from fota_agent.runner.renewal import Renewal
from fota_agent.runner.servers import Servers
from fota_agent.transport import download
from fota_agent.transport.http import is_decimal
from fota_wire import checkin, cose, report
from fota_wire.errors import NO_MEMORY, DeviceError, FotaError, TransportError, VerifyError
from fota_wire.layout import SLOT_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine.actions import Action
    from fota_agent.seams import Board, Hooks, Schedule, Transport
    from fota_agent.transport.folder import Folder
    from fota_wire.seams import Verify

KEY_REFUSED = (401, 403)
UNREADABLE = (400, 413)
MAX_UNTAKEN = 64  # published values that wait for the next step
LONGEST_SLEEP_MS = 200  # so that ``check_in`` and ``publish`` from elsewhere are noticed soon


KEEP_MS = 60_000  # a connection that nobody needs for longer is closed
GASP_MS = 1_000  # until the next try of a step that had no memory for its failure either
UNSAVED_TRIES = 3  # a trial is not asked for while the store cannot be written, this many times
SAVE_MS = 1_800_000  # between two writes of the store that nothing depends on: flash wears; boards may differ


class Runner:
    """One boot of one device. Call ``step`` again and again; it returns how long that may wait.

    ``schedule`` says when updates are welcome; None = always, as far as the hooks agree. ``due``, where there
    are threads: when a step last began, or the next one is to; None = none yet.

    Nothing that the application, the disk or the network does ends it: a step that fails is told, in the log
    and to the server, and tried again later.

    ``verify`` is P-256 verification by public key, ``fixed`` an address instead of all others.
    ``rebooting`` is True once the chip has been told to reset: on an emulated chip the caller then starts it
    and makes a new Runner.

    Raises:
        DeviceError: boot report or trust store are not usable, or the element does not answer.
    """

    due: "int | None" = None

    def __init__(
        self,
        board: "Board",
        transport: "Transport",
        hooks: "Hooks",
        verify: "Verify",
        fixed: "str | None" = None,
    ) -> None:
        self.rebooting = False
        self.schedule: Schedule | None = None
        self._board = board
        self._transport = transport
        self._hooks = hooks = Heard(hooks)
        # for a page or an answer; where memory is short it comes first, before the heap is in pieces
        self._buffer = bytearray(max(board.inactive.page_size, getattr(board, "longest_answer", 0)))
        self._page = memoryview(self._buffer)[: board.inactive.page_size]
        self._boot = board.boot_report()
        self._job: download.Download | None = None
        self._source: Folder | None = None
        self._told: bytes | None = None
        self._said = ""
        self._untaken: list[tuple[str, int, str]] = []
        self._asked = False
        self._unsaved = 0
        self._crowded = False  # the store had no room for the manifest that the answer brought
        self._cramped = hasattr(board, "longest_answer")  # nor has memory, for a copy of anything in it
        self._saved_at = board.ticks_ms()
        self._save_ms = getattr(board, "save_ms", SAVE_MS)
        self._epoch_done = False  # tried in this boot
        self.engine = Engine(board, self._boot, self._load(), verify, board.random_below)
        self._renewal = Renewal(board, transport, hooks, self.engine.state.keys)
        self._servers = Servers(board, transport, self.engine.state, fixed)
        self._handlers = {
            actions.HEALTH: self._health,
            actions.NONCE: self._nonce,
            actions.CHECKIN: self._checkin,
            actions.CONFIRM: self._confirm,
            actions.REJECT: self._reject,
            actions.COMPARE_RUNNING: self._hash,
            actions.COMPARE_INACTIVE: self._hash,
            actions.COMPARE_WRITTEN: self._hash,
            actions.RESUME: self._resume,
            actions.ERASE: self._erase,
            actions.FETCH: self._fetch,
            actions.INSPECT: self._inspect,
            actions.ASK_DOWNLOAD: self._ask_download,
            actions.ASK_INSTALL: self._ask_install,
            actions.REQUEST: self._request,
            actions.REBOOT: self._reboot,
        }
        self._last_resort = actions.Action(actions.REBOOT)  # made while there is memory
        self._gasps = 0
        self._action = self.engine.start(board.ticks_ms())
        if self.engine.outcome:
            hooks.log(self.engine.outcome)

    @property
    def phase(self) -> str:
        """What the engine is at: one of the states of `engine.actions`."""
        return self.engine.phase

    @property
    def renewing(self) -> bool:
        """True while the next step is about the device's key, its certificate, or the key epoch."""
        if self._action.kind != actions.IDLE or self.engine.trial:
            return False
        return self._renewal.due or self._epoch_due

    @property
    def _epoch_due(self) -> bool:
        return not self._epoch_done and epoch.due(self.engine.root.epoch, self._boot)

    def step(self) -> int:
        """Do one thing, of a download at most one page; return the milliseconds until there is something to
        do again, 0 for at once.
        """
        try:
            wait_ms = self._step()
            self._gasps = 0
        except MemoryError:  # for dealing with a failure, too
            wait_ms = self._gasp()
        return wait_ms

    def _gasp(self) -> int:
        """Try the same step again; some times, and then begin anew, in the end without telling anybody."""
        self._gasps += 1
        if self._gasps == STARVED:
            self._action = self._last_resort
        elif self._gasps > STARVED:
            self.rebooting = True
            self._board.reset()
        return GASP_MS

    def _step(self) -> int:
        outcome, wait_ms = self.engine.outcome, 0
        try:
            self._save_if_due()
            if self._action.kind == actions.IDLE:
                wait_ms = self._idle(self._action)
            else:
                self._action = self._handlers[self._action.kind](self._action)
        except FotaError as exc:
            self._action = self.engine.failed(self._now(), exc)
        except (
            self._hooks.mistakes
        ) as exc:  # of a hook, or no memory: later again, and the server hears of it
            self._drop_job()
            code = NO_MEMORY if isinstance(exc, MemoryError) else None
            self._action = self.engine.failed(self._now(), DeviceError(f"{type(exc).__name__}: {exc}", code))
        if self.engine.outcome != outcome:
            self._hooks.log(self.engine.outcome)
        self._save_if_due()
        return wait_ms

    def _idle(self, action: "Action") -> int:
        now = self._now()
        if self.renewing:
            self._raise_epoch() if self._epoch_due else self._renewal.step()
            self._keep_keys()
            return 0
        if self._asked:
            self._asked = False
            action.until = min(action.until, self.engine.hurry(now))
        if now < action.until:
            wait_ms = action.until - now
            if wait_ms > KEEP_MS:
                self._transport.close()
            if not self.engine.state.dirty:
                return wait_ms
            return min(wait_ms, max(0, self._saved_at + self._save_ms - now) + 1)
        self._action = self.engine.timer(now)
        return 0

    def check_in(self) -> None:
        """Let a wait end now, or as soon as may be. From any thread."""
        self._asked = True

    def publish(self, value: "tuple[str, int, str]") -> None:
        """Queue (topic, time, JSON text), of `telemetry.encode`. From any thread."""
        self._untaken.append(value)
        if len(self._untaken) > MAX_UNTAKEN:  # nobody steps
            self._untaken.pop(0)

    @property
    def all_delivered(self) -> bool:
        """True once the server has all that was published."""
        return not self._untaken and not self.engine.state.telemetry

    def offer(self, source: "Folder") -> None:
        """Take the update in ``source`` instead of the server's.

        Raises:
            FotaError: it is not there, not for this device, not signed, not newer; or an update is under way.
        """
        steps, envelope = source.roots(), source.envelope()
        self._action = self.engine.offer(self._now(), steps, envelope)
        self._source = source

    def save(self) -> bool:
        """Save what has changed since the last time, urgent or not. False if that is not possible now."""
        self._take()
        state = self.engine.state
        if state.dirty or state.lent:
            state.dirty = state.urgent = False
            self._saved_at = self._now()
            try:
                lies = self._board.save_store(state.parts(self._board.store_size))
                if lies is not None:
                    lent = state.lent
                    state.rest_in(lies)
                    self._crowded = lent and state.envelope is None
            except Exception as exc:
                state.dirty = True  # the disk may have room later
                self._say_once(f"agent store not written: {exc}")
        return not state.dirty

    def _let_go(self) -> None:
        """Keep nothing in the answer, whose place is needed. What was not saved from there is copied, if
        there is room, or comes again: the manifest at once, ROOT steps after the next boot.
        """
        state = self.engine.state
        new, state.new_roots = state.new_roots, []
        lent = state.envelope if state.lent else None
        if state.lent:
            state.envelope, state.lent = None, False
        if self._cramped:
            return
        try:
            state.roots += [bytes(step) for step in new]
            if lent is not None and not self._crowded:
                state.envelope = bytes(lent)
        except MemoryError:
            self._say_once("no memory for what the server sent: it comes again")

    def rest_for(self, wait_ms: int) -> None:
        """Sleep for at most that long, between two steps."""
        sleep_ms(min(wait_ms, LONGEST_SLEEP_MS))

    def wake(self) -> None:
        """End a pause, where there are threads."""

    def not_in_a_step(self) -> None:
        """Nothing to say where there are no threads: a step within a step fails by itself."""

    def every_mistake_is_told(self) -> None:
        """The steps come from a thread of the agent's own, which no hook may end, by ``sys.exit`` either."""
        self._hooks.mistakes = BaseException

    def tell(self, line: str) -> None:
        """Say ``line`` in the log, and in the next report."""
        self._say_once(line)
        self.engine.state.add_event("failed", line)

    def _take(self) -> None:
        while self._untaken:
            self.engine.queue(self._untaken[0])
            self._untaken.pop(0)

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._hooks.log(line)

    def close(self) -> None:
        """Close the connection to the server."""
        self._drop_job()
        self._transport.close()

    def _drop_job(self) -> None:
        if self._job is not None:
            self._job.close()
            self._job = None

    def _now(self) -> int:
        return self._board.ticks_ms()

    # -- one method per action ---------------------------------------------------------------------------

    def _health(self, _action: "Action") -> "Action":
        verdicts = (self._board.health(), self._asked_health())
        healthy = None if None in verdicts else True
        return self.engine.health(self._now(), False if False in verdicts else healthy)

    def _asked_health(self) -> "bool | None":
        """Return the hook's verdict; one that fails is none yet, and none for long is the end of a trial."""
        try:
            return self._hooks.health_check()
        except self._hooks.mistakes as exc:
            self.tell(f"health check: {type(exc).__name__}: {exc}")
            return None

    def _nonce(self, _action: "Action") -> "Action":
        self._source = None
        return self.engine.nonce(self._now(), self._board.element.random()[:16])

    def _checkin(self, action: "Action") -> "Action":
        status, answer, raw = self._ask(action)  # and the question's memory is free
        if status != 200:
            return self._turned_away(status, answer, raw)
        # A transport that knows the end of the server's certificate says so; others need not.
        following = self.engine.response(self._now(), raw, getattr(self._transport, "valid_until", 0))
        self._renewal.hear(self.engine.key_order)
        self._keep_keys()
        if self.engine.heard:
            self._servers.worked(self.engine.root, self.engine.settled)
        return following

    def _turned_away(self, status: int, answer: "dict[str, str]", raw: memoryview) -> "Action":
        if status in KEY_REFUSED:
            self._renewal.refused()
        if status in UNREADABLE:
            self.engine.unreadable()
        kind = VerifyError if status in KEY_REFUSED else TransportError
        error = kind(f"server answers {status}{_server_words(raw)}", status)
        return self.engine.failed(self._now(), error, retry_after_s=_seconds(answer.get("retry-after", "")))

    def _ask(self, action: "Action") -> "tuple[int, dict[str, str], memoryview]":
        request, action.request = action.request, None
        if request is None:
            raise RuntimeError("a check-in without a request")
        request.longest_answer = getattr(self._board, "longest_answer", checkin.MAX_RESPONSE)
        if action.claims is not None:
            request.report = self._report(action.claims)
            request.attestation = self._attestation(request.report)
        headers = {"Content-Type": checkin.CONTENT_TYPE, "Accept": checkin.CONTENT_TYPE}
        body = checkin.encode_request(request)
        self._servers.aim(self.engine.root)
        self._servers.begun()
        try:
            status, answer, reader = self._transport.request("POST", "/v1/checkin", headers, body)
        except TransportError:
            self._renewal.refused()
            raise
        return status, answer, download.read_body(reader, request.longest_answer, self._now, self._buffer)

    def _confirm(self, _action: "Action") -> "Action":
        self._board.confirm()
        return self.engine.confirmed(self._now())

    def _reject(self, action: "Action") -> "Action":
        self._board.reject(action.reason)
        return self.engine.rejected(self._now())

    def _hash(self, action: "Action") -> "Action":
        slot = self._board.running if action.kind == actions.COMPARE_RUNNING else self._board.inactive
        return self.engine.hashed(self._now(), download.digest_of(slot, action.size, self._page))

    def _resume(self, action: "Action") -> "Action":
        offset = download.resume_offset(self._board.inactive, action.size)
        self._hooks.log(f"resuming at {offset} of {action.size} bytes")
        return self.engine.resumed(self._now(), offset)

    def _erase(self, action: "Action") -> "Action":
        download.erase(self._board.inactive, action.size)
        return self.engine.erased(self._now())

    def _fetch(self, action: "Action") -> "Action":
        if action.manifest is None:
            raise RuntimeError("a download without a manifest")
        job = self._job
        if job is None or not job.goes_on(action.manifest, action.offset):
            self._drop_job()
            self._job = job = download.Download(
                action.manifest, self._board.inactive, action.offset, self._page, self._board.ticks_ms
            )
        before = job.offset
        try:
            done = job.step(self._source or self._transport)
        except FotaError as exc:
            return self.engine.failed(self._now(), exc, job.offset, _seconds(job.retry_after))
        if job.offset != before:
            self._hooks.progress(job.offset, action.manifest.size)
        if not done:
            action.offset = job.offset
            return action
        self._job = None
        return self.engine.fetched(self._now())

    def _inspect(self, action: "Action") -> "Action":
        try:
            # A board whose images are not ours (ESP32) looks into them itself.
            own = getattr(self._board, "inspect", None)
            sec_cnt, class_id = (
                own(action.size) if own else download.inspect(self._board.inactive, action.size)
            )
        except FotaError as exc:
            return self.engine.malformed(self._now(), exc)
        return self.engine.inspected(self._now(), sec_cnt, class_id)

    def _ask_download(self, _action: "Action") -> "Action":
        wanted = self.engine.wanted
        if wanted is not None and wanted.manifest_digest != self._told:
            self._told = wanted.manifest_digest
            self._hooks.available(wanted)
        yes = self.schedule is None or (wanted is not None and self.schedule.may_download(wanted))
        return self.engine.allowed(self._now(), yes and self._hooks.may_download(wanted))

    def _ask_install(self, _action: "Action") -> "Action":
        wanted, now = self.engine.wanted, self._now()
        time = self.engine.clock.time(now)
        yes = self.schedule is None or (wanted is not None and self.schedule.may_install(wanted, time))
        return self.engine.allowed(now, yes and self._hooks.may_install(wanted))

    def _request(self, _action: "Action") -> "Action":
        if self.save():
            self._unsaved = 0
        elif self._unsaved < UNSAVED_TRIES:  # a store that is worn out for good keeps no repair away
            self._unsaved += 1
            raise DeviceError("no trial yet: what it needs to know is not saved")
        self._board.request()
        return self.engine.requested(self._now())

    def _reboot(self, action: "Action") -> "Action":
        if not self.rebooting:
            self._hooks.before_reboot()
            self.save()
            self.close()
            self.rebooting = True
            try:
                self._board.reset()
            except FotaError:
                self.rebooting = False  # later again
                raise
        return action

    # -- report and store --------------------------------------------------------------------------------

    def _report(self, claims: "actions.Claims") -> bytes:
        board, boot = self._board, self._boot
        return report.build(
            nonce=claims.nonce,
            device_id=board.device_id,
            slot=SLOT_NAMES[boot.running],
            image_hash=boot.image_hash,
            version=boot.version_text,
            sec_cnt=boot.sec_cnt,
            floor=boot.floor,
            root_version=claims.root_version,
            state=self._boot_state(claims.trial),
            installed=claims.installed,
            events=claims.events,
            reset_cause=boot.reset_cause,
            kid=cose.kid_of(board.public_key),
            sign=board.element.sign,
        )

    def _attestation(self, sent: bytes) -> "bytes | None":
        """Return what the element says beside the report; without it the check-in still brings an answer."""
        try:
            return attest(self._board, sent)
        except FotaError as exc:
            self._hooks.log(f"no attestation: {exc}")
            return None

    def _boot_state(self, trial: bool) -> str:
        """Return the state of SPEC 5.4; a slot that boots in place of the confirmed one is its fallback."""
        boot = self._boot
        fallback = not boot.trial and boot.running != boot.confirmed
        return "trial" if trial else "fallback" if fallback else "confirmed"

    def _load(self) -> State:
        try:
            raw = self._board.load_store()
            try:
                state = State() if raw is None else decode_state(raw)
            except MemoryError:
                state = decode_state(raw or b"", True)
        except MemoryError:
            raise  # a boot that knows nothing of its keys and its trial would write that over them
        except Exception as exc:
            self._hooks.log(f"agent store ignored: {exc}")
            return State()
        if state.lost:
            self._hooks.log(f"agent store: {state.lost} published values ignored: malformed")
        return state

    def _raise_epoch(self) -> None:
        """Once a boot, and after what the boot was for: a failure is told, and the next boot tries again."""
        self._epoch_done = True
        try:
            epoch.raise_epoch(self._board, self.engine.root.epoch, self.engine.state, self._hooks)
        except FotaError as exc:
            self._hooks.log(f"key epoch: {exc}")

    def _keep_keys(self) -> None:
        if self._renewal.changed:
            self._renewal.changed = False
            self.engine.state.keys = self._renewal.saved()
            self.engine.state.must_save()
            self.save()

    def _save_if_due(self) -> None:
        self._take()
        state = self.engine.state
        due = state.dirty and self._now() - self._saved_at >= self._save_ms
        if state.urgent or state.new_roots or due or (state.lent and not self._crowded):
            self.save()
        self._let_go()


def _server_words(raw: memoryview) -> str:
    try:
        return ": {}: {}".format(*checkin.parse_error(raw))
    except FotaError:
        return ""


def _seconds(text: str) -> int:
    """Return the number of a Retry-After in seconds; the date form counts as absent."""
    return int(text) if is_decimal(text) and len(text) < 9 else 0


def sleep_ms(duration_ms: int) -> None:
    """Sleep."""
    import time

    if hasattr(time, "sleep_ms"):
        time.sleep_ms(duration_ms)
    else:
        time.sleep(duration_ms / 1000)
