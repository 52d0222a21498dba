"""Orders to one device or to many: what they would do, placing them, and carrying them out in pages.

An order is placed in one short transaction and answered with its number. What it wants of each device is
planned from there on in pages of ``PAGE`` devices, each a transaction of a handful of statements, and in
force from its commit on; check-ins go on in between. What is still to be done stands in the database
(``decide.WORKED_ON``), so a server that is killed in the middle goes on at its next start.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, Connection, case, exists, func, insert, literal, or_, select, update

from fota_server import dynamic, lab, rehearsals, schema, second, second_policy, wave_work
from fota_server.campaigns import bounds
from fota_server.catalog import barred_releases, find_release
from fota_server.database import Database, now, record_audit
from fota_server.decide import OPEN, UNDER_WAY, WORKED_ON, RolloutState, TargetState
from fota_server.forecast import forecast, plan_devices
from fota_server.hand_out import policy_of
from fota_server.plan import ROLLBACK, UPDATE, Order, Scope, classes, members, page_end, planned
from fota_server.promise import BROKEN, head
from fota_server.rollouts import PAGE, cancel_page, close_page, set_paused, settle, show, tally
from fota_server.wave_policy import Kind, OnFailure, Policy
from fota_server.wave_work import policy_text
from fota_wire.errors import InputError, VerifyError
from fota_wire.root import Root

_rollouts, _targets, _devices, _left = schema.rollouts, schema.targets, schema.devices, schema.left_out


LOOK = 5000
"""Devices that a page's transaction looks at, at most, to find out whom an order means."""

