"""What check-ins mean, over what the database knows: those that say nothing new by what was read of it, the
others within the transaction that stores them.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, select

from fota_server import campaigns, hand_out, orders, schema
from fota_server.admission import KEY_COLUMNS, Forbidden, key_order, refuse
from fota_server.allowance import Allowance
from fota_server.catalog import Catalog
from fota_server.decide import GIVEN_UP, ON_TRIAL, Release, RolloutState, Target, TargetState, Twin, judge
from fota_server.facts import KNOWN, Judged, is_news, store
from fota_server.heard import Heard
from fota_server.identity import Identity
from fota_server.quick import Statement
from fota_server.trust import TrustChain
from fota_wire import root as roots
from fota_wire.checkin import MAX_ROOT_STEPS, Request
from fota_wire.host_crypto import verify

MAX_BATCH = 256

_devices, _targets, _rollouts = schema.devices, schema.targets, schema.rollouts
TWINS = Statement(
    select(
        _devices.c.id,
        *KNOWN,
        _devices.c.revoked,
        schema.retirements.c.at.label("retired_at"),
        *KEY_COLUMNS,
        _devices.c.report_nonce,
        schema.attestations.c.counter.label("attested_counter"),
        _targets.c.id.label("target_id"),
        _targets.c.rollout_id,
        _targets.c.release_id,
        _targets.c.state.label("target_state"),
        _targets.c.reason,
        _targets.c.rank,
        _rollouts.c.paused,
        _rollouts.c.policy.is_not(None).label("in_waves"),
        _rollouts.c.open_rank,
        _rollouts.c.state.label("rollout_state"),
        schema.releases.c.withdrawn_at,
        hand_out.HALTED.label("halted"),
    )
    .outerjoin(schema.retirements, schema.retirements.c.device_id == _devices.c.id)
    .outerjoin(schema.device_keys, schema.device_keys.c.device_id == _devices.c.id)
    .outerjoin(schema.attestations, schema.attestations.c.device_id == _devices.c.id)
    .outerjoin(_targets, _devices.c.target_id == _targets.c.id)
    .outerjoin(_rollouts, _targets.c.rollout_id == _rollouts.c.id)
    .outerjoin(schema.releases, _targets.c.release_id == schema.releases.c.id)
    .where(_devices.c.id.in_(bindparam("ids", expanding=True)))
)
"""All that the decision over the devices ``ids`` looks at."""


@dataclass(slots=True)
class Question:
    """A check-in, and whose it is."""

    identity: Identity
    request: Request


class Judging:
    """Judges check-ins, one of a device at a time."""

    def __init__(self, catalog: Catalog, trust: TrustChain, auto_admission: bool, heard: Heard) -> None:
        self._catalog = catalog
        self._trust = trust
        self._auto_admission = auto_admission
        self._heard = heard
        self._campaigns: Mapping[int, campaigns.Document] | None = None  # of the batch under way

    def look(
        self, rows: Sequence[Any], of: Mapping[str, Question], now: int
    ) -> dict[str, Judged | Forbidden]:
        """Return what was made of those that say nothing new; ``rows``: what `TWINS` has found of them all.

        Nobody is given anything here, nor is anything stored but that they were heard.
        """
        found: dict[str, Judged | Forbidden] = {}
        heard: list[tuple[Judged, Any]] = []
        for row in rows:
            release = self._catalog.known(row.release_id) if row.target_id else None
            target = _target(row, release) if release else None
            if target and target.state is TargetState.PENDING and (shut := _shut(row)):
                target = target._replace(held=shut)
            if (row.target_id and not target) or (target and self._may_be_given_more(target)):
                continue
            one = of[row.id]
            item = self._judge(one.identity, one.request, row, target, self._heard.nonce(row), now)
            if isinstance(item, Judged):
                if is_news(item, row, now):
                    continue
                heard.append((item, row))
            found[row.id] = item
        for item, row in heard:  # now that none of them was a mistake
            self._heard.note(item, row, now)
        return found

    def decide(
        self, connection: Connection, of: Mapping[str, Question], now: int
    ) -> dict[str, Judged | Forbidden]:
        """Store the facts of a batch, and return what was made of each check-in, by device."""
        self._heard.store(connection, of)
        rows = TWINS.rows(connection, ids=list(of))
        releases = self._catalog.get(connection, {row.release_id for row in rows if row.target_id})
        twins = {
            row.id: (row, _target(row, releases[row.release_id]) if row.target_id else None) for row in rows
        }
        going = {target.rollout_id for _, target in twins.values() if target and _may_be_given(target)}
        # Who was given something speaks first: if that pauses a rollout, nobody else is given it now.
        pending = {
            key: target.release.id
            for key, (_, target) in twins.items()
            if target and target.state is TargetState.PENDING
        }
        left = hand_out.allowance(connection, going, pending.items(), now)
        left.zones = hand_out.zones(connection, left, twins)
        wanted = {target.release.id for _, target in twins.values() if target}
        self._campaigns = campaigns.in_force(connection, self._trust.current, wanted)
        found = {key: self._hand_out(one, twins, left) for key, one in of.items() if key not in pending}
        failed = failed_rollouts(found.values())
        if failed:
            store(connection, _judged(found.values()), now)
            left.stopped |= {
                number for number in sorted(failed) if orders.stop_failed(connection, number, now)
            }
        given = {key: self._hand_out(one, twins, left) for key, one in of.items() if key in pending}
        everybody = found | given
        store(connection, _judged((given if failed else everybody).values()), now)
        hand_out.store(connection, left)
        return everybody

    def _hand_out(
        self, one: Question, twins: Mapping[str, tuple[Any, Target | None]], left: Allowance
    ) -> Judged | Forbidden:
        """Judge a check-in, and use up what its device is given."""
        row, target = twins.get(one.identity.device_id, (None, None))
        if target:
            zone = left.zones.get(one.identity.device_id)
            who = one.identity.device_id, target.release.id
            held = left.why_not(who, target.rollout_id, row.rank, target.release.file_size, zone)
            barred = self._why_campaign(one, target, left.now)
            if held or barred:
                target = target._replace(held=held or barred, paused=target.paused or barred is not None)
        nonce = row.report_nonce if row else None
        found = self._judge(one.identity, one.request, row, target, nonce, left.now)
        if target and isinstance(found, Judged) and _was_given(target.state, found.verdict.target_state):
            left.take(target.rollout_id, target.release.file_size)
        if target and isinstance(found, Judged) and found.verdict.wanted and self._campaigns is not None:
            document = self._campaigns.get(target.release.id)
            return found._replace(campaign=document.raw if document else None)
        return found

    def _may_be_given_more(self, target: Target) -> bool:
        """A check-in may hand something out, or again, as the database has to say."""
        by_campaign = self._trust.current.threshold(roots.CAMPAIGN) and target.state in ON_TRIAL
        return _may_be_offered(target) or bool(by_campaign)

    def _why_campaign(self, one: Question, target: Target, at: int) -> str | None:
        """Return why the device would refuse what is wanted of it by its CAMPAIGN, or None."""
        if self._campaigns is None:
            return None
        document = self._campaigns.get(target.release.id)
        return campaigns.why_not(document, one.identity.device_id, one.request.group, at)

    def _judge(
        self,
        identity: Identity,
        request: Request,
        row: Any,  # noqa: ANN401 - a driver's row
        target: Target | None,
        nonce: bytes | None,
        now: int,
    ) -> Judged | Forbidden:
        refusal = refuse(row, identity, self._auto_admission)
        if refusal:
            return refusal
        twin = Twin(
            device_id=identity.device_id,
            report_nonce=nonce,
            confirmed_hash=_digest(row.confirmed_hash) if row else None,
            target=target,
            running_hash=_digest(row.running_hash) if row else None,
            settled=_digest(row.settled_digest) if row else None,
        )
        verdict = judge(
            twin,
            request,
            identity.public_key,
            self._trust.current,
            _verify_once,
            identity.attestation,
            len(self._trust.steps_after(request.root_version, request.longest_answer)) or MAX_ROOT_STEPS,
        )
        return Judged(
            identity=identity,
            request=request,
            twin=twin,
            verdict=verdict,
            is_new=row is None,
            # One that no report was made with is as good as ever; another one asks for a report.
            nonce=nonce if nonce and request.report is None and not verdict.asks else secrets.token_bytes(16),
            pinned=row.public_key if row and row.public_key else identity.public_key,
            key_order=key_order(row, identity, now),
        )


@lru_cache(2 * MAX_BATCH)
def _verify_once(public_xy: bytes, digest: bytes, signature: bytes) -> bool:
    """A report that says something new is judged twice: by what was read, and within its transaction."""
    return verify(public_xy, digest, signature)


def _target(row: Any, release: Release) -> Target:  # noqa: ANN401 - a driver's row
    return Target(
        id=row.target_id,
        rollout_id=row.rollout_id,
        release=release,
        state=TargetState(row.target_state),
        reason=row.reason,
        paused=bool(row.paused) or row.halted is not None,
        withdrawn=row.withdrawn_at is not None,
        cancelling=row.rollout_state == RolloutState.CANCELLING,
    )


def _shut(row: Any) -> str | None:  # noqa: ANN401 - a driver's row
    """Return why no device of this rank is given its release now, as far as its row says; `Allowance.why_not`
    knows more, and never says otherwise.
    """
    if row.halted is not None or row.paused:
        return "it is paused, or all is"
    if row.in_waves and (row.rank is None or row.rank > row.open_rank):
        return "its wave is not open yet"
    return None


def _may_be_offered(target: Target) -> bool:
    return target.state is TargetState.PENDING and target.held is None


def _judged(items: Iterable[Judged | Forbidden]) -> list[Judged]:
    return [item for item in items if isinstance(item, Judged)]


def failed_rollouts(items: Iterable[Judged | Forbidden]) -> set[int]:
    """Return the rollouts of which a device has just failed."""
    return {
        target.rollout_id
        for item in _judged(items)
        if (target := item.twin.target)
        and item.verdict.target_state in GIVEN_UP
        and target.state not in GIVEN_UP
    }


def _may_be_given(target: Target) -> bool:
    """A check-in may put the device on trial, which it is not yet: pending, or back from a confirmed run."""
    return target.state in (TargetState.PENDING, TargetState.CONFIRMED)


def _was_given(before: TargetState, after: TargetState | None) -> bool:
    return before not in ON_TRIAL and after is TargetState.OFFERED


def _digest(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None
