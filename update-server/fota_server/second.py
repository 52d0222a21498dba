"""A second person's approval, as the database has it: the policy, what is asked for, and who gave it.

A request is what was to be done, as it was asked for. Who gives it has it carried out, by the transaction
that notes so; what has changed since is refused then, as for a plan.
"""

import json
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, not_, or_, select, update

from fota_server import schema
from fota_server.campaigns import bounds
from fota_server.database import now, record_audit
from fota_server.decide import CLOSED
from fota_server.forecast import forecast
from fota_server.plan import ROLLBACK, UPDATE, Order, planned
from fota_server.second_policy import HOUR, Second, Weight, parse_second, why_not_decide, why_second, within
from fota_server.tokens import ADMINISTER, ROLES, Operator
from fota_wire.errors import InputError, VerifyError
from fota_wire.root import Root

KEY = "second"
MOST_PENDING = 100
PENDING, GIVEN, DENIED, EXPIRED = "pending", "given", "denied", "expired"
_meta, _asked, _devices, _releases = schema.meta, schema.approvals, schema.devices, schema.releases
_rollouts, _targets, _tokens = schema.rollouts, schema.targets, schema.tokens


def find(connection: Connection) -> Second | None:
    """Return the policy in force, or None."""
    query = select(_meta.c.value).where(_meta.c.key == KEY)
    kept = connection.execute(query).scalar_one_or_none()
    return None if kept is None else parse_second(json.loads(kept))


def set_second(connection: Connection, second: Second | None, actor: str) -> None:
    """Set the policy; None: one person is enough for everything.

    Raises:
        VerifyError: there are no two admins' tokens in force that name different persons.
    """
    if second is not None:
        admins = [role for role, rights in ROLES.items() if ADMINISTER in rights]
        in_force = (
            _tokens.c.revoked_at.is_(None),
            or_(_tokens.c.expires_at.is_(None), _tokens.c.expires_at > now()),
            _tokens.c.groups.is_(None),
            _tokens.c.role.in_(admins),
        )
        query = select(func.count(func.lower(_tokens.c.person).distinct())).where(*in_force)
        if connection.execute(query).scalar_one() < 2:
            told = "it takes two admins' tokens that name persons: see 'fota server token create --person'"
            raise VerifyError(f"nobody could give what another asked for: {told}", "persons")
    connection.execute(delete(_meta).where(_meta.c.key == KEY))
    if second is not None:
        connection.execute(insert(_meta).values(key=KEY, value=json.dumps(second.to_json())))
    record_audit(connection, actor, "policy.approval", "all", policy=second.to_json() if second else None)


# -- what an order weighs ------------------------------------------------------------------------------------


def weigh(connection: Connection, order: Order, root: Root) -> Weight | None:
    """Return what an order does, or None: no policy asks for it."""
    second = find(connection)
    if second is None:
        return None
    plan = planned(order, bounds(connection, root))
    goal, ran = _releases.alias("goal_of"), _releases.alias("ran_of")
    same = ran.c.image_hash == _devices.c.confirmed_hash, ran.c.class_id == goal.c.class_id
    from_sequence = select(func.max(ran.c.sequence)).where(*same).correlate(_devices, goal).scalar_subquery()
    query = (
        select(
            goal.c.class_id,
            goal.c.sequence,
            from_sequence.label("from_sequence"),
            _devices.c.confirmed_hash.is_(None).label("is_new"),
            func.count().label("devices"),
        )
        .select_from(plan)
        .join(_devices, _devices.c.id == plan.c.device_id)
        .join(goal, goal.c.id == plan.c.release_id)
        .where(plan.c.reason.is_(None))
        .group_by(goal.c.class_id, goal.c.sequence, from_sequence, _devices.c.confirmed_hash.is_(None))
    )
    reached, steps = 0, [0]
    known = True
    for row in connection.execute(query).all():
        if order.kind == UPDATE or (row.from_sequence is not None and row.sequence > row.from_sequence):
            reached += row.devices
        if row.from_sequence is not None:
            steps.append(_steps(connection, row.class_id, row.sequence, row.from_sequence))
        elif order.kind == ROLLBACK and not row.is_new:
            known = False
    if order.policy is not None and reached:
        found = forecast(connection, order, bounds(connection, root), 0)
        reached = min(reached, within(order.policy, [wave["devices"] for wave in found["waves"]], second))
    return Weight(reached=reached, steps=max(steps) if known else None)