_PLANNING = select(_rollouts.c.id, _rollouts.c.kind, _rollouts.c.scope, _rollouts.c.release_id).where(
    _rollouts.c.state == RolloutState.PLANNING
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InWaves:
    """How an order is to be carried out in waves. ``digest``: of the plan that is promised; None: none is."""

    policy: Policy
    seed: str
    digest: str | None = None


def order_for(
    connection: Connection,
    kind: str,
    version: str | None,
    scope: Scope,
    waves: InWaves | None = None,
) -> Order:
    """Return the order that an operator means.

    Raises:
        InputError: release, device or group is not known, or the group is empty; or a date of the policy
            is over (``policy``).
        VerifyError: the policy wants it rehearsed, and it is not (``not-rehearsed``).
    """
    if waves is not None:
        waves.policy.require_ahead(now())
    _require_scope(connection, scope)
    release_id = None
    if version is not None:
        release_id = find_release(connection, version, classes(scope)).id
    order = Order(kind=kind, scope=scope, release_id=release_id)
    rehearsals.require(connection, order)
    if waves is None:
        return order
    named, at_least = waves.policy.at_least, None
    for size in waves.policy.waves:
        if size.kind is Kind.GROUP:
            _require_scope(connection, Scope(device=None, group=size.group))
    if named is not None:
        at_least = find_release(connection, named, classes(scope)).sequence
    return replace(order, policy=waves.policy, seed=waves.seed, digest=waves.digest, at_least=at_least)


def _require_scope(connection: Connection, scope: Scope) -> None:
    found = connection.execute(members(scope).limit(1)).first()
    if scope.rollout is not None:
        known = select(_rollouts.c.id).where(_rollouts.c.id == scope.rollout)
        if not connection.execute(known).first():
            raise InputError(f"no rollout {scope.rollout}: see 'fota rollout list'", "unknown-rollout")
        if not found:
            raise VerifyError(f"rollout {scope.rollout} was given to no device yet: cancel it", "refused")
        return
    if scope.since is not None:
        if not found:
            raise VerifyError(
                "no device was given anything since then: there is nothing to take back", "refused"
            )
        return
    if scope.device and not found:
        raise InputError(f"no device {scope.device}: see 'fota device list'", "unknown-device")
    if scope.group:
        dynamic.require_filled(connection, scope.group)
    if not found:
        raise InputError(f"group {scope.group} has no devices: see 'fota group --help'", "empty-group")


def preview(connection: Connection, order: Order, root: Root) -> dict[str, Any]:
    """Return what an order would do, in numbers: ``moves`` by release and release that runs, ``left_out`` by
    reason, ``lab`` by release that devices would wait for (`lab.waiting`); each with its number of devices.
    """
    plan = planned(order, bounds(connection, root))
    numbers = func.count().label("devices"), func.min(plan.c.device_id).label("first")
    moves = (
        select(plan.c.version, plan.c.runs, *numbers)
        .where(plan.c.reason.is_(None))
        .group_by(plan.c.version, plan.c.runs)
    )
    left = (
        select(plan.c.reason, *numbers)
        .where(plan.c.reason.is_not(None))
        .group_by(plan.c.reason)
        .order_by(func.count().desc(), plan.c.reason)
    )
    to = [dict(row) for row in connection.execute(moves).mappings()]
    wanted = select(plan.c.device_id, plan.c.release_id).where(plan.c.reason.is_(None)).subquery()
    return {
        "kind": order.kind,
        "scope": str(order.scope),
        "total": sum(row["devices"] for row in to),
        "moves": to,
        "left_out": [dict(row) for row in connection.execute(left).mappings()],
        "lab": lab.waiting(connection, wanted),
    }


def preview_devices(
    connection: Connection, order: Order, root: Root, after: str, limit: int
) -> list[dict[str, Any]]:
    """Return up to ``limit`` devices of an order above ``after``: what runs, and what comes or why not."""
    last = _page_end(connection, order.scope, after, limit)
    plan = planned(order, bounds(connection, root), after, last)
    columns = plan.c.device_id, plan.c.runs, plan.c.version, plan.c.manifest_digest, plan.c.reason
    rows = connection.execute(select(*columns).order_by(plan.c.device_id)).mappings()
    return plan_devices(connection, order, [dict(row) for row in rows])


def preview_waves(connection: Connection, order: Order, root: Root, interval_s: int) -> dict[str, Any]:
    """Return what `preview` does, and the plan of an order in waves (`forecast`).

    Raises:
        VerifyError: it would do nothing; the first reason is named.
    """
    seen = preview(connection, order, root)
    _require_something(seen["total"], seen["left_out"])
    return seen | forecast(connection, order, bounds(connection, root), interval_s)


async def place(
    database: Database,
    order: Order,
    named: str | None,
    root: Root,
    actor: str,
    weight: second_policy.Weight | None = None,
) -> dict[str, Any]:
    """Store an order and return it as ``show`` does; a short one, with nothing before it, is planned, too.

    ``named``: the version as the operator said it, for the audit trail. ``weight``: by `second.weigh`.

    Raises:
        InputError: the scope is gone meanwhile, or empty.
        VerifyError: it would do nothing; the first reason, and how many devices are left out. Or the very
            same order is still being planned.
    """
    await database.read(require_effect, order, root)
    return await database.write(place_now, order, named, root, actor, weight)


def promised(connection: Connection, order: Order, root: Root) -> dict[str, Any]:
    """Return what of an order is held to until somebody else has looked at it: how many devices it reaches,
    and in waves its plan.
    """
    seen = {"total": preview(connection, order, root)["total"], "policy": None, "seed": None, "digest": None}
    if order.policy is None:
        return seen
    digest = forecast(connection, order, bounds(connection, root), 0)["digest"]
    return seen | {"policy": order.policy.to_json(), "seed": order.seed, "digest": digest}


def require_effect(connection: Connection, order: Order, root: Root) -> None:
    """Return if an order reaches any device, and is as its plan promised; raises as `place`."""
    if order.digest is not None:
        going = select(_rollouts.c.id).where(_rollouts.c.digest == order.digest, _rollouts.c.state.in_(OPEN))
        same = connection.execute(going).scalars().first()
        if same:
            told = f"rollout {same} was started from this plan: see 'fota rollout show {same}'"
            raise VerifyError(told, "under-way")
    if not _reaches_any(connection, order, root):
        seen = preview(connection, order, root)
        _require_something(seen["total"], seen["left_out"])
    if order.policy:
        found = forecast(connection, order, bounds(connection, root), 0)
        _require_promise(order.digest, found["digest"])


def _reaches_any(connection: Connection, order: Order, root: Root) -> bool:
    """Return whether an order reaches a device: one of its first, mostly, and the rest is not looked at."""
    limits = bounds(connection, root)
    for last in (_page_end(connection, order.scope, None, PAGE, LOOK), None):
        plan = planned(order, limits, None, last)
        reached = select(plan.c.device_id).where(plan.c.reason.is_(None)).limit(1)
        if connection.execute(reached).first():
            return True
    return False


def place_now(
    connection: Connection,
    order: Order,
    named: str | None,
    root: Root,
    actor: str,
    weight: second_policy.Weight | None = None,
    approved: bool = False,
) -> dict[str, Any]:
    """Store an order, as `place` does. ``approved``: a second person has given it."""
    if not approved:
        second.require_alone(connection, order, weight)
    rehearsals.require(connection, order)
    _require_scope(connection, order.scope)
    waiting = connection.execute(_PLANNING).all()
    for other in waiting:
        if (other.kind, other.scope, other.release_id) == (order.kind, str(order.scope), order.release_id):
            raise VerifyError(f"rollout {other.id} is the same, and still being planned", "planning")
    if order.scope.since is not None:
        _end_since(connection, order.scope.since, actor)
    row = {
        "kind": order.kind,
        "scope": str(order.scope),
        "release_id": order.release_id,
        "state": RolloutState.PLANNING,
        "paused": False,
        "created_at": now(),
        "created_by": actor,
    }
    if order.policy:
        row |= {"policy": policy_text(order.policy), "seed": order.seed, "digest": order.digest}
        row |= {"open_rank": -1, "chain": head(order)}
    result = connection.execute(insert(_rollouts).values(**row))
    rollout_id = int(result.inserted_primary_key[0])  # type: ignore[index]
    detail = {"rollout": rollout_id, "version": named}
    record_audit(connection, actor, f"rollout.{order.kind}", str(order.scope), **detail)
    if not waiting:
        plan_page(connection, rollout_id, root)
    shown = show(connection, rollout_id)
    if shown["state"] != RolloutState.PLANNING:  # another order may have been quicker
        _require_something(shown["total"], shown["left_out"])
    return shown


def _require_promise(promised: str | None, found: str) -> None:
    if promised is not None and promised != found:
        raise VerifyError(BROKEN, "plan")


def _require_something(total: int, left_out: list[dict[str, Any]]) -> None:
    if total:
        return
    told = left_out[0] if left_out else {"reason": "there is nothing to do", "devices": 0, "first": "-"}
    others = sum(item["devices"] for item in left_out) - 1
    more = f" (and {others} more)" if others > 0 else ""
    raise VerifyError(f"device {told['first']}: {told['reason']}{more}", "refused")


# -- work, a page at a time ----------------------------------------------------------------------------------


def work(connection: Connection, root: Root) -> bool:
    """Do one bounded step of what is still to be done; return whether there was anything.

    Groups that are being filled go first: they take no orders until then. Then the oldest order, so that a
    younger one always has the last word on a device.
    """
    if dynamic.fill_page(connection):
        return True
    query = (
        select(_rollouts.c.id, _rollouts.c.state)
        .where(_rollouts.c.state.in_(WORKED_ON))
        .order_by(_rollouts.c.id)
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return _close_barred(connection, root)
    if row.state == RolloutState.PLANNING:
        plan_page(connection, row.id, root)
    else:
        cancel_page(connection, row.id)
    return True


def plan_page(connection: Connection, rollout_id: int, root: Root) -> None:
    """Plan the next page of a rollout's devices; after the last one it runs, or has its verdict."""
    row = connection.execute(select(_rollouts).where(_rollouts.c.id == rollout_id)).one()
    order = _stored(connection, row)
    last = _page_end(connection, order.scope, row.planned_to, PAGE, LOOK)
    if last is not None:
        plan = planned(order, bounds(connection, root), row.planned_to, last)
        refused = select(literal(rollout_id), plan.c.device_id, plan.c.reason).where(
            plan.c.reason.is_not(None)
        )
        connection.execute(insert(_left).from_select(["rollout_id", "device_id", "reason"], refused))
        if order.policy:
            wave_work.plan_ranks(connection, rollout_id, order, row.chain, plan)
        else:
            chosen = select(
                literal(rollout_id),
                plan.c.device_id,
                plan.c.release_id,
                literal(TargetState.PENDING),
                literal(now(), BigInteger),
            ).where(plan.c.reason.is_(None))
            names = ["rollout_id", "device_id", "release_id", "state", "updated_at"]
            connection.execute(insert(_targets).from_select(names, chosen))
        _put_in_force(connection, rollout_id, row.planned_to, last)
    done = last is None or _page_end(connection, order.scope, last, 1, LOOK) is None
    state = RolloutState.RUNNING if done else RolloutState.PLANNING
    changes = {"planned_to": last or row.planned_to, "state": state}
    connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**changes))
    if done:
        shown = tally(connection, rollout_id)
        record_audit(
            connection,
            "server",
            "rollout.planned",
            str(rollout_id),
            versions=shown["versions"],
            devices=shown["total"],
            left_out={item["reason"]: item["devices"] for item in shown["left_out"]},
        )
        if order.policy:
            wave_work.cut(connection, rollout_id, order)
        settle(connection, [rollout_id])


