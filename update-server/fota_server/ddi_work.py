"""What a DDI device is told, and what follows from what it says: one short transaction each.

It is the target in force that a device is told of, as for any other device; an action's number is its
target's. ``ddi_devices.action`` is the one that the device was given and has not closed: whatever the
operator decides meanwhile, the device is asked to stop it, and may close it in its own words, before it hears
of another. No word of such a device is a fact about it: they go to the tables ``said``, ``ddi_attributes``
and ``events``, and a target whose device says that it is done is SAID, never CONFIRMED.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fota_server import attributes, changes, dynamic, hand_out, orders, schema
from fota_server.allowance import Allowance
from fota_server.catalog import Catalog
from fota_server.database import now as clock
from fota_server.ddi_files import file_of
from fota_server.ddi_words import FORCED, MAX_ATTRIBUTES, SKIP, Attributes, Feedback, File
from fota_server.decide import (
    CLOSED,
    ON_TRIAL,
    Release,
    RolloutState,
    Target,
    TargetState,
    close,
    offer,
)
from fota_server.facts import CONFIRMATIONS_KEPT, prune, store_events
from fota_server.rollouts import settle
from fota_wire.errors import FormatError, FotaError, InputError
from fota_wire.root import Root

_ddi, _devices, _targets, _said = schema.ddi_devices, schema.devices, schema.targets, schema.said
_rollouts, _attributes = schema.rollouts, schema.ddi_attributes


class Foreign(FotaError):
    """An action that this device was never given."""


class Inactive(FotaError):
    """An action that is closed: nothing can be said of it any more."""


class NotCancelable(FotaError):
    """Nobody asked the device to stop this action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a device is to do: an action that it has, in a mode of `ddi_words`; one to stop; one that it said
    is done; or a release that it may be given now.
    """

    action: int | None = None
    mode: str = FORCED
    cancel: int | None = None
    done: int | None = None
    release: Release | None = None
    may_be_given: bool = False


_STANDING = (
    select(
        _ddi.c.action,
        _targets.c.id.label("target_id"),
        _targets.c.rollout_id,
        _targets.c.release_id,
        _targets.c.state,
        _targets.c.reason,
        _targets.c.rank,
        _rollouts.c.paused,
        _rollouts.c.state.label("rollout_state"),
        schema.releases.c.withdrawn_at,
    )
    .join(_devices, _devices.c.id == _ddi.c.device_id)
    .outerjoin(_targets, _targets.c.id == _devices.c.target_id)
    .outerjoin(_rollouts, _rollouts.c.id == _targets.c.rollout_id)
    .outerjoin(schema.releases, schema.releases.c.id == _targets.c.release_id)
)


def look(connection: Connection, device_id: str, catalog: Catalog, root: Root) -> Standing:
    """Return how a device stands; nothing is changed."""
    return _look(connection, device_id, catalog, root)[0]


def give(connection: Connection, device_id: str, catalog: Catalog, root: Root) -> Standing:
    """Give a device what it may be given, and return how it stands then.

    The budget, rates and waves are asked again, in the transaction that hands out.
    """
    standing, target, left = _look(connection, device_id, catalog, root)
    if not standing.may_be_given or target is None or standing.release is None:
        return standing
    file = file_of(connection, target.release.id)
    left.take(target.rollout_id, file.size if file else target.release.file_size)
    at = clock()
    _move(connection, target.id, TargetState.OFFERED, None, at, given_at=at)
    connection.execute(update(_ddi).where(_ddi.c.device_id == device_id).values(action=target.id))
    hand_out.store(connection, left)
    return Standing(action=target.id, release=target.release)


def _look(
    connection: Connection, device_id: str, catalog: Catalog, root: Root
) -> tuple[Standing, Target | None, Allowance]:
    row = connection.execute(_STANDING.where(_ddi.c.device_id == device_id)).one()
    asking = [] if row.release_id is None else [(device_id, row.release_id)]
    left = hand_out.allowance(connection, {row.rollout_id} - {None}, asking, clock())
    state = TargetState(row.state) if row.target_id is not None else None
    if row.action is not None and (row.action != row.target_id or state in CLOSED):
        return Standing(cancel=row.action), None, left
    if state is None:
        return Standing(), None, left
    target = _target(connection, device_id, row, state, catalog, left)
    if state is TargetState.SAID:
        return Standing(done=target.id, release=target.release), target, left
    wanted = None if close(target, root) else offer(target, state, root=root)
    if state in ON_TRIAL:
        mode = FORCED if wanted else SKIP
        return Standing(action=target.id, mode=mode, release=target.release), target, left
    may = state is TargetState.PENDING and wanted is not None
    return Standing(release=target.release, may_be_given=may), target, left


def _target(
    connection: Connection,
    device_id: str,
    row: Any,  # noqa: ANN401 - a driver's row
    state: TargetState,
    catalog: Catalog,
    left: Allowance,
) -> Target:
    release = catalog.get(connection, {row.release_id})[row.release_id]
    file = file_of(connection, row.release_id)
    size = file.size if file else release.file_size
    return Target(
        id=row.target_id,
        rollout_id=row.rollout_id,
        release=release,
        state=state,
        reason=row.reason,
        paused=row.paused or left.halted,
        withdrawn=row.withdrawn_at is not None,
        cancelling=row.rollout_state == RolloutState.CANCELLING,
        held=left.why_not((device_id, row.release_id), row.rollout_id, row.rank, size),
    )


def mentioned(connection: Connection, device_id: str, action: int) -> tuple[TargetState, File | None]:
    """Return how an action of a device stands, and its file.

    Raises:
        Foreign: it was never given to this device.
    """
    row = _given(connection, device_id, action)
    return TargetState(row.state), file_of(connection, row.release_id)


def _given(connection: Connection, device_id: str, action: int) -> Any:  # noqa: ANN401 - a driver's row
    query = (
        select(_targets, _ddi.c.action)
        .join(_ddi, _ddi.c.device_id == _targets.c.device_id)
        .where(_targets.c.id == action, _targets.c.device_id == device_id, _targets.c.given_at.is_not(None))
    )
    row = connection.execute(query).first()
    if row is None:
        raise Foreign(f"action {action} was never given to this device", "foreign-action")
    return row


# -- what devices say ----------------------------------------------------------------------------------------


def hear(connection: Connection, device_id: str, action: int, said: Feedback) -> None:
    """Store what a device says of an action; an action ends by ``closed`` alone.

    Raises:
        Foreign: it was never given to this device.
        Inactive: it is closed; but the very word that closed it may be said again, since an answer may be
            lost.
    """
    row, at = _given(connection, device_id, action), clock()
    if row.action != action:
        ended = {TargetState.SAID: True, TargetState.FAILED: False}.get(row.state)
        if said.verdict is not None and said.verdict == ended:
            return
        raise Inactive(f"action {action} is closed", "action-closed")
    _tell(connection, device_id, said, at)
    if said.verdict is None:
        return
    change = {"action": None} | (
        {"configured": False} if said.verdict else {}
    )  # it may tell other attributes
    connection.execute(update(_ddi).where(_ddi.c.device_id == device_id).values(**change))
    if said.verdict:
        _note_said(connection, device_id, row.release_id, at)
    if row.state in ON_TRIAL:
        state, reason = (TargetState.SAID, None) if said.verdict else (TargetState.FAILED, said.why)
        _move(connection, action, state, reason, at)
        settle(connection, {row.rollout_id})
        if state is TargetState.FAILED:
            orders.stop_failed(connection, row.rollout_id, at)


def hear_cancel(connection: Connection, device_id: str, action: str, said: Feedback) -> None:
    """Store what a device says to being asked to stop an action.

    ``action`` may lack its first digit: Zephyr up to 4.1 loses it. One that will not stop is asked again, and
    may still close it.

    Raises:
        Foreign: it was never given to this device. NotCancelable: it is not to be stopped.
    """
    query = (
        select(_ddi.c.action, _devices.c.target_id, _targets.c.state)
        .join(_devices, _devices.c.id == _ddi.c.device_id)
        .outerjoin(_targets, _targets.c.id == _ddi.c.action)
        .where(_ddi.c.device_id == device_id)
    )
    row = connection.execute(query).one()
    if row.action is None or action not in (str(row.action), str(row.action)[1:]):
        past = _given(connection, device_id, int(action or 0))
        if past.state in CLOSED and said.gives_up:
            return  # it said so before; the answer may have been lost
        raise NotCancelable(f"action {action} is not to be stopped", "not-cancelable")
    if row.action == row.target_id and row.state not in CLOSED:
        raise NotCancelable(f"action {row.action} is not to be stopped", "not-cancelable")
    _tell(connection, device_id, said, clock())
    if said.gives_up:
        connection.execute(update(_ddi).where(_ddi.c.device_id == device_id).values(action=None))


def learn(connection: Connection, device_id: str, told: Attributes) -> None:
    """Store what a device tells of itself, as its mode says. What has a name that attributes can have here,
    in small letters, is its word there, too: filters and groups go by it.

    Raises:
        FormatError: that would be too many; nothing is changed.
    """
    mine = _attributes.c.device_id == device_id
    before = _told(connection, device_id)
    doomed = mine if told.mode == "replace" else mine & _attributes.c.name.in_(list(told.values))
    connection.execute(delete(_attributes).where(doomed))
    if told.values and told.mode != "remove":
        rows = [{"device_id": device_id, "name": name, "value": told.values[name]} for name in told.values]
        connection.execute(insert(_attributes), rows)
    after = _told(connection, device_id)
    if len(after) > MAX_ATTRIBUTES:
        raise FormatError(f"a device has at most {MAX_ATTRIBUTES} attributes", "attributes")
    connection.execute(update(_ddi).where(_ddi.c.device_id == device_id).values(configured=True))
    words = {name.lower(): after.get(name) or None for name in sorted(before.keys() | after.keys())}
    dynamic.learn(
        connection, (), {device_id: {name: words[name] for name in words if _may_be(name, words[name])}}
    )


def _told(connection: Connection, device_id: str) -> dict[str, str]:
    query = select(_attributes.c.name, _attributes.c.value).where(_attributes.c.device_id == device_id)
    return {row.name: row.value for row in connection.execute(query)}


def _may_be(name: str, value: str | None) -> bool:
    try:
        attributes.require_word(name, value)
    except InputError:
        return False
    return True


def note_seen(connection: Connection, seen: dict[str, int]) -> None:
    """Store when devices were last heard of."""
    for device_id, at in seen.items():
        change = {"last_seen": at, "first_seen": func.coalesce(_devices.c.first_seen, at)}
        connection.execute(update(_devices).where(_devices.c.id == device_id).values(**change))


def _tell(connection: Connection, device_id: str, said: Feedback, at: int) -> None:
    code = f"said-{said.execution}"
    if said.execution == "closed":
        code = f"said-{said.finished}"
    store_events(connection, device_id, [(code, line) for line in said.details or ("",)], at)


def _note_said(connection: Connection, device_id: str, release_id: int, at: int) -> None:
    mine = _said.c.device_id == device_id
    last = select(_said.c.release_id).where(mine).order_by(_said.c.id.desc()).limit(1)
    if connection.execute(last).scalar_one_or_none() != release_id:
        connection.execute(insert(_said).values(device_id=device_id, release_id=release_id, at=at))
        prune(connection, _said, [device_id], CONFIRMATIONS_KEPT)


def _move(
    connection: Connection,
    target_id: int,
    state: TargetState,
    reason: str | None,
    at: int,
    **more: int,
) -> None:
    change = {"state": state, "reason": reason, "updated_at": at, **more}
    query = select(_targets.c.device_id, _targets.c.rollout_id, _targets.c.state)
    found = connection.execute(query.where(_targets.c.id == target_id)).one()
    moved = {"rollout": found.rollout_id, "before": found.state, "state": state, "reason": reason}
    if found.state != state:
        changes.note(connection, "device.state", found.device_id, f"device:{found.device_id}", **moved)
    connection.execute(update(_targets).where(_targets.c.id == target_id).values(**change))
