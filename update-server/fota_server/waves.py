"""Rollouts in waves: who is in which, and when the next one opens. Pure: numbers in, one step out; no clock.

A device's place in a rollout is its `rank`, a number that follows from the rollout's seed and the device's id
alone. A wave is a bound over ranks: it holds whoever ranks up to its bound and above the one before. So every
device is in exactly one wave, opening a wave changes one number, and it is not always the same devices that
come first.

| Phase of a wave | Event | Next |
|---|---|---|
| WAITING | the one before has passed (the first: ``start_at`` has come) | OPEN |
| OPEN | its share of devices has confirmed | SOAKING |
| SOAKING | its ``soak_s`` are over, the share holds | APPROVAL if a person opens the next, else PASSED |
| APPROVAL | a person approves | PASSED |
| any but WAITING | its errors are above the limit, or no device is left to judge it by | the rollout pauses |

PASSED stays. A wave that has passed and whose devices fail later pauses the rollout all the same. Only
CONFIRMED counts for success, and SAID where the policy says so. A pause that an operator ends forgives the
errors that it was for: they count no more, in either share.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from fota_server.decide import CLOSED, GIVEN_UP, UNDER_WAY, TargetState
from fota_server.wave_policy import WHOLE, Kind, Policy, Size, share_text

_HASH_BITS, _OTHERS = 48, 1 << 8
EVERYBODY = (1 << 62) - 1
"""A bound above every rank."""


# -- who is in which wave ------------------------------------------------------------------------------------


def rank(seed: str, device_id: str, groups: int | None = None) -> int:
    """Return a device's place in the rollout of ``seed``, 0 to `EVERYBODY`; lower ones come first.

    ``groups``: the index of the first wave that is of a group that the device is in; None: it is in none.
    """
    digest = hashlib.sha256(f"{seed} {device_id}".encode()).digest()
    above = _OTHERS if groups is None else groups
    return above << _HASH_BITS | int.from_bytes(digest[: _HASH_BITS // 8], "big")


def held_back(seed: str, device_id: str, share: int) -> bool:
    """Return whether a device is of the ``share`` (hundredths of a per cent) that is kept for comparison."""
    digest = hashlib.sha256(f"holdback {seed} {device_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * WHOLE < share << 64


def wave_devices(sizes: Sequence[Size], in_groups: Sequence[int], total: int) -> list[int]:
    """Return how many devices each wave holds. ``in_groups``: by `rank`'s index, so each device is in one of
    them or in none; the waves behind those of groups take who is left in the order of ranks. A wave for which
    nobody is left holds 0.
    """
    found: list[int] = []
    for index, size in enumerate(sizes):
        left = total - sum(in_groups) - sum(found[len(in_groups) :])
        asked = {Kind.COUNT: size.amount, Kind.SHARE: -(-size.amount * total // WHOLE)}.get(size.kind, left)
        found.append(in_groups[index] if size.kind is Kind.GROUP else min(left, asked))
    return found


def bounds(devices: Sequence[int], ranks: Iterable[int]) -> list[int]:
    """Return the highest rank of each wave of ``devices`` (`wave_devices`), -1: of none so far; the last one
    is `EVERYBODY`. ``ranks``: of all devices that are planned, in any order.
    """
    ordered, upto = sorted(ranks), list(accumulate(devices))
    return [ordered[end - 1] if end else -1 for end in upto[:-1]] + [EVERYBODY]


def group_range(index: int) -> tuple[int, int]:
    """Return the lowest and the highest rank of the group of the wave ``index`` (0: the first)."""
    return index << _HASH_BITS, ((index + 1) << _HASH_BITS) - 1


def group_of(place: int) -> int | None:
    """Return the index of the wave of a group that a rank is in, or None."""
    index = place >> _HASH_BITS
    return index if index < _OTHERS else None


# -- how a wave stands ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The devices of a wave. ``silent``: of those ``on_trial``, who has not called for too long."""

    pending: int = 0
    on_trial: int = 0
    silent: int = 0
    confirmed: int = 0
    said: int = 0
    failed: int = 0
    closed: int = 0

    @classmethod
    def of(cls, states: Mapping[TargetState, int], silent: int) -> "Counts":
        """Return the counts that the numbers of targets by state make."""
        under_way = sum(states.get(state, 0) for state in UNDER_WAY)
        pending = states.get(TargetState.PENDING, 0)
        return cls(
            pending=pending,
            on_trial=under_way - pending,
            silent=silent,
            confirmed=states.get(TargetState.CONFIRMED, 0),
            said=states.get(TargetState.SAID, 0),
            failed=sum(states.get(state, 0) for state in GIVEN_UP),
            closed=sum(states.get(state, 0) for state in CLOSED),
        )

    @property
    def live(self) -> int:
        """Devices by which the wave is judged: all whose target was not closed by somebody else."""
        return self.pending + self.on_trial + self.confirmed + self.said + self.failed


