"""Check-ins against the database: all that wait at one moment are a batch.

Who says nothing new is answered by what one read has found. For the others one more read, one decision each,
a few bulk writes and one commit serve the whole batch, so the disk's sync time limits how long an answer
takes, and not how many are given: it leaves only after its facts are on the disk.
"""

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fota_server import answers, request_id
from fota_server.admission import Forbidden
from fota_server.catalog import Catalog
from fota_server.crypto import Assigner
from fota_server.database import Database, DatabaseUnavailable
from fota_server.facts import Judged
from fota_server.heard import FLUSH_S, MAX_KEPT, Heard
from fota_server.identity import Identity
from fota_server.judging import MAX_BATCH, TWINS, Judging, Question, failed_rollouts
from fota_server.metrics import BATCH, CHECKINS
from fota_server.quick import open_reader
from fota_server.trust import TrustChain, fits
from fota_wire.checkin import MAX_ROOT_STEPS, Request
from fota_wire.errors import FotaError, StorageError

log = logging.getLogger("fota.server")

AT_ONE_GO = 32  # that are judged before others have a turn of the event loop
MAX_WAITING = 8192


class Busy(FotaError):
    """More check-ins wait than can be served; the device is to come back later."""


class Mistake(FotaError):
    """The server failed over what this one device said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator of the server chose. Times in seconds. ``flush_s``: how long what is not new stays
    unwritten.
    """

    auto_admission: bool = True
    interval_s: int = 300
    assignment_valid_s: int = 3600
    flush_s: float = FLUSH_S


@dataclass(slots=True)
class _Waiting(Question):
    answer: asyncio.Future[bytes]
    asked_as: str  # the id of its request


