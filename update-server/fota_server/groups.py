"""Groups of devices. Many are added and taken out by set operations, ``rollouts.PAGE`` in one transaction."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, literal, select

from fota_server import dynamic, lab, rollouts, schema, tokens
from fota_server.database import Database, now, record_audit
from fota_server.filters import parse_filter
from fota_wire.errors import InputError, VerifyError

MAX_FILTERED = 256
"""Groups that go by a filter: all of them are asked whenever something of a device has changed."""

_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_groups, _members, _devices = schema.groups, schema.members, schema.devices


def list_groups(
    connection: Connection, after: str, limit: int, only: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Return up to ``limit`` groups with names above ``after``, and the number of their devices."""
    size = select(func.count()).where(_members.c.group_name == _groups.c.name).scalar_subquery()
    query = (
        select(
            *(_groups.c.name, _groups.c.created_at, size.label("devices"), _groups.c.filter),
            _groups.c.filled_to.is_not(None).label("filling"),
        )
        .where(_groups.c.name > after)
        .order_by(_groups.c.name)
        .limit(limit)
    )
    if only is not None:
        query = query.where(_groups.c.name.in_(only))
    return [dict(row) for row in connection.execute(query).mappings()]


def create_group(connection: Connection, name: str, actor: str, text: str | None = None) -> bool:
    """Make a group; return False if it exists. ``text``: the filter that it goes by (`dynamic.py`).

    Raises:
        InputError: the name is not usable, or the filter is none.
        VerifyError: it exists with another filter, or without one; or too many have one.
    """
    if text is not None:
        parse_filter(text)
    if not _GROUP_NAME.fullmatch(name):
        raise InputError(
            f"group name {name!r}: use up to 64 letters, digits, dots, dashes, underscores", "group-name"
        )
    row = connection.execute(select(_groups.c.filter).where(_groups.c.name == name)).first()
    if row is not None and row.filter != text:
        goes = f"goes by the filter {row.filter}" if row.filter else "has no filter"
        raise VerifyError(f"group {name} exists, and {goes}", "group-filter")
    if row is not None:
        return False
    filtered = select(func.count()).where(_groups.c.filter.is_not(None))
    if text is not None and connection.execute(filtered).scalar_one() >= MAX_FILTERED:
        raise VerifyError(f"{MAX_FILTERED} groups go by a filter already", "group-filter")
    filled_to = None if text is None else dynamic.NONE_YET
    connection.execute(insert(_groups).values(name=name, created_at=now(), filter=text, filled_to=filled_to))
    record_audit(connection, actor, "group.create", name, **({} if text is None else {"filter": text}))
    return True


def require_group(connection: Connection, name: str) -> None:
    """Return if there is a group of this name.

    Raises:
        InputError: there is none.
    """
    if not _exists(connection, name):
        raise InputError(
            f"no group {name}: see 'fota group list', or create it with 'fota group create {name}'",
            "unknown-group",
        )


def _exists(connection: Connection, name: str) -> bool:
    return connection.execute(select(_groups).where(_groups.c.name == name)).first() is not None


async def add_members(database: Database, name: str, device_ids: Sequence[str], actor: str) -> dict[str, Any]:
    """Add devices to a group; return how many were not in it before, and the rollouts that do not cover them.

    Raises:
        InputError: group or device is not known; nothing is added.
    """
    ids = list(dict.fromkeys(device_ids))
    missing = await database.read(_unknown, name, ids)
    if missing:
        more = f", nor {len(missing) - 1} more of these" if len(missing) > 1 else ""
        raise InputError(
            f"no device {missing[0]}{more}: it has to check in first, "
            "or be admitted with 'fota device admit'",
            "unknown-device",
        )
    added = 0
    for some in _pages(ids):
        added += await database.write(_add_page, name, some, actor)
    not_covered = await database.read(rollouts.of_group, name) if added else []
    return {"name": name, "added": added, "rollouts": not_covered}


def _add_page(connection: Connection, name: str, ids: list[str], actor: str) -> int:
    require_group(connection, name)
    dynamic.require_by_hand(connection, name)
    known = exists().where(_members.c.group_name == name, _members.c.device_id == _devices.c.id)
    new = select(literal(name), _devices.c.id).where(_devices.c.id.in_(ids), ~known)
    done = connection.execute(insert(_members).from_select(["group_name", "device_id"], new))
    if done.rowcount:
        record_audit(connection, actor, "group.add", name, devices=ids)
    return done.rowcount


