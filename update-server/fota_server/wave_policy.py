"""What an operator lays down for a rollout in waves: frozen, whole, and checked where it is made. Pure.

The form in JSON, as the operator plane takes it and ``rollouts.policy`` keeps it; only ``waves`` is required:

| Field | Means |
|---|---|
| waves | list of sizes: ``"group:NAME"`` first, ``"100"`` devices, ``"2.5%"`` of all, at last ``"rest"`` |
| confirmed | share of a wave that has to confirm before it is over, default ``"95%"`` |
| errors | share of a wave that may fail or fall silent before the rollout pauses itself, default ``"5%"`` |
| silence_s | seconds after which a device that was given the release and does not call counts as an error |
| soak_s | seconds that a wave waits between being confirmed and the next one |
| said | true: devices that can only say that they are done (DDI) are taken in; saying it is confirming |
| approval | true: a person opens the wave that follows |
| on_failure | ``"pause"`` or ``"rollback"``: what follows when a wave fails |
| start_at | seconds since 1970 before which nothing begins |
| window | ``{"days": ["mon", ...], "from": "22:00", "to": "04:00", "zone": "Europe/Berlin", ? "own_zone"}`` |
| per_minute, bytes_per_day | what is handed out at most, in a minute and in a day (UTC) of the clock |
| holdback | share of the devices that is kept on what it runs, for comparison |
| at_least | version that a device must have confirmed, or a later one, before it is given the release |
| expedite_until | until then neither window nor ``per_minute`` nor ``bytes_per_day`` holds anything up |

A wave may be an object, ``{"size": "1%", "confirmed": "100%", "errors": "0%", "soak_s": 86400}``, with terms
of its own (``confirmed``, ``errors``, ``silence_s``, ``soak_s``, ``approval``) over those of the rollout.

``"own_zone": true``: a window is in the zone of each device (its attribute ``zone``), and in ``zone`` where
that is not known. Shares are texts with at most two decimals, and kept in hundredths of a per cent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from fota_wire.errors import InputError

WHOLE = 10_000
"""All of something, in hundredths of a per cent."""
MAX_WAVES = 100
MAX_DEVICES = 100_000_000
MAX_SECONDS = 366 * 86400
MAX_TIME = 1 << 40
LATE_S = 86400
MAX_BYTES = 1 << 50
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_SHARE = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")
_COUNT = re.compile(r"[0-9]{1,9}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_ZONE = re.compile(r"[A-Za-z0-9+_-]{1,32}(/[A-Za-z0-9+_-]{1,32}){0,2}")


def _bad(field: str, why: str) -> InputError:
    return InputError(f"{field}: {why}", "policy")


def parse_share(text: object, field: str) -> int:
    """Return a share such as ``"2.5%"`` in hundredths of a per cent, 0 to `WHOLE`.

    Raises:
        InputError: not that; ``field`` is named.
    """
    match = _SHARE.fullmatch(text) if isinstance(text, str) else None
    share = int(match[1]) * 100 + int((match[2] or "0").ljust(2, "0")) if match else WHOLE + 1
    if share > WHOLE:
        raise _bad(field, f"{_shown(text)} is no share of 0% to 100% with at most two decimals")
    return share


def date_text(moment: int) -> str:
    """Return a moment, in s since 1970, for people."""
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%MZ}"
    except (ValueError, OverflowError, OSError):  # beyond what calendars have
        return f"{moment} s"


def share_text(share: int) -> str:
    """Return what `parse_share` reads."""
    decimals = f".{share % 100:02}".rstrip("0") if share % 100 else ""
    return f"{share // 100}{decimals}%"


class Kind(StrEnum):
    """By what a wave is as large as it is."""

    GROUP = "group"
    COUNT = "count"
    SHARE = "share"
    REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """By what one wave is judged; shares in hundredths of a per cent, times in seconds."""

    confirmed: int
    errors: int
    silence_s: int | None
    soak_s: int
    approval: bool

    def require(self, where: str = "") -> None:
        """Refuse terms that contradict each other. ``where``: what a field's name begins with.

        Raises:
            InputError: they do; the field is named.
        """
        if not self.confirmed:
            raise _bad(where + "confirmed", "0% would open each wave at once: nothing would have been proved")
        if self.confirmed + self.errors > WHOLE:
            both = f"{share_text(self.confirmed)} have to confirm and {share_text(self.errors)} may fail"
            most = f"with it, confirmed is {share_text(WHOLE - self.errors)} at most"
            raise _bad(where + "errors", f"{both}: more than all of a wave: {most}")

    def to_json(self) -> dict[str, Any]:
        """Return all of them, as a policy says them."""
        return _said({name: getattr(self, name) for name in TERMS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a wave is. ``amount``: devices, or hundredths of a per cent; ``group``: its name.

    ``own``: what of `Terms` it has of its own, by name.
    """

    kind: Kind
    amount: int = 0
    group: str = ""
    own: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        if self.kind is Kind.GROUP:
            return f"group:{self.group}"
        return {Kind.COUNT: str(self.amount), Kind.SHARE: share_text(self.amount)}.get(self.kind, "rest")

    def to_json(self) -> str | dict[str, Any]:
        """Return the form that `parse` reads."""
        return {"size": str(self), **_said(dict(self.own))} if self.own else str(self)

    @classmethod
    def parse(cls, value: object, field: str = "waves") -> "Size":
        """Return the wave that a text says, or an object with its own terms.

        Raises:
            InputError: it says none, or one of no device at all.
        """
        if not isinstance(value, Mapping):
            return cls._parse_text(value, field)
        if "size" not in value or not set(value) <= {"size", *TERMS}:
            raise _bad(field, f"a wave is an object of size, and of {', '.join(TERMS)} where it has its own")
        own = {name: _field(name, value[name]) for name in TERMS if value.get(name) is not None}
        return replace(cls._parse_text(value["size"], field), own=tuple(own.items()))

    @classmethod
    def _parse_text(cls, text: object, field: str) -> "Size":
        if text == "rest":
            return cls(kind=Kind.REST)
        if isinstance(text, str) and text.startswith("group:") and 7 <= len(text) <= 70:
            return cls(kind=Kind.GROUP, group=text[6:])
        if isinstance(text, str) and _COUNT.fullmatch(text):
            kind, amount = Kind.COUNT, int(text)
        elif isinstance(text, str) and text.endswith("%"):
            kind, amount = Kind.SHARE, parse_share(text, field)
        else:
            raise _bad(field, f"{_shown(text)} is no wave: say 100, 2.5%, group:NAME or rest")
        if not 0 < amount <= MAX_DEVICES:
            raise _bad(field, f"a wave of {text} would reach no device" if not amount else "too many devices")
        return cls(kind=kind, amount=amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When devices may be given something. ``days``: 0 is Monday, the day on which the window opens;
    ``opens``, ``closes``: minutes of that day, and one that closes before it opens does so the day after.
    """

    days: frozenset[int]
    opens: int
    closes: int
    zone: str
    own_zone: bool = False

    def __post_init__(self) -> None:
        """Refuse a window that is never open, or whose zone is none."""
        if not self.days or not self.days <= set(range(7)):
            raise _bad("window.days", f"has to be a list of {', '.join(DAYS)}")
        if not (0 <= self.opens < 1440 and 0 <= self.closes < 1440) or self.opens == self.closes:
            raise _bad("window", "opens and closes at the same minute: leave it out if it is always open")
        zone_of(self.zone)

    def is_open(self, now: int, zone: str | None = None) -> bool:
        """Return whether the window is open at ``now`` for a device whose own zone is ``zone``, if known."""
        local = datetime.fromtimestamp(now, zone_of((zone if self.own_zone else None) or self.zone))
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.opens < self.closes:
            return today in self.days and self.opens <= minute < self.closes
        yesterday = (local - timedelta(days=1)).weekday()
        return (today in self.days and minute >= self.opens) or (
            yesterday in self.days and minute < self.closes
        )

    def to_json(self) -> dict[str, Any]:
        """Return the form that `_window` reads."""
        clock = {name: f"{value // 60:02}:{value % 60:02}" for name, value in self._edges()}
        found = {"days": [DAYS[day] for day in sorted(self.days)], **clock, "zone": self.zone}
        return found | ({"own_zone": True} if self.own_zone else {})

    def _edges(self) -> tuple[tuple[str, int], ...]:
        return ("from", self.opens), ("to", self.closes)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database.

    Raises:
        InputError: this machine knows none of that name.
    """
    try:
        if not _ZONE.fullmatch(name):
            raise ValueError  # noqa: TRY301 - as for a name that is not in the database
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as exc:
        raise _bad("window.zone", f"{_shown(name)} is no time zone: say Europe/Berlin, say, or UTC") from exc


def is_zone(name: str) -> bool:
    """Tell whether this machine knows a time zone of that name."""
    try:
        zone_of(name)
    except InputError:
        return False
    return True


class OnFailure(StrEnum):
    """What follows when a wave fails."""

    PAUSE = "pause"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All that is laid down for one rollout; see the top. None: not limited, or not wanted."""

    waves: tuple[Size, ...]
    confirmed: int = 9500
    errors: int = 500
    silence_s: int | None = None
    soak_s: int = 0
    approval: bool = False
    said: bool = False
    on_failure: OnFailure = OnFailure.PAUSE
    start_at: int | None = None
    window: Window | None = None
    per_minute: int | None = None
    bytes_per_day: int | None = None
    holdback: int = 0
    at_least: str | None = None
    expedite_until: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be done, or contradicts itself.

        Raises:
            InputError: it does; the field is named.
        """
        self._require_waves()
        Terms(**{name: getattr(self, name) for name in TERMS}).require()
        for number in range(1, len(self.waves) + 1):
            self.terms(number).require(f"waves: wave {number}: ")
        if self.holdback >= WHOLE:
            raise _bad("holdback", "100% would leave no device to update")
        if self.expedite_until is not None and self.expedite_until <= (self.start_at or 0):
            raise _bad("expedite_until", "is over before start_at: nothing would be expedited")

    def _require_waves(self) -> None:
        if not 1 <= len(self.waves) <= MAX_WAVES:
            raise _bad("waves", f"has to be a list of 1 to {MAX_WAVES} waves")
        kinds = [size.kind for size in self.waves]
        if kinds.count(Kind.REST) != 1 or kinds[-1] is not Kind.REST:
            raise _bad("waves", "the last one, and only that, has to be 'rest': every device is in a wave")
        total = sum(size.amount for size in self.waves if size.kind is Kind.SHARE)
        if total > WHOLE:
            raise _bad("waves", f"their shares are {share_text(total)} together: more than all devices")
        groups = [size.group for size in self.waves if size.kind is Kind.GROUP]
        if any(kind is not Kind.GROUP for kind in kinds[: len(groups)]):
            raise _bad("waves", "those of groups come first: put them before the others")
        if len(set(groups)) < len(groups):
            raise _bad("waves", "a group is named twice: its devices are in the first of the two")

    def terms(self, number: int) -> Terms:
        """Return by what the wave ``number`` (from 1) is judged: its own terms over the rollout's."""
        return Terms(**{name: getattr(self, name) for name in TERMS} | dict(self.waves[number - 1].own))

    def require_ahead(self, now: int) -> None:
        """Refuse what is over at ``now``, when it is ordered: it would change nothing, without a word. A plan
        may be started up to a day after its ``start_at``.

        Raises:
            InputError: it is; the field is named.
        """
        for name, late in (("expedite_until", 0), ("start_at", LATE_S)):
            moment = getattr(self, name)
            if moment is not None and moment <= now - late:
                raise _bad(name, f"{date_text(moment)} is over (now: {date_text(now)}): leave it out")

    def expedited(self, now: int) -> bool:
        """Return whether windows and rates do not count at ``now``."""
        return self.expedite_until is not None and now < self.expedite_until

    def to_json(self) -> dict[str, Any]:
        """Return the form that `parse_policy` reads; every field that is not as by default."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        default = {field.name: field.default for field in fields(self)}
        told = _said({name: value for name, value in values.items() if value != default[name]})
        return {"waves": [size.to_json() for size in self.waves]} | told


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of fields as JSON says them."""
    found = {name: share_text(value) if name in _SHARES else value for name, value in values.items()}
    return {name: value.to_json() if isinstance(value, Window) else value for name, value in found.items()}


TERMS = tuple(field.name for field in fields(Terms))
_SHARES = ("confirmed", "errors", "holdback")
_NUMBERS = {
    "silence_s": (60, MAX_SECONDS),
    "soak_s": (0, MAX_SECONDS),
    "start_at": (1, MAX_TIME),
    "per_minute": (1, MAX_DEVICES),
    "bytes_per_day": (1, MAX_BYTES),
    "expedite_until": (1, MAX_TIME),
}
"""Smallest and largest value of each."""


def parse_policy(body: object) -> Policy:
    """Return the policy that a JSON value says.

    Raises:
        InputError: it says none: a field that is not known, missing, of a wrong type or out of its range, or
            fields that contradict each other. The field is named.
    """
    if not isinstance(body, Mapping):
        raise _bad("policy", "has to be an object")
    names = {field.name for field in fields(Policy)}
    for name in body:
        if name not in names:
            raise _bad(str(name)[:40], f"is not known; there are {', '.join(sorted(names))}")
    waves = body.get("waves")
    if not isinstance(waves, list | tuple) or len(waves) > MAX_WAVES:
        raise _bad("waves", f"has to be a list of 1 to {MAX_WAVES} waves")
    values: dict[str, Any] = {"waves": tuple(Size.parse(text) for text in waves)}
    for name, value in body.items():
        if name != "waves" and value is not None:
            values[name] = _field(name, value)
    return Policy(**values)


def _field(name: str, value: object) -> object:
    if name in _SHARES:
        return parse_share(value, name)
    if name in _NUMBERS:
        low, high = _NUMBERS[name]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _bad(name, f"{_shown(value)} is no whole number of {low} to {high}")
        return value
    if name in ("approval", "said"):
        if not isinstance(value, bool):
            raise _bad(name, "has to be true or false")
        return value
    if name == "window":
        return _window(value)
    if name == "on_failure":
        if not isinstance(value, str) or value not in set(OnFailure):
            raise _bad(name, f"{_shown(value)} is none of {', '.join(OnFailure)}")
        return OnFailure(value)
    if not isinstance(value, str) or not 1 <= len(value) <= 40 or not value.isprintable():
        raise _bad(name, "has to be a version, as 'fota release list' names it")
    return value


def _window(value: object) -> Window:
    if not isinstance(value, Mapping) or set(value) - {"own_zone"} != {"days", "from", "to", "zone"}:
        raise _bad("window", "has to be an object of days, from, to, zone, and own_zone if you like")
    own_zone = value.get("own_zone", False)
    if not isinstance(own_zone, bool):
        raise _bad("window.own_zone", "has to be true or false")
    days, edges = value["days"], []
    if not isinstance(days, list | tuple) or not all(isinstance(day, str) and day in DAYS for day in days):
        raise _bad("window.days", f"has to be a list of {', '.join(DAYS)}")
    for name in ("from", "to"):
        match = _TIME.fullmatch(value[name]) if isinstance(value[name], str) else None
        if not match:
            raise _bad(f"window.{name}", f"{_shown(value[name])} is no time of day such as 22:30")
        edges.append(int(match[1]) * 60 + int(match[2]))
    if not isinstance(value["zone"], str):
        raise _bad("window.zone", "has to be the name of a time zone")
    found = frozenset(DAYS.index(day) for day in days)
    return Window(days=found, opens=edges[0], closes=edges[1], zone=value["zone"], own_zone=own_zone)


def _shown(value: object) -> str:
    return ascii(value)[:40]
