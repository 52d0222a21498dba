"""The lab: a group of devices that have to confirm a release before any other device is given it.

It holds for the whole fleet and for every way in which a release is given, since it is asked by whatever
hands out (`hand_out.py`). What lets a device have a release before: it is in the lab itself, or it has
confirmed that very image before (then it goes back, or stays). Only a verified report confirms; what a DDI
device says of itself does so for itself alone.

How many have to confirm is a number that stands in the policy, so a lab that shrinks, by revoking, retiring
or taking devices out, never proves anything by that: it is closed until as many are there again.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, not_, or_, select
from sqlalchemy.sql.selectable import FromClause

from fota_server import dynamic, schema
from fota_server.database import record_audit
from fota_server.decide import GIVEN_UP
from fota_server.wave_policy import MAX_DEVICES
from fota_wire.errors import InputError

LAB = "lab"
_meta, _releases, _targets, _devices = schema.meta, schema.releases, schema.targets, schema.devices
_members, _confirmed, _retired = schema.members, schema.confirmations, schema.retirements
_groups = schema.groups

Asking = tuple[str, int]
"""A device, and the id of the release that is wanted of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """The policy: ``devices`` of ``group`` have to confirm a release."""

    group: str
    devices: int

    def why_not(self, confirmed: int, in_force: int) -> str | None:
        """Return why a release is not proved yet, in words and numbers, or None: it is.

        ``in_force``: devices of the lab that could confirm it, neither revoked nor retired.
        """
        if confirmed >= self.devices:
            return None
        told = f"waits for lab {self.group}: {confirmed} of {self.devices} confirmed"
        if in_force >= self.devices:
            return told
        return (
            f"{told}, and it has only {in_force} device(s) in force: fill the group, or see 'fota policy lab'"
        )


def lab_of(kept: str | None) -> Lab | None:
    """Return the policy as it is stored, or None: there is none."""
    return None if kept is None else Lab(**json.loads(kept))


def find(connection: Connection) -> Lab | None:
    """Return the policy in force."""
    return lab_of(connection.execute(select(_meta.c.value).where(_meta.c.key == LAB)).scalar_one_or_none())


def set_lab(connection: Connection, group: str | None, devices: int | None, actor: str) -> None:
    """Have ``devices`` of a group confirm each release first (None: as many as are in it); no group: no lab.

    Raises:
        InputError: no such group, or one that has not so many devices.
        VerifyError: it goes by a filter: devices could come into it, and leave it, by their own word.
    """
    lab = None
    if group is not None:
        if not connection.execute(select(_groups).where(_groups.c.name == group)).first():
            raise InputError(f"no group {group}: see 'fota group list'", "unknown-group")
        dynamic.require_by_hand(connection, group)
        inside = _count_in_force(connection, group)
        lab = Lab(group=group, devices=inside if devices is None else devices)
        if not 1 <= lab.devices <= min(inside, MAX_DEVICES):
            told = (
                f"devices: {lab.devices} is none of 1 to {inside}, which are in force in group {group}"
                if inside
                else f"group {group} has no device in force that could confirm a release"
            )
            raise InputError(told, "lab")
    connection.execute(delete(_meta).where(_meta.c.key == LAB))
    if lab:
        connection.execute(insert(_meta).values(key=LAB, value=json.dumps(asdict(lab))))
    record_audit(
        connection, actor, "policy.lab", group or "none", **({"devices": lab.devices} if lab else {})
    )


def shown(connection: Connection) -> dict[str, Any] | None:
    """Return the policy for people, with how many devices of it are in force."""
    lab = find(connection)
    return None if lab is None else asdict(lab) | {"in_force": _count_in_force(connection, lab.group)}


def unproved(connection: Connection, lab: Lab, release_ids: Collection[int]) -> dict[int, str]:
    """Return those of these releases that the lab has not proved, and why not."""
    joined = (
        _members.join(_devices, _devices.c.id == _members.c.device_id)
        .join(_confirmed, _confirmed.c.device_id == _members.c.device_id)
        .join(_releases, _releases.c.image_hash == _confirmed.c.image_hash)
    )
    query = (
        select(_releases.c.id, func.count(_members.c.device_id.distinct()).label("confirmed"))
        .select_from(joined)
        .where(*_in_force(lab.group), _releases.c.id.in_(release_ids), not_(_went_back()))
        .group_by(_releases.c.id)
    )
    confirmed = {row.id: row.confirmed for row in connection.execute(query)}
    in_force = _count_in_force(connection, lab.group)
    found = {one: lab.why_not(confirmed.get(one, 0), in_force) for one in release_ids}
    return {one: why for one, why in found.items() if why is not None}


