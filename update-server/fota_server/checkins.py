"""Check-ins against the database: all that wait at one moment share one transaction.

One read, one decision each, a few bulk writes and one commit serve a whole batch, so the disk's sync time
limits how long an answer takes, and not how many are given. An answer leaves only after its facts are on the
disk.
"""

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, select

from fota_server import answers, hand_out, orders, request_id, schema
from fota_server.admission import KEY_COLUMNS, Forbidden, key_order, refuse
from fota_server.allowance import Allowance
from fota_server.catalog import Catalog
from fota_server.crypto import Assigner
from fota_server.database import Database
from fota_server.decide import GIVEN_UP, ON_TRIAL, RolloutState, Target, TargetState, Twin, judge
from fota_server.facts import Judged, store
from fota_server.identity import Identity
from fota_server.metrics import BATCH, CHECKINS
from fota_server.quick import Statement
from fota_server.trust import TrustChain, fits
from fota_wire.checkin import MAX_ROOT_STEPS, Request
from fota_wire.errors import FotaError
from fota_wire.host_crypto import verify

log = logging.getLogger("fota.server")

MAX_BATCH = 256
MAX_WAITING = 8192


_devices, _targets, _rollouts = schema.devices, schema.targets, schema.rollouts
_TWINS = Statement(
    select(
        _devices.c.id,
        _devices.c.public_key,
        _devices.c.revoked,
        schema.retirements.c.at.label("retired_at"),
        *KEY_COLUMNS,
        _devices.c.report_nonce,
        _devices.c.confirmed_hash,
        _devices.c.running_hash,
        _devices.c.settled_digest,
        _targets.c.id.label("target_id"),
        _targets.c.rollout_id,
        _targets.c.release_id,
        _targets.c.state,
        _targets.c.reason,
        _targets.c.rank,
        _rollouts.c.paused,
        _rollouts.c.state.label("rollout_state"),
        schema.releases.c.withdrawn_at,
    )
    .outerjoin(schema.retirements, schema.retirements.c.device_id == _devices.c.id)
    .outerjoin(schema.device_keys, schema.device_keys.c.device_id == _devices.c.id)
    .outerjoin(_targets, _devices.c.target_id == _targets.c.id)
    .outerjoin(_rollouts, _targets.c.rollout_id == _rollouts.c.id)
    .outerjoin(schema.releases, _targets.c.release_id == schema.releases.c.id)
    .where(_devices.c.id.in_(bindparam("ids", expanding=True)))
)
"""All that the decision over the devices ``ids`` looks at."""


class Busy(FotaError):
    """More check-ins wait than can be served; the device is to come back later."""


class Mistake(FotaError):
    """The server failed over what this one device said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator of the server chose. Times in seconds."""

    auto_admission: bool = True
    interval_s: int = 300
    assignment_valid_s: int = 3600


