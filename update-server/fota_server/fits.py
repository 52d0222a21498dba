"""Which hardware revisions a release fits, by the word of whoever publishes it; none named: all.

It is the server's knowledge, and not signed: it keeps operators from mistakes. Class and chip, which devices
check themselves, are in the signed image and manifest.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, insert, literal, not_, select
from sqlalchemy.sql.selectable import NamedFromClause

from fota_server import schema
from fota_server.attributes import HARDWARE, require_word
from fota_server.database import record_audit
from fota_server.filter_sql import VALUE
from fota_wire.errors import InputError

MOST = 64
"""Revisions that a release can name."""
_table, _attributes = schema.release_hardware, schema.attributes


def require_revisions(found: object) -> list[str]:
    """Return revisions, each once, in order, as `set_revisions` takes them.

    Raises:
        InputError: they are no list of up to `MOST` values of the attribute "hardware".
    """
    if not isinstance(found, list) or len(found) > MOST:
        raise InputError(f"hardware has to be a list of up to {MOST} revisions", "hardware")
    for one in found:
        if one is None or one == "":
            raise InputError("a hardware revision has to be a text", "hardware")
        require_word(HARDWARE, one)
    return sorted(set(found))


def revisions_of(connection: Connection, release_ids: Collection[int]) -> dict[int, list[str]]:
    """Return the revisions that these releases name, by their ids; of those that name none: none."""
    query = select(_table).where(_table.c.release_id.in_(release_ids)).order_by(_table.c.hardware)
    found: dict[int, list[str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.release_id, []).append(row.hardware)
    return found


def with_revisions(connection: Connection, views: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is shown of releases with ``hardware``, the revisions that each fits; []: all."""
    known = revisions_of(connection, [view["id"] for view in views])
    return [view | {"hardware": known.get(view["id"], [])} for view in views]


def set_revisions(connection: Connection, release: dict[str, Any], revisions: list[str], actor: str) -> None:
    """Have a release, as it is shown, fit these revisions from now on; []: all. What is planned stays."""
    connection.execute(delete(_table).where(_table.c.release_id == release["id"]))
    rows = [{"release_id": release["id"], "hardware": one} for one in revisions]
    if rows:
        connection.execute(insert(_table), rows)
    detail = {"manifest_digest": release["manifest_digest"], "hardware": revisions}
    record_audit(connection, actor, "release.fits", release["version"], **detail)


def reasons(goal: NamedFromClause) -> list[tuple[ColumnElement[bool], ColumnElement[str] | str]]:
    """Return why devices are not given the release ``goal``: they have other hardware, or nobody knows."""
    mine = and_(_attributes.c.device_id == schema.devices.c.id, _attributes.c.name == HARDWARE)
    own = select(VALUE).where(mine).scalar_subquery()
    named = _table.c.release_id == goal.c.id
    revisions = select(_table.c.hardware).where(named)
    unknown = "its hardware revision is not known, and the release fits certain ones: 'fota device set'"
    return [
        (and_(exists().where(named), not_(exists().where(mine))), unknown),
        (
            and_(exists().where(named), own.not_in(revisions)),
            literal("the release does not fit hardware ") + own,
        ),
    ]
