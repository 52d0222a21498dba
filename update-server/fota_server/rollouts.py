"""Rollouts and rollbacks: an operator says what is wanted, and rows in ``targets`` say it per device.

How a rollout stands is counted from its targets whenever somebody asks; nothing is stored that could
disagree.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fota_server import schema
from fota_server.catalog import RELEASES, find_release, release_of
from fota_server.database import now, record_audit
from fota_server.decide import GIVEN_UP, UNDER_WAY, Release, TargetState, why_not
from fota_wire.errors import InputError, VerifyError
from fota_wire.root import Root
from fota_wire.version import parse_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which devices an operator means: one of the two is set."""

    device: str | None
    group: str | None

    def __str__(self) -> str:
        """Return the form that the database holds, ``group:NAME`` or ``device:ID``."""
        return f"device:{self.device}" if self.device else f"group:{self.group}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    device_id: str
    release: Release


async def start(
    connection: AsyncConnection, version: str, scope: Scope, root: Root, actor: str
) -> dict[str, Any]:
    """Start a rollout of ``version`` and return it, as ``show`` does, with the devices it had to leave out.

    Raises:
        InputError: release, device or group is not known, or the group is empty.
        VerifyError: no device of the scope may get the release; the reason of the first.
    """
    release = await find_release(connection, version)
    plans, refused = [], {}
    for device in await _devices_of(connection, scope):
        reason = _shut_out(device) or why_not(release, root, device["floor"])
        if reason:
            refused[device["id"]] = reason
        else:
            plans.append(_Plan(device_id=device["id"], release=release))
    return await _begin(connection, "update", scope, plans, refused, actor)


async def roll_back(
    connection: AsyncConnection, version: str | None, scope: Scope, root: Root, actor: str
) -> dict[str, Any]:
    """Start a rollback to ``version``, or of each device to the release it confirmed before the current one.

    A device that has not confirmed what is wanted of it goes back to what it has confirmed last. In a group,
    a device that nothing was ever wanted of is left alone.

    Raises:
        InputError, VerifyError: as for ``start``.
    """
    named = await find_release(connection, version) if version else None
    plans, refused = [], {}
    for device in await _devices_of(connection, scope):
        release: Release | None = named
        reason = _shut_out(device)
        if not named and not reason:
            if scope.group and device["target_id"] is None:
                continue
            release, reason = await _before(connection, device)
        reason = reason or (why_not(release, root, device["floor"]) if release else None)
        if reason:
            refused[device["id"]] = reason
        elif release:
            plans.append(_Plan(device_id=device["id"], release=release))
    return await _begin(connection, "rollback", scope, plans, refused, actor)


def _shut_out(device: RowMapping) -> str | None:
    if device["retired_at"] is not None:
        return "the device is retired"
    return "the device is revoked" if device["revoked"] else None


async def _before(connection: AsyncConnection, device: RowMapping) -> tuple[Release | None, str | None]:
    """Return the release that a device goes back to by default, or why there is none."""
    if device["confirmed_hash"] is None:
        return None, "the device has not confirmed any image yet: name the version with --to"
    target = await _release_by_id(connection, device["release_id"]) if device["target_id"] else None
    confirmed = device["confirmed_hash"]
    current = await _release_by_image(connection, confirmed)
    if target and target.image_hash.hex() != confirmed and device["kind"] == "update":
        if current is None:
            return (
                None,
                f"it runs an image that is not published, {confirmed[:16]}: publish it, or say --to",
            )
        return current, None
    table = schema.confirmations
    query = select(table.c.image_hash).where(table.c.device_id == device["id"]).order_by(table.c.id.desc())
    below = parse_version(current.version) if current else None
    unpublished = False
    for image_hash in (await connection.execute(query)).scalars():
        if image_hash == confirmed:
            continue
        release = await _release_by_image(connection, image_hash)
        if release is None:
            unpublished = True
        elif below is None or parse_version(release.version) < below:
            return release, None
    if unpublished:
        return None, "the image that it confirmed before is not published: publish it, or name one with --to"
    return None, "the device has confirmed no earlier release: name the version with --to"


