"""Components of releases: what the SBOMs that they sign list, and how many devices run what holds one."""

import hashlib
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select

from fota_server import sboms, schema
from fota_server.catalog import find_release
from fota_server.database import now, record_audit
from fota_wire import host_evidence
from fota_wire.errors import VerifyError
from fota_wire.suit import unsafe_read_manifest

_table, _boms, _releases, _devices = (
    schema.release_components,
    schema.release_sboms,
    schema.releases,
    schema.devices,
)


def require_signed(envelope: bytes, index: bytes, sbom: bytes) -> str:
    """Return the SHA-256 in hex of an SBOM that a release's manifest signs, by the index of its evidence.

    Raises:
        FormatError: no index. VerifyError: it is not signed; codes ``evidence``.
    """
    signed = host_evidence.signed_digest(unsafe_read_manifest(envelope).text)
    if signed is None:
        raise VerifyError("the manifest of this release signs no evidence", "evidence")
    if hashlib.sha256(index).hexdigest() != signed:
        raise VerifyError("this is not the index of evidence that the release's manifest signs", "evidence")
    digest = hashlib.sha256(sbom).hexdigest()
    if digest not in [piece.sha256 for piece in host_evidence.read_index(index) if piece.kind == "sbom"]:
        raise VerifyError("this is no SBOM that the release's manifest signs", "evidence")
    return digest


def set_sbom(
    connection: Connection, name: str, index: bytes, sbom: bytes, listed: set[tuple[str, str]], actor: str
) -> dict[str, Any]:
    """Keep what a release's SBOM lists, in place of what an SBOM of it listed before; return what is kept.

    Raises:
        InputError: no such release. FormatError, VerifyError: as `require_signed`.
    """
    release = find_release(connection, name)
    digest = require_signed(release.envelope, index, sbom)
    for table in (_table, _boms):
        connection.execute(delete(table).where(table.c.release_id == release.id))
    connection.execute(
        insert(_boms).values(release_id=release.id, digest=digest, added_at=now(), added_by=actor)
    )
    rows = [{"release_id": release.id, "name": one, "version": version} for one, version in sorted(listed)]
    connection.execute(insert(_table), rows)
    manifest = release.manifest_digest.hex()
    record_audit(
        connection, actor, "release.sbom", release.version, manifest_digest=manifest, components=len(rows)
    )
    return {"version": release.version, "manifest_digest": manifest, "sbom": digest, "components": len(rows)}


def holding(
    connection: Connection, name: str, below: str | None, after: int, limit: int
) -> list[dict[str, Any]]:
    """Return up to ``limit`` releases with ids above ``after`` that hold a component, below a version if one
    is named, with how many devices run each. A component of which the version is not said is one of them.
    """
    columns = ("id", "version", "class_id", "manifest_digest", "image_hash", "withdrawn_at")
    shown = [_releases.c[column] for column in columns]
    query = (
        select(_table.c.version.label("component"), *shown)
        .select_from(_table.join(_releases, _releases.c.id == _table.c.release_id))
        .where(_table.c.name == name.lower(), _releases.c.id > after)
        .order_by(_releases.c.id, _table.c.version)
    )
    found: dict[int, dict[str, Any]] = {}
    bound = None if below is None else sboms.order(below)
    for row in connection.execute(query).mappings():
        if bound is not None and row["component"] and sboms.order(row["component"]) >= bound:
            continue
        if row["id"] not in found and len(found) == limit:
            break
        view = {column: row[column] for column in columns}
        found.setdefault(row["id"], view | {"components": []})["components"].append(row["component"])
    counts = _running(connection, [view["image_hash"] for view in found.values()])
    return [view | {"devices": counts.get(view.pop("image_hash"), 0)} for view in found.values()]


def _running(connection: Connection, hashes: list[str]) -> dict[str, int]:
    column = _devices.c.running_hash
    query = select(column, func.count()).where(column.in_(hashes)).group_by(column)
    return dict(connection.execute(query).tuples().all())


def unknown(connection: Connection) -> dict[str, int]:
    """Return of how many ``releases`` no SBOM is kept, and how many ``devices`` run what no SBOM here is of,
    or have not said what they run: nobody knows of these what they hold.
    """
    has_bom = exists().where(_boms.c.release_id == _releases.c.id)
    releases = select(func.count()).select_from(_releases).where(~has_bom)
    known = exists().where(
        _releases.c.image_hash == _devices.c.running_hash, _boms.c.release_id == _releases.c.id
    )
    retired = exists().where(schema.retirements.c.device_id == _devices.c.id)
    devices = select(func.count()).select_from(_devices).where(~known, ~retired)
    return {
        "releases": connection.execute(releases).scalar_one(),
        "devices": connection.execute(devices).scalar_one(),
    }