def held(connection: Connection, lab: Lab, asking: Collection[Asking]) -> dict[Asking, str | None]:
    """Return for each of these devices why it may not be given its release yet, or None: it may."""
    waits = unproved(connection, lab, {release_id for _, release_id in asking}) if asking else {}
    found: dict[Asking, str | None] = {one: waits.get(one[1]) for one in asking}
    closed = [one for one in asking if one[1] in waits]
    if closed:
        goes_first = _goes_first(lab, _targets.c.device_id, _targets.c.release_id)
        query = (
            select(_targets.c.device_id, _targets.c.release_id)
            .join(_devices, _devices.c.target_id == _targets.c.id)
            .where(_devices.c.id.in_([device_id for device_id, _ in closed]), goes_first)
        )
        found |= {(row.device_id, row.release_id): None for row in connection.execute(query)}
    return found


def waiting(connection: Connection, wanted: FromClause) -> list[dict[str, Any]]:
    """Return by release why devices would wait for the lab, and how many.

    ``wanted``: rows of ``device_id`` and ``release_id``.
    """
    lab = find(connection)
    if lab is None:
        return []
    goals = connection.execute(select(wanted.c.release_id).distinct()).scalars().all()
    waits = unproved(connection, lab, goals) if goals else {}
    if not waits:
        return []
    query = (
        select(wanted.c.release_id, _releases.c.version, func.count().label("devices"))
        .join(_releases, _releases.c.id == wanted.c.release_id)
        .where(wanted.c.release_id.in_(waits))
        .where(not_(_goes_first(lab, wanted.c.device_id, wanted.c.release_id)))
        .group_by(wanted.c.release_id, _releases.c.version)
        .order_by(wanted.c.release_id)
    )
    return [
        {"version": row.version, "devices": row.devices, "reason": waits[row.release_id]}
        for row in connection.execute(query)
    ]


def _in_force(group: str) -> tuple[ColumnElement[bool], ...]:
    """In a join of members with devices: it is of the lab, and neither revoked nor retired."""
    retired = exists().where(_retired.c.device_id == _devices.c.id)
    return _of_lab(group), _devices.c.revoked.is_(False), not_(retired)


def _of_lab(group: str) -> ColumnElement[bool]:
    """A member is of the lab: of a group that is filled by hand, whatever became of it since it was named."""
    by_hand = exists().where(_groups.c.name == group, _groups.c.filter.is_(None))
    return and_(_members.c.group_name == group, by_hand)


def _count_in_force(connection: Connection, group: str) -> int:
    joined = _members.join(_devices, _devices.c.id == _members.c.device_id)
    query = select(func.count()).select_from(joined).where(*_in_force(group))
    return int(connection.execute(query).scalar_one())


def _went_back() -> ColumnElement[bool]:
    """What a member was last told of the release ended badly: that it confirmed it before proves nothing."""
    bad, later = _targets.alias("bad"), _targets.alias("later")
    same = later.c.device_id == bad.c.device_id, later.c.release_id == bad.c.release_id
    given = bad.c.device_id == _members.c.device_id, bad.c.release_id == _releases.c.id
    after = exists().where(*same, later.c.id > bad.c.id, later.c.given_at.is_not(None))
    return exists().where(*given, bad.c.state.in_(GIVEN_UP), not_(after))


def _goes_first(
    lab: Lab, device_id: ColumnElement[str], release_id: ColumnElement[int]
) -> ColumnElement[bool]:
    """The device needs no proof: it is of the lab, or has confirmed, or (DDI) said, that release."""
    word, image = schema.said, _releases.alias("image")
    ran = _confirmed.c.device_id == device_id, _confirmed.c.image_hash == image.c.image_hash
    return or_(
        exists().where(_of_lab(lab.group), _members.c.device_id == device_id),
        exists().where(image.c.id == release_id, *ran),
        exists().where(word.c.device_id == device_id, word.c.release_id == release_id),
    )