@dataclass(slots=True)
class _Waiting:
    identity: Identity
    request: Request
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
        self._catalog = catalog
        self._trust = trust
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._on_failure = on_failure
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
        while self._queue:
            _fail(self._queue.popleft(), Busy("the server is stopping; try again"))

    def waiting(self) -> int:
        """Return how many wait for the next transaction."""
        return len(self._queue)

    async def answer(self, identity: Identity, request: Request) -> bytes:
        """Return the response body to one check-in, its facts stored.

        Raises:
            Forbidden: the device may not check in.
            Busy: too many wait.
            DatabaseUnavailable, StorageError: nothing was stored; the device asks again.
            SignerUnavailable: its facts are stored, and its answer is as one that got lost on its way.
        """
        if len(self._queue) >= MAX_WAITING:
            CHECKINS.labels("busy").inc()
            raise Busy("too many devices at once; try again later")
        answer = asyncio.get_running_loop().create_future()
        waiting = _Waiting(identity, request, answer, request_id.current.get())
        self._queue.append(waiting)
        self._wake.set()
        return await waiting.answer

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            await self._serve_batch(self._next_batch())

    async def _serve_batch(self, batch: dict[str, _Waiting]) -> None:
        try:
            for waiting, answer in await self._process(batch):
                if isinstance(answer, FotaError):
                    _fail(waiting, answer)
                elif not waiting.answer.done():
                    waiting.answer.set_result(answer)
        except FotaError as exc:
            for waiting in batch.values():
                _fail(waiting, exc)
        except Exception as exc:
            # A mistake of ours over what one device said: the others of its batch do not pay for it.
            if len(batch) > 1:
                for device_id, waiting in batch.items():
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

    async def _process(self, batch: dict[str, _Waiting]) -> list[tuple[_Waiting, bytes | FotaError]]:
        if not batch:
            return []
        now = self._clock()
        found = await self._database.write(self._judge_all, list(batch.values()), now)
        if _failed(found):
            self._on_failure()
        BATCH.observe(len(batch))
        for outcome, count in Counter(map(_outcome, found)).items():
            CHECKINS.labels(outcome).inc(count)
        judged = _judged(found)
        payloads = [self._payload(item, now) for item in judged]
        sharing = [item.request.shares for item in judged]
        signed = iter(await self._signer.assignments(payloads, sharing))
        return [
            (waiting, item if isinstance(item, FotaError) else self._respond(item, next(signed)))
            for waiting, item in zip(batch.values(), found, strict=True)
        ]

    def _judge_all(self, connection: Connection, batch: list[_Waiting], now: int) -> list[Judged | Forbidden]:
        """Store the facts of a batch, and return what was made of each check-in."""
        rows = _TWINS.rows(connection, ids=[one.identity.device_id for one in batch])
        releases = self._catalog.get(connection, {row.release_id for row in rows if row.target_id})
        twins = {row.id: (row, _target(row, releases) if row.target_id else None) for row in rows}
        going = {target.rollout_id for _, target in twins.values() if target and _may_be_given(target)}
        # Who was given something speaks first: if that pauses a rollout, nobody else is given it now.
        pending = {
            key: target.release.id
            for key, (_, target) in twins.items()
            if target and target.state is TargetState.PENDING
        }
        left = hand_out.allowance(connection, going, pending.items(), now)
        left.zones = hand_out.zones(connection, left, twins)
        of = {one.identity.device_id: one for one in batch}
        found = {
            key: self._judge(one.identity, one.request, twins, left)
            for key, one in of.items()
            if key not in pending
        }
        failed = _failed(found.values())
        if failed:
            store(connection, _judged(found.values()), now)
            left.stopped |= {
                number for number in sorted(failed) if orders.stop_failed(connection, number, now)
            }
        given = {
            key: self._judge(one.identity, one.request, twins, left)
            for key, one in of.items()
            if key in pending
        }
        everybody = found | given
        store(connection, _judged((given if failed else everybody).values()), now)
        hand_out.store(connection, left)
        return [everybody[key] for key in of]

    def _judge(
        self,
        identity: Identity,
        request: Request,
        twins: Mapping[str, tuple[Any, Target | None]],
        left: Allowance,
    ) -> Judged | Forbidden:
        row, target = twins.get(identity.device_id, (None, None))
        refusal = refuse(row, identity, self._policy.auto_admission)
        if refusal:
            return refusal
        if target:
            zone = left.zones.get(identity.device_id)
            who = identity.device_id, target.release.id
            held = left.why_not(who, target.rollout_id, row.rank, target.release.file_size, zone)
            target = replace(target, held=held, paused=target.paused or left.halted)
        twin = Twin(
            device_id=identity.device_id,
            report_nonce=row.report_nonce if row else None,
            confirmed_hash=_digest(row.confirmed_hash) if row else None,
            target=target,
            running_hash=_digest(row.running_hash) if row else None,
            settled=_digest(row.settled_digest) if row else None,
        )
        verdict = judge(
            twin,
            request,
            identity.public_key,
            self._trust.current,
            verify,
            identity.attestation,
            len(self._steps(request)) or MAX_ROOT_STEPS,
        )
        if target and _was_given(target.state, verdict.target_state):
            left.take(target.rollout_id, target.release.file_size)
        return Judged(
            identity=identity,
            request=request,
            twin=twin,
            verdict=verdict,
            is_new=row is None,
            nonce=secrets.token_bytes(16),
            pinned=row.public_key if row and row.public_key else identity.public_key,
            key_order=key_order(row, identity, left.now),
        )

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
        return answers.response(
            signed,
            steps,
            wanted.envelope if wanted and (not steps or fits([*steps, wanted.envelope], longest)) else None,
            self._interval(item.verdict.hurry),
            item.nonce,
            item.verdict.report_status[:256],
            held=wanted is not None and request.manifest_digest == wanted.manifest_digest,
            key_order=item.key_order,
            refused_values=request.refused_values,
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


def _target(row: Any, releases: dict[int, Any]) -> Target:  # noqa: ANN401 - a driver's row
    return Target(
        id=row.target_id,
        rollout_id=row.rollout_id,
        release=releases[row.release_id],
        state=TargetState(row.state),
        reason=row.reason,
        paused=bool(row.paused),
        withdrawn=row.withdrawn_at is not None,
        cancelling=row.rollout_state == RolloutState.CANCELLING,
    )


def _judged(items: Iterable[Judged | Forbidden]) -> list[Judged]:
    return [item for item in items if isinstance(item, Judged)]


def _failed(items: Iterable[Judged | Forbidden]) -> set[int]:
    """Return the rollouts of which a device has just failed."""
    return {
        target.rollout_id
        for item in _judged(items)
        if (target := item.twin.target)
        and item.verdict.target_state in GIVEN_UP
        and target.state not in GIVEN_UP
    }


def _outcome(item: Judged | Forbidden) -> str:
    """Return what `metrics.CHECKINS` calls it."""
    if isinstance(item, Forbidden):
        return "forbidden"
    if item.request.report is None:
        return "quiet"
    return "report-refused" if item.verdict.report is None else "accepted"


def _may_be_given(target: Target) -> bool:
    """A check-in may put the device on trial, which it is not yet: pending, or back from a confirmed run."""
    return target.state in (TargetState.PENDING, TargetState.CONFIRMED)


def _was_given(before: TargetState, after: TargetState | None) -> bool:
    return before not in ON_TRIAL and after is TargetState.OFFERED


def _digest(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None


def _fail(waiting: _Waiting, exc: FotaError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(exc)
