"""What an order means for each device of its scope, said to the database as one query.

A row is a device: the release that it gets, or the reason why it is left out. Nobody looks at devices one by
one: previews count the rows, and a plan is inserted from them, a page of devices at a time.
"""

from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
)
from sqlalchemy.sql.selectable import NamedFromClause

from fota_server import campaigns, fits, reach, schema
from fota_server.campaigns import Bounds
from fota_server.decide import HELD, OPEN, UNDER_WAY, TargetState
from fota_server.wave_policy import Policy

UPDATE, ROLLBACK = "update", "rollback"
HELD_BACK = "held back, for comparison"
UNPROVED = 'it can only say that it is done (DDI), not prove it: a policy with "said": true counts that'

_devices, _targets, _releases, _rollouts = schema.devices, schema.targets, schema.releases, schema.rollouts
_confirmed, _members = schema.confirmations, schema.members


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which devices an operator means: one of the four is set. ``rollout``: those that were given it.
    ``since``: those that any rollout gave something at or after that time, in seconds since 1970.
    """

    device: str | None
    group: str | None
    rollout: int | None = None
    since: int | None = None

    def __str__(self) -> str:
        """Return the form that the database holds, ``group:NAME``, ``device:ID``, ``rollout:NUMBER`` or
        ``since:SECONDS``.
        """
        if self.since is not None:
            return f"since:{self.since}"
        if self.rollout is not None:
            return f"rollout:{self.rollout}"
        return f"device:{self.device}" if self.device else f"group:{self.group}"

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """Return what ``str`` made ``text`` of."""
        kind, _, name = text.partition(":")
        rollout, since = (int(name) if kind == word else None for word in ("rollout", "since"))
        device, group = (name if kind == word else None for word in ("device", "group"))
        return cls(device=device, group=group, rollout=rollout, since=since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an operator wants. ``release_id``: of all devices; None: each goes back to where it was.

    ``policy``: None: at once. ``seed``: of the ranks. ``digest``: of the plan that is promised, or None.
    ``at_least``: sequence of the release that has to be confirmed before, or a later one.
    """

    kind: str
    scope: Scope
    release_id: int | None
    policy: Policy | None = None
    seed: str = ""
    digest: str | None = None
    at_least: int | None = None


def members(scope: Scope, after: str | None = None, last: str | None = None) -> Select[str]:
    """Return the query of the device ids of a scope in order, of those above ``after`` up to ``last``."""
    if scope.since is not None:
        ids = _devices.c.id
        got = _targets.join(_rollouts, _rollouts.c.id == _targets.c.rollout_id)
        mine = _targets.c.device_id == ids, _targets.c.given_at >= scope.since, _rollouts.c.kind == UPDATE
        query = select(ids).where(exists().select_from(got).where(*mine).correlate(_devices))
    elif scope.rollout is not None:
        ids = _targets.c.device_id
        given = _targets.c.given_at.is_not(None)
        query = select(ids).where(_targets.c.rollout_id == scope.rollout, given)
    elif scope.device:
        ids, query = _devices.c.id, select(_devices.c.id).where(_devices.c.id == scope.device)
    else:
        ids = _members.c.device_id
        query = select(ids).where(_members.c.group_name == scope.group)
    if after is not None:
        query = query.where(ids > after)
    if last is not None:
        query = query.where(ids <= last)
    return query.order_by(ids)


def page_end(scope: Scope, after: str | None, size: int, look: int | None = None) -> Select[str]:
    """Return the query of the last device of the page of ``size`` devices above ``after``; null: none is.

    ``look``: so many devices are looked at, at most, where it has to be looked for those who are meant: then
    the page may hold fewer, or nobody, and null says that there is no device more.
    """
    if scope.since is None or look is None:
        ids = members(scope, after).limit(size).subquery()
        return select(func.max(ids.c[0]))
    everybody = select(_devices.c.id).order_by(_devices.c.id).limit(look)
    seen = (everybody if after is None else everybody.where(_devices.c.id > after)).subquery()
    furthest = select(func.max(seen.c[0])).scalar_subquery()
    ids = members(scope, after).where(_devices.c.id <= furthest).limit(size).subquery()
    return select(case((func.count(ids.c[0]) >= size, func.max(ids.c[0])), else_=furthest))


