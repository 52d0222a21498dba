"""The agent in an asyncio program, on CPython and on MicroPython."""

import asyncio

from fota_agent.runner.runner import LONGEST_SLEEP_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.agent import Agent


async def serve(agent: "Agent") -> None:
    """Step until the chip is told to reset.

    On CPython a thread steps, since a step may wait for the network; hooks are called there. MicroPython has
    none: there a step holds the loop up for as long as the network does.
    """
    if hasattr(asyncio, "to_thread"):
        from fota_agent.runner.background import serve as serve_in_thread

        await serve_in_thread(agent._runner)
        return
    while not agent.rebooting:
        wait_ms = min(agent.step(), LONGEST_SLEEP_MS)
        if hasattr(asyncio, "sleep_ms"):
            await asyncio.sleep_ms(wait_ms)
        else:
            await asyncio.sleep(wait_ms / 1000)
