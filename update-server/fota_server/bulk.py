"""Many devices at once: what an operator says of them, a page of rows in one transaction, all or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from fota_server import attributes, dynamic, schema
from fota_server.database import record_audit
from fota_server.identity import is_device_id
from fota_wire.errors import InputError

MAX_ROWS = 1000

_devices, _retired = schema.devices, schema.retirements


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is said of one device; as `attributes.change` takes it."""

    device_id: str
    words: attributes.Words


def parse_rows(found: object) -> list[Row]:
    """Return the rows that a JSON value lists: ``{"id": text, "attributes": {name: text or null}}``.

    Raises:
        InputError: it is no such list, of 1 to `MAX_ROWS`; what the texts say is checked by `check`.
    """
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_ROWS:
        raise InputError(f"devices has to be a list of 1 to {MAX_ROWS} rows", "json")
    rows = []
    for row in found:
        if not isinstance(row, dict) or set(row) != {"id", "attributes"}:
            raise InputError("a row has to be an object of id, attributes", "json")
        if not isinstance(row["id"], str) or not isinstance(row["attributes"], dict):
            raise InputError("a row's id has to be a text, its attributes an object", "json")
        rows.append(Row(device_id=row["id"].lower(), words=row["attributes"]))
    return rows


def check(connection: Connection, rows: Sequence[Row], *, admit: bool) -> list[dict[str, Any]]:
    """Return what is wrong with rows, the first fault of each: ``{"row" (from 0), "message"}``.

    ``admit``: devices that are not known are let in.
    """
    ids = [row.device_id for row in rows]
    known = set(connection.execute(select(_devices.c.id).where(_devices.c.id.in_(ids))).scalars())
    retired = select(_retired.c.device_id).where(_retired.c.device_id.in_(ids))
    gone = set(connection.execute(retired).scalars())
    has = attributes.of(connection, ids)
    seen: set[str] = set()
    faults = []
    for number, row in enumerate(rows):
        try:
            _check_words(row, has[row.device_id])
            _check_device(row.device_id, known, gone, seen, admit=admit)
        except InputError as exc:
            faults.append({"row": number, "message": str(exc)})
        seen.add(row.device_id)
    return faults


def _check_words(row: Row, has: dict[str, Any]) -> None:
    for name, value in row.words.items():
        attributes.require_word(name, value)
    names = {*has, *(name for name, value in row.words.items() if value is not None)}
    if len(names) > attributes.MOST:
        raise InputError(f"device {row.device_id}: more than {attributes.MOST} attributes", "attribute")


def _check_device(device_id: str, known: set[str], gone: set[str], seen: set[str], *, admit: bool) -> None:
    if not is_device_id(device_id):
        raise InputError(f"{device_id[:40]!a} is not a device id: 18 hex digits", "device-id")
    if device_id in seen:
        raise InputError(f"device {device_id} is there twice", "device-id")
    if device_id in gone:
        raise InputError(f"device {device_id} is retired, and that is for good", "retired")
    if device_id not in known and not admit:
        raise InputError(f"no device {device_id} yet: --admit lets it in", "unknown-device")


def take_in(connection: Connection, rows: Sequence[Row], actor: str, *, admit: bool) -> dict[str, int]:
    """Take in what rows say; return how many devices were ``changed`` and ``admitted``.

    Raises:
        InputError: a row is wrong: nothing is done.
    """
    faults = check(connection, rows, admit=admit)
    if faults:
        raise InputError(f"row {faults[0]['row']}: {faults[0]['message']}", "row")
    ids = [row.device_id for row in rows]
    known = set(connection.execute(select(_devices.c.id).where(_devices.c.id.in_(ids))).scalars())
    new = [one for one in ids if one not in known]
    if new:
        row = {"admitted_by": actor, "revoked": False}
        connection.execute(insert(_devices), [row | {"id": one} for one in new])
        record_audit(connection, actor, "device.import", f"{len(new)} devices", admitted=new)
        dynamic.refresh(connection, new)
    changed = dynamic.give(connection, {row.device_id: row.words for row in rows}, actor)
    return {"changed": changed, "admitted": len(new)}