def planned(
    order: Order, limits: Bounds, after: str | None = None, last: str | None = None
) -> NamedFromClause:
    """Return an order's rows: ``device_id, runs, release_id, version, file_size, manifest_digest, reason``.

    ``limits``: what holds of releases. ``after``, ``last``: as for `members`.
    """
    goal, back = _releases.alias("goal"), _way_back(order.scope)
    goal_id = literal(order.release_id) if order.release_id is not None else _release_before(back)
    query = (
        select(
            _devices.c.id.label("device_id"),
            _devices.c.running_version.label("runs"),
            goal.c.id.label("release_id"),
            goal.c.version,
            goal.c.file_size,
            goal.c.manifest_digest,
            _reason(order, goal, limits, back).label("reason"),
        )
        .select_from(_devices)
        .outerjoin(schema.retirements, schema.retirements.c.device_id == _devices.c.id)
        .outerjoin(_targets, _devices.c.target_id == _targets.c.id)
        .outerjoin(_rollouts, _targets.c.rollout_id == _rollouts.c.id)
        .outerjoin(back.held, back.release_id == back.held.c.id)
        .outerjoin(goal, goal.c.id == goal_id)
        .where(_devices.c.id.in_(members(order.scope, after, last).order_by(None)))
    )
    return query.subquery("planned")


@dataclass(frozen=True, slots=True, kw_only=True)
class _WayBack:
    """From what a device goes back: the release ``release_id``, a row of ``held``. ``unfinished``: it has not
    confirmed what it shall leave. ``proved``, ``told``: which rows of ``confirmations`` and ``said`` are of
    the time before it.
    """

    held: NamedFromClause
    release_id: ColumnElement[int]
    unfinished: ColumnElement[bool]
    proved: ColumnElement[bool]
    told: ColumnElement[bool]


def _way_back(scope: Scope) -> _WayBack:
    """Of a rollout: from the release that it gave, whatever came after; since a time: to what was then. Else
    from what a device has.
    """
    held = _releases.alias("held")
    if scope.since is not None:
        return _WayBack(
            held=held,
            release_id=_targets.c.release_id,
            unfinished=false(),
            proved=_confirmed.c.at < scope.since,
            told=schema.said.c.at < scope.since,
        )
    if scope.rollout is None:
        release: ColumnElement[int] = _targets.c.release_id
        image: ColumnElement[str] = _devices.c.confirmed_hash
        unfinished: ColumnElement[bool] = and_(
            _rollouts.c.kind == UPDATE, held.c.image_hash != _devices.c.confirmed_hash
        )
    else:
        given, ever = _targets.alias("given"), _confirmed.alias("ever")
        mine = given.c.rollout_id == scope.rollout, given.c.device_id == _devices.c.id
        release = select(given.c.release_id).where(*mine).correlate(_devices).scalar_subquery()
        image = held.c.image_hash
        unfinished = not_(
            exists().where(ever.c.device_id == _devices.c.id, ever.c.image_hash == held.c.image_hash)
        )
    first = _confirmed.alias("first")
    confirmed = (
        select(func.min(first.c.id))
        .where(first.c.device_id == _devices.c.id, first.c.image_hash == image)
        .correlate(_devices, held)
    )
    word = schema.said.alias("first_word")
    said = select(func.min(word.c.id)).where(word.c.device_id == _devices.c.id, word.c.release_id == release)
    begun = said.correlate(_devices, _targets).scalar_subquery()
    return _WayBack(
        held=held,
        release_id=release,
        unfinished=unfinished,
        proved=_confirmed.c.id < confirmed.scalar_subquery(),
        told=or_(begun.is_(None), schema.said.c.id < begun),
    )


