"""The end of a device's life: it is refused for good, at its next handshake and on every open connection.

The database decides (`retired_at` of every check-in and payload); `Retired` only knows it sooner: a
connection of a retired device is answered and closed before it has said anything.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from fota_server import schema
from fota_server.database import now, record_audit
from fota_server.identity import is_device_id
from fota_server.rollouts import close_device
from fota_wire.errors import InputError

MAX_REASON = 256


class Retired:
    """The ids of all retired devices. ``on_retire`` is called with each new one: hang up on it."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self.on_retire: list[Callable[[str], None]] = []

    def load(self, connection: Connection) -> None:
        """Read them from the database."""
        rows = connection.execute(select(schema.retirements.c.device_id))
        self._ids = set(rows.scalars())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ids)

    def __contains__(self, device_id: object) -> bool:
        """Tell whether a device is retired."""
        return device_id in self._ids

    def add(self, device_id: str) -> None:
        """A retirement is on the disk."""
        if device_id in self._ids:
            return
        self._ids.add(device_id)
        for hang_up in self.on_retire:
            hang_up(device_id)


def ids_beside(connection: Connection, known: int) -> list[str]:
    """Return all retired devices, or none if there are only as many as are ``known``: nobody comes back."""
    table = schema.retirements
    if connection.execute(select(func.count()).select_from(table)).scalar_one() == known:
        return []
    return list(connection.execute(select(table.c.device_id)).scalars())


def retire(connection: Connection, device_id: str, reason: str, actor: str) -> None:
    """End a device's life, seen or not. There is no way back.

    Raises:
        InputError: not a device id, the reason is too long, or it is retired already.
    """
    if not is_device_id(device_id):
        raise InputError(f"{device_id} is not a device id: 18 lower-case hex digits", "device-id")
    if len(reason) > MAX_REASON:
        raise InputError(f"the reason is longer than {MAX_REASON} characters", "reason")
    if retirement_of(connection, device_id):
        raise InputError(f"device {device_id} is retired already", "retired")
    devices = schema.devices
    known = connection.execute(update(devices).where(devices.c.id == device_id).values(revoked=True))
    if known.rowcount == 0:
        connection.execute(insert(devices).values(id=device_id, revoked=True, admitted_by=actor))
    close_device(connection, device_id, "the device was retired")
    row = {"device_id": device_id, "at": now(), "by": actor, "reason": reason}
    connection.execute(insert(schema.retirements).values(**row))
    record_audit(connection, actor, "device.retire", device_id, reason=reason)


def retirement_of(connection: Connection, device_id: str) -> dict[str, Any] | None:
    """Return when, by whom and why a device was retired, or None."""
    table = schema.retirements
    query = select(table.c.at, table.c.by, table.c.reason).where(table.c.device_id == device_id)
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None
