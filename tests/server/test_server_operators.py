"""The operator plane: releases, rollouts, rollbacks, groups, tokens, audit; each with the state it leaves."""

import contextlib
import hashlib
import json
import re
import secrets
import sqlite3
from typing import Any

import esp_world
import pytest
from server_world import (
    CLASS,
    Built,
    Device,
    Keys,
    Refused,
    Server,
    build_release,
    fota,
    make_image,
    new_key,
)

from fota_server.operator_routes import OPERATIONS


def audit_of(server: Server, action: str) -> list[dict[str, Any]]:
    return server.rows("SELECT * FROM audit WHERE action = ? ORDER BY id", action)


def known(server: Server, *, running: Built | None = None, floor: int = 1) -> Device:
    """A device that has reported once."""
    device = Device(server)
    device.floor = floor
    device.check_in()
    if running:
        device.take(running, state="confirmed")
    device.check_in()
    return device


def update(server: Server, device: Device, built: Built) -> None:
    """Have the device run a release, through a rollout."""
    status, answer = server.api("POST", "rollouts", {"version": built.version, "device": device.id})
    assert status == 201, answer
    assert device.check_in().wanted == built.manifest_digest
    device.take(built, state="confirmed")
    device.check_in()


def target_of(server: Server, device: Device) -> dict[str, Any]:
    query = (
        "SELECT t.*, r.kind, v.version FROM devices d JOIN targets t ON t.id = d.target_id "
        "JOIN rollouts r ON r.id = t.rollout_id JOIN releases v ON v.id = t.release_id WHERE d.id = ?"
    )
    return server.rows(query, device.id)[0]


def devices_of(server: Server, rollout: dict[str, Any]) -> list[dict[str, Any]]:
    return list(server.api("GET", f"rollouts/{rollout['id']}/devices")[1]["devices"])


# Tokens


@pytest.mark.parametrize(
    "token",
    ["", "x", "fota_", "fota__", "fota_0011223344556677_" + "0" * 64, "fota_" + "x" * 200, "fota_\xe4_y"],
)
def test_unknown_token_is_401(server: Server, token: str) -> None:
    assert server.api("GET", "releases", token=token)[0] == 401


def test_secret_of_another_token_is_401(server: Server) -> None:
    prefix, token_id, secret = server.token.split("_")
    flipped = ("0" if secret[0] != "0" else "1") + secret[1:]
    assert server.api("GET", "releases", token=f"{prefix}_{token_id}_{flipped}")[0] == 401
    assert server.api("GET", "releases", token=f"{prefix}_{token_id[::-1]}_{secret}")[0] == 401


def test_reader_may_read_and_change_nothing(server: Server, tmp_path: Any) -> None:
    file = tmp_path / "reader.token"
    name = "reader-" + secrets.token_hex(4)
    done = fota(
        "server", "token", "create", name, "--data", str(server.data), "--role", "viewer", "-o", str(file)
    )
    assert done.returncode == 0, done.stderr
    token = file.read_text().strip()
    assert token not in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    assert server.api("GET", "devices", token=token)[0] == 200
    before = server.rows("SELECT count(*) n FROM groups")
    status, answer = server.api("POST", "groups", {"name": "of-reader"}, token=token)
    assert (status, answer["error"]["code"]) == (403, "role")
    assert server.api("PUT", "artifacts/" + "0" * 64, raw=b"", token=token)[0] == 403
    assert server.rows("SELECT count(*) n FROM groups") == before

    assert fota("server", "token", "revoke", name, "--data", str(server.data)).returncode == 0
    assert server.api("GET", "devices", token=token)[0] == 401
    again = fota("server", "token", "revoke", name, "--data", str(server.data))
    assert again.returncode == 3
    listed = json.loads(fota("server", "token", "list", "--data", str(server.data), "--json").stdout)[
        "tokens"
    ]
    assert {item["name"]: bool(item["revoked_at"]) for item in listed}[name] is True


def test_database_does_not_hold_the_token(server: Server) -> None:
    row = server.rows("SELECT * FROM tokens WHERE name = 'first-operator'")[0]
    secret = server.token.split("_")[2]
    assert row["secret_hash"] == hashlib.sha256(secret.encode()).hexdigest()
    for path in server.data.glob("fota.db*"):
        assert secret.encode() not in path.read_bytes()


