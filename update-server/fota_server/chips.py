"""Which chip the devices of a class have: what the images of its releases say, kept in a row of each."""

import asyncio
import logging

from sqlalchemy import Connection, exists, insert, select

from fota_server import schema
from fota_server.artifacts import ArtifactsAway, ArtifactStore, aside
from fota_server.database import Database
from fota_wire.errors import FotaError
from fota_wire.host_chips import ESPRESSIF
from fota_wire.image import parse_image

log = logging.getLogger("fota.server")


def chip_clash(new: str, old: str, version: str) -> str | None:
    """Return why an image for chip ``new`` is not for the devices that release ``version``, for ``old``, is
    for; None if it is, or one of the two does not name its chip and both may be an STM32's.
    """
    if new == old or (not (new and old) and not {new, old} & set(ESPRESSIF)):
        return None
    for_new, for_old = (f"chip {chip}" if chip else "another kind of device" for chip in (new, old))
    return (
        f"the image is for {for_new}, and release {version} of its class for {for_old}: another class for it"
    )


async def learn_chips(database: Database, artifacts: ArtifactStore) -> None:
    """Read the chip of every release that was published before the server kept it. A file that is gone, or
    damaged, says none: its release is passed over. Nobody waits for a bucket that is away: the next start
    learns the rest.
    """
    found = {}
    for release_id, digest in await database.read(_unknown):
        try:
            image = await aside(artifacts.read, digest)
            # An ESP32's image names its chip by its form.
            found[release_id] = (await asyncio.to_thread(parse_image, image, programs=True)).chip
        except ArtifactsAway as exc:
            log.warning("%s", exc)
            break
        except FotaError:
            continue
    if found:
        await database.write(_keep, found)


def _unknown(connection: Connection) -> list[tuple[int, str]]:
    releases, chips = schema.releases, schema.release_chips
    query = select(releases.c.id, releases.c.file_digest)
    query = query.where(~exists().where(chips.c.release_id == releases.c.id))
    return [(row.id, row.file_digest) for row in connection.execute(query)]


def _keep(connection: Connection, found: dict[int, str]) -> None:
    rows = [{"release_id": release_id, "chip": chip} for release_id, chip in found.items()]
    connection.execute(insert(schema.release_chips), rows)