async def _release_by_id(connection: AsyncConnection, release_id: int) -> Release:
    query = RELEASES.where(schema.releases.c.id == release_id)
    return release_of((await connection.execute(query)).mappings().one())


async def _release_by_image(connection: AsyncConnection, image_hash: str) -> Release | None:
    table = schema.releases
    query = RELEASES.where(table.c.image_hash == image_hash).order_by(table.c.sequence.desc()).limit(1)
    row = (await connection.execute(query)).mappings().first()
    return release_of(row) if row else None


async def _devices_of(connection: AsyncConnection, scope: Scope) -> Sequence[RowMapping]:
    devices, targets, rollouts, members = schema.devices, schema.targets, schema.rollouts, schema.members
    query = (
        select(devices, targets.c.release_id, rollouts.c.kind, schema.retirements.c.at.label("retired_at"))
        .outerjoin(schema.retirements, schema.retirements.c.device_id == devices.c.id)
        .outerjoin(targets, devices.c.target_id == targets.c.id)
        .outerjoin(rollouts, targets.c.rollout_id == rollouts.c.id)
        .order_by(devices.c.id)
    )
    if scope.device:
        rows = (await connection.execute(query.where(devices.c.id == scope.device))).mappings().all()
        if not rows:
            raise InputError(f"no device {scope.device}: see 'fota device list'", "unknown-device")
        return rows
    group = select(schema.groups).where(schema.groups.c.name == scope.group)
    if not (await connection.execute(group)).first():
        raise InputError(f"no group {scope.group}: see 'fota group list'", "unknown-group")
    query = query.join(members, members.c.device_id == devices.c.id).where(
        members.c.group_name == scope.group
    )
    rows = (await connection.execute(query)).mappings().all()
    if not rows:
        raise InputError(f"group {scope.group} has no devices: add some with 'fota group add'", "empty-group")
    return rows


async def _begin(
    connection: AsyncConnection,
    kind: str,
    scope: Scope,
    plans: list[_Plan],
    refused: dict[str, str],
    actor: str,
) -> dict[str, Any]:
    if not plans:
        if not refused:
            raise VerifyError(f"{scope}: nothing to roll back", "nothing-to-do")
        device_id, reason = next(iter(refused.items()))
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise VerifyError(f"device {device_id}: {reason}{more}", "refused")
    at = now()
    row = {"kind": kind, "scope": str(scope), "paused": False, "created_at": at, "created_by": actor}
    result = await connection.execute(insert(schema.rollouts).values(**row))
    rollout_id = int(result.inserted_primary_key[0])  # type: ignore[index]
    await _supersede(connection, [plan.device_id for plan in plans], at)
    rows = [
        {
            "rollout_id": rollout_id,
            "device_id": plan.device_id,
            "release_id": plan.release.id,
            "state": TargetState.PENDING,
            "updated_at": at,
        }
        for plan in plans
    ]
    await connection.execute(insert(schema.targets), rows)
    in_force = select(schema.targets.c.id).where(
        schema.targets.c.rollout_id == rollout_id, schema.targets.c.device_id == schema.devices.c.id
    )
    members = select(schema.targets.c.device_id).where(schema.targets.c.rollout_id == rollout_id)
    await connection.execute(
        update(schema.devices)
        .where(schema.devices.c.id.in_(members))
        .values(target_id=in_force.scalar_subquery())
    )
    versions = sorted({plan.release.version for plan in plans}, key=parse_version)
    action = f"rollout.{kind}"
    await record_audit(
        connection,
        actor,
        action,
        str(scope),
        rollout=rollout_id,
        versions=versions,
        devices=len(plans),
        refused=refused,
    )
    return await show(connection, rollout_id) | {"refused": refused}


