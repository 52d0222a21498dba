"""What a release fits, and whose clock a window goes by: a plan leaves out and names what does not fit."""

import secrets
import time
from typing import Any
from urllib.parse import quote

import pytest
from databases import BOTH
from server_world import Built, Device, Keys, Server, build_release, fota

from fota_server.wave_policy import parse_policy
from fota_wire.errors import InputError

DATABASES = BOTH
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def new_release(server: Server, keys: Keys) -> Built:
    """A release of a class of its own, its file uploaded."""
    version = f"66.{secrets.randbelow(256)}.{secrets.randbelow(60000)}"
    built = build_release(keys, version, 1, 1, class_id=secrets.token_bytes(16))
    assert server.api("PUT", f"artifacts/{built.digest}", raw=built.file)[0] == 201
    return built


def publish(server: Server, built: Built, *fits: str) -> tuple[int, Any]:
    query = "&".join("hardware=" + quote(one, safe="") for one in fits)
    return server.api("POST", f"releases?{query}", raw=built.envelope)


def devices_of(server: Server, *hardware: str | None) -> tuple[str, list[Device]]:
    """A group of devices with these hardware revisions; None: not known."""
    group, found = "h-" + secrets.token_hex(4), [Device(server) for _ in hardware]
    assert server.api("POST", "groups", {"name": group})[0] == 201
    for device, revision in zip(found, hardware, strict=True):
        device.check_in()
        if revision:
            say(server, device, hardware=revision)
    ids = [device.id for device in found]
    assert server.api("POST", f"groups/{group}/devices", {"devices": ids})[0] == 200
    return group, found


def say(server: Server, device: Device, **words: str) -> None:
    assert server.api("POST", f"devices/{device.id}/attributes", {"attributes": words})[0] == 200


def test_devices_that_a_release_does_not_fit_are_left_out_and_named(server: Server, keys: Keys) -> None:
    built = new_release(server, keys)
    status, shown = publish(server, built, "C", "B", "C")
    assert (status, shown["hardware"]) == (201, ["B", "C"])
    group, (c, d, unknown, b) = devices_of(server, "C", "D", None, "B")
    order = {"version": built.version, "group": group}
    plan = server.api("POST", "rollouts", {**order, "policy": {"waves": ["rest"]}, "dry_run": True})[1]
    assert plan["total"] == 2
    status, rollout = server.api("POST", "rollouts", order)
    assert (status, rollout["total"]) == (201, 2)
    left = server.api("GET", f"rollouts/{rollout['id']}/left-out")[1]["devices"]
    reasons = {item["device_id"]: item["reason"] for item in left}
    assert reasons == {
        d.id: "the release does not fit hardware D",
        unknown.id: "its hardware revision is not known, and the release fits certain ones:"
        " 'fota device set'",
    }
    assert [one.check_in(with_report=False).wanted for one in (c, d, unknown, b)] == [
        built.manifest_digest, None, None, built.manifest_digest,
    ]  # fmt: skip
    say(server, unknown, hardware="B")
    status, again = server.api("POST", "rollouts", order)
    assert (status, again.get("total")) == (201, 1), again
    status, answer = server.api("POST", "rollbacks", {"to": built.version, "device": d.id})
    assert (status, answer["error"]["message"]) == (
        409,
        f"device {d.id}: the release does not fit hardware D",
    )


def test_release_that_fits_no_device_is_refused_and_leaves_nothing(server: Server, keys: Keys) -> None:
    built = new_release(server, keys)
    assert publish(server, built, "Z")[0] == 201
    group, _ = devices_of(server, "C", None)
    for order in ({}, {"policy": {"waves": ["rest"]}}):
        status, answer = server.api("POST", "rollouts", {"version": built.version, "group": group, **order})
        assert (status, answer["error"]["code"]) == (409, "refused")
        assert "hardware" in answer["error"]["message"]
    assert server.rows("SELECT * FROM rollouts WHERE scope = ?", f"group:{group}") == []


