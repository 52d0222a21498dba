"""What devices publish: the last value of each topic, in the twin. No key signs it; TLS names the device."""

import json
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from fota_server import attributes, schema
from fota_wire.checkin import Request
from fota_wire.errors import InputError

TOPICS_KEPT = 32
CLOCK_AHEAD_S = 300


def sort_out(request: Request) -> None:
    """Leave in ``request`` what can be stored; what is no JSON, none that others can read (NaN), or no
    attribute where it should be one, is told as refused, by its place: sending it again mends nothing.
    """
    if not request.telemetry:
        return
    refused = set(request.refused_values)
    places = [n for n in range(len(request.telemetry) + len(refused)) if n not in refused]
    found = list(zip(places, request.telemetry, strict=True))
    request.telemetry = [value for _, value in found if _is_usable(value)]
    request.refused_values = sorted(refused | {n for n, value in found if not _is_usable(value)})


def said(request: Request) -> attributes.Words:
    """Return what a device says of itself, of what can be stored (`attributes.said_by`)."""
    words = (attributes.said_by(topic, text) for topic, _, text in request.telemetry)
    return dict(word for word in words if word)


def store(connection: Connection, device_id: str, values: list[tuple[str, int, str]], now: int) -> None:
    """Keep the last of ``values`` per topic; of more than ``TOPICS_KEPT`` the least recently sent go."""
    table = schema.telemetry
    latest: dict[str, tuple[int, str]] = {}
    for topic, at, text in values:
        latest.pop(topic, None)
        latest[topic] = (at if 0 < at <= now + CLOCK_AHEAD_S else now, text)
    mine = table.c.device_id == device_id
    connection.execute(delete(table).where(mine, table.c.topic.in_(list(latest))))
    rows = [
        {"device_id": device_id, "topic": topic, "at": at, "received_at": now, "value": text}
        for topic, (at, text) in latest.items()
    ]
    connection.execute(insert(table), rows)
    newest_first = table.c.received_at.desc(), table.c.at.desc(), table.c.topic
    too_old = select(table.c.topic).where(mine).order_by(*newest_first).offset(TOPICS_KEPT)
    gone = [row.topic for row in connection.execute(too_old)]
    if gone:
        connection.execute(delete(table).where(mine, table.c.topic.in_(gone)))


def read(connection: Connection, device_id: str) -> list[dict[str, Any]]:
    """Return ``{topic, at, received_at, value}`` of each topic, by name; ``value`` is what the JSON says."""
    table = schema.telemetry
    query = select(table).where(table.c.device_id == device_id).order_by(table.c.topic)
    return [
        {
            "topic": row.topic,
            "at": row.at,
            "received_at": row.received_at,
            "value": json.loads(row.value),
        }
        for row in connection.execute(query)
        if _is_json(row.value)
    ]


def _is_usable(value: tuple[str, int, str]) -> bool:
    topic, _, text = value
    if not _is_json(text):
        return False
    try:
        attributes.said_by(topic, text)
    except InputError:
        return False
    return True


def _is_json(text: str) -> bool:
    """Tell whether it is JSON that can be said again: no infinite number (1e999), no half of a character."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)
