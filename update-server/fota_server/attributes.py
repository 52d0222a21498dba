"""What is known of a device beside its firmware: hardware revision, region, time zone, tags, and so on.

An attribute is a name and a text; one without text is a tag. Two may speak: an operator (by hand or import),
and the device itself, by publishing a text on topic ``attr/NAME`` (null: nothing any more; no tags, for these
are an operator's). Both words are kept; the operator's stands before the device's, and where it is taken back
the device's counts again. What a device says of itself is said, not proved: whoever has its key can say it.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, func, insert, select

from fota_server import schema
from fota_server.filter_sql import VALUE
from fota_server.filters import MAX_VALUE, NAME, OF_THE_DEVICE, WORDS
from fota_server.wave_policy import is_zone
from fota_wire.errors import InputError

HARDWARE, ZONE = "hardware", "zone"
"""Those that the server itself goes by: `releases` that fit, and windows of waves."""
RESERVED = (*OF_THE_DEVICE, *WORDS, "groups", "tags")
MOST = 64
"""Attributes of a device."""
TOPIC = "attr/"

_table, _devices = schema.attributes, schema.devices
_GONE = delete(_table).where(_table.c.device_id == bindparam("device"), _table.c.name == bindparam("called"))

Words = Mapping[str, str | None]
"""Values by name; None: none any more."""


def require_word(name: object, value: object) -> None:
    """Return if an attribute may have this name and value; None: its value is taken away.

    Raises:
        InputError: it may not.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in RESERVED:
        shown = ascii(name)[:40]
        raise InputError(
            f"attribute {shown}: a name has 1 to 27 small letters, digits, '_' and '-', begins with a letter,"
            f" and is none of {', '.join(RESERVED)}",
            "attribute",
        )
    if value is None:
        return
    if not isinstance(value, str) or len(value) > MAX_VALUE or not value.isprintable():
        raise InputError(
            f"attribute {name}: a value has up to {MAX_VALUE} characters that can be printed", "attribute"
        )
    if value.strip() != value:
        raise InputError(f"attribute {name}: a value does not begin or end with a space", "attribute")
    if name == ZONE and not is_zone(value):
        why = f"attribute {ZONE}: {ascii(value)[:40]} is no time zone: say Europe/Berlin, or UTC"
        raise InputError(why, "attribute")


def said_by(topic: str, text: str) -> tuple[str, str | None] | None:
    """Return name and value of what a device publishes of itself; None: that topic is something else.

    Raises:
        InputError: it may not be said: no such name, no text, or a tag.
    """
    if not topic.startswith(TOPIC):
        return None
    name, value = topic.removeprefix(TOPIC), json.loads(text)
    require_word(name, value)
    if value == "":
        raise InputError(f"attribute {name}: tags are an operator's", "attribute")
    return name, value


def change(connection: Connection, words: Mapping[str, Words], *, by_operator: bool) -> set[str]:
    """Store what an operator, or devices themselves, say; return the devices of which anything has changed.

    A handful of statements for all. Devices are known; of names and values see `require_word`.

    Raises:
        InputError: a device would have more than `MOST`; of what devices say themselves the rest is left out.
    """
    ids = [one for one, said in words.items() if said]
    rows = connection.execute(select(_table).where(_table.c.device_id.in_(ids))).all() if ids else []
    known: dict[str, dict[str, tuple[str | None, str | None]]] = {one: {} for one in ids}
    for row in rows:
        known[row.device_id][row.name] = (row.given, row.said)
    old, new = [], []
    for device_id in ids:
        mine = known[device_id]
        for name, value in sorted(words[device_id].items(), key=lambda word: word[1] is not None):
            given, said = mine.get(name, (None, None))
            now = (value, said) if by_operator else (given, value)
            if now == (given, said):
                continue
            if name not in mine and len(mine) >= MOST:
                if by_operator:
                    raise InputError(f"device {device_id}: more than {MOST} attributes", "attribute")
                continue
            old.append({"device": device_id, "called": name})
            mine.pop(name, None)
            if now != (None, None):
                mine[name] = now
                new.append({"device_id": device_id, "name": name, "given": now[0], "said": now[1]})
    if old:
        connection.execute(_GONE, old)
    if new:
        connection.execute(insert(_table), new)
    return {row["device"] for row in old}


def of(connection: Connection, ids: Collection[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the attributes of devices by name, each ``{"value", "by": "operator" or "device"}``."""
    found: dict[str, dict[str, dict[str, str]]] = {one: {} for one in ids}
    query = select(_table).where(_table.c.device_id.in_(ids)).order_by(_table.c.device_id, _table.c.name)
    for row in connection.execute(query):
        by = "device" if row.given is None else "operator"
        value = row.said if row.given is None else row.given
        found[row.device_id][row.name] = {"value": value, "by": by}
    return found


def facts(connection: Connection, ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return what filters know of devices (`filters.matches`)."""
    wanted = list(ids)
    own = select(_devices.c.id, _devices.c.running_version).where(_devices.c.id.in_(wanted))
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(own):
        found[row.id] = {"id": row.id}
        if row.running_version is not None:
            found[row.id]["version"] = row.running_version
    rest = select(_table.c.device_id, _table.c.name, VALUE.label("value")).where(
        _table.c.device_id.in_(wanted)
    )
    for device_id, name, value in connection.execute(rest):
        found[device_id][name] = value
    return found


def names(connection: Connection, after: str, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` names of attributes above ``after``: of how many devices, and how many tags."""
    tags = func.sum(case((VALUE == "", 1), else_=0))
    query = (
        select(_table.c.name, func.count().label("devices"), tags.label("tags"))
        .where(_table.c.name > after)
        .group_by(_table.c.name)
        .order_by(_table.c.name)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