def test_what_a_release_fits_is_changed_by_a_word_and_not_by_publishing_again(
    server: Server, keys: Keys
) -> None:
    built = new_release(server, keys)
    assert publish(server, built)[1]["hardware"] == []
    assert publish(server, built)[0] == 200
    status, answer = publish(server, built, "C")
    assert (status, answer["error"]["code"]) == (409, "hardware")
    path = f"releases/{built.version}/hardware"
    for wrong in (None, "C", [""], [None], [5], ["a\n"], ["x" * 129], [" C"], ["x"] * 65, {"C": 1}):
        assert server.api("POST", path, {"hardware": wrong})[0] == 400
    assert publish(server, built, "a\x1b")[1]["error"]["code"] == "attribute"
    assert server.api("GET", f"releases/{built.version}")[1]["hardware"] == []
    env = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }
    assert fota("release", "fits", built.version, "C", "B", env=env).stdout.endswith("fits hardware B, C\n")
    assert "  B, C" in fota("release", "list", env=env).stdout
    assert fota("release", "fits", built.version, env=env).returncode == 2
    assert fota("release", "fits", built.version, "--all", env=env).stdout.endswith("fits hardware all\n")
    rows = server.rows("SELECT * FROM audit WHERE action = 'release.fits' AND subject = ?", built.version)
    assert len(rows) == 2


def test_plan_does_not_hold_once_a_device_does_not_fit_any_more(server: Server, keys: Keys) -> None:
    built = new_release(server, keys)
    publish(server, built, "C")
    group, (one, _) = devices_of(server, "C", "C")
    order = {"version": built.version, "group": group, "policy": {"waves": ["rest"]}}
    plan = server.api("POST", "rollouts", {**order, "dry_run": True})[1]
    say(server, one, hardware="D")
    status, answer = server.api("POST", "rollouts", {**order, "seed": plan["seed"], "digest": plan["digest"]})
    assert (status, answer["error"]["code"]) == (409, "plan")


# Windows by a device's own clock


@pytest.mark.parametrize("own_zone", [True, False])
def test_window_is_in_the_devices_own_zone_if_the_policy_says_so(
    server: Server, keys: Keys, own_zone: bool
) -> None:
    built = new_release(server, keys)
    publish(server, built)
    group, (east, utc, unknown) = devices_of(server, None, None, None)
    say(server, east, zone="Etc/GMT-6")  # six hours ahead
    say(server, utc, zone="UTC")
    minute = (int(time.time()) // 60 + 6 * 60) % 1440  # of the day, there
    edges = [f"{at % 1440 // 60:02}:{at % 60:02}" for at in (minute - 120, minute + 120)]
    window = {"days": DAYS, "from": edges[0], "to": edges[1], "zone": "UTC", "own_zone": own_zone}
    order = {"version": built.version, "group": group, "policy": {"waves": ["rest"], "window": window}}
    status, rollout = server.api("POST", "rollouts", order)
    assert status in (201, 202), rollout
    fota("rollout", "show", str(rollout["id"]))
    for _ in range(200):
        if server.api("GET", f"rollouts/{rollout['id']}")[1]["waves"][0]["phase"] == "open":
            break
        time.sleep(0.05)
    wanted = [one.check_in(with_report=False).wanted is not None for one in (east, utc, unknown)]
    assert wanted == [own_zone, False, False]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("change", "words"),
    [({"own_zone": 1}, "own_zone: has to be true or false"), ({"own_zone": None}, "own_zone"),
     ({"zones": True}, "has to be an object of days"), ({"zone": None, "own_zone": True}, "zone")],
)  # fmt: skip
def test_window_with_a_zone_that_is_none_is_refused(change: dict[str, Any], words: str) -> None:
    window = {"days": ["mon"], "from": "22:00", "to": "04:00", "zone": "UTC"}
    with pytest.raises(InputError, match=words):
        parse_policy({"waves": ["rest"], "window": window | change})
    kept = parse_policy({"waves": ["rest"], "window": window | {"own_zone": True}})
    assert parse_policy(kept.to_json()) == kept
    assert kept.to_json()["window"]["own_zone"] is True
    at = 1704142800  # Monday, 21:00 UTC, and 22:00 in Berlin
    own, fixed = kept.window, parse_policy({"waves": ["rest"], "window": window}).window
    assert own is not None
    assert fixed is not None
    assert [own.is_open(at, zone) for zone in (None, "Europe/Berlin")] == [False, True]
    assert [fixed.is_open(at, zone) for zone in (None, "Europe/Berlin")] == [False, False]
