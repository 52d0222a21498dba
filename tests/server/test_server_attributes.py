"""Who says what of a device, whose word counts, and which groups it is in by that; over real check-ins."""

import json
import re
import secrets
from typing import Any

import pytest
from databases import BOTH
from lifeline import until
from server_world import Built, Device, Server, fota

from fota_wire import cbor, checkin

DATABASES = BOTH


def say(device: Device, *values: tuple[str, Any]) -> checkin.Response:
    """Publish, as the device's own word; return the answer."""
    told = [[topic, 0, value if topic == "raw" else json.dumps(value)] for topic, value in values]
    status, data = device.post(cbor.encode({1: 1, 2: secrets.token_bytes(16), 3: 1, 4: None, 6: told}))
    assert status == 200
    return checkin.parse_response(data)


def give(server: Server, device: Device, **words: str | None) -> dict[str, Any]:
    status, answer = server.api("POST", f"devices/{device.id}/attributes", {"attributes": words})
    assert status == 200, answer
    return dict(answer)


def shown(server: Server, device: Device) -> dict[str, tuple[str, str]]:
    found = server.api("GET", f"devices/{device.id}")[1]["attributes"]
    return {name: (item["value"], item["by"]) for name, item in found.items()}


def dynamic(server: Server, text: str) -> str:
    """A group that goes by a filter, filled."""
    name = "f-" + secrets.token_hex(4)
    assert server.api("POST", "groups", {"name": name, "filter": text})[0] == 202
    until(lambda: server.rows("SELECT filled_to FROM groups WHERE name = ?", name) == [{"filled_to": None}])
    return name


def groups(server: Server, device: Device) -> list[str]:
    return list(server.api("GET", f"devices/{device.id}")[1]["groups"])


@pytest.fixture
def mark() -> str:
    """A name of the test's own: others' devices are on the same server."""
    return "t" + secrets.token_hex(6)


def test_operators_word_stands_before_the_devices_own(server: Server, device: Device, mark: str) -> None:
    device.check_in()
    say(device, ("attr/" + mark, "mine"), ("attr/zone", "Asia/Tokyo"))
    assert shown(server, device) == {mark: ("mine", "device"), "zone": ("Asia/Tokyo", "device")}
    give(server, device, **{mark: "yours"})
    say(device, ("attr/" + mark, "mine again"))
    assert shown(server, device)[mark] == ("yours", "operator")
    give(server, device, **{mark: None})
    assert shown(server, device)[mark] == ("mine again", "device")
    say(device, ("attr/" + mark, None), ("attr/zone", None))
    assert shown(server, device) == {}
    assert server.rows("SELECT * FROM attributes WHERE device_id = ?", device.id) == []


@pytest.mark.parametrize(
    ("topic", "value"),
    [("attr/tag", ""), ("attr/x", 5), ("attr/x", ["a"]), ("attr/x", "a\x1bb"), ("attr/x", " a"),
     ("attr/x", "b" * 129), ("attr/X", "a"), ("attr/", "a"), ("attr/id", "a"), ("attr/not", "a"),
     ("attr/zone", "Mars/Olympus"), ("attr/x/y", "a")],
)  # fmt: skip
def test_word_that_is_none_is_refused_by_its_place_and_the_others_count(
    server: Server, device: Device, topic: str, value: Any
) -> None:
    answer = say(device, ("attr/one", "1"), (topic, value), ("attr/two", "2"))
    assert answer.refused_values == [1]
    assert shown(server, device) == {"one": ("1", "device"), "two": ("2", "device")}


def test_device_says_no_more_of_itself_than_there_is_room_for(server: Server, device: Device) -> None:
    for start in range(0, 80, 16):
        say(device, *((f"attr/n{number}", "x") for number in range(start, start + 16)))
    assert len(shown(server, device)) == 64
    status, answer = server.api("POST", f"devices/{device.id}/attributes", {"attributes": {"more": "x"}})
    assert (status, answer["error"]["code"]) == (400, "attribute")
    give(server, device, n0="y", n1=None)
    assert shown(server, device)["n0"] == ("y", "operator"), "what is there can be changed"


@pytest.mark.parametrize(
    "words",
    [{}, [], "x", None, {"A": "x"}, {"": "x"}, {"a b": "x"}, {"version": "1"}, {"tags": "x"}, {"a": 1},
     {"a": "x\n"}, {"a": "\u0000"}, {"a": " "}, {"a": "x" * 129}, {"a" * 28: "x"}, {"zone": "Nowhere"},
     {"zone": "../etc/passwd"}, {"zone": ""}, {"ok": "x", "Bad": "x"}],
)  # fmt: skip
def test_words_that_are_none_change_nothing(server: Server, device: Device, words: Any) -> None:
    device.check_in()
    status, answer = server.api("POST", f"devices/{device.id}/attributes", {"attributes": words})
    assert (status, answer["error"]["code"] in ("attribute", "json")) == (400, True), answer
    assert answer["error"]["message"].isprintable()
    assert shown(server, device) == {}


def test_device_that_is_not_known_has_no_attributes(server: Server) -> None:
    status, answer = server.api("POST", f"devices/{'0' * 18}/attributes", {"attributes": {"a": "x"}})
    assert (status, answer["error"]["code"]) == (404, "unknown-device")