def _steps(connection: Connection, class_id: str, low: int, high: int) -> int:
    between = _releases.c.sequence > low, _releases.c.sequence <= high
    query = select(func.count()).select_from(_releases).where(_releases.c.class_id == class_id, *between)
    return int(connection.execute(query).scalar_one())


def why(connection: Connection, order: Order, weight: Weight | None) -> str | None:
    """Return why an order of this weight takes a second person, or None."""
    second = find(connection)
    if second is None:
        return None
    if weight is None:
        return "a policy was set meanwhile: give the order again"
    since = now() - second.hours * HOUR
    approved = exists().where(_asked.c.rollout == _rollouts.c.id)
    joined = _targets.join(_rollouts, _rollouts.c.id == _targets.c.rollout_id)
    mine = and_(_targets.c.release_id == order.release_id, _rollouts.c.created_at > since, not_(approved))
    # A device counts once, and not where its order ended before it had been given anything.
    reached = or_(_targets.c.given_at.is_not(None), _targets.c.state.not_in(CLOSED))
    recent = select(func.count(_targets.c.device_id.distinct())).select_from(joined).where(mine, reached)
    retired = exists().where(schema.retirements.c.device_id == _devices.c.id)
    # Who has never called counts for nothing: one person's import would make any order a small one.
    called = _devices.c.last_seen.is_not(None), _devices.c.revoked.is_(False), not_(retired)
    fleet = select(func.count()).select_from(_devices).where(*called)
    numbers = [int(connection.execute(query).scalar_one()) for query in (recent, fleet)]
    return why_second(second, weight, *numbers)


def require_alone(connection: Connection, order: Order, weight: Weight | None) -> None:
    """Return if an order takes no second person, asked again by the transaction that stores it.

    Raises:
        VerifyError: it does by now.
    """
    reason = why(connection, order, weight)
    if reason:
        raise VerifyError(f"{reason}; give the order again to ask for that", "approval")


# -- requests ------------------------------------------------------------------------------------------------


