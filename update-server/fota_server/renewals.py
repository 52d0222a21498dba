"""Keys and certificates over the air (SPEC 5.6), the server's part: it carries orders to the CA and back.

The CA's key is not here. `fota device certify`, a process of its own, fetches the orders through the operator
plane, trusts none of them before it has checked the factory key's signature itself, and brings certificates.
A device may always act by its factory key: whatever is lost on the way, it can ask again.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, exists, insert, literal, select, update

from fota_server import schema
from fota_server.admission import Forbidden, key_order
from fota_server.database import Database, now, record_audit
from fota_server.groups import require_group
from fota_server.identity import Identity
from fota_server.plan import Scope, members
from fota_server.rollouts import PAGE
from fota_wire import certify
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_crypto import verify
from fota_wire.host_x509 import issued_certificate, key_for, requested_key

MAX_LISTED = 256
_keys = schema.device_keys
_ACTION = {certify.ROTATE: "device.rotate", certify.RENEW: "device.renew"}


def _row(connection: Connection, device_id: str) -> Any:  # noqa: ANN401 - a driver's row
    return connection.execute(select(_keys).where(_keys.c.device_id == device_id)).first()


def _change(connection: Connection, device_id: str, **values: object) -> None:
    changed = connection.execute(update(_keys).where(_keys.c.device_id == device_id).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(_keys).values(device_id=device_id, **values))


# -- the operator's side -------------------------------------------------------------------------------------


def want(connection: Connection, device_id: str, kind: int, actor: str) -> None:
    """Have a device renew its certificate, or make a new key as well, at its next check-in.

    Raises:
        InputError: not known.
        VerifyError: it was revoked or retired, so that no check-in of it will be heard.
    """
    devices = schema.devices
    row = connection.execute(select(devices.c.revoked).where(devices.c.id == device_id)).first()
    if row is None:
        raise InputError(f"no device {device_id}: see 'fota device list'", "unknown-device")
    if row.revoked:
        raise VerifyError(f"device {device_id} is shut out: it cannot be told", "shut-out")
    _change(connection, device_id, wanted=kind)
    record_audit(connection, actor, _ACTION[kind], device_id)


async def want_of_group(database: Database, name: str, kind: int, actor: str) -> dict[str, int]:
    """Do as ``want`` for all devices of a group; return how many are ``wanted``, and how many ``shut_out``.

    Raises:
        InputError: no such group.
        VerifyError: none of its devices can be told.
    """
    scope = Scope(device=None, group=name)
    after: str | None = None
    wanted = shut_out = 0
    while True:
        ids, told = await database.write(_want_page, scope, after, kind, actor)
        wanted, shut_out = wanted + told, shut_out + len(ids) - told
        if len(ids) < PAGE:
            break
        after = ids[-1]
    if not wanted:
        reason = f"all {shut_out} devices are revoked or retired" if shut_out else "it has no devices"
        raise VerifyError(f"group {name}: {reason}: nobody can be told", "nothing-to-do")
    return {"wanted": wanted, "shut_out": shut_out}


def _want_page(
    connection: Connection, scope: Scope, after: str | None, kind: int, actor: str
) -> tuple[list[str], int]:
    """Want it of a page of devices; return them, and how many of them are not shut out."""
    require_group(connection, str(scope.group))
    ids = list(connection.execute(members(scope, after).limit(PAGE)).scalars())
    told = _want_of(connection, ids, kind)
    if told:
        record_audit(connection, actor, _ACTION[kind], str(scope), devices=told)
    return ids, told


def _want_of(connection: Connection, ids: list[str], kind: int) -> int:
    """Want it of those devices that are not shut out, and return how many they are."""
    devices = schema.devices
    able = select(devices.c.id).where(devices.c.id.in_(ids), devices.c.revoked.is_(False))
    known = exists().where(_keys.c.device_id == devices.c.id)
    changed = connection.execute(update(_keys).where(_keys.c.device_id.in_(able)).values(wanted=kind))
    fresh = able.with_only_columns(devices.c.id, literal(kind)).where(~known)
    added = connection.execute(insert(_keys).from_select(["device_id", "wanted"], fresh))
    return changed.rowcount + added.rowcount


def list_orders(connection: Connection, after: str, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` orders that wait for the CA, of devices above ``after``, in order; none of
    retired or revoked ones.
    """
    devices = schema.devices
    query = (
        select(_keys.c.device_id, _keys.c.order, _keys.c.ordered_at)
        .join(devices, devices.c.id == _keys.c.device_id)
        .where(_keys.c.order.is_not(None), _keys.c.certificate.is_(None), devices.c.revoked.is_(False))
        .where(_keys.c.device_id > after)
        .order_by(_keys.c.device_id)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    return [{"device": row.device_id, "order": row.order.hex(), "at": row.ordered_at} for row in rows]


def deliver(
    connection: Connection, device_id: str, raw: bytes, cas: Sequence[x509.Certificate], actor: str
) -> None:
    """Take a certificate, of one of the device CAs, for the key that a device ordered one for.

    Raises:
        InputError: nothing was ordered, or it is not a certificate.
        VerifyError: it is for another key or name, or of another CA.
    """
    row = _row(connection, device_id)
    if row is None or row.order is None:
        raise InputError(f"device {device_id} has no order", "unknown-order")
    certificate = _issued(raw, cas)
    if key_for(certificate, device_id) != row.order_key:
        raise VerifyError("the certificate is for another key or device", "certificate")
    _change(connection, device_id, certificate=raw)
    record_audit(connection, actor, "device.certify", device_id, serial=f"{certificate.serial_number:x}")


def _issued(raw: bytes, cas: Sequence[x509.Certificate]) -> x509.Certificate:
    for ca in cas[:-1]:
        with suppress(VerifyError):
            return issued_certificate(raw, ca, "the certificate")
    return issued_certificate(raw, cas[-1], "the certificate")


# -- the device's side ---------------------------------------------------------------------------------------


def answer(
    connection: Connection,
    identity: Identity,
    device: Any,  # noqa: ANN401 - a driver's row
    order: bytes | None,
) -> bytes:
    """Return the body that answers POST /v1/certificate of a device that may speak.

    Raises:
        Forbidden: nothing is wanted of its key.
        FormatError, VerifyError: the order is not one, or not signed by the factory key and the new key.
    """
    row = _row(connection, identity.device_id)
    if order is None:
        return _prove(connection, identity, device, row)
    wanted = key_order(device, identity, now())
    if not wanted:
        raise Forbidden("nothing is wanted of this device's key", "not-wanted")
    key = _ordered_key(order, identity.device_id, device.public_key or identity.public_key)
    if (key in (device.public_key, device.current_key)) != (wanted == certify.RENEW):
        raise Forbidden(
            "a new key is wanted" if wanted == certify.ROTATE else "no new key is wanted", "order-kind"
        )
    if row is not None and row.order_key == key and row.order is not None:
        if row.certificate is not None:
            return certify.encode_answer(certify.ISSUED, row.certificate)
        return certify.encode_answer(certify.PENDING, None)
    _change(connection, identity.device_id, order=order, order_key=key, ordered_at=now(), certificate=None)
    return certify.encode_answer(certify.PENDING, None)


def _ordered_key(raw: bytes, device_id: str, factory_xy: bytes) -> bytes:
    """Return x||y of the key that an order is for."""
    order = certify.open_order(raw, factory_xy, bytes.fromhex(device_id), verify)
    return requested_key(order.csr, device_id)


def _prove(connection: Connection, identity: Identity, device: Any, row: Any) -> bytes:  # noqa: ANN401
    """The device has come with this certificate: if it is the one that was issued, it counts from now on."""
    if row is not None and row.certificate == identity.certificate:
        rotated = identity.public_key != device.public_key
        _change(
            connection,
            identity.device_id,
            wanted=None,
            order=None,
            order_key=None,
            certificate=None,
            current_key=identity.public_key if rotated else None,
            current_since=now(),
            not_after=int(identity.not_after),
        )
        record_audit(connection, "device", "device.key", identity.device_id, rotated=rotated)
    return certify.encode_answer(certify.CURRENT, None)
