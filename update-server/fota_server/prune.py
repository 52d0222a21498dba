"""Files of releases that no device can be given: withdrawn long ago. Only the files go, the releases stay.

Pruned is what a transaction says is; files go after it, as all do that no release needs (`unreferenced`) and
nobody has sent for a day. So what was cut off in between goes the next time.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, select, update

from fota_server import schema
from fota_server.artifacts import ArtifactStore
from fota_server.catalog import unreferenced
from fota_server.clock import now
from fota_server.database import Database, record_audit

DAY = 86400
_releases = schema.releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """One release, and when it was withdrawn, in s since 1970; ``size`` of its own file in bytes."""

    version: str
    withdrawn_at: int
    size: int


def candidates(connection: Connection, days: int) -> list[Pruned]:
    """Return the releases that have been withdrawn for so many days, the oldest first."""
    query = select(_releases).where(_is_old(days)).order_by(_releases.c.withdrawn_at, _releases.c.id)
    return [
        Pruned(version=row.version, withdrawn_at=row.withdrawn_at, size=row.file_size)
        for row in connection.execute(query)
    ]


def prune(database: Database, store: ArtifactStore, days: int, actor: str) -> list[Pruned]:
    """Take away the files of those releases, and return these.

    Whoever publishes one again meanwhile has its file looked at, which makes it young: young ones stay.

    Raises:
        StorageError: the files are not to be had, or cannot be deleted; typed again, it goes on.
    """
    gone = database.transact(_mark, days, actor)
    store.remove(sorted(database.transact(unreferenced, store.forgotten())))
    return gone


def _mark(connection: Connection, days: int, actor: str) -> list[Pruned]:
    gone = candidates(connection, days)
    connection.execute(update(_releases).where(_is_old(days)).values(pruned_at=now()))
    for one in gone:
        record_audit(connection, actor, "release.prune", one.version)
    return gone


def _is_old(days: int) -> ColumnElement[bool]:
    return and_(_releases.c.withdrawn_at <= now() - days * DAY, _releases.c.pruned_at.is_(None))
