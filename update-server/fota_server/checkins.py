"""Check-ins against the database: all that wait at one moment share one transaction.

One read, one decision each, a few bulk writes and one commit serve a whole batch, so the disk's sync time
limits how long an answer takes, and not how many are given. An answer leaves only after its facts are on the
disk.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fota_server import schema, telemetry
from fota_server.admission import KEY_COLUMNS, key_order, refuse
from fota_server.catalog import Catalog
from fota_server.crypto import AssignSigner
from fota_server.database import Database
from fota_server.decide import RolloutState, Target, TargetState, Twin, Verdict, judge
from fota_server.identity import Identity
from fota_server.rollouts import settle
from fota_server.trust import TrustChain, fits
from fota_wire import assignment
from fota_wire.checkin import MAX_ROOT_STEPS, Request, Response, encode_response
from fota_wire.errors import FotaError
from fota_wire.host_crypto import verify
from fota_wire.report import Report

log = logging.getLogger("fota.server")

MAX_BATCH = 256
MAX_WAITING = 8192
EVENTS_KEPT = 100  # of one device, the newest
CONFIRMATIONS_KEPT = 64


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    waiting: _Waiting
    twin: Twin
    verdict: Verdict
    is_new: bool
    nonce: bytes
    pinned: bytes
    key_order: int


class CheckIns:
    """The queue of check-ins and the task that serves it."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        trust: TrustChain,
        signer: AssignSigner,
        policy: Policy,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._trust = trust
        self._signer = signer
        self._policy = policy
        self._clock = clock
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

    async def answer(self, identity: Identity, request: Request) -> bytes:
        """Return the response body to one check-in, its facts stored.

        Raises:
            Forbidden: the device may not check in.
            Busy: too many wait.
            DatabaseUnavailable, StorageError: nothing was stored; the device asks again.
        """
        if len(self._queue) >= MAX_WAITING:
            raise Busy("too many devices at once; try again later")
        waiting = _Waiting(identity, request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        return await waiting.answer

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            await self._serve_batch(self._next_batch())

    async def _serve_batch(self, batch: dict[str, _Waiting]) -> None:
        try:
            for waiting, body in await self._process(batch):
                if not waiting.answer.done():
                    waiting.answer.set_result(body)
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
                log.exception("check-in of device %s failed", waiting.identity.device_id)
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

    async def _process(self, batch: dict[str, _Waiting]) -> list[tuple[_Waiting, bytes]]:
        if not batch:
            return []
        now = self._clock()
        async with self._database.write() as connection:
            rows = await self._read(connection, batch)
            judged = [item for waiting in batch.values() if (item := self._judge(waiting, rows)) is not None]
            await _store(connection, judged, now)
        return [(item.waiting, self._respond(item, now)) for item in judged]

    async def _read(
        self, connection: AsyncConnection, device_ids: Iterable[str]
    ) -> dict[str, tuple[Any, Target | None]]:
        devices, targets, rollouts = schema.devices, schema.targets, schema.rollouts
        query = (
            select(
                devices.c.id,
                devices.c.public_key,
                devices.c.revoked,
                schema.retirements.c.at.label("retired_at"),
                *KEY_COLUMNS,
                devices.c.report_nonce,
                devices.c.confirmed_hash,
                devices.c.running_hash,
                devices.c.settled_digest,
                targets.c.id.label("target_id"),
                targets.c.rollout_id,
                targets.c.release_id,
                targets.c.state,
                targets.c.reason,
                rollouts.c.paused,
                rollouts.c.state.label("rollout_state"),
                schema.releases.c.withdrawn_at,
            )
            .outerjoin(schema.retirements, schema.retirements.c.device_id == devices.c.id)
            .outerjoin(schema.device_keys, schema.device_keys.c.device_id == devices.c.id)
            .outerjoin(targets, devices.c.target_id == targets.c.id)
            .outerjoin(rollouts, targets.c.rollout_id == rollouts.c.id)
            .outerjoin(schema.releases, targets.c.release_id == schema.releases.c.id)
            .where(devices.c.id.in_(list(device_ids)))
        )
        rows = (await connection.execute(query)).all()
        releases = await self._catalog.get(connection, {row.release_id for row in rows if row.target_id})
        return {row.id: (row, _target(row, releases) if row.target_id else None) for row in rows}

    def _judge(self, waiting: _Waiting, rows: dict[str, tuple[Any, Target | None]]) -> _Judged | None:
        identity = waiting.identity
        row, target = rows.get(identity.device_id, (None, None))
        refusal = refuse(row, identity, self._policy.auto_admission)
        if refusal:
            _fail(waiting, refusal)
            return None
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
            waiting.request,
            identity.public_key,
            self._trust.current,
            verify,
            identity.attestation,
            len(self._steps(waiting.request)) or MAX_ROOT_STEPS,
        )
        return _Judged(
            waiting=waiting,
            twin=twin,
            verdict=verdict,
            is_new=row is None,
            nonce=secrets.token_bytes(16),
            pinned=row.public_key if row and row.public_key else identity.public_key,
            key_order=key_order(row, identity, self._clock()),
        )

    def _respond(self, item: _Judged, now: int) -> bytes:
        request, wanted, root = item.waiting.request, item.verdict.wanted, self._trust.current
        # What does not fit beside ROOT steps comes with the next answer: the device asks for that at once.
        steps, longest = self._steps(request), request.longest_answer
        signed = assignment.build(
            nonce=request.nonce,
            device_id=bytes.fromhex(item.twin.device_id),
            time=now,
            sequence=wanted.sequence if wanted else root.min_sequence,
            manifest_digest=wanted.manifest_digest if wanted else None,
            root_version=min(root.version, request.root_version + (len(steps) or MAX_ROOT_STEPS)),
            campaign=item.twin.target.rollout_id if wanted and item.twin.target else 0,
            valid_for=self._policy.assignment_valid_s,
            kid=self._signer.kid,
            sign=self._signer.sign,
        )
        held = wanted is not None and request.manifest_digest == wanted.manifest_digest
        response = Response(
            signed,
            steps,
            wanted.envelope if wanted and (not steps or fits([*steps, wanted.envelope], longest)) else None,
            self._interval(item.verdict.hurry),
            item.nonce,
            item.verdict.report_status[:256],
        )
        response.key_order = item.key_order
        response.refused_values = request.refused_values
        return encode_response(response, manifest_held=held)

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
        paused=row.paused,
        withdrawn=row.withdrawn_at is not None,
        cancelling=row.rollout_state == RolloutState.CANCELLING,
    )