def test_device_comes_into_a_group_and_leaves_it_by_what_is_said_of_it(server: Server, mark: str) -> None:
    device, other = Device(server), Device(server)
    device.check_in()
    give(server, device, **{mark: "", "hardware": "C"})
    red, not_red = (
        dynamic(server, f"{mark} and hardware = C"),
        dynamic(server, f"id = {other.id} and not {mark}"),
    )
    assert groups(server, device) == [red]
    other.check_in()  # for the first time
    assert groups(server, other) == [not_red]
    give(server, other, **{mark: ""})
    assert groups(server, other) == []
    say(other, ("attr/hardware", "C"))
    assert groups(server, other) == [red]
    give(server, other, hardware="B")
    assert groups(server, other) == []
    listed = server.api("GET", f"devices?filter={mark}")[1]["devices"]
    assert sorted(item["id"] for item in listed) == sorted([device.id, other.id])
    listed = server.api("GET", f"devices?filter={mark}&group={red}&limit=1")[1]["devices"]
    assert [item["id"] for item in listed] == [device.id]


def test_group_by_version_follows_what_a_verified_report_names(
    server: Server, device: Device, releases: dict[str, Built], mark: str
) -> None:
    device.check_in()
    give(server, device, **{mark: ""})
    old, new = dynamic(server, f"{mark} and version = 1.0.0"), dynamic(server, f"{mark} and version = 1.1*")
    assert groups(server, device) == []
    device.check_in()
    assert groups(server, device) == [old]
    device.take(releases["1.1.0"], state="confirmed")
    device.check_in()
    assert groups(server, device) == [new]


def test_rollout_is_of_those_that_are_in_the_group_when_it_is_given(server: Server, mark: str) -> None:
    stays, leaves, comes = (Device(server) for _ in range(3))
    for one in (stays, leaves, comes):
        one.check_in()
    for one in (stays, leaves):
        give(server, one, **{mark: ""})
    group = dynamic(server, mark)
    status, rollout = server.api("POST", "rollouts", {"version": "1.1.0", "group": group})
    assert (status, rollout["total"]) == (201, 2)
    give(server, leaves, **{mark: None})
    give(server, comes, **{mark: ""})
    wanted = {one: server.api("GET", f"devices/{one.id}")[1]["wanted"] for one in (stays, leaves, comes)}
    assert (wanted[leaves]["rollout"], wanted[leaves]["state"]) == (rollout["id"], "pending"), "it keeps it"
    assert wanted[comes] is None
    status, again = server.api("POST", "rollouts", {"version": "1.1.0", "group": group})
    assert (status, again["total"]) == (201, 1), "the same order, given again, is for who came"
    targets = server.api("GET", f"rollouts/{again['id']}/devices")[1]["devices"]
    assert [item["device_id"] for item in targets] == [comes.id]


def test_devices_of_a_filter_are_not_put_in_by_hand(server: Server, device: Device, mark: str) -> None:
    device.check_in()
    group = dynamic(server, mark)
    for path in ("devices", "remove"):
        status, answer = server.api("POST", f"groups/{group}/{path}", {"devices": [device.id]})
        assert (status, answer["error"]["code"]) == (409, "by-filter")
    for other in ({"name": group}, {"name": group, "filter": "x"}):
        status, answer = server.api("POST", "groups", other)
        assert (status, answer["error"]["code"]) == (409, "group-filter")
    assert server.api("POST", "groups", {"name": group, "filter": mark})[0] == 200, "the same again"
    assert groups(server, device) == []
    assert server.api("DELETE", f"groups/{group}")[0] == 200


def test_filter_that_is_none_makes_no_group(server: Server, mark: str) -> None:
    for text in ("a =", "x" * 513, "\x00", "a = \u2028"):
        status, answer = server.api("POST", "groups", {"name": mark, "filter": text})
        assert (status, answer["error"]["code"] in ("filter", "json")) == (400, True), text
    assert server.api("GET", "devices?filter=a%20%3D")[1]["error"]["code"] == "filter"
    assert server.rows("SELECT * FROM groups WHERE name = ?", mark) == []


def test_command_line_says_it_all(server: Server, device: Device, mark: str) -> None:
    device.check_in()
    env = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }
    done = fota("device", "set", device.id, "hardware=C", mark, env=env)
    assert done.stdout == f"device {device.id}: hardware=C, {mark}; groups: none\n"
    seen = fota("group", "create", mark, "--filter", f"{mark} and hardware = C", "--dry-run", env=env)
    assert seen.stdout == f"it holds for 1 device(s)\n{device.id}\n"
    assert server.rows("SELECT * FROM groups WHERE name = ?", mark) == []
    assert fota("group", "create", mark, "--filter", f"{mark} and hardware = C", env=env).returncode == 0
    until(lambda: groups(server, device) == [mark])
    listed = fota("group", "list", env=env).stdout
    assert re.search(f"{mark} +1 .* {mark} and hardware = C\n", listed)
    out = fota("device", "show", device.id, env=env).stdout
    assert "attributes hardware=C" in " ".join(out.split())
    assert mark in fota("device", "attributes", env=env).stdout
    assert device.id in fota("device", "list", "--filter", mark, env=env).stdout
    assert fota("device", "set", device.id, "--unset", mark, env=env).stdout.endswith("groups: none\n")
    assert fota("group", "set", mark, "--filter", "hardware", env=env).returncode == 0
    until(lambda: groups(server, device) == [mark])
    for wrong, code in (([], 2), (["a=b", "a"], 3), (["A=b"], 3), (["a=\tb"], 3)):
        done = fota("device", "set", device.id, *wrong, env=env)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
