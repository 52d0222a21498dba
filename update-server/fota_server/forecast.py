"""What a rollout in waves will do, before it does it: the plan that a rollout can be held to."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from fota_server.campaigns import Bounds
from fota_server.plan import HELD_BACK, Order, page_end, planned
from fota_server.promise import head, link
from fota_server.wave_policy import Kind, Policy
from fota_server.wave_work import places, why_empty
from fota_server.waves import bounds, group_of, wave_devices
from fota_wire.errors import InputError, VerifyError

PAGE = 1000
_WEEK_MIN = 7 * 1440


def forecast(connection: Connection, order: Order, limits: Bounds, interval_s: int) -> dict[str, Any]:
    """Return the plan of an order in numbers: its digest, its waves with bounds, devices, bytes and time.

    ``interval_s``: how often a device calls, at most (`checkins.Policy`, with its spread).

    Raises:
        InputError: a wave would hold no device.
        VerifyError: nothing would be done.
    """
    policy = order.policy
    if policy is None:
        raise InputError("policy is missing", "policy")
    chain, back = head(order), 0
    ranks: list[int] = []
    sizes: dict[int, int] = {}
    after: str | None = None
    while True:
        rows, after = _rows(connection, order, limits, after)
        if after is None:
            break
        placed = places(connection, policy, order.seed, [row.device_id for row in rows])
        back += sum(place is None for place in placed.values())
        kept = [(row, place) for row in rows if (place := placed[row.device_id]) is not None]
        chain = link(chain, ((row.device_id, row.manifest_digest, place) for row, place in kept))
        ranks += [place for _, place in kept]
        sizes |= {place: row.file_size for row, place in kept}
    if not ranks:
        raise VerifyError("nothing would be done: every device is left out", "refused")
    in_groups = [0] * sum(size.kind is Kind.GROUP for size in policy.waves)
    for place in ranks:
        index = group_of(place)
        if index is not None:
            in_groups[index] += 1
    devices = wave_devices(policy.waves, in_groups, len(ranks))
    empty = why_empty(policy, devices)
    if empty:
        raise InputError(empty, "empty-wave")
    waves, below = [], -1
    for number, (size, count, last) in enumerate(
        zip(policy.waves, devices, bounds(devices, ranks), strict=True), 1
    ):
        if not count:
            continue
        within = sum(sizes[place] for place in ranks if below < place <= last)
        longest = longest_s(policy, number, count, within, interval_s)
        wave = {"number": number, "size": str(size), "devices": count, "last_rank": last, "bytes": within}
        waves.append(wave | {"longest_s": longest, "terms": policy.terms(number).to_json()})
        below = last
    return {
        "policy": policy.to_json(),
        "seed": order.seed,
        "digest": chain,
        "waves": waves,
        "held_back": back,
        "bytes": sum(wave["bytes"] for wave in waves),
        "longest_s": sum(wave["longest_s"] for wave in waves),
    }


def longest_s(policy: Policy, number: int, devices: int, size: int, interval_s: int) -> int:
    """Return the seconds after which the last device of wave ``number`` has been given the release at the
    latest, and the soak: if all call as often as they are told to, and with ``per_minute`` spread over the
    time between two calls: who finds a minute full asks again then. Installing and confirming is not in it.
    """
    found = interval_s
    if policy.per_minute is not None:
        found = max(found, -(-devices // policy.per_minute) * 60 + interval_s)
    if policy.bytes_per_day is not None:
        found = max(found, -(-size // policy.bytes_per_day) * 86400 + interval_s)
    if policy.window:
        found += _longest_closed(policy)
    return found + policy.terms(number).soak_s


def _longest_closed(policy: Policy) -> int:
    """Return the seconds of the longest time in a week in which the window is closed."""
    window = policy.window
    if window is None:
        return 0
    monday = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
    longest = closed = 0
    for minute in range(0, 2 * _WEEK_MIN, 5):
        closed = 0 if window.is_open(monday + minute * 60) else closed + 300
        longest = max(longest, closed)
    return longest


def _rows(
    connection: Connection, order: Order, limits: Bounds, after: str | None
) -> tuple[list[Any], str | None]:
    """Return a page of the devices that get something above ``after``, and where the next page begins."""
    last = connection.execute(page_end(order.scope, after, PAGE)).scalar_one()
    plan = planned(order, limits, after, last)
    query = select(plan.c.device_id, plan.c.manifest_digest, plan.c.file_size).where(plan.c.reason.is_(None))
    rows = connection.execute(query.order_by(plan.c.device_id)).all() if last else []
    return list(rows), last


def plan_devices(connection: Connection, order: Order, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a page of a preview with each device's rank, None: it is left out, or held back."""
    if order.policy is None:
        return rows
    going = [row["device_id"] for row in rows if row["reason"] is None]
    placed = places(connection, order.policy, order.seed, going)
    found = []
    for row in rows:
        place = placed.get(row["device_id"])
        reason = HELD_BACK if row["reason"] is None and place is None else row["reason"]
        found.append(row | {"rank": place, "reason": reason})
    return found
