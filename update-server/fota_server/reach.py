"""How far up devices go in one step: they refuse a security counter too far above their floor (PO2).

How far that is a factory sets, for each device; a device does not tell, so operators do, for all: 255 unless
said otherwise (`set_step`).
"""

from collections.abc import Iterable

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.sql.selectable import NamedFromClause

from fota_server import schema
from fota_server.database import record_audit
from fota_wire.errors import InputError, VerifyError
from fota_wire.layout import SEC_CNT_MAX
from fota_wire.settings import DEFAULT_MAX_STEP

KEY = "counter_step"
_meta, _devices, _releases = schema.meta, schema.devices, schema.releases
_SAID = select(cast(_meta.c.value, Integer)).where(_meta.c.key == KEY).scalar_subquery()
STEP: ColumnElement[int] = func.coalesce(_SAID, DEFAULT_MAX_STEP)


def step(connection: Connection) -> int:
    """Return how far above its floor a device takes a security counter."""
    return int(connection.execute(select(STEP)).scalar_one())


def set_step(connection: Connection, most: int | None, actor: str) -> None:
    """Say how far factories let devices go; None: 255, as factories have it. InputError: not 1 to 262143."""
    if most is not None and not 1 <= most <= SEC_CNT_MAX:
        raise InputError(f"counter_step: {most} is no number of 1 to {SEC_CNT_MAX}", KEY)
    connection.execute(delete(_meta).where(_meta.c.key == KEY))
    if most is not None:
        connection.execute(insert(_meta).values(key=KEY, value=str(most)))
    record_audit(connection, actor, "rollout.counter-step", "all", most=most)


def reasons(goal: NamedFromClause) -> list[tuple[ColumnElement[bool], ColumnElement[str] | str]]:
    """Return why devices are not given the release ``goal``: it is below their floor, or too far above."""
    counter, floor = cast(goal.c.sec_cnt, String), cast(_devices.c.floor, String)
    low = literal("PO1 rollback: security counter ") + counter + " is below the device's floor " + floor
    high = literal("PO2: security counter ") + counter + " is more than " + cast(STEP, String)
    high = high + " above the device's floor " + floor + ": it needs a release between first"
    return [(goal.c.sec_cnt < _devices.c.floor, low), (goal.c.sec_cnt > _devices.c.floor + STEP, high)]


def highest(floor: int, up: int, counters: Iterable[int]) -> int:
    """Return the highest security counter that a device comes to from ``floor`` by steps of at most ``up``,
    over releases with these ``counters``. Pure.
    """
    for counter in sorted(counters):
        if floor < counter <= floor + up:
            floor = counter
    return floor + up


def require_reachable(connection: Connection, class_id: str, sec_cnt: int, counters: Iterable[int]) -> None:
    """Return unless no device could ever take the release, by way of those published, with ``counters``.

    Raises:
        VerifyError: there are devices of its class, and it is too far above the floor of each (``PO2``).
    """
    known = _of_class(class_id).subquery()
    top = connection.execute(select(func.max(known.c.floor))).scalar_one()
    up = step(connection)
    if top is None or sec_cnt <= (most := highest(top, up, counters)):
        return
    raise VerifyError(
        f"security counter {sec_cnt} is more than {up} above what devices of its class come to by what is"
        f" published (the highest floor is {top}): none could install it; sign it with {most} at most,"
        " publish one between first, or say what the factory allows: fota rollout limits --counter-step",
        "PO2",
    )


def warnings(connection: Connection, class_id: str, sec_cnt: int) -> list[str]:
    """Return what whoever publishes such a release has to know of devices that cannot take it yet."""
    known = _of_class(class_id).subquery()
    up = step(connection)
    beyond = known.c.floor < sec_cnt - up
    number, lowest, first = connection.execute(
        select(func.count(), func.min(known.c.floor), func.min(known.c.id)).where(beyond)
    ).one()
    if not number:
        return []
    return [
        f"{number} device(s) of its class cannot install it yet ({first}): security counter {sec_cnt} is more"
        f" than {up} above their floor; give them a release with {lowest + up} at most first"
    ]


def _of_class(class_id: str) -> Select[str, int]:
    """Return the query of ``id, floor`` of the devices in service that provably run firmware of a class."""
    ran = or_(
        _releases.c.image_hash == _devices.c.running_hash, _releases.c.image_hash == _devices.c.confirmed_hash
    )
    out = schema.retirements
    return select(_devices.c.id, _devices.c.floor).where(
        _devices.c.floor.is_not(None),
        ~_devices.c.revoked,
        ~exists().where(out.c.device_id == _devices.c.id),
        exists().where(ran, _releases.c.class_id == class_id),
    )