async def remove_members(database: Database, name: str, device_ids: Sequence[str], actor: str) -> int:
    """Take devices out of a group and return how many; what rollouts want of them stays.

    Raises:
        InputError: group is not known, or a device is not in it; nothing is removed.
    """
    ids = list(dict.fromkeys(device_ids))
    missing = await database.read(_outside, name, ids)
    if missing:
        more = f", nor are {len(missing) - 1} more of these" if len(missing) > 1 else ""
        raise InputError(f"device {missing[0]} is not in group {name}{more}", "unknown-member")
    removed = 0
    for some in _pages(ids):
        removed += await database.write(_remove_page, name, some, actor)
    return removed


def _remove_page(connection: Connection, name: str, ids: list[str], actor: str) -> int:
    require_group(connection, name)
    dynamic.require_by_hand(connection, name)
    which = (_members.c.group_name == name) & _members.c.device_id.in_(ids)
    done = connection.execute(delete(_members).where(which))
    record_audit(connection, actor, "group.remove", name, devices=ids)
    return done.rowcount


async def delete_group(database: Database, name: str, actor: str) -> int:
    """Delete a group and return how many devices were in it; they and their rollouts stay.

    The group goes last: who is cut off in the middle, by an order say that came between two pages, gives the
    order again.

    Raises:
        InputError: no such group.
        VerifyError: it is the lab; a token is for it; or an order to it is still being planned: says how many
            are out already.
    """
    gone = 0
    while True:
        out = await database.write(_delete_page, name, gone, actor)
        gone += out
        if out < rollouts.PAGE:
            return gone


def _delete_page(connection: Connection, name: str, gone: int, actor: str) -> int:
    """Take a page of devices out, and the group with the last; ``gone``: those of the pages before."""
    require_group(connection, name)
    planning = rollouts.of_group(connection, name, planning=True)
    if planning:
        out = f", {gone} devices are out of it already" if gone else ""
        raise VerifyError(f"rollout {planning[0]} is being planned for group {name}: wait{out}", "planning")
    found = lab.find(connection)
    if found and found.group == name:
        raise VerifyError(
            f"group {name} is the lab, without which no release would reach any device:"
            " see 'fota policy lab'", "lab",
        )  # fmt: skip
    reached_by = tokens.in_force_for(connection, name)
    if reached_by:  # they would reach the next group of this name
        raise VerifyError(
            f"group {name} is what token {reached_by[0]} is for: revoke it first, 'fota server token revoke"
            f" {reached_by[0]}'", "tokens",
        )  # fmt: skip
    if not gone:
        record_audit(connection, actor, "group.delete", name)
    mine = _members.c.group_name == name
    page = select(_members.c.device_id).where(mine).limit(rollouts.PAGE)
    done = connection.execute(delete(_members).where(mine, _members.c.device_id.in_(page)))
    if done.rowcount < rollouts.PAGE:
        connection.execute(delete(_groups).where(_groups.c.name == name))
    return done.rowcount


def _pages(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), rollouts.PAGE):
        yield list(ids[start : start + rollouts.PAGE])


def _unknown(connection: Connection, name: str, ids: Sequence[str]) -> list[str]:
    require_group(connection, name)
    dynamic.require_by_hand(connection, name)
    return _strangers(connection, ids, select(_devices.c.id), _devices.c.id)


def _outside(connection: Connection, name: str, ids: Sequence[str]) -> list[str]:
    require_group(connection, name)
    dynamic.require_by_hand(connection, name)
    inside = select(_members.c.device_id).where(_members.c.group_name == name)
    return _strangers(connection, ids, inside, _members.c.device_id)


def _strangers(connection: Connection, ids: Sequence[str], query: Any, column: Any) -> list[str]:  # noqa: ANN401
    """Return those of ``ids`` that a query does not find, in order."""
    known: set[str] = set()
    for some in _pages(ids):
        known.update(connection.execute(query.where(column.in_(some))).scalars())
    return [one for one in ids if one not in known]
