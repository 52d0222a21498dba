"""What takes a second person: the policy, and what an order weighs against it. Pure.

In JSON: ``share`` of the fleet (``"20%"``) that a release may reach within ``hours`` by one person's orders;
``releases_back``: so many releases a rollback may lead back; ``unhalt``: true: lifting a halt takes two;
``expires_s``: so long a request waits. Each rule may be left out. Halting, pausing and cancelling are always
one person's.

A person is who a token was made for (`tokens.py`), so two tokens of one person are one. A token that names
nobody may neither ask nor give: it could be anybody's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fota_server.tokens import Operator
from fota_server.wave_policy import WHOLE, Policy, parse_share, share_text
from fota_wire.errors import InputError

HOUR = 3600
_LIMITS = {"hours": (1, 24 * 30), "releases_back": (1, 1000), "expires_s": (60, 86400 * 30)}
"""Smallest and largest value of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """The policy. ``share``: hundredths of a per cent. None: that rule is not set."""

    share: int | None = None
    hours: int = 4
    releases_back: int | None = None
    unhalt: bool = False
    expires_s: int = 86400

    def to_json(self) -> dict[str, Any]:
        """Return the form that `parse_second` reads."""
        share = None if self.share is None else share_text(self.share)
        return {
            "share": share,
            "hours": self.hours,
            "releases_back": self.releases_back,
            "unhalt": self.unhalt,
            "expires_s": self.expires_s,
        }


def parse_second(body: object) -> Second:
    """Return the policy that a JSON value says.

    Raises:
        InputError: it says none; the field is named.
    """
    if not isinstance(body, Mapping) or not set(body) <= set(Second.__slots__):
        raise InputError(f"has to be an object of {', '.join(Second.__slots__)}", "approval")
    values: dict[str, Any] = {}
    for name, value in body.items():
        if value is None:
            continue
        if name == "share":
            value = parse_share(value, name)
        elif name == "unhalt" and not isinstance(value, bool):
            raise InputError("unhalt: has to be true or false", "approval")
        elif name in _LIMITS:
            low, high = _LIMITS[name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InputError(f"{name}: has to be a whole number of {low} to {high}", "approval")
        values[name] = value
    found = Second(**values)
    if found.share is None and found.releases_back is None and not found.unhalt:
        raise InputError("nothing would take a second person: say share, releases_back or unhalt", "approval")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What an order does. ``reached``: devices that it may give a release to within the hours of the policy;
    ``steps``: releases that it leads a device back at most, None: that is not known.
    """

    reached: int = 0
    steps: int | None = 0


def within(policy: Policy, devices: Sequence[int], second: Second) -> int:
    """Return how many of its waves' ``devices`` a rollout may reach within the hours: a wave opens at the
    earliest when those before it have soaked; what a rate lets through bounds it, unless it is expedited.
    """
    opens, reached = 0, 0
    for number, count in enumerate(devices, 1):
        if opens < second.hours * HOUR:
            reached += count
        opens += policy.terms(number).soak_s
    if policy.per_minute is not None and policy.expedite_until is None:
        reached = min(reached, policy.per_minute * (second.hours * 60 + 1))
    return reached


def why_second(second: Second, weight: Weight, recent: int, fleet: int) -> str | None:
    """Return why an order takes a second person, or None: it does not.

    ``recent``: devices for which the same release was ordered within the hours by one person's word.
    """
    reached = weight.reached + recent
    if second.share is not None and weight.reached and reached * WHOLE > second.share * fleet:
        limit = f"more than {share_text(second.share)} takes a second person"
        return f"{reached} of {fleet} device(s) may be given it within {second.hours} h: {limit}"
    if second.releases_back is None:
        return None
    if weight.steps is None:
        return "how far back it leads is not known: that takes a second person"
    if weight.steps > second.releases_back:
        limit = f"more than {second.releases_back} takes a second person"
        return f"it leads {weight.steps} releases back: {limit}"
    return None


def why_not_decide(operator: Operator, *, person: str, state: str, expires_at: int, now: int) -> str | None:
    """Return why somebody may not give what ``person`` asked for, or None: he may."""
    if state != "pending":
        return f"it is {state}"
    if now >= expires_at:
        return "it has expired: ask again"
    if operator.person is None:
        return (
            f"token {operator.name} names no person: 'fota server token create --person' makes one that does"
        )
    if operator.person.casefold() == person.casefold():
        return f"{person} asked for it: somebody else has to give it"
    return None
