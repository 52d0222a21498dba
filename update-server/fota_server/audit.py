"""The audit trail: append-only, each row chained to the one before by a hash.

The chain finds a row that was altered, taken out or put in by hand. Whoever can write the database can also
make the whole chain anew: note its head elsewhere now and then (``fota server doctor`` prints it).
"""

from typing import Any

from sqlalchemy import Connection, insert, select, text, update

from fota_server import changes, schema
from fota_server.clock import now
from fota_wire.host_audit import START, detail_text, next_hash

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
        "detail": detail_text(detail),
    }
    row["hash"] = next_hash(before.hash if before else START, row)
    connection.execute(insert(_table).values(**row))
    _note_head(connection, row)
    changes.note(connection, action, subject, changes.scope_of(action, subject), **(detail | {"by": actor}))


def chain_all(connection: Connection) -> None:
    """Give every row its hash."""
    head = START
    row: dict[str, Any] | None = None
    for found in connection.execute(select(_table).order_by(_table.c.id)).mappings().all():
        row = dict(found)
        row["hash"] = head = next_hash(head, row)
        connection.execute(update(_table).where(_table.c.id == row["id"]).values(hash=head))
    if row is not None:
        _note_head(connection, row)


def noted_head(connection: Connection) -> str | None:
    """Return the head as it was noted with the newest row."""
    query = text("SELECT value FROM meta WHERE key = :key")
    return connection.execute(query, {"key": _HEAD}).scalar_one_or_none()


def _note_head(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(text("DELETE FROM meta WHERE key = :key"), {"key": _HEAD})
    values = {"key": _HEAD, "value": f"{row['id']} {row['hash']}"}
    connection.execute(text("INSERT INTO meta (key, value) VALUES (:key, :value)"), values)