class Phase(StrEnum):
    """How far a wave is."""

    WAITING = "waiting"
    OPEN = "open"
    SOAKING = "soaking"
    APPROVAL = "approval"
    PASSED = "passed"


OPENED = (Phase.OPEN, Phase.SOAKING, Phase.APPROVAL, Phase.PASSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """One wave as it stands. ``since``: when its phase began; ``forgiven``: errors that count no more."""

    number: int
    phase: Phase
    since: int
    counts: Counts
    forgiven: int = 0

    @property
    def errors(self) -> int:
        """Devices that failed or fell silent and are not forgiven."""
        return max(0, self.counts.failed + self.counts.silent - self.forgiven)

    @property
    def judged(self) -> int:
        """Devices of which the shares are taken."""
        return max(0, self.counts.live - self.forgiven)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Wave ``number`` enters ``phase``; with PASSED, the one after it opens, if there is one."""

    number: int
    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The rollout is held, for this reason; ``errors`` of wave ``number`` are what a resume forgives."""

    number: int
    reason: str
    errors: int


def next_step(policy: Policy, waves: Sequence[Wave], now: int) -> Move | Pause | None:
    """Return what follows from how the waves of a running rollout stand at ``now``, or None: they wait.

    One step at a time: it is stored, and then asked again.
    """
    opened = [wave for wave in waves if wave.phase in OPENED]
    if not opened:
        return Move(number=1, phase=Phase.OPEN) if now >= (policy.start_at or 0) else None
    for wave in opened:
        reason = why_failed(policy, wave)
        if reason:
            return Pause(number=wave.number, reason=reason, errors=wave.counts.failed + wave.counts.silent)
    current, terms = opened[-1], policy.terms(opened[-1].number)
    if current.phase is Phase.OPEN and _enough(policy, current):
        return Move(number=current.number, phase=Phase.SOAKING)
    if current.phase is Phase.SOAKING and _enough(policy, current) and now - current.since >= terms.soak_s:
        asks = terms.approval and current.number < len(waves)
        return Move(number=current.number, phase=Phase.APPROVAL if asks else Phase.PASSED)
    return None


def why_failed(policy: Policy, wave: Wave) -> str | None:
    """Return why a wave that was opened has failed, in words and numbers, or None: it has not."""
    counts, of, most = wave.counts, wave.judged, policy.terms(wave.number).errors
    if not of and wave.phase is not Phase.PASSED:
        gone = f"{counts.closed} closed, {wave.forgiven} forgiven"
        return f"wave {wave.number}: no device is left that could prove the release ({gone})"
    if wave.errors * WHOLE > most * of:
        kinds = ((counts.failed, "failed"), (counts.silent, "silent"), (wave.forgiven, "forgiven before"))
        told = ", ".join(f"{n} {word}" for n, word in kinds if n)
        limit = share_text(most)
        return f"wave {wave.number}: {wave.errors} of {of} device(s) in error ({told}); at most {limit} may"
    return None  # then the share can still be reached: a wave's two shares are 100% together at most


def _enough(policy: Policy, wave: Wave) -> bool:
    counted = wave.counts.confirmed + (wave.counts.said if policy.said else 0)
    return counted * WHOLE >= policy.terms(wave.number).confirmed * wave.judged


def may_approve(waves: Sequence[Wave]) -> int | None:
    """Return the number of the wave that waits for a person, or None."""
    return next((wave.number for wave in waves if wave.phase is Phase.APPROVAL), None)
