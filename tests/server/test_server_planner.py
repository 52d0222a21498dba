"""The planner ends when it is told to, whatever comes at that very moment."""

import asyncio
from pathlib import Path

import pytest
from fleet_world import Fleet, in_fleet
from server_world import Keys

from fota_server import planner


@pytest.mark.parametrize("turns", range(8))
def test_planner_ends_although_it_was_woken_just_before(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(planner, "LOOK_S", 0.01)

    async def run(fleet: Fleet) -> bool:
        looks, first, goes_on = 0, asyncio.Event(), asyncio.Event()

        async def look() -> bool:
            nonlocal looks
            looks += 1
            first.set()
            if looks > 20:
                goes_on.set()
            return False

        monkeypatch.setattr(fleet.planner, "look", look)
        fleet.planner.start()
        await first.wait()
        fleet.planner.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        ending = asyncio.create_task(fleet.planner.stop())
        going = asyncio.create_task(goes_on.wait())
        await asyncio.wait({ending, going}, return_when=asyncio.FIRST_COMPLETED)
        return ending.done()

    assert in_fleet(tmp_path / "fota.db", keys, 1, run)
