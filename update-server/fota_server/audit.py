"""The audit trail: append-only, each row chained to the one before by a hash.

The chain finds a row that was altered, taken out or put in by hand. Whoever can write the database can also
make the whole chain anew: note its head elsewhere now and then (``fota server check`` prints it).
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, insert, select, text, update

from fota_server import schema
from fota_server.clock import now
from fota_wire.errors import VerifyError

START = "0" * 64
_HEAD = "audit_head"
_table = schema.audit


def record_audit(connection: Connection, actor: str, action: str, subject: str, **detail: object) -> None:
    """Append one line to the audit trail, in the transaction of the action itself."""
    last = select(_table.c.id, _table.c.hash).order_by(_table.c.id.desc()).limit(1)
    before = connection.execute(last).first()
    row = {
        "id": before.id + 1 if before else 1,
        "at": now(),
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": json.dumps(detail, sort_keys=True),
    }
    row["hash"] = _next_hash(before.hash if before else START, row)
    connection.execute(insert(_table).values(**row))
    _note_head(connection, row)


def chain_all(connection: Connection) -> None:
    """Give every row its hash."""
    head = START
    row: dict[str, Any] | None = None
    for found in connection.execute(select(_table).order_by(_table.c.id)).mappings().all():
        row = dict(found)
        row["hash"] = head = _next_hash(head, row)
        connection.execute(update(_table).where(_table.c.id == row["id"]).values(hash=head))
    if row is not None:
        _note_head(connection, row)


def verify_chain(rows: Iterable[Any], head: str | None) -> str:
    """Return the head of the trail, "ROW HASH", if ``rows``, in order, are all of it and none was altered.

    Raises:
        VerifyError: names the first row that does not fit.
    """
    last, before = 0, START
    for row in rows:
        if row["id"] != last + 1:
            raise VerifyError(f"audit trail: rows {last + 1} to {row['id'] - 1} are missing", "audit")
        if row["hash"] != _next_hash(before, row):
            raise VerifyError(f"audit trail: row {row['id']} was altered, or one before it", "audit")
        last, before = row["id"], row["hash"]
    found = f"{last} {before}"
    if head is not None and head != found:
        raise VerifyError(f"audit trail: ends at row {last}, and has had row {head.split()[0]}", "audit")
    return found


def noted_head(connection: Connection) -> str | None:
    """Return the head as it was noted with the newest row."""
    query = text("SELECT value FROM meta WHERE key = :key")
    return connection.execute(query, {"key": _HEAD}).scalar_one_or_none()


def _note_head(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(text("DELETE FROM meta WHERE key = :key"), {"key": _HEAD})
    values = {"key": _HEAD, "value": f"{row['id']} {row['hash']}"}
    connection.execute(text("INSERT INTO meta (key, value) VALUES (:key, :value)"), values)


def _next_hash(before: str, row: Any) -> str:  # noqa: ANN401 - a driver's row, or one not stored yet
    content = [before, *(row[name] for name in ("id", "at", "actor", "action", "subject", "detail"))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
