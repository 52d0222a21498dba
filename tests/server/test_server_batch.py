"""Check-ins share a transaction; a mistake over one of them does not cost the others."""

import asyncio
import sqlite3
import threading
from collections import deque
from typing import Any

import pytest
from server_world import Device, Keys, Refused, Server

from fota_server.checkins import CheckIns
from fota_server.judging import MAX_BATCH


def test_device_over_which_the_server_fails_costs_nobody_else(keys: Keys, tmp_path: Any) -> None:
    own = Server(keys, tmp_path / "data").init().start()
    try:
        guilty, others = Device(own), [Device(own) for _ in range(6)]
        for device in (guilty, *others):
            device.check_in()
        with sqlite3.connect(own.data / "fota.db") as beside:  # a row that no code of today writes
            beside.execute("UPDATE devices SET confirmed_hash = 'no hex' WHERE id = ?", (guilty.id,))
        beside.close()
        answered: list[str] = []

        def ask(device: Device) -> None:
            for _ in range(4):
                device.check_in(with_report=False)
            answered.append(device.id)

        def ask_in_vain() -> None:
            for _ in range(4):
                with pytest.raises(Refused, match="500"):
                    guilty.check_in(with_report=False)
                guilty.close()

        threads = [threading.Thread(target=ask, args=(device,)) for device in others]
        threads.append(threading.Thread(target=ask_in_vain))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answered) == sorted(device.id for device in others)
    finally:
        _, stderr = own.stop()
    assert f"check-in of device {guilty.id} failed" in stderr
    assert all(device.id not in stderr for device in others)


@pytest.mark.parametrize(
    ("come", "turns", "in_it"),
    [
        pytest.param([1], 1, 1, id="alone"),
        pytest.param([1, 2, 1, 3], 4, 7, id="more in each turn"),
        pytest.param([1, 2, 0, 5], 2, 3, id="none in a turn"),
        pytest.param([MAX_BATCH], 0, MAX_BATCH, id="full"),
        pytest.param([1, MAX_BATCH, 5], 1, MAX_BATCH + 1, id="more than full"),
    ],
)
def test_batch_grows_while_each_turn_brings_more_until_it_is_full(
    come: list[int], turns: int, in_it: int
) -> None:
    """``come``: so many before, and so many in each turn of the event loop; then no more."""
    checkins: Any = object.__new__(CheckIns)  # its waiting is about its queue alone
    checkins._queue = deque(range(come[0]))

    async def run() -> tuple[int, int]:
        waits, took = asyncio.ensure_future(checkins._have_all_in()), 0
        await asyncio.sleep(0)
        while not waits.done():
            took += 1
            checkins._queue.extend(range(come[took] if took < len(come) else 0))
            await asyncio.sleep(0)
        return took, len(checkins._queue)

    assert asyncio.run(run()) == (turns, in_it)
