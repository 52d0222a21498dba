"""Waves in the database: who ranks where, how waves stand, and the step that follows. Decided by `waves.py`.

Every step is one short transaction; a server that is killed between two asks the database again.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, insert, or_, select, text, update
from sqlalchemy.sql.selectable import NamedFromClause

from fota_server import schema
from fota_server.clock import watch
from fota_server.database import now as clock
from fota_server.database import record_audit
from fota_server.decide import GIVEN_UP, ON_TRIAL, RolloutState, TargetState
from fota_server.hand_out import is_halted, policy_of
from fota_server.plan import HELD_BACK, Order
from fota_server.promise import BROKEN, link
from fota_server.wave_policy import Kind, Policy, Terms
from fota_server.waves import (
    EVERYBODY,
    Counts,
    Move,
    Pause,
    Phase,
    Wave,
    group_range,
    held_back,
    may_approve,
    next_step,
    rank,
    wave_devices,
)
from fota_wire.errors import VerifyError

_rollouts, _targets, _devices, _waves = schema.rollouts, schema.targets, schema.devices, schema.waves

_FORGIVEN = _targets.c.forgiven.is_not(None)


# -- planning ------------------------------------------------------------------------------------------------


def places(
    connection: Connection, policy: Policy, seed: str, device_ids: Collection[str]
) -> dict[str, int | None]:
    """Return the rank of each device, None: it is held back. A statement for all."""
    named = [size.group for size in policy.waves if size.kind is Kind.GROUP]
    index: dict[str, int] = {}
    if named:
        members = schema.members
        query = select(members.c.device_id, members.c.group_name).where(
            members.c.group_name.in_(named), members.c.device_id.in_(device_ids)
        )
        for row in connection.execute(query):
            found = named.index(row.group_name)
            index[row.device_id] = min(found, index.get(row.device_id, found))
    return {
        one: None if held_back(seed, one, policy.holdback) else rank(seed, one, index.get(one))
        for one in device_ids
    }


def why_empty(policy: Policy, devices: Sequence[int]) -> str | None:
    """Return which wave would hold no device, or None. "rest" may: then there is no such wave."""
    for number, (size, count) in enumerate(zip(policy.waves, devices, strict=True), 1):
        if not count and size.kind is not Kind.REST:
            return f"wave {number} ({size}) would hold no device: {sum(devices)} device(s) are planned in all"
    return None


def _store_waves(connection: Connection, rollout_id: int, policy: Policy, now: int) -> str | None:
    """Store the waves of a rollout whose devices are all planned; return why that cannot be, or None."""
    mine = _targets.c.rollout_id == rollout_id
    counted = select(func.count()).select_from(_targets).where(mine)
    total = int(connection.execute(counted).scalar_one())
    in_groups = []
    for index in range(sum(size.kind is Kind.GROUP for size in policy.waves)):
        inside = counted.where(_targets.c.rank.between(*group_range(index)))
        in_groups.append(int(connection.execute(inside).scalar_one()))
    devices = wave_devices(policy.waves, in_groups, total)
    reason = why_empty(policy, devices)
    if reason:
        return reason
    upto, rows = 0, []
    for number, (size, count) in enumerate(zip(policy.waves, devices, strict=True), 1):
        upto += count
        if not count:
            continue
        last = EVERYBODY
        if upto < total:
            nth = select(_targets.c.rank).where(mine).order_by(_targets.c.rank).offset(upto - 1).limit(1)
            last = int(connection.execute(nth).scalar_one())
        row = {"rollout_id": rollout_id, "number": number, "size": str(size), "devices": count}
        rows.append(row | {"last_rank": last, "phase": Phase.WAITING, "since": now})
    if rows:
        connection.execute(insert(_waves), rows)
    return None


def plan_ranks(
    connection: Connection, rollout_id: int, order: Order, chain: str, plan: NamedFromClause
) -> None:
    """Store a page of the targets of an order in waves, each with its rank, and the chain behind them."""
    policy = order.policy
    if policy is None:
        return
    query = select(plan.c.device_id, plan.c.release_id, plan.c.manifest_digest).where(plan.c.reason.is_(None))
    rows = connection.execute(query.order_by(plan.c.device_id)).all()
    placed = places(connection, policy, order.seed, [row.device_id for row in rows])
    kept = [(row, place) for row in rows if (place := placed[row.device_id]) is not None]
    back = [row.device_id for row in rows if placed[row.device_id] is None]
    common = {"rollout_id": rollout_id, "state": TargetState.PENDING, "updated_at": clock()}
    targets = [
        common | {"device_id": row.device_id, "release_id": row.release_id, "rank": place}
        for row, place in kept
    ]
    if targets:
        connection.execute(insert(_targets), targets)
    if back:
        reason = {"rollout_id": rollout_id, "reason": HELD_BACK}
        connection.execute(insert(schema.left_out), [reason | {"device_id": one} for one in back])
    links = ((row.device_id, row.manifest_digest, place) for row, place in kept)
    change = {"chain": link(chain, links)}
    connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**change))


def cut(connection: Connection, rollout_id: int, order: Order) -> None:
    """Store the waves of a rollout that is planned; one that is not as promised is cancelled."""
    query = select(_rollouts.c.chain).where(_rollouts.c.id == rollout_id)
    chain = connection.execute(query).scalar_one()
    broken = BROKEN if order.digest not in (None, chain) else None
    reason = broken or (_store_waves(connection, rollout_id, order.policy, clock()) if order.policy else None)
    if reason:
        change = {"held": reason, "state": RolloutState.CANCELLING}
        connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**change))
        record_audit(connection, "server", "rollout.cancel", str(rollout_id), reason=reason)


# -- how they stand ------------------------------------------------------------------------------------------


def standings(
    connection: Connection, rollout_id: int, policy: Policy, now: int, *, ended: bool = False
) -> list[tuple[Any, Wave]]:
    """Return the rows of a rollout's waves with what they stand like.

    ``ended``: count only those that ended badly or were closed, as if all others were still to be given it.
    One index has these alone, so it is short enough for a check-in's transaction; to count all takes 30 ms of
    100,000, and who has fallen silent ten times as long.
    """
    query = select(_waves).where(_waves.c.rollout_id == rollout_id).order_by(_waves.c.number)
    found, below = [], -1
    for row in connection.execute(query).all():
        counts, forgiven = Counts(pending=row.devices), 0
        if row.phase != Phase.WAITING:
            within = _targets.c.rank > below, _targets.c.rank <= row.last_rank
            states = _states(connection, rollout_id, within, ended=ended)
            pardoned = _states(connection, rollout_id, within, forgiven=True)
            silent, forgiven = 0, sum(pardoned.get(state, 0) for state in GIVEN_UP)
            if ended:
                states[TargetState.PENDING] = row.devices - sum(states.values())
            elif any(states.get(state) for state in ON_TRIAL):
                quiet = _is_silent(policy.terms(row.number), now)
                silent, too = _count_silent(connection, rollout_id, (*within, quiet))
                forgiven += too
            counts = Counts.of(states, silent)
        found.append(
            (
                row,
                Wave(
                    number=row.number,
                    phase=Phase(row.phase),
                    since=watch.lasts_since(row.since, now),
                    counts=counts,
                    forgiven=forgiven,
                ),
            )
        )
        below = row.last_rank
    return found


def _states(
    connection: Connection,
    rollout_id: int,
    within: tuple[ColumnElement[bool], ...],
    *,
    ended: bool = False,
    forgiven: bool = False,
) -> dict[TargetState, int]:
    """Count targets by their state: all, those that ended, or those that are forgiven, each by its index."""
    query = select(_targets.c.state, func.count().label("n")).where(
        _targets.c.rollout_id == rollout_id, *within
    )
    if ended:
        query = query.where(text(schema.OUT)).with_hint(_targets, "INDEXED BY targets_out", "sqlite")
    if forgiven:
        query = query.where(_FORGIVEN).with_hint(_targets, "INDEXED BY targets_forgiven", "sqlite")
    return {TargetState(row.state): row.n for row in connection.execute(query.group_by(_targets.c.state))}


def _count_silent(
    connection: Connection, rollout_id: int, which: tuple[ColumnElement[bool], ...]
) -> tuple[int, int]:
    """Return how many devices have fallen silent, and how many of these are forgiven."""
    query = (
        select(func.count(), func.count(_targets.c.forgiven))
        .select_from(_targets.join(_devices, _devices.c.id == _targets.c.device_id))
        .where(_targets.c.rollout_id == rollout_id, *which)
    )
    silent, forgiven = connection.execute(query).one()
    return int(silent), int(forgiven)


def _is_silent(terms: Terms, now: int) -> ColumnElement[bool]:
    """A target's device was given the release and has not called for too long; in a join with devices.

    Nobody has, as long as that after the clock has jumped, or the machine slept: they could not call.
    """
    if terms.silence_s is None or watch.lasts_since(0, now) > now - terms.silence_s:
        return false()
    seen = case((_devices.c.last_seen > _targets.c.given_at, _devices.c.last_seen), else_=_targets.c.given_at)
    return and_(_targets.c.state.in_(ON_TRIAL), seen < now - terms.silence_s)


def shown(connection: Connection, rollout_id: int, policy: Policy, now: int) -> list[dict[str, Any]]:
    """Return the waves of a rollout for people."""
    return [
        {
            "number": row.number,
            "size": row.size,
            "devices": row.devices,
            "phase": wave.phase,
            "since": row.since if wave.phase is not Phase.WAITING else None,
            "pending": wave.counts.pending,
            "on_trial": wave.counts.on_trial,
            "silent": wave.counts.silent,
            "confirmed": wave.counts.confirmed,
            "said": wave.counts.said,
            "failed": wave.counts.failed,
            "closed": wave.counts.closed,
            "forgiven": wave.forgiven,
            "terms": policy.terms(row.number).to_json(),
        }
        for row, wave in standings(connection, rollout_id, policy, now)
    ]


# -- going on ------------------------------------------------------------------------------------------------


def in_waves(connection: Connection, *, halted: bool = False) -> list[int]:
    """Return the rollouts whose waves are still to be watched; while everything is halted, none that is to go
    on, and (``halted``) those that may fail.
    """
    if not halted and is_halted(connection):
        return []
    going = (RolloutState.RUNNING, RolloutState.DONE, RolloutState.SAID, RolloutState.FAILED)
    left = select(_waves.c.rollout_id).where(_waves.c.phase != Phase.PASSED)
    query = select(_rollouts.c.id).where(
        _rollouts.c.id.in_(left),
        _rollouts.c.state.in_(going),
        _rollouts.c.held.is_(None),
        _rollouts.c.paused.is_(False),
    )
    return list(connection.execute(query.order_by(_rollouts.c.id)).scalars())


def due(connection: Connection, rollout_id: int, now: int) -> Move | Pause | None:
    """Return what follows from how the waves of a rollout stand."""
    policy = _policy(connection, rollout_id)
    return next_step(policy, [wave for _, wave in standings(connection, rollout_id, policy, now)], now)


def all_due(connection: Connection, now: int) -> list[int]:
    """Return the rollouts in waves whose next step is due."""
    return [number for number in in_waves(connection) if due(connection, number, now)]


def go_on(connection: Connection, rollout_id: int, now: int) -> Pause | None:
    """Do the next step of a rollout, if there is one still; return a pause that it was."""
    if rollout_id not in in_waves(connection):
        return None
    step = due(connection, rollout_id, now)
    if isinstance(step, Move):
        _enter(connection, rollout_id, step, now, "server")
    if isinstance(step, Pause):
        hold(connection, rollout_id, step.reason)
        return step
    return None


def stop_failed(connection: Connection, rollout_id: int, now: int) -> Pause | None:
    """Have a rollout pause itself if devices that failed are above its limit already; return that pause.

    Also while everything is halted: it goes on from the moment in which that is lifted. Who has fallen silent
    is not counted: `go_on` does.
    """
    if rollout_id not in in_waves(connection, halted=True):
        return None
    policy = _policy(connection, rollout_id)
    waves = [wave for _, wave in standings(connection, rollout_id, policy, now, ended=True)]
    step = next_step(policy, waves, now)
    if not isinstance(step, Pause):
        return None
    hold(connection, rollout_id, step.reason)
    return step


def hold(connection: Connection, rollout_id: int, reason: str) -> None:
    """Have a rollout pause itself, and say why."""
    change = {"held": reason, "paused": _rollouts.c.state == RolloutState.RUNNING}
    connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**change))
    record_audit(connection, "server", "rollout.held", str(rollout_id), reason=reason)


def _enter(connection: Connection, rollout_id: int, step: Move, now: int, actor: str) -> None:
    mine = _waves.c.rollout_id == rollout_id
    changes = [(step.number, step.phase)]
    query = select(_waves.c.number, _waves.c.last_rank).where(mine)
    last_ranks = {row.number: row.last_rank for row in connection.execute(query)}
    if step.phase is Phase.PASSED and step.number + 1 in last_ranks:
        changes.append((step.number + 1, Phase.OPEN))
    for number, phase in changes:
        change = {"phase": phase, "since": now}
        connection.execute(update(_waves).where(mine, _waves.c.number == number).values(**change))
        if phase is Phase.OPEN:
            opened = {"open_rank": last_ranks[number]}
            connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**opened))
        record_audit(connection, actor, "rollout.wave", str(rollout_id), wave=number, phase=phase)


def approve(connection: Connection, rollout_id: int, now: int, actor: str) -> None:
    """Open the next wave of a rollout that waits for a person.

    Raises:
        VerifyError: it does not wait.
    """
    policy = _policy(connection, rollout_id)
    number = may_approve([wave for _, wave in standings(connection, rollout_id, policy, now)])
    if number is None:
        raise VerifyError(f"rollout {rollout_id}: no wave of it waits for approval", "no-approval")
    _enter(connection, rollout_id, Move(number=number, phase=Phase.PASSED), now, actor)


def forgive(connection: Connection, rollout_id: int, now: int) -> None:
    """Have the devices that are in error count no more: an operator has seen why the rollout paused itself.

    One whose state changes afterwards counts again: who was silent may come back, and say that it failed.
    """
    policy = _policy(connection, rollout_id)
    joined = _targets.join(_devices, _devices.c.id == _targets.c.device_id)
    quiet = select(_targets.c.id).select_from(joined)
    waves = select(_waves.c.number, _waves.c.last_rank).where(_waves.c.rollout_id == rollout_id)
    silent: list[ColumnElement[bool]] = [false()]
    below = -1
    for row in connection.execute(waves.order_by(_waves.c.number)).all():
        within = _targets.c.rank > below, _targets.c.rank <= row.last_rank
        silent.append(and_(*within, _is_silent(policy.terms(row.number), now)))
        below = row.last_rank
    quiet = quiet.where(_targets.c.rollout_id == rollout_id, or_(*silent))
    failed = and_(_targets.c.rollout_id == rollout_id, _targets.c.state.in_(GIVEN_UP))
    connection.execute(update(_targets).where(or_(failed, _targets.c.id.in_(quiet))).values(forgiven=True))


def _policy(connection: Connection, rollout_id: int) -> Policy:
    query = select(_rollouts.c.policy).where(_rollouts.c.id == rollout_id)
    text = connection.execute(query).scalar_one_or_none()
    if text is None:
        raise VerifyError(f"rollout {rollout_id} is none in waves", "no-waves")
    return policy_of(text)


def policy_text(policy: Policy) -> str:
    """Return what ``rollouts.policy`` keeps."""
    return json.dumps(policy.to_json(), sort_keys=True)
