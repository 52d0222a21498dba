"""What may be handed out, as the database has it: the stop for everything, budget, lab, rates, open waves.

All of it is read, used up and stored by the transaction that hands out.
"""

import json
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text

from fota_server import lab, reach, schema
from fota_server.allowance import Allowance, Gate, Spent
from fota_server.attributes import ZONE
from fota_server.database import now, record_audit
from fota_server.filter_sql import VALUE
from fota_server.quick import Statement
from fota_server.wave_policy import MAX_DEVICES, Policy, is_zone, parse_policy
from fota_wire.errors import InputError, VerifyError

_meta, _rollouts, _targets, _spent = schema.meta, schema.rollouts, schema.targets, schema.spent
HALT, TRIALS = "halt", "trials"


@lru_cache(maxsize=256)
def policy_of(kept: str) -> Policy:
    """Return a policy as ``rollouts.policy`` has it."""
    return parse_policy(json.loads(kept))


def allowance(
    connection: Connection, rollout_ids: Collection[int], asking: Collection[lab.Asking], at: int
) -> Allowance:
    """Return what these rollouts may hand out at ``at``, in a transaction that may write.

    ``asking``: who may be given which release for the first time.
    """
    found = _settings(connection)
    left = None
    if TRIALS in found and rollout_ids:
        left = int(found[TRIALS]) - _on_trial(connection)
    gates = {}
    if rollout_ids:
        for row in _GATES.rows(connection, ids=list(rollout_ids)):
            used = Spent()
            if row.minute is not None:
                used = Spent(minute=row.minute, devices=row.devices, day=row.day, size=row.size)
            gates[row.id] = Gate(policy=policy_of(row.policy), open_rank=row.open_rank, spent=used)
    gate = lab.lab_of(found.get(lab.LAB))
    held = lab.held(connection, gate, asking) if gate else None
    return Allowance(now=at, halted=HALT in found, trials_left=left, gates=gates, lab=held)


def store(connection: Connection, used: Allowance) -> None:
    """Store what was handed out of rates and bytes; the budget is counted from the targets themselves."""
    for rollout_id in sorted(used.changed):
        policy, spent = used.gates[rollout_id].policy, used.gates[rollout_id].spent
        if policy.per_minute is None and policy.bytes_per_day is None:
            continue
        row = {"minute": spent.minute, "devices": spent.devices, "day": spent.day, "size": spent.size}
        connection.execute(delete(_spent).where(_spent.c.rollout_id == rollout_id))
        connection.execute(insert(_spent).values(rollout_id=rollout_id, **row))


# -- what holds for all rollouts -----------------------------------------------------------------------------


def limits(connection: Connection) -> dict[str, Any]:
    """Return the stop (who, when, why; None: none), the budget (None: none), how many are on trial, and how
    far a security counter may go up at once.
    """
    found = _settings(connection)
    return {
        "halted": json.loads(found[HALT]) if HALT in found else None,
        "trials": int(found[TRIALS]) if TRIALS in found else None,
        "on_trial": _on_trial(connection),
        "counter_step": reach.step(connection),
    }


def is_halted(connection: Connection) -> bool:
    """Return whether everything is stopped."""
    return HALT in _settings(connection)


def halt(connection: Connection, reason: str, actor: str) -> None:
    """Stop all rollouts and rollbacks at once: nothing is handed out any more, no wave goes on.

    Raises:
        VerifyError: they are stopped already; the first reason stands.
    """
    if is_halted(connection):
        raise VerifyError("all rollouts are halted already: see 'fota rollout limits'", "halted")
    value = json.dumps({"at": now(), "by": actor, "reason": reason})
    connection.execute(insert(_meta).values(key=HALT, value=value))
    record_audit(connection, actor, "rollout.halt", "all", reason=reason)


def unhalt(connection: Connection, actor: str) -> None:
    """Let everything go on as it was.

    Raises:
        VerifyError: nothing is halted.
    """
    if not is_halted(connection):
        raise VerifyError("nothing is halted", "halted")
    connection.execute(delete(_meta).where(_meta.c.key == HALT))
    record_audit(connection, actor, "rollout.unhalt", "all")


def set_trials(connection: Connection, most: int | None, actor: str) -> None:
    """Set how many devices may be on trial at once, over all rollouts; None: any number.

    Raises:
        InputError: not 1 to `MAX_DEVICES`.
    """
    if most is not None and not 1 <= most <= MAX_DEVICES:
        raise InputError(f"trials: {most} is no number of 1 to {MAX_DEVICES}", "trials")
    connection.execute(delete(_meta).where(_meta.c.key == TRIALS))
    if most is not None:
        connection.execute(insert(_meta).values(key=TRIALS, value=str(most)))
    record_audit(connection, actor, "rollout.trials", "all", most=most)


_SETTINGS = Statement(select(_meta.c.key, _meta.c.value).where(_meta.c.key.in_((HALT, TRIALS, lab.LAB))))
_GATES = Statement(
    select(_rollouts.c.id, _rollouts.c.policy, _rollouts.c.open_rank, _spent)
    .outerjoin(_spent, _spent.c.rollout_id == _rollouts.c.id)
    .where(_rollouts.c.id.in_(bindparam("ids", expanding=True)), _rollouts.c.policy.is_not(None))
)
HALTED = select(_meta.c.value).where(_meta.c.key == HALT).scalar_subquery()
"""Null: nothing is halted."""
_COUNT = select(func.count()).select_from(_targets).where(text(schema.ON_TRIAL))


def _settings(connection: Connection) -> dict[str, str]:
    return {row.key: row.value for row in _SETTINGS.rows(connection)}


def _on_trial(connection: Connection) -> int:
    return int(connection.execute(_COUNT).scalar_one())


def zones(connection: Connection, left: Allowance, ids: Collection[str]) -> dict[str, str]:
    """Return the time zones of those devices of which one is known; {}: no window here asks for it."""
    windows = (gate.policy.window for gate in left.gates.values())
    if not ids or not any(window and window.own_zone for window in windows):
        return {}
    name, table = VALUE.label("zone"), schema.attributes
    query = select(table.c.device_id, name).where(table.c.name == ZONE, table.c.device_id.in_(ids))
    return {row.device_id: row.zone for row in connection.execute(query) if is_zone(row.zone)}