class CheckIns:
    """The queue of check-ins and the task that serves it.

    ``on_failure`` is called when it is on the disk that a device failed: there may be something to take back.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        trust: TrustChain,
        signer: Assigner,
        policy: Policy,
        clock: Callable[[], int],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._trust = trust
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._on_failure = on_failure
        self._reader = open_reader(database)
        self._heard = Heard()
        self._judging = Judging(catalog, trust, policy.auto_admission, self._heard)
        self._flush: asyncio.TimerHandle | None = None
        self._flush_due = False
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to serve."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Serve no more; who still waits is told to come back."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._write_heard()
        if self._flush:
            self._flush.cancel()
        self._reader.close()
        while self._queue:
            _fail(self._queue.popleft(), Busy("the server is stopping; try again"))

    def waiting(self) -> int:
        """Return how many wait for the next transaction."""
        return len(self._queue)

    def answer(self, identity: Identity, request: Request) -> "asyncio.Future[bytes]":
        """Return what will be the response body to one check-in, what was new in it stored.

        Raises:
            Busy: too many wait. The others when it is awaited:
            Forbidden: the device may not check in.
            DatabaseUnavailable, StorageError: nothing was stored; the device asks again.
            SignerUnavailable: its facts are stored, and its answer is as one that got lost on its way.
        """
        if len(self._queue) >= MAX_WAITING:
            CHECKINS.labels("busy").inc()
            raise Busy("too many devices at once; try again later")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(identity, request, answer, request_id.current.get())
        self._queue.append(waiting)
        self._wake.set()
        return answer

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            await self._have_all_in()
            await self._serve_batch(self._next_batch())
            if self._flush_due or len(self._heard) >= MAX_KEPT:
                await self._write_heard()

    async def _have_all_in(self) -> None:
        """Let the batch grow while each turn of the event loop brings more: a signature and a statement are
        for all that are in it. Who is alone waits for one turn.
        """
        seen = 0
        while seen < len(self._queue) < MAX_BATCH:
            seen = len(self._queue)
            await asyncio.sleep(0)

    async def _serve_batch(self, batch: dict[str, _Waiting]) -> None:
        try:
            await self._process(batch)
        except FotaError as exc:
            for waiting in batch.values():
                _fail(waiting, exc)
        except Exception as exc:
            # A mistake of ours over what one device said: the others of its batch do not pay for it.
            if len(batch) > 1:
                for device_id, waiting in batch.items():
                    if not waiting.answer.done():
                        await self._serve_batch({device_id: waiting})
                return
            for waiting in batch.values():
                with request_id.about(waiting.asked_as):
                    log.exception("check-in of device %s failed", waiting.identity.device_id)
                CHECKINS.labels("mistake").inc()
                _fail(waiting, Mistake(f"{type(exc).__name__} over a check-in; the log says more"))
        except asyncio.CancelledError:
            for waiting in batch.values():
                _fail(waiting, Busy("the server is stopping; try again"))
            raise

    def _next_batch(self) -> dict[str, _Waiting]:
        """Take what waits, at most one check-in per device: the second one sees what the first one left."""
        batch: dict[str, _Waiting] = {}
        later: list[_Waiting] = []
        while self._queue and len(batch) < MAX_BATCH:
            waiting = self._queue.popleft()
            if waiting.answer.done():  # its connection is gone
                continue
            if waiting.identity.device_id in batch:
                later.append(waiting)
            else:
                batch[waiting.identity.device_id] = waiting
        self._queue.extendleft(reversed(later))
        if not self._queue:
            self._wake.clear()
        return batch

    async def _process(self, batch: dict[str, _Waiting]) -> None:
        """Answer who says nothing new, then the others, once it is on the disk."""
        if not batch:
            return
        now = self._clock()
        old: dict[str, Judged | Forbidden] = {}
        rows = await self._reader.rows(TWINS, ids=list(batch))
        for start in range(0, len(rows), AT_ONE_GO):
            if start:
                await asyncio.sleep(0)
            old |= self._judging.look(rows[start : start + AT_ONE_GO], batch, now)
        if len(self._heard) and self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(self._policy.flush_s, self._have_flushed)
        await self._answer(batch, old, now)
        news = {device_id: waiting for device_id, waiting in batch.items() if device_id not in old}
        if not news:
            return
        found = await self._database.write(self._judging.decide, news, now)
        self._heard.forget(found)
        BATCH.observe(len(news))
        if failed_rollouts(found.values()):
            self._on_failure()
        await self._answer(batch, found, now)

    async def _answer(
        self, batch: Mapping[str, _Waiting], found: Mapping[str, Judged | Forbidden], now: int
    ) -> None:
        for outcome, count in Counter(map(_outcome, found.values())).items():
            CHECKINS.labels(outcome).inc(count)
        judged = [(batch[key], item) for key, item in found.items() if isinstance(item, Judged)]
        for key, item in found.items():
            if isinstance(item, Forbidden):
                _fail(batch[key], item)
        payloads = [self._payload(item, now) for _, item in judged]
        sharing = [item.request.shares for _, item in judged]
        signed = await self._signer.assignments(payloads, sharing) if judged else []
        for (waiting, item), assignment in zip(judged, signed, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(self._respond(item, assignment))

    def _have_flushed(self) -> None:
        self._flush, self._flush_due = None, True
        self._wake.set()

    async def _write_heard(self) -> None:
        """Write what was heard; what cannot be written now is tried again with the next."""
        self._flush_due = False
        if not len(self._heard):
            return
        try:
            self._heard.forget(await self._database.write(self._heard.store))
        except (DatabaseUnavailable, StorageError) as exc:
            log.warning("when devices were heard is not written yet: %s", exc)

    def _payload(self, item: Judged, now: int) -> bytes:
        request, wanted, root = item.request, item.verdict.wanted, self._trust.current
        return answers.payload(
            request.nonce,
            bytes.fromhex(item.twin.device_id),
            now,
            wanted.sequence if wanted else root.min_sequence,
            wanted.manifest_digest if wanted else None,
            min(root.version, request.root_version + (len(self._steps(request)) or MAX_ROOT_STEPS)),
            item.twin.target.rollout_id if wanted and item.twin.target else 0,
            self._policy.assignment_valid_s,
        )

    def _respond(self, item: Judged, signed: bytes) -> bytes:
        request, wanted = item.request, item.verdict.wanted
        # What does not fit beside ROOT steps comes with the next answer: the device asks for that at once.
        steps, longest = self._steps(request), request.longest_answer
        held = wanted is not None and request.manifest_digest == wanted.manifest_digest
        manifest = None
        if wanted:
            manifest = wanted.logged if request.receipts else wanted.envelope
        goods = [manifest] if manifest and not held else []
        goods += [item.campaign] if item.campaign is not None else []
        room = not steps or fits([*steps, *goods], longest)
        return answers.response(
            signed,
            steps,
            manifest if room else None,
            self._interval(item.verdict.hurry),
            item.nonce,
            item.verdict.report_status[:256],
            held=held,
            key_order=item.key_order,
            refused_values=request.refused_values,
            campaign=item.campaign if room else None,
        )

    def _steps(self, request: Request) -> list[bytes]:
        return self._trust.steps_after(request.root_version, request.longest_answer)

    def _interval(self, hurry: bool) -> int:
        """Return the seconds until the next check-in, spread by a fifth either way: fleets must not march."""
        base = self._policy.interval_s
        if hurry:
            base = min(base, max(2, base // 10))
        spread = base // 5
        return base - spread + secrets.randbelow(2 * spread + 1)


def _outcome(item: Judged | Forbidden) -> str:
    """Return what `metrics.CHECKINS` calls it."""
    if isinstance(item, Forbidden):
        return "forbidden"
    if item.request.report is None:
        return "quiet"
    return "report-refused" if item.verdict.report is None else "accepted"


def _fail(waiting: _Waiting, exc: FotaError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(exc)