def _release_before(back: _WayBack) -> ColumnElement[int]:
    """Return where a device goes back to, or null if that is not known.

    One that has not confirmed what it shall leave: to what it confirmed last. Any other: to the last
    published release that it had confirmed before it confirmed that for the first time, so that going back,
    however often, never leads forward again; or before the time that is meant. One that proves nothing: the
    same by its own words.
    """
    last = (
        select(_releases.c.id)
        .where(_releases.c.image_hash == _devices.c.confirmed_hash)
        .order_by(_releases.c.sequence.desc())
        .limit(1)
    )
    before = (
        select(_releases.c.id)
        .select_from(_confirmed.join(_releases, _releases.c.image_hash == _confirmed.c.image_hash))
        .where(_confirmed.c.device_id == _devices.c.id, back.proved)
        .order_by(_confirmed.c.id.desc(), _releases.c.sequence.desc())
        .limit(1)
    )
    said = (
        select(schema.said.c.release_id)
        .where(schema.said.c.device_id == _devices.c.id, back.told)
        .order_by(schema.said.c.id.desc())
        .limit(1)
        .correlate(_devices, _targets)
    )
    proved = case((back.unfinished, last.scalar_subquery()), else_=before.scalar_subquery())
    return func.coalesce(proved, said.scalar_subquery())


def _reason(order: Order, goal: NamedFromClause, limits: Bounds, back: _WayBack) -> ColumnElement[str | None]:
    """Return why a device is left out, or null."""
    rollout = literal("rollout ") + cast(_rollouts.c.id, String)
    reasons: list[tuple[ColumnElement[bool], ColumnElement[str] | str]] = [
        (schema.retirements.c.at.is_not(None), "the device is retired"),
        (_devices.c.revoked, "the device is revoked"),
    ]
    if order.policy and not order.policy.said:
        speaks_ddi = exists().where(schema.ddi_devices.c.device_id == _devices.c.id)
        reasons.append((speaks_ddi, UNPROVED))
    if order.release_id is None:
        reasons += _reasons_to_stay(order, goal, back)
    else:
        same = and_(_targets.c.release_id == order.release_id, _targets.c.state.in_(HELD))
        done = and_(same, _targets.c.state == TargetState.CONFIRMED)
        told = and_(same, _targets.c.state == TargetState.SAID)
        reasons += [
            (done, rollout + " brought this release to it already, and it was confirmed"),
            (told, rollout + " brought this release to it already, and it said so"),
            (same, rollout + " wants this release of it already"),
        ]
        reasons += _reasons_of_comparison(order)
    reasons.append((_is_of_another_class(goal), "the device runs firmware of another class"))
    reasons += fits.reasons(goal)
    if order.policy and order.at_least is not None:
        come_first = (
            f"it has not confirmed {order.policy.at_least} or a later release, which has to come first"
        )
        reasons.append((_is_before(goal, order.at_least), come_first))
    if limits.barred:
        reasons.append((goal.c.id.in_(limits.barred), case(limits.barred, value=goal.c.id)))
    reasons += reach.reasons(goal)
    start = order.policy.start_at if order.policy else None
    reasons += campaigns.reasons(goal, limits, max(limits.at, start or 0))
    return case(
        *((when, literal(why) if isinstance(why, str) else why) for when, why in reasons), else_=null()
    )


def _reasons_of_comparison(order: Order) -> list[tuple[ColumnElement[bool], ColumnElement[str] | str]]:
    """A rollout of the same release that has not ended holds the device back: other orders wait for that."""
    of, left = _rollouts.alias("compares"), schema.left_out
    same = of.c.release_id == order.release_id, of.c.state.in_(OPEN)
    mine = left.c.rollout_id == of.c.id, left.c.device_id == _devices.c.id, left.c.reason == HELD_BACK
    number = select(func.max(of.c.id)).where(*same, *mine).correlate(_devices).scalar_subquery()
    told = literal("rollout ") + cast(number, String) + " holds it back, for comparison, until it ends"
    return [(exists().where(*same, *mine).correlate(_devices), told)]


