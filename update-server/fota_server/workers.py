"""The main process's side of its workers: started, told, counted, started again when one dies, ended.

Each has a socket of its own on the devices' port (SO_REUSEPORT), so the kernel spreads connections evenly.
The main process keeps these sockets open: who connects while a worker is started again waits for that one.
"""

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from fota_server.config import ServerConfig, settings_of
from fota_wire.errors import StorageError

log = logging.getLogger("fota.server")

AGAIN_S = 1.0
"""So long after a worker's end the next one is started in its place."""
END_S = 15.0
"""Longer than a worker takes to finish what is under way; after that it is ended."""
ANSWER_S = 2.0


class Workers:
    """One process for each of ``socks``. ``on_failure``: a device failed, and it is on the disk."""

    def __init__(
        self, config: ServerConfig, socks: Sequence[socket.socket], on_failure: Callable[[], None]
    ) -> None:
        self._all = [_Worker(config, sock, on_failure) for sock in socks]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all of them, and return when each lets devices in.

        Raises:
            StorageError: one ended before that; its log says why.
        """
        self._tasks = [asyncio.create_task(one.keep()) for one in self._all]
        for task, one in zip(self._tasks, self._all, strict=True):
            ready = asyncio.create_task(one.ready.wait())
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if not one.ready.is_set():
                await self.stop()
                raise StorageError("a worker ended before it was ready: its line above says why", "worker")

    def tell(self, what: str) -> None:
        """Have all of them do it: "reload" or "follow"."""
        for one in self._all:
            one.tell(what)

    async def counted(self) -> list[str]:
        """Return what each has counted, in Prometheus' text format; of one that does not answer, nothing."""
        found = await asyncio.gather(*(one.counted() for one in self._all))
        return [text for text in found if text]

    async def stop(self) -> None:
        """Have all of them finish what is under way, and end."""
        for one in self._all:
            one.end()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_S)
        for one in self._all:
            one.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Worker:
    def __init__(self, config: ServerConfig, sock: socket.socket, on_failure: Callable[[], None]) -> None:
        self._config, self._sock, self._on_failure = config, sock, on_failure
        self._ending = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._to: asyncio.StreamWriter | None = None
        self._counted: asyncio.Future[str] | None = None
        self.ready = asyncio.Event()

    async def keep(self) -> None:
        """Have a process run until `end`; one that ends before it was ever ready is not started again."""
        while not self._ending.is_set():
            code = await self._live()
            if self._ending.is_set() or not self.ready.is_set():
                return
            log.error("a worker ended (%s): another is started in its place", code)
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._ending.wait()

    async def _live(self) -> int:
        ours, its = socket.socketpair()
        port = self._sock.fileno()
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fota_server.worker", str(its.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(its.fileno(), port),
        )
        its.close()
        heard, self._to = await asyncio.open_connection(sock=ours, limit=1 << 20)
        self._write({"config": settings_of(self._config), "port": port})
        if self._ending.is_set():
            self._to.close()
        with suppress(ConnectionError):
            while line := await heard.readline():
                self._hear(json.loads(line))
        to, self._to = self._to, None
        to.close()
        return await process.wait()

    def _hear(self, said: dict[str, Any]) -> None:
        if "ready" in said:
            self.ready.set()
        elif "failed" in said:
            self._on_failure()
        elif "counted" in said and self._counted and not self._counted.done():
            self._counted.set_result(said["counted"])

    async def counted(self) -> str:
        if self._to is None:
            return ""
        if self._counted is None or self._counted.done():
            self._counted = asyncio.get_running_loop().create_future()
            self.tell("count")
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(self._counted)
        except TimeoutError:
            return ""

    def tell(self, what: str) -> None:
        self._write({"do": what})

    def _write(self, what: dict[str, Any]) -> None:
        if self._to is not None and not self._to.is_closing():
            self._to.write(json.dumps(what).encode() + b"\n")

    def end(self) -> None:
        self._ending.set()
        self.tell("end")

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
