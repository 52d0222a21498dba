"""Rollouts as a whole: their verdicts, how one is paused or cancelled, how they are shown.

A verdict is stored by the transaction that changed the targets it follows from (`settle`).
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, exists, func, literal, select, update

from fota_server import lab, schema, wave_work
from fota_server.database import now, record_audit
from fota_server.decide import OPEN, UNDER_WAY, VERDICTS, WORKED_ON, RolloutState, TargetState
from fota_server.hand_out import is_halted, policy_of
from fota_server.plan import Scope, members
from fota_server.waves import Phase
from fota_wire.errors import InputError, VerifyError
from fota_wire.version import parse_version

PAGE = 250
"""Devices that one transaction plans or closes."""

_rollouts, _targets, _left = schema.rollouts, schema.targets, schema.left_out


# -- closing targets -----------------------------------------------------------------------------------------


def close_page(
    connection: Connection,
    which: ColumnElement[bool],
    state: TargetState,
    reason: str | ColumnElement[str],
) -> int:
    """Close a page of the targets ``which`` that are under way; return how many."""
    under_way = _targets.c.state.in_(UNDER_WAY)
    query = select(_targets.c.id, _targets.c.rollout_id).where(which, under_way).limit(PAGE)
    rows = connection.execute(query).all()
    if rows:
        ended = {"state": state, "reason": reason, "updated_at": now()}
        ids = [row.id for row in rows]
        connection.execute(update(_targets).where(_targets.c.id.in_(ids)).values(**ended))
        settle(connection, {row.rollout_id for row in rows})
    return len(rows)


def cancel_page(connection: Connection, rollout_id: int) -> None:
    """Close the next page of a rollout that is being cancelled; after the last one it is."""
    reason = f"rollout {rollout_id} was cancelled"
    which = _targets.c.rollout_id == rollout_id
    if close_page(connection, which, TargetState.CANCELLED, reason) < PAGE:
        _end(connection, rollout_id, RolloutState.CANCELLED)


def close_device(connection: Connection, device_id: str, reason: str) -> None:
    """Close what is under way for a device that was shut out; its rollouts do not wait for it."""
    close_page(connection, _targets.c.device_id == device_id, TargetState.GONE, reason)


# -- verdicts ------------------------------------------------------------------------------------------------


def settle(connection: Connection, rollout_ids: Collection[int]) -> None:
    """Store the verdict on each of these rollouts, in the transaction that changed their targets."""
    if not rollout_ids:
        return
    verdict = case(
        *(
            (
                exists().where(_targets.c.rollout_id == _rollouts.c.id, _targets.c.state.in_(states)),
                literal(word.value),
            )
            for word, states in VERDICTS
        ),
        else_=literal(RolloutState.FAILED.value),
    )
    fixed = (*WORKED_ON, RolloutState.CANCELLED)
    query = select(_rollouts.c.id, _rollouts.c.state, verdict.label("verdict")).where(
        _rollouts.c.id.in_(rollout_ids), _rollouts.c.state.not_in(fixed)
    )
    for row in connection.execute(query).all():
        if row.verdict != row.state:
            _end(connection, row.id, RolloutState(row.verdict))


def _end(connection: Connection, rollout_id: int, state: RolloutState) -> None:
    ended_at = None if state is RolloutState.RUNNING else now()
    change = {"state": state, "ended_at": ended_at}
    connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**change))
    action = "rollout.reopen" if ended_at is None else "rollout.end"
    record_audit(connection, "server", action, str(rollout_id), verdict=state.value)


# -- changing one --------------------------------------------------------------------------------------------


def set_paused(connection: Connection, rollout_id: int, paused: bool, actor: str) -> None:
    """Pause or resume a rollout; a pause does not touch a device that runs the release.

    Raises:
        InputError: no such rollout.
        VerifyError: it has ended.
    """
    row = _require_open(connection, rollout_id, "pause" if paused else "resume")
    if row["paused"] != paused:
        if row["held"] is not None:  # it had paused itself: an operator has read why
            wave_work.forgive(connection, rollout_id, now())
        change = update(_rollouts).where(_rollouts.c.id == rollout_id).values(paused=paused, held=None)
        connection.execute(change)
        action = "rollout.pause" if paused else "rollout.resume"
        record_audit(connection, actor, action, str(rollout_id))


def approve(connection: Connection, rollout_id: int, actor: str) -> None:
    """Open the next wave of a rollout that waits for a person.

    Raises:
        InputError: no such rollout.
        VerifyError: it has ended, is paused, or does not wait.
    """
    row = _require_open(connection, rollout_id, "approve")
    if row["paused"]:
        raise VerifyError(f"rollout {rollout_id} is paused: resume it first", "paused")
    wave_work.approve(connection, rollout_id, now(), actor)


def cancel(connection: Connection, rollout_id: int, actor: str) -> None:
    """End a rollout: no further device is offered it. What is installed already stays so.

    Raises:
        InputError, VerifyError: as for ``set_paused``.
    """
    _require_open(connection, rollout_id, "cancel")
    change = {"state": RolloutState.CANCELLING, "paused": False}
    connection.execute(update(_rollouts).where(_rollouts.c.id == rollout_id).values(**change))
    record_audit(connection, actor, "rollout.cancel", str(rollout_id))
    cancel_page(connection, rollout_id)


def _require_open(connection: Connection, rollout_id: int, verb: str) -> Any:  # noqa: ANN401 - a row
    row = _rollout(connection, rollout_id)
    if row["state"] not in OPEN:
        raise VerifyError(
            f"rollout {rollout_id} is {row['state']}: there is nothing to {verb}", "rollout-ended"
        )
    return row


# -- showing -------------------------------------------------------------------------------------------------


def tally(connection: Connection, rollout_id: int) -> dict[str, Any]:
    """Return one rollout in numbers: progress, and who was left out and why.

    Raises:
        InputError: no such rollout.
    """
    return _tally(connection, _rollout(connection, rollout_id))


def _tally(connection: Connection, row: Any) -> dict[str, Any]:  # noqa: ANN401 - a driver's row
    (shown,) = _summaries(connection, [row])
    left = (
        select(_left.c.reason, func.count().label("devices"), func.min(_left.c.device_id).label("first"))
        .where(_left.c.rollout_id == row["id"])
        .group_by(_left.c.reason)
        .order_by(func.count().desc(), _left.c.reason)
    )
    return shown | {"left_out": [dict(item) for item in connection.execute(left).mappings()]}


def show(connection: Connection, rollout_id: int) -> dict[str, Any]:
    """Return `tally`, how its waves stand, who waits for the lab, how many of its group it does not cover.

    These look at every device of it, so no transaction that writes asks for them of a large one.

    Raises:
        InputError: no such rollout.
    """
    row = _rollout(connection, rollout_id)
    shown = _tally(connection, row)
    if row["policy"] is not None:
        policy = policy_of(row["policy"])
        waves = wave_work.shown(connection, rollout_id, policy, now())
        shown |= {"policy": policy.to_json(), "digest": row["chain"], "waves": waves}
    mine = _targets.c.rollout_id == rollout_id, _targets.c.state == TargetState.PENDING
    wanted = select(_targets.c.device_id, _targets.c.release_id).where(*mine).subquery()
    return shown | {"not_covered": _not_covered(connection, row), "lab": lab.waiting(connection, wanted)}


def _not_covered(connection: Connection, row: Any) -> int:  # noqa: ANN401 - a driver's row
    """Return how many devices joined the group of a rollout that still runs after it was planned."""
    scope = Scope.parse(row["scope"])
    if row["state"] != RolloutState.RUNNING or not scope.group:
        return 0
    group = members(scope).order_by(None).subquery()
    known = (
        exists().where(table.c.rollout_id == row["id"], table.c.device_id == group.c[0])
        for table in (_targets, _left)
    )
    query = select(func.count()).select_from(group).where(*(~each for each in known))
    return int(connection.execute(query).scalar_one())


def _rollout(connection: Connection, rollout_id: int) -> Any:  # noqa: ANN401 - a driver's row
    query = select(_rollouts).where(_rollouts.c.id == rollout_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise InputError(f"no rollout {rollout_id}: see 'fota rollout list'", "unknown-rollout")
    return row


def list_targets(
    connection: Connection, rollout_id: int, states: Collection[str], after: str, limit: int
) -> list[dict[str, Any]]:
    """Return up to ``limit`` devices of a rollout above ``after``, in order, with how far each is.

    ``states``: only devices in these; all, if there are none.

    Raises:
        InputError: no such rollout, or no such state.
    """
    _rollout(connection, rollout_id)
    for word in states:
        if word not in set(TargetState):
            raise InputError(f"no state {word}: there are {', '.join(TargetState)}", "state")
    releases = schema.releases
    query = (
        select(
            _targets.c.device_id,
            _targets.c.state,
            _targets.c.reason,
            _targets.c.updated_at,
            releases.c.version,
        )
        .join(releases, _targets.c.release_id == releases.c.id)
        .where(_targets.c.rollout_id == rollout_id, _targets.c.device_id > after)
        .order_by(_targets.c.device_id)
        .limit(limit)
    )
    if states:
        query = query.where(_targets.c.state.in_(states))
    return [dict(row) for row in connection.execute(query).mappings()]


def list_left_out(connection: Connection, rollout_id: int, after: str, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` devices above ``after`` that a rollout left out, in order, with the reasons.

    Raises:
        InputError: no such rollout.
    """
    _rollout(connection, rollout_id)
    query = (
        select(_left.c.device_id, _left.c.reason)
        .where(_left.c.rollout_id == rollout_id, _left.c.device_id > after)
        .order_by(_left.c.device_id)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def list_all(
    connection: Connection, before: int | None, limit: int, groups: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Return up to ``limit`` rollouts with their progress, newest first, of those older than ``before``.

    ``groups``: only those that were given to one of these; None: all.
    """
    query = select(_rollouts).order_by(_rollouts.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_rollouts.c.id < before)
    if groups is not None:
        query = query.where(_rollouts.c.scope.in_([str(Scope(device=None, group=one)) for one in groups]))
    return _summaries(connection, connection.execute(query).mappings().all())


def of_group(connection: Connection, name: str, *, planning: bool = False) -> list[int]:
    """Return the rollouts for a group that have not ended, or only those still ``planning``, oldest first."""
    states = (RolloutState.PLANNING,) if planning else OPEN
    query = select(_rollouts.c.id).where(
        _rollouts.c.scope == str(Scope(device=None, group=name)), _rollouts.c.state.in_(states)
    )
    return list(connection.execute(query.order_by(_rollouts.c.id)).scalars())


def _asking(connection: Connection, in_waves: Collection[int]) -> dict[int, int]:
    """Return those of these rollouts whose wave waits for approval, and which."""
    if not in_waves:
        return {}
    waves = schema.waves
    query = select(waves.c.rollout_id, waves.c.number).where(
        waves.c.rollout_id.in_(in_waves), waves.c.phase == Phase.APPROVAL
    )
    return {row.rollout_id: row.number for row in connection.execute(query)}


def _summaries(connection: Connection, rows: Iterable[Any]) -> list[dict[str, Any]]:
    rows = list(rows)
    counts = (
        select(_targets.c.rollout_id, _targets.c.state, _targets.c.release_id, func.count().label("n"))
        .where(_targets.c.rollout_id.in_([row["id"] for row in rows]))
        .group_by(_targets.c.rollout_id, _targets.c.state, _targets.c.release_id)
    )
    progress: dict[int, Counter[str]] = {row["id"]: Counter() for row in rows}
    releases: dict[int, set[int]] = {
        row["id"]: {row["release_id"]} if row["release_id"] is not None else set() for row in rows
    }
    for count in connection.execute(counts):
        progress[count.rollout_id][count.state] += count.n
        releases[count.rollout_id].add(count.release_id)
    table = schema.releases
    named = select(table.c.id, table.c.version).where(table.c.id.in_(set().union(*releases.values())))
    versions = {row.id: row.version for row in connection.execute(named)}
    waiting = _asking(connection, [row["id"] for row in rows if row["policy"] is not None])
    halted = is_halted(connection)
    return [
        {
            "id": row["id"],
            "kind": row["kind"],
            "scope": row["scope"],
            "versions": sorted({versions[one] for one in releases[row["id"]]}, key=parse_version),
            "state": row["state"],
            "status": _status(row, waiting, halted),
            "paused": row["paused"],
            "held": row["held"],
            "approval": waiting.get(row["id"]),
            "progress": {state.value: progress[row["id"]][state] for state in TargetState},
            "total": progress[row["id"]].total(),
            "created_at": row["created_at"],
            "created_by": row["created_by"],
            "ended_at": row["ended_at"],
        }
        for row in rows
    ]


def _status(row: Any, waiting: Collection[int], halted: bool) -> str:  # noqa: ANN401 - a driver's row
    """Return the one word for people: of RUNNING, what it waits for."""
    if row["state"] != RolloutState.RUNNING:
        return str(row["state"])
    if halted:
        return "halted"
    return "paused" if row["paused"] else "approval" if row["id"] in waiting else "running"
