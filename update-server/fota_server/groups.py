"""Groups of devices. Many are added and taken out by set operations, ``rollouts.PAGE`` in one transaction."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import delete, exists, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fota_server import rollouts, schema
from fota_server.database import Database, now, record_audit
from fota_wire.errors import InputError, VerifyError

_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_groups, _members, _devices = schema.groups, schema.members, schema.devices


async def list_groups(connection: AsyncConnection, after: str, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` groups with names above ``after``, and the number of their devices."""
    size = select(func.count()).where(_members.c.group_name == _groups.c.name).scalar_subquery()
    query = (
        select(_groups.c.name, _groups.c.created_at, size.label("devices"))
        .where(_groups.c.name > after)
        .order_by(_groups.c.name)
        .limit(limit)
    )
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def create_group(connection: AsyncConnection, name: str, actor: str) -> bool:
    """Make a group; return False if it exists.

    Raises:
        InputError: the name is not usable.
    """
    if not _GROUP_NAME.fullmatch(name):
        raise InputError(
            f"group name {name!r}: use up to 64 letters, digits, dots, dashes, underscores", "group-name"
        )
    if await _exists(connection, name):
        return False
    await connection.execute(insert(_groups).values(name=name, created_at=now()))
    await record_audit(connection, actor, "group.create", name)
    return True


async def require_group(connection: AsyncConnection, name: str) -> None:
    """Return if there is a group of this name.

    Raises:
        InputError: there is none.
    """
    if not await _exists(connection, name):
        raise InputError(
            f"no group {name}: see 'fota group list', or create it with 'fota group create {name}'",
            "unknown-group",
        )


async def _exists(connection: AsyncConnection, name: str) -> bool:
    return (await connection.execute(select(_groups).where(_groups.c.name == name))).first() is not None


async def add_members(database: Database, name: str, device_ids: Sequence[str], actor: str) -> dict[str, Any]:
    """Add devices to a group; return how many were not in it before, and the rollouts that do not cover them.

    Raises:
        InputError: group or device is not known; nothing is added.
    """
    ids = list(dict.fromkeys(device_ids))
    async with database.read() as connection:
        await require_group(connection, name)
        missing = await _strangers(connection, ids, select(_devices.c.id), _devices.c.id)
    if missing:
        more = f", nor {len(missing) - 1} more of these" if len(missing) > 1 else ""
        raise InputError(
            f"no device {missing[0]}{more}: it has to check in first, "
            "or be admitted with 'fota device admit'",
            "unknown-device",
        )
    added = 0
    for some in _pages(ids):
        async with database.write() as connection:
            await require_group(connection, name)
            known = exists().where(_members.c.group_name == name, _members.c.device_id == _devices.c.id)
            new = select(literal(name), _devices.c.id).where(_devices.c.id.in_(some), ~known)
            done = await connection.execute(insert(_members).from_select(["group_name", "device_id"], new))
            if done.rowcount:
                await record_audit(connection, actor, "group.add", name, devices=some)
            added += done.rowcount
    async with database.read() as connection:
        not_covered = await rollouts.of_group(connection, name) if added else []
    return {"name": name, "added": added, "rollouts": not_covered}


async def remove_members(database: Database, name: str, device_ids: Sequence[str], actor: str) -> int:
    """Take devices out of a group and return how many; what rollouts want of them stays.

    Raises:
        InputError: group is not known, or a device is not in it; nothing is removed.
    """
    ids = list(dict.fromkeys(device_ids))
    async with database.read() as connection:
        await require_group(connection, name)
        inside = select(_members.c.device_id).where(_members.c.group_name == name)
        missing = await _strangers(connection, ids, inside, _members.c.device_id)
    if missing:
        more = f", nor are {len(missing) - 1} more of these" if len(missing) > 1 else ""
        raise InputError(f"device {missing[0]} is not in group {name}{more}", "unknown-member")
    removed = 0
    for some in _pages(ids):
        async with database.write() as connection:
            await require_group(connection, name)
            which = (_members.c.group_name == name) & _members.c.device_id.in_(some)
            done = await connection.execute(delete(_members).where(which))
            await record_audit(connection, actor, "group.remove", name, devices=some)
            removed += done.rowcount
    return removed


async def delete_group(database: Database, name: str, actor: str) -> int:
    """Delete a group and return how many devices were in it; they and their rollouts stay.

    The group goes last: who is cut off in the middle, by an order say that came between two pages, gives the
    order again.

    Raises:
        InputError: no such group.
        VerifyError: an order to it is still being planned; says how many devices are out already.
    """
    gone = 0
    while True:
        async with database.write() as connection:
            await require_group(connection, name)
            planning = await rollouts.of_group(connection, name, planning=True)
            if planning:
                out = f", {gone} devices are out of it already" if gone else ""
                raise VerifyError(
                    f"rollout {planning[0]} is being planned for group {name}: wait{out}", "planning"
                )
            if not gone:
                await record_audit(connection, actor, "group.delete", name)
            mine = _members.c.group_name == name
            page = select(_members.c.device_id).where(mine).limit(rollouts.PAGE)
            done = await connection.execute(delete(_members).where(mine, _members.c.device_id.in_(page)))
            gone += done.rowcount
            if done.rowcount < rollouts.PAGE:
                await connection.execute(delete(_groups).where(_groups.c.name == name))
                return gone


def _pages(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), rollouts.PAGE):
        yield list(ids[start : start + rollouts.PAGE])


async def _strangers(connection: AsyncConnection, ids: Sequence[str], query: Any, column: Any) -> list[str]:  # noqa: ANN401
    """Return those of ``ids`` that a query does not find, in order."""
    known: set[str] = set()
    for some in _pages(ids):
        known.update((await connection.execute(query.where(column.in_(some)))).scalars())
    return [one for one in ids if one not in known]