def test_health_needs_no_token(server: Server) -> None:
    assert server.api("GET", "health/live", token="none") == (200, {"status": "ok"})
    assert server.api("GET", "health/ready", token="none") == (200, {"status": "ok", "warnings": []})


# Releases


def test_published_release_is_listed_as_its_image_says(server: Server, releases: dict[str, Built]) -> None:
    built = releases["1.1.0"]
    row = server.rows("SELECT * FROM releases WHERE version = '1.1.0' AND class_id = ?", CLASS.hex())[0]
    assert row["file_digest"] == built.digest
    assert row["file_size"] == len(built.file)
    assert row["image_hash"] == built.image.image_hash.hex()
    assert (row["sec_cnt"], row["sequence"]) == (2, 2)
    assert row["manifest_digest"] == built.manifest_digest.hex()
    assert (server.data / "artifacts" / built.digest[:2] / built.digest).read_bytes() == built.file


def test_publishing_twice_changes_nothing(server: Server, releases: dict[str, Built]) -> None:
    before = server.rows("SELECT * FROM releases"), audit_of(server, "release.publish")
    status, answer = server.publish(releases["1.1.0"])
    assert (status, answer["created"]) == (200, False)
    assert (server.rows("SELECT * FROM releases"), audit_of(server, "release.publish")) == before


def refused_release(server: Server, file: bytes, envelope: bytes) -> dict[str, str]:
    before = server.rows("SELECT * FROM releases")
    status, answer = server.publish(Built("", file, envelope))
    assert status in (400, 409), answer
    assert server.rows("SELECT * FROM releases") == before
    return dict(answer["error"])


def test_one_signature_of_two_missing_is_refused(server: Server, keys: Keys) -> None:
    file = make_image((7, 0, 0, 0), 9)
    error = refused_release(server, file, keys.envelope(file, 70, signers=keys.release[:1]))
    assert error == {"code": "threshold", "message": "1 of 2 necessary signatures"}


def test_signature_by_a_stranger_does_not_count(server: Server, keys: Keys) -> None:
    file = make_image((7, 0, 0, 0), 9)
    assert refused_release(server, file, keys.envelope(file, 70, signers=[keys.release[0], new_key()]))[
        "code"
    ] == ("threshold")


def test_manifest_for_another_file_is_refused(server: Server, keys: Keys) -> None:
    file = make_image((7, 0, 0, 0), 9)
    other = keys.envelope(file, 70, size=len(file) + 1)
    assert "bytes" in refused_release(server, file, other)["message"]


def test_class_of_manifest_and_image_must_agree(server: Server, keys: Keys) -> None:
    file = make_image((7, 0, 0, 0), 9, class_id=bytes(16))
    assert refused_release(server, file, keys.envelope(file, 70))["code"] == "class"


def test_tampered_image_is_refused_though_its_manifest_is_signed(server: Server, keys: Keys) -> None:
    file = bytearray(make_image((7, 0, 0, 0), 9))
    file[700] ^= 1
    assert (
        "does not match its hash"
        in refused_release(server, bytes(file), keys.envelope(bytes(file), 70))["message"]
    )


def test_file_that_is_no_firmware_is_refused(server: Server, keys: Keys) -> None:
    file = b"#!/bin/sh\necho hello\n"
    assert "not a firmware image" in refused_release(server, file, keys.envelope(file, 70))["message"]


def test_version_that_is_taken_is_refused(server: Server, keys: Keys) -> None:
    file = make_image((1, 1, 0, 0), 9)
    assert refused_release(server, file, keys.envelope(file, 71))["code"] == "version-taken"


def test_envelope_without_its_artifact_is_404(server: Server, keys: Keys) -> None:
    file = make_image((7, 1, 0, 0), 9)
    status, answer = server.api("POST", "releases", raw=keys.envelope(file, 72))
    assert (status, answer["error"]["code"]) == (404, "artifact-missing")


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xd8\x6b\xa2", bytes(4096), bytes(4097)])
def test_malformed_envelope_is_refused(server: Server, body: bytes) -> None:
    assert server.api("POST", "releases", raw=body)[0] in (400, 413)


