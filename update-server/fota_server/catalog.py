"""The releases: read from the database once each (they never change), and how one is published."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, exists, func, insert, or_, select, update

from fota_server import reach, release_log, schema
from fota_server.chips import chip_clash
from fota_server.database import now, record_audit
from fota_server.decide import TAKEN, Release, why_not
from fota_wire import root as roots
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_crypto import verify
from fota_wire.release import check_image, check_manifest, check_pair
from fota_wire.suit import Manifest, open_envelope
from fota_wire.version import format_version

_keys, _chips = schema.release_keys, schema.release_chips
RELEASES = (
    select(schema.releases, _keys.c.key_hash, _chips.c.chip)
    .outerjoin(_keys, _keys.c.release_id == schema.releases.c.id)
    .outerjoin(_chips, _chips.c.release_id == schema.releases.c.id)
)
"""The rows that `release_of` reads."""


class Catalog:
    """Published releases by row id, kept in memory."""

    def __init__(self) -> None:
        self._by_id: dict[int, Release] = {}

    def get(self, connection: Connection, ids: Iterable[int]) -> dict[int, Release]:
        """Return the releases with these ids; what is not known yet is read in one query."""
        wanted = set(ids)
        missing = wanted - self._by_id.keys()
        if missing:
            query = RELEASES.where(schema.releases.c.id.in_(missing))
            for row in connection.execute(query).mappings():
                self._by_id[row["id"]] = release_of(row)
        return {release_id: self._by_id[release_id] for release_id in wanted}

    def known(self, release_id: int) -> Release | None:
        """Return a release that was asked for before."""
        return self._by_id.get(release_id)


def release_of(row: RowMapping) -> Release:
    """Return the release in a row of `RELEASES`."""
    return Release(
        id=row["id"],
        version=row["version"],
        vendor_id=bytes.fromhex(row["vendor_id"]),
        class_id=bytes.fromhex(row["class_id"]),
        sequence=row["sequence"],
        manifest_digest=bytes.fromhex(row["manifest_digest"]),
        file_digest=bytes.fromhex(row["file_digest"]),
        file_size=row["file_size"],
        image_hash=bytes.fromhex(row["image_hash"]),
        sec_cnt=row["sec_cnt"],
        envelope=row["envelope"],
        key_hash=bytes.fromhex(row["key_hash"]) if row["key_hash"] else None,
        chip=row["chip"],
        receipt=row["receipt"],
    )


def open_release(envelope: bytes, root: roots.Root) -> Manifest:
    """Return the manifest if devices that trust ``root`` would accept it.

    Raises:
        FormatError, VerifyError: with the reason.
    """
    return open_envelope(envelope, root.role_keys(roots.RELEASE), root.threshold(roots.RELEASE), verify)


def check_release(
    manifest: Manifest, envelope: bytes, image_file: bytes, root: roots.Root, keys: dict[bytes, bytes]
) -> Release:
    """Return the release that a verified manifest and its image file make; ``id`` is 0.

    ``keys``: {KEYHASH: x||y} that devices know images by; without any the image's signature is not checked.

    Raises:
        FormatError: the file is not an image.
        VerifyError: signed by none of the keys; manifest, image and ROOT do not agree; says where.
    """
    check_manifest(manifest, root)
    image = check_image(image_file, root, keys, verify)
    check_pair(manifest, image)
    return Release(
        id=0,
        version=format_version(image.version),
        vendor_id=manifest.vendor_id,
        class_id=manifest.class_id,
        sequence=manifest.sequence,
        manifest_digest=manifest.manifest_digest,
        file_digest=manifest.digest,
        file_size=manifest.size,
        image_hash=image.image_hash,
        sec_cnt=image.sec_cnt,
        envelope=envelope,
        key_hash=image.key_hash,
        chip=image.chip,
    )


def store_release(connection: Connection, release: Release, root: roots.Root, actor: str) -> bool:
    """Insert a checked release, and its leaf; return False if this very manifest is published already.

    One whose file was pruned has it again, and stays withdrawn: restoring it is an operator's to do, and
    publishing may be a CI's.

    A version is published once in its class, under a sequence above all before it, and a class is for one
    chip. A release that no device may get any more, and none has taken, does not count: it can be replaced.

    Raises:
        VerifyError: its version is taken (``version-taken``), or its sequence (``sequence``); says which is
            free. Its class is for another chip (``chip``). No device could take it (``PO2``).
    """
    table = schema.releases
    query = RELEASES.where(table.c.class_id == release.class_id.hex())
    rows = connection.execute(query).mappings().all()
    for row in rows:
        if row["manifest_digest"] == release.manifest_digest.hex():
            return row["pruned_at"] is not None and _bring_back(connection, release, actor)
    _require_same_chip(connection, rows, release, root)
    newest = max((row["sequence"] for row in rows), default=-1)
    for row in rows:
        if row["version"] == release.version:
            _require_replaceable(connection, row, release, root, newest + 1)
    if release.sequence <= newest:
        raise VerifyError(
            f"sequence {release.sequence} is not above {newest}, the newest of its class: "
            f"the next free one is {max(newest + 1, root.min_sequence)}",
            "sequence",
        )
    counters = [row["sec_cnt"] for row in rows if not _is_barred(row, root)]
    reach.require_reachable(connection, release.class_id.hex(), release.sec_cnt, counters)
    stored = connection.execute(
        insert(table).values(
            version=release.version,
            vendor_id=release.vendor_id.hex(),
            class_id=release.class_id.hex(),
            sequence=release.sequence,
            manifest_digest=release.manifest_digest.hex(),
            file_digest=release.file_digest.hex(),
            file_size=release.file_size,
            image_hash=release.image_hash.hex(),
            sec_cnt=release.sec_cnt,
            envelope=release.envelope,
            published_at=now(),
            published_by=actor,
        )
    )
    (release_id,) = stored.inserted_primary_key or (None,)
    if release.key_hash is not None:
        key = {"release_id": release_id, "key_hash": release.key_hash.hex()}
        connection.execute(insert(_keys).values(**key))
    connection.execute(insert(_chips).values(release_id=release_id, chip=release.chip))
    release_log.append_missing(connection)
    record_audit(
        connection, actor, "release.publish", release.version, manifest_digest=release.manifest_digest.hex()
    )
    return True


def _bring_back(connection: Connection, release: Release, actor: str) -> bool:
    table, digest = schema.releases, release.manifest_digest.hex()
    connection.execute(update(table).where(table.c.manifest_digest == digest).values(pruned_at=None))
    record_audit(connection, actor, "release.publish", release.version, manifest_digest=digest, again=True)
    return True


def _require_same_chip(
    connection: Connection, rows: Sequence[RowMapping], release: Release, root: roots.Root
) -> None:
    """Return if the releases of a class that count, in ``rows``, are for the chip of ``release``."""
    for row in sorted(rows, key=lambda row: row["sequence"], reverse=True):
        if release.chip is None or row["chip"] is None:
            continue
        clash = chip_clash(release.chip, row["chip"], row["version"])
        if clash and (_is_on_devices(connection, row) or not _is_barred(row, root)):
            raise VerifyError(clash, "chip")


def _is_barred(row: RowMapping, root: roots.Root) -> bool:
    return why_not(release_of(row), root, withdrawn=row["withdrawn_at"] is not None) is not None


def _require_replaceable(
    connection: Connection, row: RowMapping, release: Release, root: roots.Root, free: int
) -> None:
    """Return if the release in ``row`` may make room for another of its version: barred, and on no device."""
    on_devices = _is_on_devices(connection, row)
    if not on_devices and _is_barred(row, root):
        return
    content = "this image" if row["file_digest"] == release.file_digest.hex() else "another image"
    way_out = "" if on_devices else f", or make room with 'fota release withdraw {release.version}'"
    raise VerifyError(
        f"version {release.version} is published already, with {content} and sequence {row['sequence']}: "
        f"take a new version and sequence {free}{way_out}",
        "version-taken",
    )


def _is_on_devices(connection: Connection, row: RowMapping) -> bool:
    """Tell whether a device runs a release, ever confirmed it, or will start it at its next reset."""
    devices, confirmations, targets = schema.devices, schema.confirmations, schema.targets
    image, manifest = row["image_hash"], row["manifest_digest"]
    waits = devices.c.settled_digest.is_(None) | (devices.c.settled_digest != manifest)
    found = or_(
        exists().where(devices.c.running_hash == image),
        exists().where(devices.c.installed_digest == manifest, waits),
        exists().where(confirmations.c.image_hash == image),
        exists().where(targets.c.release_id == row["id"], targets.c.state.in_(TAKEN)),
    )
    return bool(connection.execute(select(found)).scalar_one())


def barred_releases(connection: Connection, root: roots.Root) -> dict[int, str]:
    """Return the releases that no device may get any more, by row id, and why."""
    barred = {}
    for row in connection.execute(RELEASES).mappings():
        reason = why_not(release_of(row), root, withdrawn=row["withdrawn_at"] is not None)
        if reason:
            barred[int(row["id"])] = reason
    return barred


def set_withdrawn(connection: Connection, name: str, withdrawn: bool, actor: str) -> Release:
    """Have a release offered to no device any more, or take that back, and return it.

    What runs it stays. Rollouts that a withdrawal ended stay so.

    Raises:
        InputError: as for ``find_release``.
        VerifyError: it is so already, its version was published anew meanwhile, or its file was pruned.
    """
    release, table = find_release(connection, name), schema.releases
    query = select(table.c.withdrawn_at, table.c.pruned_at).where(table.c.id == release.id)
    row = connection.execute(query).one()
    if (row.withdrawn_at is not None) == withdrawn:
        state = "withdrawn already" if withdrawn else "not withdrawn"
        raise VerifyError(f"release {release.version} is {state}", "withdrawn")
    if not withdrawn:
        if row.pruned_at is not None:
            raise VerifyError(
                f"the file of release {release.version} was pruned: publish it again first", "pruned"
            )
        _require_vacant(connection, release)
    change = {"withdrawn_at": now() if withdrawn else None, "withdrawn_by": actor if withdrawn else None}
    connection.execute(update(table).where(table.c.id == release.id).values(**change))
    action = "release.withdraw" if withdrawn else "release.restore"
    digest = release.manifest_digest.hex()
    record_audit(connection, actor, action, release.version, manifest_digest=digest)
    return release


def _require_vacant(connection: Connection, release: Release) -> None:
    table = schema.releases
    other = select(table.c.sequence).where(
        table.c.class_id == release.class_id.hex(),
        table.c.version == release.version,
        table.c.withdrawn_at.is_(None),
    )
    if row := connection.execute(other).first():
        raise VerifyError(
            f"version {release.version} was published anew, as sequence {row.sequence}", "version-taken"
        )


def unreferenced(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of these file digests that no release needs; none at all if nothing is published.

    A pruned release needs none: neither its own file, nor what was attached to it for DDI devices.
    """
    table, of_ddi, free = schema.releases, schema.ddi_files, set(digests)
    if not connection.execute(select(func.count()).select_from(table)).scalar_one():
        return set()
    kept = table.c.pruned_at.is_(None)
    attached = select(of_ddi.c.digest).join(table, table.c.id == of_ddi.c.release_id).where(kept)
    free -= set(connection.execute(attached).scalars())
    return free - set(connection.execute(select(table.c.file_digest).where(kept)).scalars())