async def _supersede(connection: AsyncConnection, device_ids: list[str], at: int) -> None:
    """Mark what was under way for these devices as replaced; what had ended keeps its end."""
    table = schema.targets
    for first in range(0, len(device_ids), 500):
        some = device_ids[first : first + 500]
        await connection.execute(
            update(table)
            .where(table.c.device_id.in_(some), table.c.state.in_(UNDER_WAY))
            .values(state=TargetState.SUPERSEDED, updated_at=at)
        )


async def set_paused(
    connection: AsyncConnection, rollout_id: int, paused: bool, actor: str
) -> dict[str, Any]:
    """Pause or resume a rollout and return it; a pause does not touch a device that runs the release.

    Raises:
        InputError: no such rollout.
    """
    shown = await show(connection, rollout_id)
    if shown["paused"] != paused:
        table = schema.rollouts
        await connection.execute(update(table).where(table.c.id == rollout_id).values(paused=paused))
        await record_audit(
            connection, actor, "rollout.pause" if paused else "rollout.resume", str(rollout_id)
        )
    return await show(connection, rollout_id)


async def show(connection: AsyncConnection, rollout_id: int) -> dict[str, Any]:
    """Return one rollout with its progress and its devices.

    Raises:
        InputError: no such rollout.
    """
    shown = await _summaries(connection, rollout_id)
    if not shown:
        raise InputError(f"no rollout {rollout_id}: see 'fota rollout list'", "unknown-rollout")
    targets, releases = schema.targets, schema.releases
    query = (
        select(
            targets.c.device_id, targets.c.state, targets.c.reason, targets.c.updated_at, releases.c.version
        )
        .join(releases, targets.c.release_id == releases.c.id)
        .where(targets.c.rollout_id == rollout_id)
        .order_by(targets.c.device_id)
    )
    devices = [dict(row) for row in (await connection.execute(query)).mappings()]
    return shown[0] | {"devices": devices}


async def list_all(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return all rollouts with their progress, newest first."""
    return await _summaries(connection, None)


async def _summaries(connection: AsyncConnection, rollout_id: int | None) -> list[dict[str, Any]]:
    rollouts, targets, releases = schema.rollouts, schema.targets, schema.releases
    counts = (
        select(targets.c.rollout_id, targets.c.state, releases.c.version, func.count().label("n"))
        .join(releases, targets.c.release_id == releases.c.id)
        .group_by(targets.c.rollout_id, targets.c.state, releases.c.version)
    )
    query = select(rollouts).order_by(rollouts.c.id.desc())
    if rollout_id is not None:
        counts = counts.where(targets.c.rollout_id == rollout_id)
        query = query.where(rollouts.c.id == rollout_id)
    progress: dict[int, Counter[str]] = {}
    versions: dict[int, set[str]] = {}
    for row in await connection.execute(counts):
        progress.setdefault(row.rollout_id, Counter())[row.state] += row.n
        versions.setdefault(row.rollout_id, set()).add(row.version)
    return [
        {
            "id": row["id"],
            "kind": row["kind"],
            "scope": row["scope"],
            "versions": sorted(versions.get(row["id"], ()), key=parse_version),
            "status": status_of(progress.get(row["id"], Counter()), row["paused"]),
            "paused": row["paused"],
            "progress": {state.value: progress.get(row["id"], Counter())[state] for state in TargetState},
            "total": progress.get(row["id"], Counter()).total(),
            "created_at": row["created_at"],
            "created_by": row["created_by"],
        }
        for row in (await connection.execute(query)).mappings()
    ]


def status_of(progress: Counter[str], paused: bool) -> str:
    """Return paused, running, failed (nothing under way, and not all confirmed), superseded or done."""
    if any(progress[state] for state in UNDER_WAY):
        return "paused" if paused else "running"
    if any(progress[state] for state in GIVEN_UP):
        return "failed"
    return "done" if progress[TargetState.CONFIRMED] else "superseded"
