"""The releases: read from the database once each (they never change), and how one is published."""

from collections.abc import Iterable, Sequence

from sqlalchemy import RowMapping, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fota_server import schema
from fota_server.database import now, record_audit
from fota_server.decide import Release
from fota_wire import root as roots
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_crypto import verify
from fota_wire.release import check_image, check_manifest, check_pair
from fota_wire.suit import Manifest, open_envelope
from fota_wire.version import format_version

_keys = schema.release_keys
RELEASES = select(schema.releases, _keys.c.key_hash).outerjoin(
    _keys, _keys.c.release_id == schema.releases.c.id
)
"""The rows that `release_of` reads."""


class Catalog:
    """Published releases by row id, kept in memory."""

    def __init__(self) -> None:
        self._by_id: dict[int, Release] = {}

    async def get(self, connection: AsyncConnection, ids: Iterable[int]) -> dict[int, Release]:
        """Return the releases with these ids; what is not known yet is read in one query."""
        wanted = set(ids)
        missing = wanted - self._by_id.keys()
        if missing:
            query = RELEASES.where(schema.releases.c.id.in_(missing))
            for row in (await connection.execute(query)).mappings():
                self._by_id[row["id"]] = release_of(row)
        return {release_id: self._by_id[release_id] for release_id in wanted}


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
    )


async def store_release(connection: AsyncConnection, release: Release, actor: str) -> bool:
    """Insert a checked release; return False if this very manifest is published already.

    Raises:
        VerifyError: its version is taken by other content (``version-taken``).
    """
    table = schema.releases
    same = select(table.c.id).where(table.c.manifest_digest == release.manifest_digest.hex())
    if (await connection.execute(same)).first():
        return False
    taken = select(table.c.file_digest).where(
        table.c.class_id == release.class_id.hex(), table.c.version == release.version
    )
    if any(row.file_digest != release.file_digest.hex() for row in await connection.execute(taken)):
        raise VerifyError(
            f"version {release.version} is published already, with other content: take a new version",
            "version-taken",
        )
    stored = await connection.execute(
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
        row = {"release_id": release_id, "key_hash": release.key_hash.hex()}
        await connection.execute(insert(_keys).values(**row))
    await record_audit(
        connection, actor, "release.publish", release.version, manifest_digest=release.manifest_digest.hex()
    )
    return True


async def find_release(connection: AsyncConnection, name: str) -> Release:
    """Return the release that an operator names by version, or by 8 or more hex digits of its manifest
    digest.

    Of several manifests for one image the one with the highest sequence counts.

    Raises:
        InputError: there is none (``unknown-release``), or images of several device classes have this
        version.
    """
    table = schema.releases
    query = RELEASES.where(table.c.version == name).order_by(table.c.sequence.desc())
    rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
    if not rows and len(name) >= 8 and all(digit in "0123456789abcdef" for digit in name):
        query = RELEASES.where(table.c.manifest_digest.startswith(name))
        rows = (await connection.execute(query)).mappings().all()
    if not rows:
        raise InputError(
            f"no release {name}: publish it first, or see 'fota release list'", "unknown-release"
        )
    if len({row["file_digest"] for row in rows}) > 1:
        raise InputError(
            f"several releases are called {name}: name one by its manifest digest", "ambiguous-release"
        )
    return release_of(rows[0])