def test_upload_that_is_not_what_its_name_says_is_not_kept(server: Server) -> None:
    name = hashlib.sha256(b"something else").hexdigest()
    status, answer = server.api("PUT", f"artifacts/{name}", raw=b"something")
    assert (status, answer["error"]["code"]) == (409, "digest-mismatch")
    assert not (server.data / "artifacts" / name[:2] / name).exists()
    assert server.tmp_files() == []


@pytest.mark.parametrize("name", ["x", "A" * 64, "..%2f..%2ffota.db", "0" * 63])
def test_artifact_name_must_be_a_digest(server: Server, name: str) -> None:
    assert server.api("PUT", f"artifacts/{name}", raw=b"x")[0] in (400, 404)


CHIPS = ("", "stm32l476", "stm32u585", "esp32c3")  # "": an STM32's that does not say


def release_for(keys: Keys, chip: str, version: str, sequence: int, class_id: bytes) -> Built:
    if chip != "esp32c3":
        return build_release(keys, version, 9, sequence, class_id=class_id, chip=chip)
    major, minor, revision = (int(part) for part in version.split("."))
    file = esp_world.signed(sec_cnt=9, version=(major, minor, revision, 0), class_id=class_id)
    return Built(version, file, keys.envelope(file, sequence, class_id=class_id))


@pytest.mark.parametrize("new", CHIPS)
@pytest.mark.parametrize("old", CHIPS)
def test_image_for_another_chip_than_that_of_its_class_is_refused_by_name(
    server: Server, keys: Keys, old: str, new: str
) -> None:
    own = secrets.token_bytes(16)
    assert server.publish(release_for(keys, old, "7.3.0", 80, own))[0] == 201
    other = release_for(keys, new, "7.4.0", 81, own)
    status, answer = server.publish(other)
    if old == new or (not (old and new) and "esp32c3" not in (old, new)):
        assert status == 201, answer
        return
    assert (status, answer["error"]["code"]) == (409, "chip")
    for_new, for_old = (f"chip {chip}" if chip else "another kind of device" for chip in (new, old))
    assert f"is for {for_new}, and release 7.3.0 of its class for {for_old}" in answer["error"]["message"]
    assert not (server.data / "artifacts" / other.digest[:2] / other.digest).exists()
    assert server.publish(release_for(keys, new, "7.4.0", 81, secrets.token_bytes(16)))[0] == 201


def refusal_of_another_chip(server: Server, keys: Keys, own: bytes) -> str:
    status, answer = server.publish(release_for(keys, "stm32u585", "7.99.0", 990, own))
    assert (status, answer["error"]["code"]) == (409, "chip"), answer
    return str(answer["error"]["message"])


def test_releases_that_name_no_chip_hide_none_of_their_class_that_did(server: Server, keys: Keys) -> None:
    own = secrets.token_bytes(16)
    for number, chip in enumerate(("stm32l476", *("",) * 20)):
        assert server.publish(release_for(keys, chip, f"7.{number}.0", 80 + number, own))[0] == 201
    assert "release 7.0.0 of its class for chip stm32l476" in refusal_of_another_chip(server, keys, own)


def test_chip_of_a_class_is_known_without_the_files(server: Server, keys: Keys) -> None:
    own = secrets.token_bytes(16)
    first = release_for(keys, "stm32l476", "7.1.0", 81, own)
    assert server.publish(first)[0] == 201
    (server.data / "artifacts" / first.digest[:2] / first.digest).unlink()
    assert "release 7.1.0 of its class for chip stm32l476" in refusal_of_another_chip(server, keys, own)


@pytest.mark.parametrize("ran", [False, True])
def test_withdrawn_release_says_a_chip_only_of_devices_that_have_it(
    server: Server, keys: Keys, ran: bool
) -> None:
    own = secrets.token_bytes(16)
    slip = release_for(keys, "stm32l476", "7.1.0", 81, own)
    status, shown = server.publish(slip)
    assert status == 201
    if ran:
        known(server, running=slip)
    assert server.api("POST", f"releases/{shown['manifest_digest']}/withdraw")[0] == 200
    if ran:
        refusal_of_another_chip(server, keys, own)
    else:
        assert server.publish(release_for(keys, "stm32u585", "7.1.0", 82, own))[0] == 201