def _digest(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None


def _fail(waiting: _Waiting, exc: FotaError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(exc)


async def _store(connection: AsyncConnection, judged: list[_Judged], now: int) -> None:
    """Write all facts of a batch; a handful of statements, however many devices."""
    devices, targets = schema.devices, schema.targets
    new = [_admission(item.waiting.identity, now) for item in judged if item.is_new]
    if new:
        await connection.execute(insert(devices), new)
    for rows in (
        [_contact(item, now) for item in judged if item.verdict.report is None],
        [_facts(item, item.verdict.report, now) for item in judged if item.verdict.report],
    ):
        if rows:
            changes: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "device"}
            await connection.execute(
                update(devices).where(devices.c.id == bindparam("device")).values(changes), rows
            )
    moved = [change for item in judged if (change := _target_change(item, now))]
    if moved:
        names: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("state", "reason", "updated_at")}
        await connection.execute(
            update(targets).where(targets.c.id == bindparam("target")).values(names), moved
        )
        changed = {change["target"] for change in moved}
        moving = (item.twin.target for item in judged)
        await settle(connection, {one.rollout_id for one in moving if one and one.id in changed})
    confirmed = [
        {"device_id": item.twin.device_id, "image_hash": item.verdict.newly_confirmed.hex(), "at": now}
        for item in judged
        if item.verdict.newly_confirmed
    ]
    if confirmed:
        await connection.execute(insert(schema.confirmations), confirmed)
        for row in confirmed:
            await _prune(connection, schema.confirmations, str(row["device_id"]), CONFIRMATIONS_KEPT)
    for item in judged:
        if item.verdict.report and item.verdict.report.events:
            await _store_events(connection, item.twin.device_id, item.verdict.report.events, now)
    attested = [
        {"device_id": item.twin.device_id, "at": now, "counter": item.verdict.attested.counter}
        for item in judged
        if item.verdict.attested
    ]
    if attested:
        table = schema.attestations
        ids = [row["device_id"] for row in attested]
        await connection.execute(delete(table).where(table.c.device_id.in_(ids)))
        await connection.execute(insert(table), attested)
    for item in judged:
        if item.waiting.request.telemetry:
            await telemetry.store(connection, item.twin.device_id, item.waiting.request.telemetry, now)


def _admission(identity: Identity, now: int) -> dict[str, object]:
    return {
        "id": identity.device_id,
        "public_key": identity.public_key,
        "admitted_by": "certificate",
        "revoked": False,
        "first_seen": now,
    }


def _contact(item: _Judged, now: int) -> dict[str, object]:
    refused = item.verdict.report_status if item.waiting.request.report is not None else None
    return {
        "device": item.twin.device_id,
        "public_key": item.pinned,
        "last_seen": now,
        "root_version": item.waiting.request.root_version,
        "report_nonce": item.nonce,
        "refused_report": refused,
    }


def _facts(item: _Judged, report: Report, now: int) -> dict[str, object]:
    confirmed = report.image_hash if report.state == "confirmed" else item.twin.confirmed_hash
    return {
        **_contact(item, now),
        "refused_report": None,
        "report_at": now,
        "installed_digest": report.installed.hex() if report.installed else None,
        "settled_digest": item.verdict.settled.hex() if item.verdict.settled else None,
        "running_hash": report.image_hash.hex(),
        "running_version": report.version,
        "running_slot": report.slot,
        "state": report.state,
        "sec_cnt": report.sec_cnt,
        "floor": item.verdict.attested.floor if item.verdict.attested else report.floor,
        "reset_cause": report.reset_cause,
        "confirmed_hash": confirmed.hex() if confirmed else None,
    }


def _target_change(item: _Judged, now: int) -> dict[str, object] | None:
    target, verdict = item.twin.target, item.verdict
    if target is None or (target.state, target.reason) == (verdict.target_state, verdict.target_reason):
        return None
    return {
        "target": target.id,
        "new_state": verdict.target_state,
        "new_reason": verdict.target_reason,
        "new_updated_at": now,
    }


async def _store_events(
    connection: AsyncConnection, device_id: str, reported: list[tuple[str, str]], now: int
) -> None:
    table = schema.events
    rows = [{"device_id": device_id, "at": now, "code": code, "detail": detail} for code, detail in reported]
    await connection.execute(insert(table), rows)
    await _prune(connection, table, device_id, EVENTS_KEPT)


async def _prune(connection: AsyncConnection, table: Table, device_id: str, kept: int) -> None:
    """Leave the newest ``kept`` rows of a device: whoever holds its key can make up as many as it likes."""
    oldest_kept = (
        select(table.c.id)
        .where(table.c.device_id == device_id)
        .order_by(table.c.id.desc())
        .offset(kept - 1)
        .limit(1)
    ).scalar_subquery()
    await connection.execute(delete(table).where(table.c.device_id == device_id, table.c.id < oldest_kept))
