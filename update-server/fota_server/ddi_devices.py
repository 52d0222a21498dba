"""DDI devices: enrolled by an operator, known by a token, a gateway's token or a certificate.

The token of a device is 256 random bits that are shown once; only its SHA-256 is stored, as for operators.
A device shows who it is in one way, the one that it was enrolled with.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from fota_server import dynamic, schema
from fota_server.database import now, record_audit
from fota_server.identity import claimed_name
from fota_wire.errors import FotaError, InputError

TOKEN, GATEWAY, CERTIFICATE = "token", "gateway", "certificate"
WAYS = (TOKEN, GATEWAY, CERTIFICATE)
"""How a device shows who it is: its target token, the gateway's token, a certificate whose CN is its name."""

_NAME = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._:@+~-]{1,128}")
_GATEWAY_KEY = "ddi_gateway"
_SCHEMES = {"targettoken": TOKEN, "gatewaytoken": GATEWAY}

_ddi, _devices, _said = schema.ddi_devices, schema.devices, schema.said


class Unauthorized(FotaError):
    """Nobody who is enrolled, or somebody who does not show it."""


class ShutOut(FotaError):
    """It is this device, and an operator has revoked or retired it."""


def device_id_of(controller: str) -> str:
    """Return the id that a DDI device has here: no element's serial number (SPEC 5.3) begins with dd1."""
    return "dd1" + hashlib.sha256(controller.encode()).hexdigest()[:15]


# -- by operators --------------------------------------------------------------------------------------------


def enrol(connection: Connection, controller: str, way: str, actor: str) -> tuple[str, str | None]:
    """Let a DDI device in; return its id here, and its token if it is to have one, for the only time.

    Raises:
        InputError: the name cannot be one, or is enrolled already; no such way.
    """
    if not _NAME.fullmatch(controller):
        raise InputError(
            "a DDI device's name has 1 to 128 letters, digits and ._:@+~-, as its client sends it",
            "controller",
        )
    if way not in WAYS:
        raise InputError(f"by has to be one of {', '.join(WAYS)}", "way")
    device_id = device_id_of(controller)
    if connection.execute(select(_devices.c.id).where(_devices.c.id == device_id)).first():
        raise InputError(
            f"{controller} is enrolled already, as device {device_id}: 'fota ddi token' gives it a new token",
            "enrolled",
        )
    token = secrets.token_hex(32) if way == TOKEN else None
    new: dict[str, object] = {"id": device_id, "admitted_by": actor, "revoked": False}
    connection.execute(insert(_devices).values(**new))
    row: dict[str, object] = {
        "device_id": device_id,
        "controller": controller,
        "by": way,
        "token_hash": _hash(token),
    }
    row |= {"enrolled_at": now(), "enrolled_by": actor, "configured": False}
    connection.execute(insert(_ddi).values(**row))
    dynamic.refresh(connection, [device_id])
    record_audit(connection, actor, "ddi.enrol", device_id, controller=controller, by=way)
    return device_id, token


def renew_token(connection: Connection, device_id: str, actor: str) -> str:
    """Return a new token of a device; the one that it had is none any more.

    Raises:
        InputError: no such DDI device, or it shows who it is in another way.
    """
    row = connection.execute(select(_ddi.c.by).where(_ddi.c.device_id == device_id)).first()
    if row is None:
        raise InputError(f"no DDI device {device_id}: see 'fota device list'", "unknown-device")
    if row.by != TOKEN:
        raise InputError(f"device {device_id} is known by its {row.by}, and has no token", "way")
    token = secrets.token_hex(32)
    change = {"token_hash": _hash(token)}
    connection.execute(update(_ddi).where(_ddi.c.device_id == device_id).values(**change))
    record_audit(connection, actor, "ddi.token", device_id)
    return token


def set_gateway_token(connection: Connection, actor: str, *, revoke: bool = False) -> str | None:
    """Return a new token for gateways, for all devices enrolled by one; the one before is none any more.

    ``revoke``: there is none from now on.
    """
    token = None if revoke else secrets.token_hex(32)
    connection.execute(delete(schema.meta).where(schema.meta.c.key == _GATEWAY_KEY))
    if token:
        connection.execute(insert(schema.meta).values(key=_GATEWAY_KEY, value=_hash(token)))
    record_audit(connection, actor, "ddi.gateway", "revoked" if revoke else "new")
    return token