def test_chip_of_a_release_from_before_it_was_kept_is_read_once(keys: Keys, tmp_path: Any) -> None:
    server = Server(keys, tmp_path / "data").init().start()
    own, gone = secrets.token_bytes(16), secrets.token_bytes(16)
    for class_id in (own, gone):
        built = release_for(keys, "stm32l476", "7.1.0", 81, class_id)
        assert server.publish(built)[0] == 201
    assert server.stop()[0] == 0
    (server.data / "artifacts" / built.digest[:2] / built.digest).unlink()
    with contextlib.closing(sqlite3.connect(server.data / "fota.db")) as connection, connection:
        connection.execute("DELETE FROM release_chips")
    server.start()
    try:
        refusal_of_another_chip(server, keys, own)
        assert [row["chip"] for row in server.rows("SELECT * FROM release_chips")] == ["stm32l476"]
        status, answer = server.publish(release_for(keys, "stm32u585", "7.2.0", 82, gone))
        assert status == 201, answer
    finally:
        assert server.stop()[0] == 0


def test_damaged_artifact_is_not_published(server: Server, keys: Keys) -> None:
    built = build_release(keys, "7.2.0", 9, 73)
    assert server.api("PUT", f"artifacts/{built.digest}", raw=built.file)[0] == 201
    path = server.data / "artifacts" / built.digest[:2] / built.digest
    path.write_bytes(built.file[:-1])
    status, answer = server.api("POST", "releases", raw=built.envelope)
    assert (status, answer["error"]["code"]) == (409, "artifact-damaged")


# Groups


def test_group_takes_known_devices_only(server: Server) -> None:
    name = "g-" + secrets.token_hex(4)
    device = known(server)
    assert server.api("POST", "groups", {"name": name}) == (201, {"name": name, "created": True})
    assert server.api("POST", "groups", {"name": name}) == (200, {"name": name, "created": False})
    status, answer = server.api("POST", f"groups/{name}/devices", {"devices": [device.id, "0123" + "00" * 7]})
    assert (status, answer["error"]["code"]) == (404, "unknown-device")
    assert server.rows("SELECT * FROM members WHERE group_name = ?", name) == [], "all or nothing"
    assert server.api("POST", f"groups/{name}/devices", {"devices": [device.id]})[1]["added"] == 1
    assert server.api("POST", f"groups/{name}/devices", {"devices": [device.id]})[1]["added"] == 0
    assert [item["id"] for item in server.api("GET", f"devices?group={name}")[1]["devices"]] == [device.id]
    assert {"name": name, "devices": 1} in [
        {"name": item["name"], "devices": item["devices"]}
        for item in server.api("GET", "groups")[1]["groups"]
    ]
    assert [json.loads(row["detail"]) for row in audit_of(server, "group.add") if row["subject"] == name] == [
        {"devices": [device.id]}
    ]


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "../x", "ä"])
def test_group_name_is_checked(server: Server, name: str) -> None:
    assert server.api("POST", "groups", {"name": name})[0] == 400


# Rollouts and rollbacks


def test_rollout_to_a_group_makes_one_target_per_device(server: Server, releases: dict[str, Built]) -> None:
    name = "g-" + secrets.token_hex(4)
    server.api("POST", "groups", {"name": name})
    devices = [known(server) for _ in range(3)]
    server.api("POST", f"groups/{name}/devices", {"devices": [device.id for device in devices]})
    status, rollout = server.api("POST", "rollouts", {"version": "1.1.0", "group": name})
    assert status == 201
    assert rollout["total"] == 3
    rows = server.rows("SELECT device_id, state FROM targets WHERE rollout_id = ?", rollout["id"])
    assert sorted(row["device_id"] for row in rows) == sorted(device.id for device in devices)
    assert {row["state"] for row in rows} == {"pending"}
    for device in devices[:2]:
        device.check_in()
        device.take(releases["1.1.0"], state="confirmed")
        device.check_in()
    shown = server.api("GET", f"rollouts/{rollout['id']}")[1]
    assert (shown["progress"]["confirmed"], shown["progress"]["pending"], shown["status"]) == (
        2,
        1,
        "running",
    )
    ordered, done = audit_of(server, "rollout.update")[-1], audit_of(server, "rollout.planned")[-1]
    assert (ordered["actor"], ordered["subject"]) == ("first-operator", f"group:{name}")
    assert json.loads(ordered["detail"]) == {"rollout": rollout["id"], "version": "1.1.0"}
    assert (done["actor"], done["subject"]) == ("server", str(rollout["id"]))
    assert json.loads(done["detail"]) == {"devices": 3, "left_out": {}, "versions": ["1.1.0"]}


