"""Rehearsals (SPEC 10): who has attested that a release was played on virtual devices, and whose word counts.

While the policy names keys, no release is ordered for which none of them has attested that it passed; it is
asked where orders are made and placed, by the keys of that moment. Going back is never held up by it.
"""

import json
import re
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from fota_server import schema
from fota_server.catalog import Catalog, find_release
from fota_server.database import now, record_audit
from fota_server.decide import Release
from fota_server.plan import UPDATE, Order
from fota_wire import host_rehearsal
from fota_wire.cose import kid_of
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.host_crypto import is_public

KEY = "rehearsal"
MAX_KEYS = 8
MAX_ATTESTATION = 65536
"""Bytes of one."""
NONE = "no attestation of a rehearsal was handed in: 'fota rehearse', then 'fota release rehearsal'"
_HEX = re.compile("[0-9a-f]{128}")
_table, _meta = schema.rehearsals, schema.meta


def find(connection: Connection) -> dict[bytes, bytes]:
    """Return {kid: x||y} of those whose word counts; empty: nothing is asked for."""
    kept = connection.execute(select(_meta.c.value).where(_meta.c.key == KEY)).scalar_one_or_none()
    publics = [] if kept is None else [bytes.fromhex(one) for one in json.loads(kept)]
    return {kid_of(public): public for public in publics}


def parse_keys(body: object) -> list[str] | None:
    """Return the keys of a policy, x||y in hex, as JSON has them; None: none.

    Raises:
        InputError: they are none.
    """
    if body is None:
        return None
    if not isinstance(body, list) or not 1 <= len(body) <= MAX_KEYS:
        raise InputError(f"keys has to be a list of 1 to {MAX_KEYS} keys, or null", "json")
    found = []
    for one in body:
        text = one if isinstance(one, str) and _HEX.fullmatch(one) else ""
        if not is_public(bytes.fromhex(text)):
            raise InputError("keys: each has to be x||y of a P-256 key, 128 hex digits", "json")
        found.append(text)
    return found


def set_keys(connection: Connection, keys: list[str] | None, actor: str) -> None:
    """Have one of these keys attest each release before it is ordered; None: nobody has to."""
    connection.execute(delete(_meta).where(_meta.c.key == KEY))
    if keys is not None:
        connection.execute(insert(_meta).values(key=KEY, value=json.dumps(keys)))
    kids = [kid_of(bytes.fromhex(one)).hex() for one in keys or ()]
    record_audit(connection, actor, "policy.rehearsal", "all", keys=kids)


def shown(connection: Connection) -> list[str] | None:
    """Return the ids of those keys for people, None: nothing is asked for."""
    return [kid.hex() for kid in find(connection)] or None


def set_attestation(connection: Connection, name: str, raw: bytes, actor: str) -> dict[str, Any]:
    """Keep ``raw`` as the attestation of a release in place of the one before; return whose it is.

    Raises:
        InputError: no such release; no attestation at all. VerifyError: about another release, not passed, or
            by none of the keys of the policy, where one is set; code ``rehearsal``.
    """
    release = find_release(connection, name)
    keys = find(connection)
    if keys:
        _require(release, raw, keys)
    else:
        host_rehearsal.require_about(
            host_rehearsal.read(raw, "the attestation", {}), release.file_digest, release.manifest_digest
        )
    connection.execute(delete(_table).where(_table.c.release_id == release.id))
    kept = {"document": raw, "added_at": now(), "added_by": actor}
    connection.execute(insert(_table).values(release_id=release.id, **kept))
    record_audit(connection, actor, "release.rehearsal", release.version, verified=bool(keys))
    digest = release.manifest_digest.hex()
    return {"version": release.version, "manifest_digest": digest, "verified": bool(keys)}


def require(connection: Connection, order: Order) -> None:
    """Return unless an order would give a release that lacks what the policy asks for.

    Raises:
        VerifyError: it would; code ``not-rehearsed``.
    """
    if order.kind != UPDATE or order.release_id is None:
        return
    keys = find(connection)
    if not keys:
        return
    release = Catalog().get(connection, [order.release_id])[order.release_id]
    query = select(_table.c.document).where(_table.c.release_id == order.release_id)
    raw = connection.execute(query).scalar_one_or_none()
    try:
        if raw is None:
            raise VerifyError(NONE)
        _require(release, bytes(raw), keys)
    except FotaError as exc:
        raise VerifyError(f"release {release.version} is not rehearsed: {exc}", "not-rehearsed") from exc


def _require(release: Release, raw: bytes, keys: dict[bytes, bytes]) -> None:
    host_rehearsal.require(raw, "the attestation", keys, release.file_digest, release.manifest_digest)
