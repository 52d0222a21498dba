"""CAMPAIGNs (SPEC 5.8): whom a release may reach, and when, by the word of people and not of this server.

The device checks it. Here it is kept, handed out with what it is for, and planned by, so that no device is
given what it would refuse, and a plan stays a promise. All of it holds only while ROOT names CAMPAIGN keys.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, and_, delete, insert, not_, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import NamedFromClause

from fota_server import schema
from fota_server.catalog import barred_releases, find_release
from fota_server.database import now, record_audit
from fota_server.devices_of_before import mute
from fota_wire import campaign
from fota_wire import root as roots
from fota_wire.campaign import Campaign
from fota_wire.checkin import ANSWER_FRAME, LEAST_ANSWER
from fota_wire.errors import FotaError, InputError
from fota_wire.host_crypto import verify

_table, _devices = schema.campaigns, schema.devices
UNKNOWN = "its agent has not said that it takes CAMPAIGNs, which ROOT asks for"
MISSING = "ROOT asks for a CAMPAIGN, and the release has none in force: 'fota release campaign'"
OUTSIDE = "the CAMPAIGN of the release does not reach it, now or later"
OVER = "all waves of the release's CAMPAIGN have ended by then: 'fota campaign new', and have it signed"


@dataclass(frozen=True, slots=True)
class Document:
    """A CAMPAIGN in force, as it is handed out, and what it says."""

    raw: bytes
    says: Campaign


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What holds of releases at ``at``: ``barred``, by id, why no device may get them; ``campaigns``, by id;
    None: ROOT asks for none.
    """

    barred: Mapping[int, str] = field(default_factory=dict)
    campaigns: Mapping[int, Document] | None = None
    at: int = 0


def bounds(connection: Connection, root: roots.Root) -> Bounds:
    """Return what holds of all releases now."""
    return Bounds(
        barred=barred_releases(connection, root), campaigns=in_force(connection, root, None), at=now()
    )


def in_force(
    connection: Connection, root: roots.Root, release_ids: Collection[int] | None
) -> dict[int, Document] | None:
    """Return the CAMPAIGNs of these releases (None: all) that devices take by ``root``, by id; None: it asks
    for none.
    """
    if not root.threshold(roots.CAMPAIGN):
        return None
    query = select(_table.c.release_id, _table.c.document, schema.releases.c.manifest_digest).join(
        schema.releases, schema.releases.c.id == _table.c.release_id
    )
    if release_ids is not None:
        query = query.where(_table.c.release_id.in_(release_ids))
    found = {}
    for row in connection.execute(query):
        says = _opened(bytes(row.document), root, bytes.fromhex(row.manifest_digest))
        if says is not None:
            found[row.release_id] = Document(bytes(row.document), says)
    return found


@lru_cache(256)
def _opened(raw: bytes, root: roots.Root, manifest_digest: bytes) -> Campaign | None:
    try:
        return campaign.open_campaign(raw, root, manifest_digest, verify)
    except FotaError:
        return None  # of keys that ROOT has replaced


def why_not(document: Document | None, device_id: str, group: str | None, at: int) -> str | None:
    """Return why a device would refuse a release by its CAMPAIGN (None: it has none in force), or None."""
    if group is None:
        return UNKNOWN
    if document is None:
        return MISSING
    try:
        document.says.until(bytes.fromhex(device_id), group, at)
    except FotaError as exc:
        return str(exc)
    return None


def reasons(
    goal: NamedFromClause, limits: Bounds, at: int
) -> list[tuple[ColumnElement[bool], ColumnElement[str] | str]]:
    """Return why devices are left out of the release ``goal``: its CAMPAIGN does not reach them any more
    ``at`` the time, in s since 1970, from which on they may be given it.
    """
    if limits.campaigns is None:
        return []
    group = _devices.c.campaign_group
    reached = [and_(goal.c.id == one, _reaches(doc.says, at)) for one, doc in limits.campaigns.items()]
    over = [one for one, doc in limits.campaigns.items() if is_over(doc.says, at)]
    return [
        (group.is_(None), UNKNOWN),
        (goal.c.id.not_in(list(limits.campaigns)), MISSING),
        (goal.c.id.in_(over), OVER),
        (not_(or_(*reached)) if reached else goal.c.id.is_not(None), OUTSIDE),
    ]


