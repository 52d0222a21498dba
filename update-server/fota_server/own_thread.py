"""Work that may wait for ever, for somebody else's file or machine: in a thread of its own.

The loop's own threads are few and shared: whoever waited there would keep payloads, readiness and the end of
the server waiting.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_own_thread(name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a blocking call returns; the end of the server does not wait for it.

    Threads are not counted here: bound how many callers there can be.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()  # from here on nobody's giving up is an error of the thread

    def run() -> None:
        try:
            done.set_result(work(*args, **kwargs))
        except BaseException as exc:
            done.set_exception(exc)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(done)