def _reasons_to_stay(
    order: Order, goal: NamedFromClause, back: _WayBack
) -> list[tuple[ColumnElement[bool], ColumnElement[str] | str]]:
    """Return why a device cannot go back to where it was, beside all that holds for a named release, too."""
    went = _rollouts.c.kind == ROLLBACK
    number = literal("rollback ") + cast(_rollouts.c.id, String)
    of_many = order.scope.rollout is not None or order.scope.since is not None
    further = "" if of_many else ": name the version with --to to go back further"
    nothing: list[tuple[ColumnElement[bool], ColumnElement[str] | str]] = []
    if order.scope.since is not None:
        has = and_(_targets.c.release_id == goal.c.id, _targets.c.state.in_(HELD))
        nothing.append(
            (and_(has, not_(went)), literal("rollout ") + cast(_rollouts.c.id, String) + " has it there")
        )
        went = and_(went, has)
    if order.scope.rollout is not None:
        moved_on = and_(_targets.c.rollout_id != order.scope.rollout, _targets.c.state.in_(HELD), not_(went))
        nothing.append((moved_on, literal("rollout ") + cast(_rollouts.c.id, String) + " has it by now"))
    if order.scope.group:
        nothing.append((_devices.c.target_id.is_(None), "nothing was ever rolled out to the device"))
    unknown = literal("it runs an image that is not published, ") + func.substr(
        _devices.c.confirmed_hash, 1, 16
    )
    unpublished = exists().where(_confirmed.c.device_id == _devices.c.id, back.proved)
    return [
        *nothing,
        (
            and_(went, _targets.c.state.in_(UNDER_WAY)),
            number + " is under way for it" + further,
        ),
        (
            and_(went, _targets.c.state.in_((TargetState.CONFIRMED, TargetState.SAID))),
            number + " brought it back already" + further,
        ),
        (
            and_(_devices.c.confirmed_hash.is_(None), goal.c.id.is_(None)),
            "the device has not confirmed any image yet: name the version with --to",
        ),
        (and_(goal.c.id.is_(None), back.unfinished), unknown + ": publish it, or say --to"),
        (
            and_(goal.c.id.is_(None), unpublished),
            "the image that it confirmed before is not published: publish it, or name one with --to",
        ),
        (goal.c.id.is_(None), "the device has confirmed no earlier release: name the version with --to"),
    ]


def _is_of_another_class(goal: NamedFromClause) -> ColumnElement[bool]:
    """A verified report, or a DDI device, named a release for another class: no device starts both."""
    ran, named, word = _releases.alias("ran"), _releases.alias("named"), schema.said
    proven = or_(ran.c.image_hash == _devices.c.running_hash, ran.c.image_hash == _devices.c.confirmed_hash)
    told = word.c.device_id == _devices.c.id, word.c.release_id == named.c.id
    return or_(
        exists().where(proven, ran.c.class_id != goal.c.class_id),
        exists().where(*told, named.c.class_id != goal.c.class_id),
    )


def _is_before(goal: NamedFromClause, sequence: int) -> ColumnElement[bool]:
    """The device has not confirmed a release of the same class with this sequence or a higher one."""
    ran = _releases.alias("came_before")
    same = and_(ran.c.image_hash == _devices.c.confirmed_hash, ran.c.class_id == goal.c.class_id)
    return not_(exists().where(same, ran.c.sequence >= sequence))


def classes(scope: Scope) -> Select[str]:
    """Return the query of the classes that devices of a scope provably run."""
    ran = or_(
        _releases.c.image_hash == _devices.c.running_hash, _releases.c.image_hash == _devices.c.confirmed_hash
    )
    of = _devices.c.id.in_(members(scope).order_by(None))
    return select(_releases.c.class_id).select_from(_devices.join(_releases, ran)).where(of).distinct()