def is_over(says: Campaign, at: int) -> bool:
    """Tell whether all waves have ended: no device begins anything by it any more."""
    return all(end < at for _, end, _, _ in says.waves)


def _reaches(says: Campaign, at: int) -> ColumnElement[bool]:
    """A wave of it that has not ended has the device in it."""
    place = _Place(says.manifest_digest.hex(), _devices.c.id)
    waves = [
        and_(place < share, _devices.c.campaign_group == group) if group else place < share
        for _, end, share, group in says.waves
        if end >= at
    ]
    return or_(*waves) if waves else _devices.c.id.is_(None)


class _Place(FunctionElement[int]):
    """`campaign.place_of` in SQL: of the digest and the device id, in hex."""

    name = "fota_place"
    type = Integer()
    inherit_cache = True


@compiles(_Place, "sqlite")  # the function is made in database.py
def _by_python(element: _Place, compiler: Any, **words: Any) -> str:  # noqa: ANN401
    return f"fota_place({compiler.process(element.clauses, **words)})"


@compiles(_Place, "postgresql")
def _by_postgresql(element: _Place, compiler: Any, **words: Any) -> str:  # noqa: ANN401
    digest, device = (compiler.process(part, **words) for part in element.clauses)
    told = (
        f"convert_to('fota/campaign-place/1', 'UTF8') || decode({digest}, 'hex') || decode({device}, 'hex')"
    )
    head = f"substr(encode(sha256({told}), 'hex'), 1, 8)"
    return f"mod(('x' || {head})::bit(32)::bigint, {campaign.WHOLE})"


def set_campaign(
    connection: Connection, name: str, raw: bytes, root: roots.Root, actor: str
) -> dict[str, Any]:
    """Keep ``raw`` as the CAMPAIGN of a release in place of the one before, and return what it says.

    Raises:
        InputError: no such release; ROOT names no CAMPAIGN keys; it is malformed, or too long beside its
            manifest, or all its waves have ended (``campaign-over``).
        VerifyError: it is of another manifest, or not signed as ROOT wants it.
    """
    release = find_release(connection, name)
    if not root.threshold(roots.CAMPAIGN):
        raise InputError(
            f"ROOT {root.version} names no CAMPAIGN keys: devices would not look at it", "campaign"
        )
    says = campaign.open_campaign(raw, root, release.manifest_digest, verify)
    room = LEAST_ANSWER - ANSWER_FRAME - len(release.logged)
    if len(raw) > room:
        raise InputError(f"CAMPAIGN of {len(raw)} bytes: beside its manifest is room for {room}", "limit")
    if is_over(says, now()):
        raise InputError(
            "all waves of the CAMPAIGN have ended, so no device would begin anything by it; if that is meant,"
            " 'fota rollout pause' or 'fota release withdraw'",
            "campaign-over",
        )
    connection.execute(delete(_table).where(_table.c.release_id == release.id))
    kept = {"document": raw, "added_at": now(), "added_by": actor}
    connection.execute(insert(_table).values(release_id=release.id, **kept))
    shown = {"version": release.version, "manifest_digest": release.manifest_digest.hex()}
    waves = _shown(says)
    record_audit(connection, actor, "release.campaign", release.version, waves=waves)
    return shown | {"waves": waves}


def with_campaigns(
    connection: Connection, views: Sequence[dict[str, Any]], root: roots.Root
) -> list[dict[str, Any]]:
    """Return what is shown of releases with ``campaign``: the waves of the one in force, [] where ROOT asks
    for one that is missing, and null where it asks for none.
    """
    known = in_force(connection, root, [view["id"] for view in views])
    if known is None:
        return [view | {"campaign": None} for view in views]
    waves = {release_id: _shown(document.says) for release_id, document in known.items()}
    return [view | {"campaign": waves.get(view["id"], [])} for view in views]


def _shown(says: Campaign) -> list[dict[str, Any]]:
    return [
        {"not_before": begin, "not_after": end, "share": share, "group": group}
        for begin, end, share, group in says.waves
    ]


def root_dangers(connection: Connection, new: roots.Root, current: roots.Root, most: int) -> list[str]:
    """Return which devices would be lost with ``new``, the first of ROOTs with CAMPAIGN keys."""
    if not new.threshold(roots.CAMPAIGN) or current.threshold(roots.CAMPAIGN):
        return []
    return mute(connection, _devices.c.campaign_group.is_(None), "CAMPAIGN", most)