def list_releases(connection: Connection, root: roots.Root, after: int, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` releases with ids above ``after``, in the order of their publication."""
    query = RELEASES.where(schema.releases.c.id > after).order_by(schema.releases.c.id).limit(limit)
    return [_view(row, root) for row in connection.execute(query).mappings()]


def show_release(connection: Connection, release: Release, root: roots.Root) -> dict[str, Any]:
    """Return what operators see of a release; ``barred``: why no device gets it any more, or null."""
    query = RELEASES.where(schema.releases.c.manifest_digest == release.manifest_digest.hex())
    return _view(connection.execute(query).mappings().one(), root)


def _view(row: RowMapping, root: roots.Root) -> dict[str, Any]:
    barred = why_not(release_of(row), root, withdrawn=row["withdrawn_at"] is not None)
    shown = {name: row[name] for name in row if name not in ("envelope", "key_hash", "receipt")}
    return shown | {"barred": barred, "receipt": row["receipt"] and row["receipt"].hex()}


def find_release(connection: Connection, name: str, classes: Select[str] | None = None) -> Release:
    """Return the release that an operator names by version, or by 8 or more hex digits of its manifest
    digest.

    ``classes``: the query of those of the devices that it is for; where images of several classes have this
    version, the one of theirs is meant, and only then it is asked: it looks at each device. Of several
    releases of one version the newest counts that was not withdrawn.

    Raises:
        InputError: there is none (``unknown-release``), or it could be several (``ambiguous-release``).
    """
    table = schema.releases
    query = RELEASES.where(table.c.version == name)
    rows: Sequence[RowMapping] = connection.execute(query).mappings().all()
    apart = "class_id"
    if not rows and len(name) >= 8 and all(digit in "0123456789abcdef" for digit in name):
        apart = "manifest_digest"
        query = RELEASES.where(table.c.manifest_digest.startswith(name))
        rows = connection.execute(query).mappings().all()
    if not rows:
        raise InputError(
            f"no release {name}: publish it first, or see 'fota release list'", "unknown-release"
        )
    newest: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: (row["withdrawn_at"] is None, row["sequence"])):
        newest[row[apart]] = row
    meant = list(newest.values())
    if len(meant) > 1 and classes is not None:
        theirs = connection.execute(classes).scalars().all()
        meant = [row for row in meant if row["class_id"] in theirs] or meant
    if len(meant) > 1:
        choices = ", ".join(
            f"{row['manifest_digest'][:16]} of class {uuid.UUID(row['class_id'])}" for row in meant
        )
        raise InputError(
            f"several releases are called {name}: name one by its manifest digest, {choices}",
            "ambiguous-release",
        )
    return release_of(meant[0])
