"""Published values: bounds on the wire, the last one of each topic in the twin, old databases."""

import json
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from server_world import Device, Keys, Server, fota

from fota_server.telemetry import TOPICS_KEPT
from fota_wire import cbor, checkin

DATABASES = BOTH


def publish(device: Device, values: list[Any], **more: Any) -> int:
    body: dict[Any, Any] = {
        1: 1,
        2: secrets.token_bytes(16),
        3: 1,
        4: None,
        6: values,
        **more.get("keys", {}),
    }
    return device.post(cbor.encode(body))[0]


def operator(server: Server) -> dict[str, str]:
    return {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }


def shown(server: Server, device: Device) -> dict[str, Any]:
    status, answer = server.api("GET", f"devices/{device.id}")
    assert status == 200
    return {item["topic"]: item for item in answer["telemetry"]}


def test_last_value_of_each_topic_stays_in_the_twin(server: Server, device: Device) -> None:
    now = int(time.time())
    first = [["climate", now - 60, '{"t": 20}'], ["climate", now - 5, '{"t": 21.5}'], ["door/1", 0, '"open"']]
    assert publish(device, first) == 200
    twin = shown(server, device)
    assert (twin["climate"]["value"], twin["climate"]["at"]) == ({"t": 21.5}, now - 5)
    assert twin["door/1"]["value"] == "open"
    assert twin["door/1"]["at"] in range(now, int(time.time()) + 1), "a device without a clock: when it came"
    assert publish(device, [["climate", now + 9999, "22"]]) == 200
    later = shown(server, device)["climate"]
    assert later["value"] == 22
    assert later["at"] in range(now, int(time.time()) + 1), "nobody publishes from the future"
    out = fota("device", "show", device.id, env=operator(server)).stdout
    assert '           door/1 "open", ' in out


def test_terminal_escapes_in_values_stay_text(server: Server, device: Device) -> None:
    assert publish(device, [["x", 0, json.dumps("\x1b[2J\u202e")]]) == 200
    out = fota("device", "show", device.id, env=operator(server)).stdout
    assert "published  x" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "[" * 200])
def test_value_that_is_no_json_is_dropped_and_the_check_in_counts(
    server: Server, device: Device, text: str
) -> None:
    assert publish(device, [["bad", 0, text], ["good", 0, "1"]]) == 200
    assert set(shown(server, device)) == {"good"}


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], 400),
        ([["t", 0, "1"]] * checkin.MAX_TELEMETRY, 200),
        ([["t", 0, "1"]] * (checkin.MAX_TELEMETRY + 1), 400),
        ("t", 400),
    ],
)
def test_bounds_of_published_values(server: Server, device: Device, values: Any, status: int) -> None:
    assert publish(device, values) == status


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (["t" * 32, 0, "1"], True),
        (["t" * 33, 0, "1"], False),
        (["", 0, "1"], False),
        (["a b", 0, "1"], False),
        ([["t"], 0, "1"], False),
        ([{"t": 1}, 0, '"climate"'], False),
        (["t", 0, '"' + "v" * 254 + '"'], True),
        (["t", 0, '"' + "v" * 255 + '"'], False),
        (["t", 0, '"' + "ä" * 128 + '"'], False),
        (["t", 0, "NaN"], False),
        (["t", 0, 1], False),
        (["t", -1, "1"], False),
        (["t", 0], False),
        (7, False),
    ],
)
def test_value_that_is_not_taken_costs_itself_alone_and_the_device_hears_which(
    server: Server, device: Device, value: Any, taken: bool
) -> None:
    good = [["first", 0, "1"], value, ["last", 0, "2"]]
    body = {1: 1, 2: secrets.token_bytes(16), 3: 1, 4: None, 6: good}
    status, raw = device.post(cbor.encode(body))
    assert status == 200
    assert checkin.parse_response(raw).refused_values == ([] if taken else [1])
    assert {"first", "last"} <= set(shown(server, device))
    assert len(shown(server, device)) == 2 + taken


@pytest.mark.parametrize(("key", "status"), [(9, 400), (15, 400), (16, 200), (99, 200), ("x", 400)])
def test_extension_keys_are_ignored_and_no_others(
    server: Server, device: Device, key: Any, status: int
) -> None:
    assert publish(device, [["t", 0, "1"]], keys={key: b"?"}) == status


def test_device_keeps_so_many_topics_and_no_more(server: Server, device: Device) -> None:
    for start in range(0, TOPICS_KEPT + 16, 16):
        assert publish(device, [[f"t{n}", 1000 + n, "1"] for n in range(start, start + 16)]) == 200
    twin = shown(server, device)
    assert len(twin) == TOPICS_KEPT
    assert "t0" not in twin
    assert f"t{TOPICS_KEPT + 15}" in twin


@pytest.mark.sqlite
def test_database_from_before_gets_the_table_at_the_next_start(keys: Keys, tmp_path: Path) -> None:
    server = Server(keys, tmp_path / "data").init().start()
    server.stop()
    database = sqlite3.connect(tmp_path / "data" / "fota.db")
    database.execute("DROP TABLE telemetry")
    database.execute("UPDATE alembic_version SET version_num = '0001'")
    database.commit()
    database.close()
    server.start()
    device = Device(server)
    assert publish(device, [["t", 0, "1"]]) == 200
    assert set(shown(server, device)) == {"t"}
    device.close()
    server.stop()