def test_new_rollout_supersedes_the_one_under_way(server: Server) -> None:
    device = known(server)
    first = server.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[1]
    second = server.api("POST", "rollouts", {"version": "1.2.0", "device": device.id})[1]
    assert server.api("GET", f"rollouts/{first['id']}")[1]["status"] == "superseded"
    assert target_of(server, device)["rollout_id"] == second["id"]


def test_rollout_below_the_floor_is_refused_and_leaves_nothing(server: Server) -> None:
    device = known(server, floor=3)
    before = server.rows("SELECT count(*) n FROM rollouts"), server.rows("SELECT count(*) n FROM audit")
    status, answer = server.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
    assert status == 409
    assert "PO1 rollback: security counter 2 is below the device's floor 3" in answer["error"]["message"]
    assert (
        server.rows("SELECT count(*) n FROM rollouts"),
        server.rows("SELECT count(*) n FROM audit"),
    ) == before


def test_group_rollout_leaves_out_those_that_may_not(server: Server) -> None:
    name = "g-" + secrets.token_hex(4)
    server.api("POST", "groups", {"name": name})
    good, high, revoked = known(server), known(server, floor=3), known(server)
    server.api("POST", f"groups/{name}/devices", {"devices": [good.id, high.id, revoked.id]})
    server.api("POST", f"devices/{revoked.id}/revoke")
    rollout = server.api("POST", "rollouts", {"version": "1.1.0", "group": name})[1]
    assert [item["device_id"] for item in devices_of(server, rollout)] == [good.id]
    assert {item["first"]: item["reason"] for item in rollout["left_out"]} == {
        high.id: "PO1 rollback: security counter 2 is below the device's floor 3",
        revoked.id: "the device is revoked",
    }
    assert server.api("GET", f"rollouts/{rollout['id']}")[1]["left_out"] == rollout["left_out"]


def test_rollback_goes_to_the_release_confirmed_before(server: Server, releases: dict[str, Built]) -> None:
    device = known(server, running=releases["1.0.0"])
    update(server, device, releases["1.1.0"])
    status, rollout = server.api("POST", "rollbacks", {"device": device.id})
    assert (status, rollout["kind"], rollout["versions"]) == (201, "rollback", ["1.0.0"])
    assert device.check_in().wanted == releases["1.0.0"].manifest_digest
    device.take(releases["1.0.0"], state="confirmed")
    device.check_in()
    assert target_of(server, device)["state"] == "confirmed"
    status, answer = server.api("POST", "rollbacks", {"device": device.id})
    assert (status, answer["error"]["message"]) == (
        409,
        f"device {device.id}: rollback {rollout['id']} brought it back already: "
        "name the version with --to to go back further",
    )
    update(server, device, releases["1.2.0"])
    assert server.api("POST", "rollbacks", {"device": device.id})[1]["versions"] == ["1.0.0"]


def test_rollback_during_an_update_goes_to_what_is_confirmed(
    server: Server, releases: dict[str, Built]
) -> None:
    device = known(server, running=releases["1.0.0"])
    update(server, device, releases["1.1.0"])
    server.api("POST", "rollouts", {"version": "1.2.0", "device": device.id})
    device.check_in()
    device.take(releases["1.2.0"])
    device.check_in()
    assert server.api("POST", "rollbacks", {"device": device.id})[1]["versions"] == ["1.1.0"]
    assert device.check_in().wanted == releases["1.1.0"].manifest_digest


def test_rollback_of_a_reverted_device_clears_the_failure(server: Server, releases: dict[str, Built]) -> None:
    device = known(server, running=releases["1.1.0"])
    server.api("POST", "rollouts", {"version": "1.2.0", "device": device.id})
    device.check_in()
    device.installed, device.events = releases["1.2.0"].manifest_digest, [("reverted", "AP1 self-test")]
    device.check_in()
    assert server.api("POST", "rollbacks", {"device": device.id})[1]["versions"] == ["1.1.0"]
    device.check_in()
    assert server.api("GET", f"devices/{device.id}")[1]["status"] == "confirmed"


