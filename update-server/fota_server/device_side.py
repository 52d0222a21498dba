"""All that serves devices in one process: the main one has operators beside it, a worker has nothing else."""

import asyncio
import gc
import logging
from collections.abc import Callable
from socket import socket

from sqlalchemy import Connection, select

from fota_server import device_plane, schema
from fota_server.artifacts import ArtifactStore
from fota_server.at_once import AtOnceListener
from fota_server.catalog import Catalog
from fota_server.certificates import TlsFiles
from fota_server.checkins import CheckIns, Policy
from fota_server.config import ServerConfig
from fota_server.connection import Limits
from fota_server.crypto import Assigner
from fota_server.database import Database, DatabaseUnavailable, now
from fota_server.ddi_plane import DdiPlane
from fota_server.quick import open_reader
from fota_server.refusals import Refusals
from fota_server.retirement import Retired, ids_beside
from fota_server.trust import TrustChain
from fota_wire.errors import StorageError

log = logging.getLogger("fota.server")

FOLLOW_S = 2.0


class DeviceSide:
    """The device plane on a bound socket. ``on_failure``: as for `CheckIns`."""

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        trust: TrustChain,
        signer: Assigner,
        artifacts: ArtifactStore,
        tls_files: TlsFiles,
        sock: socket,
        limits: Limits,
        on_failure: Callable[[], None],
    ) -> None:
        self._database, self._trust = database, trust
        auto = config.admission == "auto"
        policy = Policy(auto_admission=auto, interval_s=config.interval_s)
        self.retired, self.refusals, catalog = Retired(), Refusals(), Catalog()
        self.checkins = CheckIns(database, catalog, trust, signer, policy, now, on_failure)
        self._reader = open_reader(database)
        plane = device_plane.DevicePlane(
            database, self.checkins, artifacts, self.refusals, self._reader, auto
        )
        self._ddi: DdiPlane | None = None
        if config.ddi_tenant:
            self._ddi = DdiPlane(
                config.ddi_tenant,
                database,
                catalog,
                artifacts,
                self.refusals,
                self._reader,
                lambda: trust.current,
                config.interval_s,
                on_failure,
            )
        self.app = plane.app(*([self._ddi.mount()] if self._ddi else []))
        self.listener = AtOnceListener(
            "device",
            self.app,
            sock,
            tls_files.device,
            device_plane.error_body,
            limits,
            device_plane.HEADERS,
            device_plane.gate(self.retired, self.refusals),
            self.refusals.note_handshake,
            plane.visited,
            device_plane.note_unread(self.refusals),
            at_once=plane.at_once(),
        )
        self.retired.on_retire.append(lambda _device_id: self.listener.close_gate())
        self._aside: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Do all that comes before devices are let in."""
        await self._database.read(self.retired.load)
        self.checkins.start()
        self._aside.append(asyncio.create_task(self.refusals.keep_flushing(self._database)))
        if self._ddi:
            self._aside.append(asyncio.create_task(self._ddi.keep_flushing()))
        # What is here now stays: the collector of cycles need not walk over it, which takes 50 ms and more:
        # every check-in would wait for it.
        gc.collect()
        gc.freeze()

    async def keep_following(self, then: Callable[[], None] = lambda: None) -> None:
        """Learn what others on the same database did, again and again: `follow`, ``then`` the rest of it."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            if await self.follow():
                then()

    async def follow(self) -> bool:
        """Learn of ROOT steps and retirements by others; tell whether the database could be asked."""
        try:
            steps = await self._database.read(_steps_after, self._trust.current.version)
            retired = await self._database.read(ids_beside, len(self.retired))
        except (DatabaseUnavailable, StorageError) as exc:
            log.warning("%s", exc)
            return False
        for raw in steps:
            self._trust.append(raw)
        for device_id in retired:
            self.retired.add(device_id)
        return True

    async def finish(self) -> None:
        """Write what waits to be written; nobody is let in any more."""
        await self.checkins.stop()
        for task in self._aside:
            task.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)
        await self.refusals.flush(self._database)
        if self._ddi:
            await self._ddi.flush()
        self._reader.close()


def _steps_after(connection: Connection, version: int) -> list[bytes]:
    roots = schema.roots
    query = select(roots.c.raw).where(roots.c.version > version).order_by(roots.c.version)
    return list(connection.execute(query).scalars())
