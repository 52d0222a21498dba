"""Devices as operators see them: installed, running and confirmed apart."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, delete, insert, or_, select, update

from fota_server import attributes, ddi_devices, dynamic, schema, telemetry
from fota_server.database import record_audit
from fota_server.decide import GIVEN_UP, HELD, UNDER_WAY, TargetState
from fota_server.filter_sql import condition
from fota_server.filters import parse_filter
from fota_server.groups import require_group
from fota_server.identity import is_device_id
from fota_server.refusals import list_refusals
from fota_server.retirement import retirement_of
from fota_server.rollouts import close_device
from fota_wire import certify
from fota_wire.attestation import COUNTS_PER_FLOOR
from fota_wire.errors import InputError

MAX_PAGE = 1000


def list_devices(
    connection: Connection, *, group: str | None, after: str, limit: int, text: str | None = None
) -> list[dict[str, Any]]:
    """Return up to ``limit`` devices with ids above ``after``, in order. ``text``: a filter, or None.

    Raises:
        InputError: there is no such group, or the filter is none.
    """
    query = (
        _query().where(schema.devices.c.id > after).order_by(schema.devices.c.id).limit(min(limit, MAX_PAGE))
    )
    if group is not None:
        require_group(connection, group)
        members = select(schema.members.c.device_id).where(schema.members.c.group_name == group)
        query = query.where(schema.devices.c.id.in_(members))
    if text is not None:
        query = query.where(condition(parse_filter(text)))
    return _views(connection, connection.execute(query).mappings().all())


def show_device(connection: Connection, device_id: str) -> dict[str, Any]:
    """Return one device with its events, newest last, and the last value of each topic that it published.

    Raises:
        InputError: not known.
    """
    rows = connection.execute(_query().where(schema.devices.c.id == device_id)).mappings().all()
    if not rows:
        raise InputError(f"no device {device_id}: see 'fota device list'", "unknown-device")
    view = _views(connection, rows)[0]
    events, confirmations = schema.events, schema.confirmations
    told = select(events.c.at, events.c.code, events.c.detail).where(events.c.device_id == device_id)
    done = select(confirmations.c.at, confirmations.c.image_hash).where(
        confirmations.c.device_id == device_id
    )
    history = connection.execute(done.order_by(confirmations.c.id)).mappings().all()
    versions = _versions_by_image(connection, {row["image_hash"] for row in history})
    return view | {
        "ddi": ddi_devices.view(connection, device_id),
        "retired": retirement_of(connection, device_id),
        "events": [dict(row) for row in connection.execute(told.order_by(events.c.id)).mappings()],
        "telemetry": telemetry.read(connection, device_id),
        "refusals": list_refusals(connection, who=device_id),
        "history": [dict(row) | {"version": versions.get(row["image_hash"])} for row in history],
    }


def _query() -> Select[Any]:
    keys = schema.device_keys
    devices, targets, rollouts, releases = schema.devices, schema.targets, schema.rollouts, schema.releases
    return (
        select(
            devices,
            targets.c.rollout_id,
            targets.c.state.label("target_state"),
            targets.c.reason,
            rollouts.c.paused,
            releases.c.version.label("target_version"),
            schema.retirements.c.at.label("retired_at"),
            schema.attestations.c.at.label("attested_at"),
            schema.attestations.c.counter.label("attested_counter"),
            keys.c.wanted.label("key_wanted"),
            keys.c.order.label("key_order"),
            keys.c.certificate.label("key_certificate"),
            keys.c.current_key,
            keys.c.current_since,
            keys.c.not_after.label("key_not_after"),
        )
        .outerjoin(keys, keys.c.device_id == devices.c.id)
        .outerjoin(schema.attestations, schema.attestations.c.device_id == devices.c.id)
        .outerjoin(schema.retirements, schema.retirements.c.device_id == devices.c.id)
        .outerjoin(targets, devices.c.target_id == targets.c.id)
        .outerjoin(rollouts, targets.c.rollout_id == rollouts.c.id)
        .outerjoin(releases, targets.c.release_id == releases.c.id)
    )


def _views(connection: Connection, rows: Sequence[RowMapping]) -> list[dict[str, Any]]:
    releases, members = schema.releases, schema.members
    installed = {row["installed_digest"] for row in rows if row["installed_digest"]}
    query = select(releases.c.manifest_digest, releases.c.version).where(
        releases.c.manifest_digest.in_(installed)
    )
    by_manifest = {row.manifest_digest: row.version for row in connection.execute(query)}
    by_image = _versions_by_image(connection, {row["running_hash"] for row in rows if row["running_hash"]})
    groups: defaultdict[str, list[str]] = defaultdict(list)
    of = (
        select(members)
        .where(members.c.device_id.in_([row["id"] for row in rows]))
        .order_by(members.c.group_name)
    )
    for member in connection.execute(of):
        groups[member.device_id].append(member.group_name)
    known = attributes.of(connection, [row["id"] for row in rows])
    return [
        _view(row, groups[row["id"]], by_manifest, by_image) | {"attributes": known[row["id"]]}
        for row in rows
    ]


def _versions_by_image(connection: Connection, hashes: set[str]) -> dict[str, str]:
    table = schema.releases
    query = select(table.c.image_hash, table.c.version).where(table.c.image_hash.in_(hashes))
    return {row.image_hash: row.version for row in connection.execute(query)}


def _view(
    row: RowMapping, groups: list[str], by_manifest: dict[str, str], by_image: dict[str, str]
) -> dict[str, Any]:
    running = None
    if row["running_hash"]:
        running = {
            "version": row["running_version"],
            "release": by_image.get(row["running_hash"]),
            "image_hash": row["running_hash"],
            "slot": row["running_slot"],
            "state": row["state"],
            "sec_cnt": row["sec_cnt"],
        }
    digest = row["installed_digest"]
    return {
        "id": row["id"],
        "groups": groups,
        "status": status_of(row),
        "installed": {"version": by_manifest.get(digest), "manifest_digest": digest} if digest else None,
        "running": running,
        "confirmed": running if running and row["state"] == "confirmed" else None,
        "wanted": _wanted(row),
        "floor": row["floor"],
        "attested": _attested(row),
        "root_version": row["root_version"],
        "reset_cause": row["reset_cause"],
        "first_seen": row["first_seen"],
        "last_seen": row["last_seen"],
        "report_at": row["report_at"],
        "refused_report": row["refused_report"],
        "admitted_by": row["admitted_by"],
        "revoked": row["revoked"],
        "retired_at": row["retired_at"],
        "key": _key(row),
    }


def _attested(row: RowMapping) -> dict[str, Any] | None:
    """Return what the element said itself, beside a report: when, and which floor it holds (SPEC 5.7)."""
    if row["attested_at"] is None:
        return None
    return {"at": row["attested_at"], "floor": row["attested_counter"] // COUNTS_PER_FLOOR}


def _key(row: RowMapping) -> dict[str, Any]:
    """Return which key a device is to act by, and what is under way with it (SPEC 5.6)."""
    wanted = {certify.RENEW: "renew", certify.ROTATE: "rotate"}.get(row["key_wanted"])
    answered = certify.ISSUED if row["key_certificate"] is not None else certify.PENDING
    return {
        "in_use": "rotated" if row["current_key"] is not None else "factory",
        "since": row["current_since"],
        "not_after": row["key_not_after"],
        "wanted": wanted,
        "order": answered if row["key_order"] is not None else None,
    }


def _wanted(row: RowMapping) -> dict[str, Any] | None:
    if row["target_id"] is None:
        return None
    return {
        "version": row["target_version"],
        "rollout": row["rollout_id"],
        "state": row["target_state"],
        "reason": row["reason"],
        "paused": row["paused"],
    }


def status_of(row: RowMapping) -> str:
    """Return one word: retired, revoked, unseen, the state of what is wanted, or the state of what runs."""
    if row["retired_at"] is not None:
        return "retired"
    if row["revoked"]:
        return "revoked"
    if row["last_seen"] is None:
        return "unseen"
    if row["target_state"] in (*UNDER_WAY, *GIVEN_UP, TargetState.SAID):
        return str(row["target_state"])
    return str(row["state"] or "silent")


def revoke(connection: Connection, device_id: str, actor: str) -> dict[str, Any]:
    """Refuse a device from now on, and return it; no rollout waits for it any more.

    Raises:
        InputError: not known.
    """
    show_device(connection, device_id)
    table = schema.devices
    connection.execute(update(table).where(table.c.id == device_id).values(revoked=True))
    close_device(connection, device_id, "the device was revoked")
    record_audit(connection, actor, "device.revoke", device_id)
    return show_device(connection, device_id)


def admit(connection: Connection, device_id: str, actor: str) -> dict[str, Any]:
    """Let a device in, seen or not; lifts a revocation and forgets the key that it was pinned to. Return it.

    Raises:
        InputError: not a device id, or it is retired, which is for good.
    """
    if not is_device_id(device_id):
        raise InputError(f"{device_id} is not a device id: 18 lower-case hex digits", "device-id")
    if retirement_of(connection, device_id):
        raise InputError(f"device {device_id} is retired, and that is for good", "retired")
    table, keys = schema.devices, schema.device_keys
    connection.execute(delete(keys).where(keys.c.device_id == device_id))
    fresh = {"revoked": False, "public_key": None, "admitted_by": actor}
    result = connection.execute(update(table).where(table.c.id == device_id).values(**fresh))
    if result.rowcount == 0:
        connection.execute(insert(table).values(id=device_id, **fresh))
    record_audit(connection, actor, "device.admit", device_id)
    dynamic.refresh(connection, [device_id])
    return show_device(connection, device_id)


def set_attributes(
    connection: Connection, device_id: str, words: attributes.Words, actor: str
) -> dict[str, Any]:
    """Take in what an operator says of a device, and return it. None: his word is taken back.

    Raises:
        InputError: not known; no such name or value; too many of them.
    """
    for name, value in words.items():
        attributes.require_word(name, value)
    show_device(connection, device_id)
    dynamic.give(connection, {device_id: words}, actor)
    return show_device(connection, device_id)


def may_fetch() -> Select[Any]:
    """Return what finds a row if ``device_id`` is assigned the release with ``file_digest``, or runs it
    (SPEC 5.5).
    """
    devices, targets, rollouts, releases = schema.devices, schema.targets, schema.rollouts, schema.releases
    wanted = targets.c.state.in_(HELD) & (releases.c.id == targets.c.release_id)
    return (
        select(devices.c.id)
        .select_from(devices)
        .outerjoin(targets, devices.c.target_id == targets.c.id)
        .outerjoin(rollouts, targets.c.rollout_id == rollouts.c.id)
        .join(
            releases,
            or_(wanted & rollouts.c.paused.is_(False), releases.c.image_hash == devices.c.running_hash),
        )
        .where(
            devices.c.id == bindparam("device_id", ""), releases.c.file_digest == bindparam("file_digest", "")
        )
        .limit(1)
    )