def test_rollback_of_a_group_sends_each_device_where_it_was(
    server: Server, releases: dict[str, Built]
) -> None:
    name = "g-" + secrets.token_hex(4)
    server.api("POST", "groups", {"name": name})
    updated, waiting, idle = known(server, running=releases["1.1.0"]), known(server), known(server)
    server.api("POST", f"groups/{name}/devices", {"devices": [updated.id, waiting.id]})
    server.api("POST", "rollouts", {"version": "1.2.0", "group": name})
    updated.check_in()
    updated.take(releases["1.2.0"], state="confirmed")
    updated.check_in()
    server.api("POST", f"groups/{name}/devices", {"devices": [idle.id]})
    rollout = server.api("POST", "rollbacks", {"group": name})[1]
    assert {item["device_id"]: item["version"] for item in devices_of(server, rollout)} == {
        updated.id: "1.1.0",
        waiting.id: "1.0.0",
    }
    assert rollout["left_out"] == [
        {"reason": "nothing was ever rolled out to the device", "devices": 1, "first": idle.id}
    ]


def test_rollback_to_a_named_version(server: Server, releases: dict[str, Built]) -> None:
    device = known(server, running=releases["1.2.0"])
    assert server.api("POST", "rollbacks", {"device": device.id, "to": "1.0.0"})[1]["versions"] == ["1.0.0"]
    status, answer = server.api("POST", "rollbacks", {"device": device.id, "to": "0.9.0"})
    assert (status, answer["error"]["code"]) == (404, "unknown-release")


def test_rollback_below_the_floor_is_refused(server: Server, releases: dict[str, Built]) -> None:
    device = known(server, running=releases["1.0.0"])
    update(server, device, releases["1.1.0"])
    device.floor = 2
    device.check_in()
    status, answer = server.api("POST", "rollbacks", {"device": device.id})
    assert status == 409
    assert "PO1 rollback: security counter 1 is below the device's floor 2" in answer["error"]["message"]
    assert target_of(server, device)["version"] == "1.1.0"


def test_rollback_of_a_device_that_never_reported_is_refused(server: Server) -> None:
    device = Device(server)
    device.check_in()
    status, answer = server.api("POST", "rollbacks", {"device": device.id})
    assert status == 409
    assert "has not confirmed any image yet" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("rollouts", {"version": "1.1.0"}, 400),
        ("rollouts", {"version": "1.1.0", "device": "a", "group": "b"}, 400),
        ("rollouts", {"device": "0123000000000000aa"}, 400),
        ("rollouts", {"version": "1.1.0", "device": "0123000000000000aa"}, 404),
        ("rollouts", {"version": "1.1.0", "group": "no-such-group"}, 404),
        ("rollouts", {"version": "9.9.9", "device": "0123000000000000aa"}, 404),
        ("rollouts", {"version": 1, "device": "x"}, 400),
        ("rollouts", {"version": "1.1.0", "device": "x", "force": True}, 400),
        ("rollouts", [], 400),
        ("rollbacks", {}, 400),
        ("rollbacks", {"device": "0123000000000000aa"}, 404),
        ("rollouts/999999/pause", None, 404),
        ("devices/0123000000000000aa/revoke", None, 404),
        ("devices/nonsense/admit", None, 400),
        ("groups/none/devices", {"devices": "x"}, 400),
    ],
)
def test_bad_order_is_refused_and_leaves_nothing(server: Server, path: str, body: Any, status: int) -> None:
    before = server.rows("SELECT count(*) n FROM rollouts"), server.rows("SELECT count(*) n FROM audit")
    got, answer = server.api("POST", path, body)
    assert got == status, answer
    assert answer["error"]["message"]
    assert (
        server.rows("SELECT count(*) n FROM rollouts"),
        server.rows("SELECT count(*) n FROM audit"),
    ) == before


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"name": "x"'])
def test_body_that_is_not_json_is_400(server: Server, raw: bytes) -> None:
    assert server.api("POST", "groups", raw=raw)[0] == 400


LISTS = [one.path for one in OPERATIONS if "limit" in one.query]


