"""The agent in an asyncio program, on CPython and on MicroPython."""

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.agent import Agent

LONGEST_SLEEP_MS = 200


async def serve(agent: "Agent") -> None:
    """Step until the chip is told to reset.

    On CPython a step runs in a worker thread, since it may wait for the network; hooks are called there.
    MicroPython has none: there a step holds the loop up for as long as the network does.
    """
    threads = hasattr(asyncio, "to_thread")
    while not agent.rebooting:
        wait_ms = await asyncio.to_thread(agent.step) if threads else agent.step()
        wait_ms = min(wait_ms, LONGEST_SLEEP_MS)
        if hasattr(asyncio, "sleep_ms"):
            await asyncio.sleep_ms(wait_ms)
        else:
            await asyncio.sleep(wait_ms / 1000)