def view(connection: Connection, device_id: str) -> dict[str, Any] | None:
    """Return what operators see of a device's DDI side, or None: it speaks our own protocol."""
    shown = select(_ddi.c.controller, _ddi.c.by).where(_ddi.c.device_id == device_id)
    row = connection.execute(shown).first()
    if row is None:
        return None
    releases, attributes = schema.releases, schema.ddi_attributes
    word = (
        select(releases.c.version, _said.c.at)
        .join(releases, releases.c.id == _said.c.release_id)
        .where(_said.c.device_id == device_id)
        .order_by(_said.c.id.desc())
        .limit(1)
    )
    last = connection.execute(word).mappings().first()
    told = select(attributes.c.name, attributes.c.value).where(attributes.c.device_id == device_id)
    return {
        "controller": row.controller,
        "by": row.by,
        "said": dict(last) if last else None,
        "attributes": {one.name: one.value for one in connection.execute(told.order_by(attributes.c.name))},
    }


# -- by devices ----------------------------------------------------------------------------------------------


def enrolled() -> Select[Any]:
    """Return what finds the DDI device called ``controller``, with all that `admit` looks at."""
    gateway = select(schema.meta.c.value).where(schema.meta.c.key == _GATEWAY_KEY)
    return (
        select(
            _ddi.c.device_id,
            _ddi.c.controller,
            _ddi.c.by,
            _ddi.c.token_hash,
            _ddi.c.configured,
            _devices.c.revoked,
            _devices.c.last_seen,
            schema.retirements.c.at.label("retired_at"),
            gateway.scalar_subquery().label("gateway_hash"),
        )
        .join(_devices, _devices.c.id == _ddi.c.device_id)
        .outerjoin(schema.retirements, schema.retirements.c.device_id == _ddi.c.device_id)
        .where(_ddi.c.controller == bindparam("controller", ""))
    )


def admit(row: Any, authorization: str, scope: Mapping[str, Any]) -> None:  # noqa: ANN401 - a driver's row
    """Return if whoever sends this is the device in ``row`` (None: nobody is enrolled so), in its own way.

    Raises:
        Unauthorized: it is not; the same words for a wrong token and for a name that nobody has.
        ShutOut: it is, and is revoked or retired.
    """
    scheme, _, token = authorization.partition(" ")
    sent = _SCHEMES.get(scheme.lower(), "") if authorization else CERTIFICATE
    stored = {TOKEN: row.token_hash, GATEWAY: row.gateway_hash}.get(sent) if row is not None else None
    # Whoever is not enrolled costs the same comparison, so that time does not tell which names exist.
    matches = hmac.compare_digest(_hash(token.strip()[:256]) or "", stored or _NOBODY)
    if sent == CERTIFICATE:
        matches = row is not None and certificate_name(scope) == row.controller
    if row is None or sent != row.by or not matches:
        raise Unauthorized(
            "not enrolled, or not shown in the way that it was enrolled with: see 'fota ddi enrol'",
            "ddi-token",
        )
    if row.retired_at is not None:
        raise ShutOut(f"device {row.device_id} is retired", "retired")
    if row.revoked:
        raise ShutOut(f"device {row.device_id} is revoked", "revoked")


def certificate_name(scope: Mapping[str, Any]) -> str | None:
    """Return the CN of the client's certificate, if it was verified and is valid now."""
    tls = scope.get("extensions", {}).get("tls", {})
    chain = tls.get("client_cert_chain", [])
    if not chain or tls.get("client_cert_error"):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(chain[0].encode())
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError:
        return None
    return claimed_name(scope) if begin.timestamp() <= time.time() <= end.timestamp() else None


def _hash(token: str | None) -> str | None:
    return None if token is None else hashlib.sha256(token.encode()).hexdigest()


_NOBODY = "0" * 64