def _stored(connection: Connection, row: Any) -> Order:  # noqa: ANN401 - a driver's row
    """Return the order that a row of ``rollouts`` is."""
    scope = Scope.parse(row.scope)
    order = Order(kind=row.kind, scope=scope, release_id=row.release_id)
    if row.policy is None:
        return order
    policy, at_least = policy_of(row.policy), None
    if policy.at_least is not None:
        at_least = find_release(connection, policy.at_least, classes(scope)).sequence
    return replace(order, policy=policy, seed=row.seed, digest=row.digest, at_least=at_least)


# -- waves that go on, and what took a bad one ---------------------------------------------------------------


def go_on(connection: Connection, rollout_id: int, at: int) -> None:
    """Do the next step of a rollout in waves, and what its policy says of one that fails."""
    if wave_work.go_on(connection, rollout_id, at):
        _after_failure(connection, rollout_id)


def stop_failed(connection: Connection, rollout_id: int, at: int) -> bool:
    """Have a rollout in waves of which a device has just failed pause, if that is one too many, with what its
    policy says; return whether it did. In the transaction that hands out: nobody else is given it.
    """
    stopped = wave_work.stop_failed(connection, rollout_id, at) is not None
    if stopped:
        _after_failure(connection, rollout_id)
    return stopped


