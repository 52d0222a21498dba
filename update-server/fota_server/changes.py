"""What has changed, one row each, written by the transaction that changed it; streams and webhooks read it.

A row's number is its place: writers take turns on both databases (ADR 56), so who has read up to a number has
missed nothing. Whatever operators do is here as the audit trail has it, but for lists, which are told by
their length; of devices it is what a rollout waits for. What is closed for thousands at once (a rollout that
is cancelled or taken over) is told of the rollout.
"""

import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, String, and_, cast, delete, func, insert, literal, or_, select

from fota_server import schema
from fota_server.clock import now

MOST = 1_000_000
"""Rows that are kept, the newest: a device that changes what it runs each time cannot fill the disk."""
PAGE = 5000
_table = schema.changes
_DEVICE = re.compile(r"[0-9a-f]{18}")


def note(connection: Connection, kind: str, subject: str, scope: str | None, **detail: object) -> None:
    """Append one change. ``scope``: what it is about, as `plan.Scope` is written; None: the whole fleet."""
    note_all(connection, [row(kind, subject, scope, **detail)])


def note_all(connection: Connection, rows: Collection[dict[str, object]]) -> None:
    """Append the `row` of each change."""
    if rows:
        connection.execute(insert(_table), list(rows))


def row(kind: str, subject: str, scope: str | None, **detail: object) -> dict[str, object]:
    """Return what is stored of a change."""
    short = {name: len(value) if isinstance(value, list | dict) else value for name, value in detail.items()}
    text = json.dumps(short, sort_keys=True)
    return {"at": now(), "kind": kind, "subject": subject[:128], "scope": scope, "detail": text}


def scope_of(action: str, subject: str) -> str | None:
    """Return what an action of the audit trail is about."""
    kind = action.partition(".")[0]
    if kind in ("device", "ddi") and _DEVICE.fullmatch(subject):
        return f"device:{subject}"
    if kind == "rollout" and subject.isdigit():
        return f"rollout:{subject}"
    if kind in ("rollout", "approval") and subject.partition(":")[0] in ("device", "group", "rollout"):
        return subject
    return f"group:{subject}" if kind == "group" else None


def newest(connection: Connection) -> int:
    """Return the number of the newest change; 0: there has been none."""
    return int(connection.execute(select(func.max(_table.c.id))).scalar_one() or 0)


def read_after(
    connection: Connection,
    after: int,
    limit: int,
    groups: Collection[str] | None = None,
    kinds: Iterable[str] = (),
) -> tuple[list[dict[str, Any]], int]:
    """Return up to ``limit`` changes after a number, and up to which number that was looked at.

    ``groups``: only of what is in these now; None: all. ``kinds``: that begin with one of these; none: all.
    """
    query = select(_table).where(_table.c.id > after).order_by(_table.c.id)
    wanted = [_table.c.kind.startswith(kind, autoescape=True) for kind in kinds]
    if wanted:
        query = query.where(or_(*wanted))
    if groups is not None:
        query = query.where(_inside(groups))
    last = newest(connection)
    rows = connection.execute(query.limit(limit)).mappings().all()
    found = [
        {
            "id": row["id"],
            "at": row["at"],
            "kind": row["kind"],
            "subject": row["subject"],
            "detail": json.loads(row["detail"]),
        }
        for row in rows
    ]
    return found, found[-1]["id"] if len(found) == limit else max(after, last)


def _inside(groups: Collection[str]) -> Any:  # noqa: ANN401 - a condition
    """What `scopes` lets a token for these groups see; rollbacks of a rollout are not followed further."""
    names = [f"group:{name}" for name in groups]
    members, rollouts = schema.members, schema.rollouts
    devices = select(literal("device:") + members.c.device_id).where(members.c.group_name.in_(groups))
    given = select(literal("rollout:") + cast(rollouts.c.id, String)).where(rollouts.c.scope.in_(names))
    return or_(*(_table.c.scope.in_(inside) for inside in (names, devices, given)))


def prune(connection: Connection, before: int) -> int:
    """Take away up to `PAGE` of the changes older than ``before``, or beyond `MOST`; return how many.

    The newest stays: its number is where the next one goes on.
    """
    last = newest(connection)
    old = and_(_table.c.id < last, or_(_table.c.at < before, _table.c.id <= last - MOST))
    page = select(_table.c.id).where(old).order_by(_table.c.id).limit(PAGE)
    return connection.execute(delete(_table).where(_table.c.id.in_(page))).rowcount
