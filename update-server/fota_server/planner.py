"""The task that does what is still to be done of orders, a bounded transaction at a time.

Between two steps whoever waits for the database has its turn, so no check-in waits longer than one step.
Once in a while it looks how the waves of rollouts stand, and goes on with those whose time has come.
"""

import asyncio
import logging
import time
from contextlib import suppress

from fota_server import orders, wave_work
from fota_server.database import Database
from fota_server.database import now as clock
from fota_server.trust import TrustChain
from fota_wire.errors import FotaError

log = logging.getLogger("fota.server")

RETRY_S = 5.0
LOOK_S, LOOK_SHARE = 1.0, 20
"""So often it looks at waves; less often where looking takes more than a part in `LOOK_SHARE` of its time."""


class Planner:
    """Works through what the database says is to be done: at the start, and whenever it is woken."""

    def __init__(self, database: Database, trust: TrustChain) -> None:
        self._database = database
        self._trust = trust
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Go on where the last life of the server ended."""
        self._wake.set()
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Do no more; the rest is done at the next start."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """There is something to do, and it is on the disk."""
        self._wake.set()

    async def _serve(self) -> None:
        rest_s = LOOK_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest_s):  # of wait_for, a wake just before takes the cancel away
                    await self._wake.wait()
            woken = self._wake.is_set()
            self._wake.clear()
            try:
                while woken and await self.step():
                    pass
                began = time.monotonic()
                if await self.look():
                    self._wake.set()  # another step may follow at once, or pages
                rest_s = max(LOOK_S, LOOK_SHARE * (time.monotonic() - began))
            except FotaError as exc:
                log.warning("orders: %s; trying again in %g s", exc, RETRY_S)
            except Exception:
                log.exception("orders failed; trying again in %g s", RETRY_S)
            else:
                continue
            await asyncio.sleep(RETRY_S)
            self._wake.set()

    async def step(self) -> bool:
        """Do one bounded step; return whether there was anything to do."""
        return await self._database.write(orders.work, self._trust.current)

    async def look(self, now: int | None = None) -> bool:
        """Go on with each rollout in waves whose next step is due; return whether there was any."""
        at = clock() if now is None else now
        due = await self._database.read(wave_work.all_due, at)
        for number in due:
            await self._database.write(orders.go_on, number, at)
        return bool(due)
