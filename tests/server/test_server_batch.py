"""Check-ins share a transaction; a mistake over one of them does not cost the others."""

import sqlite3
import threading
from typing import Any

import pytest
from server_world import Device, Keys, Refused, Server


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