def resume(connection: Connection, rollout_id: int, actor: str) -> None:
    """Let a paused rollout go on. What failed while an operator had it paused has it pause itself at once.

    Raises:
        InputError, VerifyError: as ``rollouts.set_paused``.
    """
    set_paused(connection, rollout_id, False, actor)
    stop_failed(connection, rollout_id, now())


def _after_failure(connection: Connection, rollout_id: int) -> None:
    query = select(_rollouts.c.policy, _rollouts.c.kind).where(_rollouts.c.id == rollout_id)
    row = connection.execute(query).one()
    if policy_of(row.policy).on_failure is OnFailure.ROLLBACK and row.kind == UPDATE:
        with suppress(VerifyError):  # nothing was given, or it is under way: then it stays paused
            take_back(connection, rollout_id, "server", approved=True)  # by the policy it was started with


def preview_back(connection: Connection, rollout_id: int, root: Root) -> dict[str, Any]:
    """Return what `take_back` would do, as `preview`; raises as it does, and if it would do nothing."""
    order = way_back(connection, rollout_id)
    seen = preview(connection, order, root)
    _require_something(seen["total"], seen["left_out"])
    return seen


def way_back(connection: Connection, rollout_id: int) -> Order:
    """Return the order that `take_back` of a rollout is; raises as that does."""
    query = select(_rollouts.c.kind).where(_rollouts.c.id == rollout_id)
    if connection.execute(query).scalar_one_or_none() not in (None, UPDATE):
        raise VerifyError(f"{rollout_id} is a rollback: there is nothing of it to take back", "refused")
    scope = Scope(device=None, group=None, rollout=rollout_id)
    _require_scope(connection, scope)
    going = select(_rollouts.c.id).where(_rollouts.c.scope == str(scope), _rollouts.c.state.in_(OPEN))
    same = connection.execute(going).scalars().first()
    if same:
        told = f"rollback {same} takes it back already: see 'fota rollout show {same}'"
        raise VerifyError(told, "under-way")
    return Order(kind=ROLLBACK, scope=scope, release_id=None)


