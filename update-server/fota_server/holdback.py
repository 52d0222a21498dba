"""The two arms of a rollout that holds devices back, counted in the database. Judged by `comparison.py`.

Of both arms the same is asked, since the rollout was ordered: *failed*: the device told of a fault (its
bootloader or agent refused, failed or went back), or what the rollout wanted of it ended so; *silent*: it has
called since, and then not for as long as the policy says (a day, where it says nothing); *watchdog*: it has
reported since, and the boot of its last report followed a watchdog's reset. Who has not called since the
order is in no arm; who has, and reported nothing, has not been reset (SPEC 5.5).
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select

from fota_server import schema
from fota_server.comparison import QUESTIONS, Arm, row
from fota_server.decide import GIVEN_UP, OPEN
from fota_server.hand_out import policy_of
from fota_server.plan import HELD_BACK

DAY_S = 86400
FAULTS = ("failed", "refused", "rejected", "reverted")
WATCHDOGS = 0x60
"""Of the reset cause: IWDGRSTF and WWDGRSTF of RCC_CSR, bits 29 and 30 of its 31..24 (SPEC 5.4)."""
_devices, _targets, _left, _events = schema.devices, schema.targets, schema.left_out, schema.events


def compared(connection: Connection, rollout_id: int, now: int) -> dict[str, Any] | None:
    """Return what came of those who were given it and of those held back; None: none are held back.

    ``final``: the rollout has ended.
    """
    table = schema.rollouts
    query = select(table.c.policy, table.c.created_at, table.c.state).where(table.c.id == rollout_id)
    found = connection.execute(query).one()
    policy = policy_of(found.policy) if found.policy is not None else None
    if policy is None or not policy.holdback:
        return None
    silence_s = policy.silence_s or DAY_S
    mine = _targets.c.rollout_id == rollout_id
    given = select(_targets.c.device_id).where(mine, _targets.c.given_at.is_not(None))
    ended = select(_targets.c.device_id).where(mine, _targets.c.state.in_(GIVEN_UP))
    back = select(_left.c.device_id).where(_left.c.rollout_id == rollout_id, _left.c.reason == HELD_BACK)
    arms = [
        _count(connection, arm, found.created_at, now - silence_s, _devices.c.id.in_(ended))
        for arm in (given, back)
    ]
    rows = [row(name, *(arm[name] for arm in arms)) for name in QUESTIONS]
    return {"final": found.state not in OPEN, "silence_s": silence_s, "questions": rows}


def _count(
    connection: Connection, arm: Select[str], since: int, quiet: int, ended: ColumnElement[bool]
) -> dict[str, Arm]:
    told = exists().where(
        _events.c.device_id == _devices.c.id, _events.c.at >= since, _events.c.code.in_(FAULTS)
    )
    dogs = _devices.c.reset_cause.op("&")(WATCHDOGS) != 0

    def number(*when: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((and_(*when), 1), else_=0)), 0)

    query = select(
        func.count().label("devices"),
        number(or_(told, ended)).label("failed"),
        number(_devices.c.last_seen < quiet).label("silent"),
        number(_devices.c.report_at >= since, dogs).label("watchdog"),
    ).where(_devices.c.id.in_(arm), _devices.c.last_seen >= since)
    found = connection.execute(query).one()
    return {name: Arm(cases=getattr(found, name), devices=found.devices) for name in QUESTIONS}
