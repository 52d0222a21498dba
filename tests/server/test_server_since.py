"""One command takes back everything since a time: each device goes to what it had proved by then, whatever
it was given meanwhile, and what would give it again is ended.
"""

import secrets
import time
from typing import Any

import pytest
from databases import BOTH
from lifeline import until
from server_world import Built, Device, Server

DATABASES = BOTH


def next_second() -> int:
    """Return a time that all before is before, and all after is not."""
    time.sleep(1)
    return int(time.time())


def at(server: Server, built: Built) -> Device:
    """A device that has confirmed a release."""
    device = Device(server)
    device.check_in()
    device.take(built, state="confirmed")
    device.check_in()
    return device


def give(server: Server, built: Built, *devices: Device, confirms: bool = True) -> int:
    """Order a release for devices that are there, have them take it, and return the rollout's number."""
    name = "s-" + secrets.token_hex(4)
    assert server.api("POST", "groups", {"name": name})[0] == 201
    ids = [device.id for device in devices]
    assert server.api("POST", f"groups/{name}/devices", {"devices": ids})[0] == 200
    status, answer = server.api("POST", "rollouts", {"version": built.version, "group": name})
    assert status == 201, answer
    for device in devices:
        device.check_in()
        if confirms:
            device.take(built, state="confirmed")
            device.check_in()
    return int(answer["id"])


def wanted(server: Server, device: Device) -> str | None:
    """Which version its check-in gives it."""
    digest = device.check_in().assignment.manifest_digest
    found = server.rows(
        "SELECT version FROM releases WHERE manifest_digest = ?", digest.hex() if digest else ""
    )
    return found[0]["version"] if found else None


def ended(server: Server, number: int) -> None:
    """What would give it again is told to end by the transaction that takes it back, and soon has."""
    state = server.api("GET", f"rollouts/{number}")[1]["state"]
    assert state in ("cancelling", "cancelled"), f"rollout {number} goes on: {state}"
    until(lambda: server.api("GET", f"rollouts/{number}")[1]["state"] == "cancelled")


def back(server: Server, since: int, **more: Any) -> tuple[int, Any]:
    return server.api("POST", "rollbacks", {"since": since, **more})


def test_each_goes_to_what_it_had_confirmed_at_that_time(own: Server, releases: dict[str, Built]) -> None:
    first, second, third = releases.values()
    early, late, trying, unmoved = (at(own, first) for _ in range(4))
    give(own, second, early)
    since = next_second()
    give(own, second, late)
    open_one = give(own, third, early, late, trying, confirms=False)
    for device in (early, late):
        device.take(third, state="confirmed")
        device.check_in()
    newcomer = at(own, second)
    give(own, third, newcomer)
    status, seen = back(own, since, dry_run=True)
    assert status == 200, seen
    assert {(move["runs"], move["version"], move["devices"]) for move in seen["moves"]} == {
        ("1.2.0", "1.1.0", 1),
        ("1.2.0", "1.0.0", 1),
        ("1.0.0", "1.0.0", 1),
    }
    assert [(row["devices"], row["reason"]) for row in seen["left_out"]] == [
        (1, "the device has confirmed no earlier release: name the version with --to")
    ]
    status, answer = back(own, since)
    assert (status, answer["total"], answer["kind"]) == (201, 3, "rollback"), answer
    ended(own, open_one)
    assert [wanted(own, device) for device in (early, late, trying)] == ["1.1.0", "1.0.0", "1.0.0"]
    assert (wanted(own, unmoved), wanted(own, newcomer)) == (None, "1.2.0")
    (row,) = own.rows("SELECT scope, release_id FROM rollouts WHERE id = ?", answer["id"])
    assert row == {"scope": f"since:{since}", "release_id": None}
    said = own.rows(
        "SELECT subject FROM audit WHERE action IN ('rollout.cancel', 'rollout.rollback') ORDER BY id"
    )
    assert [one["subject"] for one in said] == [str(open_one), f"since:{since}"]
    for device, built in ((early, second), (late, first)):
        device.take(built, state="confirmed")
        device.check_in()
    status, again = back(own, since)
    assert (status, again["error"]["code"]) == (409, "refused"), again
    seen = back(own, since, dry_run=True)[1]
    assert {row["reason"].split(": ")[0]: row["devices"] for row in seen["left_out"]} == {
        f"rollback {answer['id']} brought it back already": 3,
        "the device has confirmed no earlier release": 1,
    }


def test_who_came_back_one_step_of_two_goes_the_other_and_a_named_release_is_for_all(
    own: Server, releases: dict[str, Built]
) -> None:
    first, second, third = releases.values()
    device = at(own, first)
    since = next_second()
    give(own, second, device)
    number = give(own, third, device)
    assert own.api("POST", f"rollouts/{number}/rollback")[0] == 202
    until(lambda: wanted(own, device) == "1.1.0")
    device.take(second, state="confirmed")
    device.check_in()
    assert back(own, since)[0] == 201
    assert wanted(own, device) == "1.0.0"
    assert back(own, since, to="1.1.0")[0] == 201
    assert wanted(own, device) == "1.1.0"


def test_waves_that_go_on_are_ended_also_those_of_before(own: Server, releases: dict[str, Built]) -> None:
    first, second, _ = releases.values()
    devices = [at(own, first) for _ in range(3)]
    assert own.api("POST", "groups", {"name": "all"})[0] == 201
    ids = [device.id for device in devices]
    assert own.api("POST", "groups/all/devices", {"devices": ids})[0] == 200
    order = {"version": "1.1.0", "group": "all", "policy": {"waves": ["1", "rest"], "soak_s": 86400}}
    status, rollout = own.api("POST", "rollouts", order)
    assert status in (201, 202), rollout
    shown = f"rollouts/{rollout['id']}"
    until(lambda: own.api("GET", shown)[1]["state"] == "running")
    since = next_second()
    status, refused = back(own, since)
    assert (status, refused["error"]["code"]) == (409, "refused")
    assert own.api("GET", shown)[1]["state"] == "running", "what gave nothing since then is left alone"
    got = until(lambda: [device for device in devices if wanted(own, device) == second.version])
    assert len(got) == 1
    status, answer = back(own, since)
    assert (status, answer["total"]) == (201, 1), answer
    ended(own, rollout["id"])
    assert [wanted(own, device) for device in devices].count("1.0.0") == 1


@pytest.mark.parametrize("since", [-1, True, "soon", "", 1.5, 10**13, {}])
def test_what_is_no_time_is_refused(own: Server, since: Any) -> None:
    status, answer = back(own, since)
    assert (status, answer["error"]["code"]) == (400, "json"), answer
    assert own.rows("SELECT * FROM rollouts") == []


def test_it_is_about_the_whole_fleet_and_no_rollout_is_since(own: Server, releases: dict[str, Built]) -> None:
    since = next_second()
    device = at(own, releases["1.0.0"])
    give(own, releases["1.1.0"], device)
    status, answer = back(own, since, device=device.id)
    assert (status, answer["error"]["code"]) == (400, "json")
    body = {"since": since, "version": "1.2.0"}
    assert own.api("POST", "rollouts", body)[1]["error"]["code"] == "json"
    assert back(own, int(time.time()) + 1000)[1]["error"]["code"] == "refused"
    assert len(own.rows("SELECT * FROM rollouts")) == 1