def ask(
    connection: Connection, operator: Operator, kind: str, subject: str, reason: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Store what an operator asks for and return it; the very same that he has asked for is that.

    Raises:
        VerifyError: the token names no person, or too much waits.
    """
    second = find(connection)
    if second is None or operator.person is None:
        told = f"{reason}; token {operator.name} names no person who could ask: 'fota server token create'"
        raise VerifyError(told, "persons")
    kept, at = json.dumps(body, sort_keys=True), now()
    waits = _asked.c.state == PENDING, _asked.c.expires_at > at
    same = _asked.c.kind == kind, _asked.c.subject == subject, _asked.c.asked_by == operator.name
    for found in connection.execute(select(_asked).where(*waits, *same)).mappings():
        if _same(json.loads(found["body"]), body):
            return _view(found, at)
    if (
        connection.execute(select(func.count()).select_from(_asked).where(*waits)).scalar_one()
        >= MOST_PENDING
    ):
        raise VerifyError(f"{MOST_PENDING} requests wait already: see 'fota approval list'", "approvals")
    row = {
        "kind": kind,
        "subject": subject,
        "reason": reason,
        "body": kept,
        "asked_at": at,
        "asked_by": operator.name,
        "person": operator.person,
        "expires_at": at + second.expires_s,
        "state": PENDING,
    }
    result = connection.execute(insert(_asked).values(**row))
    number = int(result.inserted_primary_key[0])  # type: ignore[index]
    detail = {"approval": number, "person": operator.person, "reason": reason}
    record_audit(connection, operator.name, f"approval.ask.{kind}", subject, **detail)
    return show(connection, number)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """A draw of ranks is each time another, and so is its digest: that makes no other request."""
    drawn = ("seed", "digest")
    return {k: v for k, v in one.items() if k not in drawn} == {
        k: v for k, v in other.items() if k not in drawn
    }


def listed(connection: Connection, before: int, limit: int, states: Collection[str]) -> list[dict[str, Any]]:
    """Return requests, newest first, of those below ``before``; ``states``: only such, none: all."""
    query = select(_asked).where(_asked.c.id < before).order_by(_asked.c.id.desc()).limit(limit)
    at = now()
    if PENDING in states:
        query = query.where(_asked.c.state == PENDING, _asked.c.expires_at > at)
    return [_view(row, at) for row in connection.execute(query).mappings()]


def show(connection: Connection, number: int) -> dict[str, Any]:
    """Return one request.

    Raises:
        InputError: there is none of this number.
    """
    row = connection.execute(select(_asked).where(_asked.c.id == number)).mappings().first()
    if row is None:
        raise InputError(f"no request {number}: see 'fota approval list'", "unknown-approval")
    return _view(row, now())


def _view(row: Any, at: int) -> dict[str, Any]:  # noqa: ANN401 - a driver's row
    lapsed = row["state"] == PENDING and at >= row["expires_at"]
    return dict(row) | {"body": json.loads(row["body"]), "state": EXPIRED if lapsed else row["state"]}


def give(
    connection: Connection, number: int, operator: Operator, carry_out: Callable[[Connection], int | None]
) -> int | None:
    """Note that a second person gives what was asked for, and have it done; all of it, or nothing.

    ``carry_out`` returns the rollout that came of it, if one did.

    Raises:
        VerifyError: he may not, who asked may not any more, or as ``carry_out``.
    """
    asked = require_decidable(connection, number, operator)
    rollout = carry_out(connection)
    _decide(connection, number, operator, GIVEN, rollout=rollout)
    detail = {
        "approval": number,
        "person": operator.person,
        "asked_by": asked["asked_by"],
        "rollout": rollout,
    }
    record_audit(connection, operator.name, f"approval.give.{asked['kind']}", asked["subject"], **detail)
    return rollout


def require_decidable(connection: Connection, number: int, operator: Operator) -> dict[str, Any]:
    """Return a request that this operator may give.

    Raises:
        InputError, VerifyError: there is none, he may not, or who asked may not any more.
    """
    asked = show(connection, number)
    names = ("person", "state", "expires_at")
    refusal = why_not_decide(operator, **{name: asked[name] for name in names}, now=now())
    if refusal:
        raise VerifyError(f"request {number}: {refusal}", "approval")
    mine = _tokens.c.name == asked["asked_by"], _tokens.c.revoked_at.is_(None)
    row = connection.execute(select(_tokens.c.expires_at).where(*mine)).first()
    if row is None or (row.expires_at is not None and row.expires_at <= now()):
        raise VerifyError(f"request {number}: token {asked['asked_by']} is not in force any more", "approval")
    return asked


def deny(connection: Connection, number: int, operator: Operator, reason: str) -> None:
    """Have a request end undone; who asked may take it back so, too.

    Raises:
        InputError, VerifyError: there is none, or it is decided already.
    """
    asked = show(connection, number)
    if asked["state"] != PENDING:
        raise VerifyError(f"request {number}: it is {asked['state']}", "approval")
    _decide(connection, number, operator, DENIED, note=reason)
    detail = {"approval": number, "person": operator.person, "asked_by": asked["asked_by"], "reason": reason}
    record_audit(connection, operator.name, f"approval.deny.{asked['kind']}", asked["subject"], **detail)


def _decide(
    connection: Connection, number: int, operator: Operator, state: str, **more: int | str | None
) -> None:
    change = {"state": state, "decided_at": now(), "decided_by": operator.name} | more
    connection.execute(update(_asked).where(_asked.c.id == number).values(**change))
