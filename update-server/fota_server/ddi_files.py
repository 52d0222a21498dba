"""Which file of a release DDI devices get, and its three hashes.

It is the image, unless a publisher attached another one: what SWUpdate or RAUC installs has a form and a
signature of its own, which the device checks; RELEASE keys have not signed it. The file is made once per
release, and stays what it is once a device was given it.
"""

import hashlib
import os
import re
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, exists, insert, select

from fota_server import schema
from fota_server.artifacts import ArtifactStore, open_artifact, storage_error
from fota_server.catalog import find_release
from fota_server.database import record_audit
from fota_server.ddi_words import File
from fota_server.decide import ON_TRIAL, TargetState
from fota_wire.errors import InputError, StorageError, VerifyError

_files, _targets = schema.ddi_files, schema.targets
_NAME = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._+-]{1,128}")
_CHUNK = 1 << 20


def hash_artifact(artifacts: ArtifactStore, digest: str) -> dict[str, Any]:
    """Return ``digest`` (SHA-256), ``sha1``, ``md5`` in hex and ``size`` of an artifact. Blocks.

    Raises:
        StorageError: it cannot be read.
    """
    hashes = hashlib.sha256(), hashlib.sha1(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    size = 0
    try:
        with os.fdopen(open_artifact(artifacts, digest), "rb") as file:
            while data := file.read(_CHUNK):
                size += len(data)
                for each in hashes:
                    each.update(data)
    except OSError as exc:
        raise storage_error(exc, f"reading artifact {digest}") from exc
    except VerifyError as exc:
        raise StorageError(f"of the catalog: {exc}") from exc
    digest, sha1, md5 = (each.hexdigest() for each in hashes)
    return {"digest": digest, "sha1": sha1, "md5": md5, "size": size}


def file_of(connection: Connection, release_id: int) -> File | None:
    """Return the file of a release, or None: nothing was attached, and nobody has asked for its image yet."""
    row = connection.execute(_query().where(_files.c.release_id == release_id)).first()
    return None if row is None else read_row(row)


def store_image(connection: Connection, release_id: int, name: str, hashed: dict[str, Any]) -> None:
    """Have the image be the file of a release that has none yet."""
    if not connection.execute(select(_files).where(_files.c.release_id == release_id)).first():
        connection.execute(insert(_files).values(release_id=release_id, name=name, **hashed))


def attach(
    connection: Connection, version: str, name: str, hashed: dict[str, Any], actor: str
) -> dict[str, Any]:
    """Have DDI devices get another file of a release than its image; return what they get.

    Raises:
        InputError: no such release; nothing can be called ``name``.
        VerifyError: a DDI device was given this release already.
    """
    if not _NAME.fullmatch(name):
        raise InputError("a file's name has 1 to 128 letters, digits and ._+-", "file-name")
    release = find_release(connection, version)
    mine = _files.c.release_id == release.id
    given = exists().where(
        _targets.c.release_id == release.id,
        _targets.c.given_at.is_not(None),
        _targets.c.device_id == schema.ddi_devices.c.device_id,
    )
    if connection.execute(select(given)).scalar_one():
        raise VerifyError(
            f"DDI devices were given release {release.version} already: publish a new version", "given"
        )
    connection.execute(delete(_files).where(mine))
    row = {"release_id": release.id, "name": name, "attached_by": actor, **hashed}
    connection.execute(insert(_files).values(**row))
    digest = hashed["digest"]
    record_audit(connection, actor, "ddi.attach", release.version, name=name, digest=digest)
    return {"version": release.version, "name": name, **hashed}


def may_fetch() -> Select[Any]:
    """Return what finds the file of ``release_id`` if ``device_id`` was given that release, and may go on."""
    devices, rollouts = schema.devices, schema.rollouts
    held = _targets.c.state.in_((*ON_TRIAL, TargetState.SAID))
    return (
        _query()
        .join(_targets, _targets.c.release_id == _files.c.release_id)
        .join(devices, devices.c.target_id == _targets.c.id)
        .join(rollouts, rollouts.c.id == _targets.c.rollout_id)
        .where(
            _files.c.release_id == bindparam("release_id", 0),
            devices.c.id == bindparam("device_id", ""),
            held,
            rollouts.c.paused.is_(False),
            schema.releases.c.withdrawn_at.is_(None),
        )
    )


def _query() -> Select[Any]:
    releases = schema.releases
    columns = _files.c.release_id, _files.c.name, _files.c.digest, _files.c.size, _files.c.sha1, _files.c.md5
    return (
        select(*columns, releases.c.version)
        .select_from(_files)
        .join(releases, releases.c.id == _files.c.release_id)
    )


def read_row(row: Any) -> File:  # noqa: ANN401 - a driver's row
    """Return the file in a row of `may_fetch`."""
    return File(
        release_id=row.release_id,
        version=row.version,
        name=row.name,
        size=row.size,
        sha256=row.digest,
        sha1=row.sha1,
        md5=row.md5,
    )
