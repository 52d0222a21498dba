"""Who may speak on the device plane, by which key, and what is wanted of that key (SPEC 5.5, 5.6)."""

from typing import Any

from fota_server import schema
from fota_server.identity import Identity
from fota_wire import certify
from fota_wire.errors import FotaError

_keys = schema.device_keys
KEY_COLUMNS = (
    _keys.c.wanted.label("key_wanted"),
    _keys.c.order_key,
    _keys.c.certificate,
    _keys.c.current_key,
    _keys.c.not_after.label("key_not_after"),
)
"""What `refuse` and `key_order` need beside the device's own row."""
RENEW_DAYS = 30


class Forbidden(FotaError):
    """This device may not: unknown, revoked, or with another key than it was admitted with."""


def refuse(
    row: Any,  # noqa: ANN401 - a driver's row
    identity: Identity,
    auto_admission: bool,
    *,
    proving: bool = False,
) -> Forbidden | None:
    """Return why a device with this row (None: no row) and certificate may not speak here, or None.

    It may by its factory key, and by the key that replaced it; ``proving``: by one just certified, too.
    """
    device_id = identity.device_id
    if row is None:
        if auto_admission:
            return None
        return Forbidden(
            f"device {device_id} is not known: an operator has to admit it first", "unknown-device"
        )
    if row.retired_at is not None:
        return Forbidden(f"device {device_id} is retired", "retired")
    if row.revoked:
        return Forbidden(f"device {device_id} is revoked", "revoked")
    keys = (row.public_key, row.current_key, row.order_key if proving and row.certificate else None)
    if row.public_key is not None and identity.public_key not in keys:
        return Forbidden(
            f"device {device_id} was admitted with another key: admit it again if that is right", "key"
        )
    return None


def key_order(row: Any, identity: Identity, now: int) -> int:  # noqa: ANN401 - a driver's row
    """Return what is wanted of a device's key (SPEC 5.6): by an operator, or because time runs out."""
    if row is not None and row.key_wanted is not None:
        return int(row.key_wanted)
    if expires_soon(identity.not_before, identity.not_after, now):
        return certify.RENEW
    replaced = row is not None and row.current_key is not None
    if replaced and identity.public_key == row.public_key and row.key_not_after <= now:
        return certify.ROTATE  # it came by its factory key, as the certificate of the other has run out
    return 0


def expires_soon(not_before: float, not_after: float, now: float) -> bool:
    """Tell whether to renew a certificate: in its last 30 days, or the last third of a shorter life."""
    return not_after - now < min(RENEW_DAYS * 86400, (not_after - not_before) / 3)