def take_back(
    connection: Connection,
    rollout_id: int,
    actor: str,
    weight: second_policy.Weight | None = None,
    approved: bool = False,
) -> int:
    """Cancel a rollout and send each device that was given its release back to what it had confirmed; return
    the number of the rollback, which is still to be planned. ``weight``, ``approved``: as for `place_now`.

    Raises:
        InputError: no such rollout.
        VerifyError: it is a rollback itself, no device was given it, or a rollback of it is under way.
    """
    order = way_back(connection, rollout_id)
    if not approved:
        second.require_alone(connection, order, weight)
    scope = order.scope
    query = select(_rollouts.c.state).where(_rollouts.c.id == rollout_id)
    if connection.execute(query).scalar_one() in OPEN:
        _end(connection, rollout_id, actor)
    new = {"kind": ROLLBACK, "scope": str(scope), "state": RolloutState.PLANNING, "paused": False}
    stored = insert(_rollouts).values(**new, created_at=now(), created_by=actor)
    number = int(connection.execute(stored).inserted_primary_key[0])  # type: ignore[index]
    record_audit(connection, actor, f"rollout.{ROLLBACK}", str(scope), rollout=number)
    return number


def _end_since(connection: Connection, since: int, actor: str) -> None:
    """Cancel what was ordered, or given to anybody, since then, and goes on: it would give it again."""
    given = exists().where(_targets.c.rollout_id == _rollouts.c.id, _targets.c.given_at >= since)
    query = select(_rollouts.c.id).where(
        _rollouts.c.kind == UPDATE, _rollouts.c.state.in_(OPEN), or_(_rollouts.c.created_at >= since, given)
    )
    for number in connection.execute(query.order_by(_rollouts.c.id)).scalars().all():
        _end(connection, number, actor)


def _end(connection: Connection, rollout_id: int, actor: str) -> None:
    change = {"state": RolloutState.CANCELLING, "paused": False}
    connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**change))
    record_audit(connection, actor, "rollout.cancel", str(rollout_id))


def _page_end(
    connection: Connection, scope: Scope, after: str | None, size: int, look: int | None = None
) -> str | None:
    last: str | None = connection.execute(page_end(scope, after, size, look)).scalar_one()
    return last


def _put_in_force(connection: Connection, rollout_id: int, after: str | None, last: str) -> None:
    """Have the devices of a page follow their new targets; what was under way for them is superseded."""
    page = (_targets.c.rollout_id == rollout_id) & (_targets.c.device_id <= last)
    if after is not None:
        page &= _targets.c.device_id > after
    ids = select(_targets.c.device_id).where(page)
    held = select(_devices.c.target_id).where(_devices.c.id.in_(ids))
    replaced = _targets.c.id.in_(held) & _targets.c.state.in_(UNDER_WAY)
    others = connection.execute(select(_targets.c.rollout_id).where(replaced).distinct()).scalars().all()
    ended = {
        "state": TargetState.SUPERSEDED,
        "reason": f"rollout {rollout_id} took it over",
        "updated_at": now(),
    }
    connection.execute(update(_targets).where(replaced).values(**ended))
    new = select(_targets.c.id).where(
        _targets.c.rollout_id == rollout_id, _targets.c.device_id == _devices.c.id
    )
    in_force = {"target_id": new.scalar_subquery()}
    connection.execute(update(_devices).where(_devices.c.id.in_(ids)).values(**in_force))
    settle(connection, others)


def _close_barred(connection: Connection, root: Root) -> bool:
    """Close the next targets whose release devices must not be given any more."""
    barred = barred_releases(connection, root)
    if not barred:
        return False
    reason = case(barred, value=_targets.c.release_id)
    which = _targets.c.release_id.in_(barred)
    return close_page(connection, which, TargetState.WITHDRAWN, reason) > 0
