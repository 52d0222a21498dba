"""Who sends webhooks: a task of each server, which takes up what no other has."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fota_server import webhooks
from fota_server.database import Database, DatabaseUnavailable
from fota_server.metrics import WEBHOOKS
from fota_server.webhook_send import Undelivered, deliver
from fota_wire.errors import StorageError

log = logging.getLogger("fota.server")

POLL_S = 1.0


class Sender:
    """Sends what is to be sent, one message after another to each receiver, receivers beside each other."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._threads = ThreadPoolExecutor(webhooks.MOST, "webhook")

    async def keep_sending(self) -> None:
        """Send until cancelled; a thread that still waits then for a receiver ends by itself."""
        try:
            while True:
                try:
                    await self.send_due()
                except (DatabaseUnavailable, StorageError) as exc:
                    log.warning("webhooks: %s", exc)
                await asyncio.sleep(POLL_S)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def send_due(self) -> int:
        """Send what is due now; return how many receivers that was."""
        if not await self._database.read(webhooks.is_any):
            return 0
        rounds = await self._database.write(webhooks.claim, self._clock())
        await asyncio.gather(*map(self._send, rounds))
        return len(rounds)

    async def _send(self, one: webhooks.Round) -> None:
        loop, told = asyncio.get_running_loop(), 0
        error, status = None, 0
        for message in one.messages:
            try:
                job = partial(deliver, one.receiver, message.id, message.body, self._clock())
                await loop.run_in_executor(self._threads, job)
            except Undelivered as exc:
                error, status = str(exc), exc.status
                WEBHOOKS.labels("failed").inc()
                log.warning("webhook %s: %s of %s: %s", one.name, message.id, one.receiver.url, error)
                break
            told += 1
            WEBHOOKS.labels("taken").inc()
        await self._database.write(webhooks.taken, one, told, error, status, self._clock())
