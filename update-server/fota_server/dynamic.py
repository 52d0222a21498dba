"""Groups that go by a filter: who is in them is stored, and follows from what is known of each device.

A filter that is new is asked of all devices, `FILL` in a transaction (`fill_page`, by the planner); from then
on of a device when what is known of it has changed, in the transaction of the change (`refresh`). Nobody
looks through the fleet for it, and a check-in that brings no news looks at nothing.

Orders: as with any group, a rollout is of the devices that were in the group while it was planned. Who leaves
keeps what is wanted of it; who comes later is reached by the same order, given again. A group that is still
being filled takes no orders.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, literal, select, update

from fota_server import attributes, schema
from fota_server.database import record_audit
from fota_server.filter_sql import condition
from fota_server.filters import matches, parse_filter
from fota_wire.errors import InputError, VerifyError

FILL = 1000
"""Devices of which one transaction asks a new filter."""
SHOWN = 20
NONE_YET = ""

_groups, _members, _devices = schema.groups, schema.members, schema.devices
_OUT = delete(_members).where(
    _members.c.group_name == bindparam("group"), _members.c.device_id == bindparam("device")
)


def set_filter(connection: Connection, name: str, text: str, actor: str) -> None:
    """Have a group that goes by a filter go by another one, or by the first; its devices follow in pages.

    Raises:
        InputError: no such group, or no filter.
        VerifyError: the group's devices are put in by hand.
    """
    parse_filter(text)
    row = connection.execute(select(_groups).where(_groups.c.name == name)).first()
    if row is None:
        raise InputError(f"no group {name}: see 'fota group list'", "unknown-group")
    if row.filter is None:
        raise VerifyError(f"the devices of group {name} are put in by hand: make another group", "by-hand")
    change = {"filter": text, "filled_to": NONE_YET}
    connection.execute(update(_groups).where(_groups.c.name == name).values(**change))
    record_audit(connection, actor, "group.filter", name, filter=text)


def preview(connection: Connection, text: str) -> dict[str, Any]:
    """Return how many devices a filter holds for, and the first of them.

    Raises:
        InputError: it is none.
    """
    holds = condition(parse_filter(text))
    total = connection.execute(select(func.count()).select_from(_devices).where(holds)).scalar_one()
    first = select(_devices.c.id).where(holds).order_by(_devices.c.id).limit(SHOWN)
    return {"filter": text, "devices": total, "first": list(connection.execute(first).scalars())}


def require_filled(connection: Connection, name: str) -> None:
    """Return if there is a group of this name, and it is known who is in it.

    Raises:
        InputError: there is none.
        VerifyError: its filter has not been asked of all devices yet.
    """
    row = connection.execute(select(_groups.c.filled_to).where(_groups.c.name == name)).first()
    if row is None:
        raise InputError(f"no group {name}: see 'fota group list'", "unknown-group")
    if row.filled_to is not None:
        raise VerifyError(f"group {name} is still being filled: try again in some seconds", "planning")


def require_by_hand(connection: Connection, name: str) -> None:
    """Return if devices may be put into a group, and taken out.

    Raises:
        VerifyError: they follow from a filter.
    """
    query = select(_groups.c.filter).where(_groups.c.name == name, _groups.c.filter.is_not(None))
    row = connection.execute(query).first()
    if row:
        raise VerifyError(
            f"group {name} goes by a filter, {row.filter}: change the attributes of its devices with"
            " 'fota device set', or the filter with 'fota group set'",
            "by-filter",
        )


def fill_page(connection: Connection) -> bool:
    """Ask a filter of the next page of devices; return whether there was any to ask."""
    query = select(_groups).where(_groups.c.filled_to.is_not(None)).order_by(_groups.c.name).limit(1)
    group = connection.execute(query).first()
    if group is None:
        return False
    ids = select(_devices.c.id).where(_devices.c.id > group.filled_to).order_by(_devices.c.id).limit(FILL)
    last = connection.execute(select(func.max(ids.subquery().c.id))).scalar_one()
    if last is not None:
        within = _devices.c.id.between(group.filled_to, last)
        holds = select(_devices.c.id).where(within, condition(parse_filter(group.filter)))
        mine = _members.c.group_name == group.name
        page = mine & _members.c.device_id.between(group.filled_to, last)
        connection.execute(delete(_members).where(page, _members.c.device_id.not_in(holds)))
        known = exists().where(mine, _members.c.device_id == _devices.c.id)
        new = holds.where(~known).with_only_columns(literal(group.name), _devices.c.id)
        connection.execute(insert(_members).from_select(["group_name", "device_id"], new))
    else:
        total = select(func.count()).where(_members.c.group_name == group.name)
        found = connection.execute(total).scalar_one()
        record_audit(connection, "server", "group.filled", group.name, devices=found)
    change = {"filled_to": last}
    connection.execute(update(_groups).where(_groups.c.name == group.name).values(**change))
    return True


def refresh(connection: Connection, ids: Collection[str]) -> None:
    """Have these devices be in the groups whose filters hold for them, and in no others that have one."""
    filters = {}
    if ids:
        query = select(_groups.c.name, _groups.c.filter).where(_groups.c.filter.is_not(None))
        filters = {row.name: parse_filter(row.filter) for row in connection.execute(query)}
    if not filters:
        return
    known = attributes.facts(connection, ids)
    wanted = {
        (name, one)
        for one, facts in known.items()
        for name, found in filters.items()
        if matches(found, facts)
    }
    inside = select(_members).where(_members.c.device_id.in_(known), _members.c.group_name.in_(filters))
    present = {(row.group_name, row.device_id) for row in connection.execute(inside)}
    gone = [{"group": name, "device": one} for name, one in present - wanted]
    new = [{"group_name": name, "device_id": one} for name, one in wanted - present]
    if gone:
        connection.execute(_OUT, gone)
    if new:
        connection.execute(insert(_members), new)


def learn(
    connection: Connection, changed: Collection[str], words: Mapping[str, attributes.Words] | None = None
) -> None:
    """Take in what devices say of themselves, and what has ``changed`` otherwise, their firmware say."""
    told = attributes.change(connection, words, by_operator=False) if words else set()
    refresh(connection, told | set(changed))


def give(connection: Connection, words: Mapping[str, attributes.Words], actor: str) -> int:
    """Take in what an operator says of devices that are known; return of how many anything has changed.

    Raises:
        InputError: as `attributes.change`.
    """
    changed = attributes.change(connection, words, by_operator=True)
    if changed:
        said = {one: dict(words[one]) for one in sorted(changed)}
        subject = next(iter(said)) if len(said) == 1 else f"{len(said)} devices"
        record_audit(connection, actor, "device.attributes", subject, devices=said)
    refresh(connection, changed)
    return len(changed)
