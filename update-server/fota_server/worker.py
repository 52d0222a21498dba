"""A process beside the main one that serves devices on the same port, and nothing else (ADR 71).

    python -m fota_server.worker FD   (FD: a socket to the main process, `workers.py`)

What is said there is a line of JSON each: first the settings, then ``{"do": WHAT}``, with "reload", "follow",
"count" or "end"; back come ``{"ready": true}``, ``{"failed": true}`` (a device did: there may be something to
take back), and ``{"counted": TEXT}``. Without "end", its end is that of a main process that was killed.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from typing import Any

from fota_server.bucket import open_artifacts
from fota_server.certificates import read_aside, read_tls_files
from fota_server.config import ServerConfig, config_of
from fota_server.connection import Limits
from fota_server.database import Database
from fota_server.device_side import DeviceSide
from fota_server.logs import log_to_stderr
from fota_server.service import load_signer, load_trust, malloc_trimmed, open_database, rooms
from fota_server.standing import counted_here
from fota_wire.errors import FotaError

log = logging.getLogger("fota.server")


def main() -> None:
    """Serve until the main process says so, or SIGTERM does."""
    for sig in (signal.SIGHUP, signal.SIGINT):  # the main process tells us what they are for
        signal.signal(sig, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    asyncio.run(_serve(control))


async def _serve(control: socket.socket) -> None:
    said, back = await asyncio.open_connection(sock=control)
    first = json.loads(await said.readline())
    config = config_of(first["config"])
    lines = log_to_stderr(config.log)
    try:
        await _Worker(config, socket.socket(fileno=first["port"]), back).run(said)
    except FotaError as exc:
        log.error("worker %d: %s", os.getpid(), exc)  # noqa: TRY400 - a line, no traceback
        sys.exit(1)
    finally:
        lines.finish()


class _Worker:
    def __init__(self, config: ServerConfig, sock: socket.socket, back: asyncio.StreamWriter) -> None:
        self._config, self._sock, self._back = config, sock, back
        self._side: DeviceSide
        self._reading: asyncio.Task[None] | None = None

    async def run(self, said: asyncio.StreamReader) -> None:
        config = self._config
        database = open_database(config.database_url, config.data, shared=True)
        try:
            await self._work(database, said)
        finally:
            database.close()

    async def _work(self, database: Database, said: asyncio.StreamReader) -> None:
        config = self._config
        trust, signer = database.transact(load_trust), load_signer(config)
        tls_files = read_tls_files(config.files, allow_example_keys=config.allow_example_keys)
        room, _, _ = rooms(config.device_connections, config.newcomers, config.newcomers_per_address)
        limits = Limits(per_client=config.connections_per_device, room=room)
        self._side = side = DeviceSide(
            config,
            database,
            trust,
            signer,
            open_artifacts(config),
            tls_files,
            self._sock,
            limits,
            lambda: self._tell(failed=True),
        )
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        await side.begin()
        side.listener.start()
        aside = [
            asyncio.create_task(side.keep_following()),
            asyncio.create_task(malloc_trimmed()),
            asyncio.create_task(self._hear(said, stop)),
        ]
        self._tell(ready=True)
        await stop.wait()
        await side.listener.stop()
        await side.finish()
        for task in aside:
            task.cancel()
        await asyncio.gather(*aside, return_exceptions=True)

    def _tell(self, **what: Any) -> None:  # noqa: ANN401 - as JSON has it
        self._back.write(json.dumps(what).encode() + b"\n")

    async def _hear(self, said: asyncio.StreamReader, stop: asyncio.Event) -> None:
        while line := await said.readline():
            what = json.loads(line)["do"]
            if what == "count":
                self._tell(
                    counted=counted_here(self._side.checkins.waiting(), {"device": self._side.listener.door})
                )
            elif what == "follow":
                await self._side.follow()
            elif what == "reload":
                await self._reload()
            elif what == "end":
                stop.set()
                return
        # As if it had been killed, too: who closes a SQLite file last takes its WAL away, and the next start
        # would miss it (`whole.py`).
        os._exit(1)

    async def _reload(self) -> None:
        """As the main process does, which tells of what is wrong with the files."""
        config = self._config
        try:
            found = await read_aside(config.files, allow_example_keys=config.allow_example_keys)
        except FotaError:
            return
        self._side.listener.context = found.device


if __name__ == "__main__":
    main()