@pytest.mark.parametrize("limit", ["0", "-1", "1000000", "9" * 30, "x", "", "1.5", "%C2%B2"])
def test_page_of_no_length_is_refused_by_every_list(server: Server, limit: str) -> None:
    assert len(LISTS) >= 12
    for path in LISTS:
        status, answer = server.api("GET", f"{re.sub('{[^}]+}', '1', path)}?limit={limit}")
        assert status == 400, path
        assert re.fullmatch(r"limit has to be a number of 1 to [1-9][0-9]+", answer["error"]["message"]), path


@pytest.mark.parametrize("path", sorted({*LISTS} - {"preview", "components"}))  # of an order, by name
def test_page_is_as_long_as_it_was_asked_for(server: Server, path: str) -> None:
    status, answer = server.api("GET", f"{re.sub('{[^}]+}', '1', path)}?limit=1")
    assert status in (200, 404), answer
    if status == 200:
        (name,) = set(answer) & {"lines", "next", "total"} ^ set(answer)
        assert len(answer[name]) <= 1


def test_devices_come_in_pages(server: Server) -> None:
    for _ in range(3):
        known(server)
    ids, after = [], ""
    while after is not None:
        page = server.api("GET", f"devices?limit=2&after={after}")[1]
        ids += [item["id"] for item in page["devices"]]
        after = page["next"]
    assert ids == [row["id"] for row in server.rows("SELECT id FROM devices ORDER BY id")]


# Audit


def test_audit_names_who_did_what(server: Server) -> None:
    name = "g-" + secrets.token_hex(4)
    server.api("POST", "groups", {"name": name})
    total = server.api("GET", "audit")[1]["total"]
    entry = server.api("GET", f"audit?after={total - 1}")[1]["audit"][-1]
    assert (entry["actor"], entry["action"], entry["subject"]) == ("first-operator", "group.create", name)


def test_audit_is_printed_by_the_server_command(server: Server) -> None:
    total = server.api("GET", "audit")[1]["total"]
    done = fota("server", "audit", "--data", str(server.data), "--json")
    assert len(json.loads(done.stdout)["audit"]) == total
    assert len(fota("server", "audit", "--data", str(server.data)).stdout.splitlines()) == total


@pytest.mark.parametrize("sql", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_audit_can_only_grow(server: Server, sql: str) -> None:
    connection = sqlite3.connect(server.data / "fota.db")
    try:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(sql)
    finally:
        connection.close()


# Admission


def test_unknown_device_waits_for_admission_when_only_known_ones_may(keys: Keys, tmp_path: Any) -> None:
    server = Server(keys, tmp_path / "data", "--admission", "known").init().start()
    try:
        device = Device(server)
        with pytest.raises(Refused) as refused:
            device.check_in()
        assert refused.value.args[:2] == (403, "unknown-device")
        assert server.rows("SELECT * FROM devices") == []
        assert server.api("POST", f"devices/{device.id}/admit")[1]["status"] == "unseen"
        device.check_in()
        assert server.rows("SELECT admitted_by FROM devices")[0]["admitted_by"] == "first-operator"
    finally:
        device.close()
        assert server.stop()[0] == 0


# ROOT


def test_next_root_reaches_devices_and_its_floor_is_kept(
    keys: Keys, releases: dict[str, Built], tmp_path: Any
) -> None:
    server = Server(keys, tmp_path / "data").init().start()
    try:
        for built in releases.values():
            server.publish(built)
        device = known(server)
        server.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
        assert server.api("POST", "roots", raw=keys.root_document(3))[1]["error"]["code"] == "root-version"
        assert (
            server.api("POST", "roots", raw=keys.root_document(2, signers=1))[1]["error"]["code"]
            == "threshold"
        )
        stranger = keys.root_document(2, assign=new_key())
        assert server.api("POST", "roots", raw=stranger)[1]["error"]["code"] == "assign-key"
        assert server.api("POST", "roots", raw=keys.root_document(2, min_sequence=3))[0] == 201
        answer = device.check_in()
        assert device.root.version == 2
        assert answer.wanted is None, "1.1.0 has fallen below the minimum"
        status, refused = server.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
        assert (status, "the minimum of ROOT 2" in refused["error"]["message"]) == (409, True)
        device.close()
        server.stop()
        server.start()
        assert server.api("GET", "roots")[1]["version"] == 2
        assert device.check_in(with_report=False).assignment.root_version == 2
    finally:
        device.close()
        assert server.stop()[0] == 0
