"""Who sends webhooks: a task of each server, and of those that share a database the one that is alone."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fota_server import webhooks
from fota_server.alone import Alone
from fota_server.database import Database, DatabaseUnavailable
from fota_server.metrics import WEBHOOKS
from fota_server.postgresql import WEBHOOK_LOCK
from fota_server.webhook_send import Undelivered, deliver
from fota_wire.errors import StorageError

log = logging.getLogger("fota.server")

POLL_S = 1.0


class Sender:
    """Sends what is to be sent, one message after another to each receiver, receivers beside each other."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._alone = Alone(database, WEBHOOK_LOCK)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(webhooks.MOST, "webhook")

    async def keep_sending(self) -> None:
        """Send until cancelled; a thread that still waits then for a receiver ends by itself."""
        try:
            while True:
                try:
                    await self.begin()
                except (DatabaseUnavailable, StorageError) as exc:
                    log.warning("webhooks: %s", exc)
                except Exception:
                    log.exception("webhooks failed")
                await asyncio.sleep(POLL_S)
        finally:
            self.stop()

    def stop(self) -> None:
        """Leave it to another server."""
        for task in self._under_way.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._alone.give_up()

    async def begin(self) -> list[asyncio.Task[None]]:
        """Begin to send what is due now, if it is this server that sends; return a task for each receiver."""
        if not await self._database.read(webhooks.is_any) or not await self._alone.is_ours():
            return []
        rounds = await self._database.write(webhooks.due_rounds, self._clock(), tuple(self._under_way))
        for one in rounds:
            task = self._under_way[one.name] = asyncio.create_task(self._send(one))
            task.add_done_callback(partial(self._over, one.name))
        return [self._under_way[one.name] for one in rounds]

    def _over(self, name: str, _task: object) -> None:
        del self._under_way[name]

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
        try:
            await self._database.write(webhooks.taken, one, told, error, status, self._clock())
        except (DatabaseUnavailable, StorageError) as exc:
            log.warning("webhook %s: what was taken will be told again: %s", one.name, exc)
