"""What a rollout is called, what may be done with it, which releases there may be; with the state left."""

import secrets
from typing import Any

import pytest
from databases import BOTH, beside
from lifeline import until
from server_world import Built, Device, Keys, Server, build_release

DATABASES = BOTH


def known(server: Server, running: Built | None = None) -> Device:
    device = Device(server)
    device.check_in()
    if running:
        device.take(running, state="confirmed")
    device.check_in()
    return device


def group_of(server: Server, *devices: Device) -> str:
    name = "g-" + secrets.token_hex(4)
    assert server.api("POST", "groups", {"name": name})[0] == 201
    ids = [device.id for device in devices]
    assert server.api("POST", f"groups/{name}/devices", {"devices": ids})[1]["added"] == len(ids)
    return name


def start(server: Server, version: str, **scope: str) -> dict[str, Any]:
    status, answer = server.api("POST", "rollouts", {"version": version, **scope})
    assert status == 201, answer
    return dict(answer)


def confirm(device: Device, built: Built) -> None:
    device.check_in()
    device.take(built, state="confirmed")
    device.check_in()


def word(server: Server, rollout: dict[str, Any]) -> str:
    """What the rollout is called, once it is no longer worked on; that is what the database holds."""
    until(lambda: show(server, rollout)["state"] not in ("planning", "cancelling"))
    shown = show(server, rollout)
    (row,) = server.rows("SELECT state, ended_at FROM rollouts WHERE id = ?", rollout["id"])
    assert (shown["state"], shown["ended_at"]) == (row["state"], row["ended_at"])
    assert (row["ended_at"] is None) == (row["state"] == "running")
    return str(shown["status"])


def show(server: Server, rollout: dict[str, Any]) -> dict[str, Any]:
    return dict(server.api("GET", f"rollouts/{rollout['id']}")[1])


# Its word


def test_rollout_is_done_when_every_device_has_confirmed(server: Server, releases: dict[str, Built]) -> None:
    devices = [known(server), known(server)]
    rollout = start(server, "1.1.0", group=group_of(server, *devices))
    confirm(devices[0], releases["1.1.0"])
    assert word(server, rollout) == "running"
    confirm(devices[1], releases["1.1.0"])
    assert word(server, rollout) == "done"
    ends = server.rows("SELECT * FROM audit WHERE action = 'rollout.end' AND subject = ?", str(rollout["id"]))
    assert [(row["actor"], row["detail"]) for row in ends] == [("server", '{"verdict": "done"}')]


@pytest.mark.parametrize("confirmed", [0, 1])
def test_rollout_whose_devices_another_one_took_is_not_done(
    server: Server, releases: dict[str, Built], confirmed: int
) -> None:
    devices = [known(server), known(server)]
    group = group_of(server, *devices)
    rollout = start(server, "1.1.0", group=group)
    for device in devices[:confirmed]:
        confirm(device, releases["1.1.0"])
    second = start(server, "1.2.0", group=group)
    assert word(server, rollout) == "superseded"
    assert word(server, second) == "running"
    lost = server.api("GET", f"rollouts/{rollout['id']}/devices?state=superseded")[1]["devices"]
    assert {item["reason"] for item in lost} == {f"rollout {second['id']} took it over"}


def test_device_that_leaves_the_release_after_all_takes_done_back(
    server: Server, releases: dict[str, Built]
) -> None:
    device = known(server, releases["1.0.0"])
    rollout = start(server, "1.1.0", device=device.id)
    confirm(device, releases["1.1.0"])
    assert word(server, rollout) == "done"
    device.take(releases["1.0.0"], state="confirmed")
    device.check_in()
    assert word(server, rollout) == "failed"


@pytest.mark.parametrize("how", ["revoke", "retire"])
def test_device_that_is_shut_out_keeps_no_rollout_waiting(
    server: Server, releases: dict[str, Built], how: str
) -> None:
    good, lost = known(server), known(server)
    rollout = start(server, "1.1.0", group=group_of(server, good, lost))
    confirm(good, releases["1.1.0"])
    assert server.api("POST", f"devices/{lost.id}/{how}", {})[0] == 200
    assert word(server, rollout) == "failed"
    assert (
        show(server, rollout)["progress"] | {"confirmed": 1, "gone": 1} == show(server, rollout)["progress"]
    )


@pytest.mark.parametrize("before", ["pending", "offered"])
def test_release_that_root_revokes_ends_its_rollout_and_the_hurry_of_its_devices(
    own: Server, keys: Keys, releases: dict[str, Built], before: str
) -> None:
    seen, silent = known(own), known(own)
    group = group_of(own, seen, silent)
    rollout = start(own, "1.1.0", group=group)
    if before == "offered":
        assert seen.check_in().wanted == releases["1.1.0"].manifest_digest
    revoking = keys.root_document(2, revoked=(releases["1.1.0"].manifest_digest,))
    assert own.api("POST", "roots", raw=revoking)[0] == 201
    until(lambda: show(own, rollout)["ended_at"] is not None)
    assert word(own, rollout) == "withdrawn"
    told = own.api("GET", f"rollouts/{rollout['id']}/devices")[1]["devices"]
    assert {(item["state"], item["reason"]) for item in told} == {
        ("withdrawn", "ROOT 2 revokes this manifest")
    }
    answer = seen.check_in()
    assert (answer.wanted, answer.response.interval >= 240) == (None, True)
    status, refused = own.api("POST", "rollouts", {"version": "1.1.0", "group": group})
    assert (status, "ROOT 2 revokes this manifest (and 1 more)" in refused["error"]["message"]) == (409, True)


def test_root_that_revokes_while_the_server_is_down_is_heeded_at_its_start(
    own: Server, keys: Keys, releases: dict[str, Built]
) -> None:
    rollout = start(own, "1.1.0", device=known(own).id)
    own.stop()
    raw = keys.root_document(2, revoked=(releases["1.1.0"].manifest_digest,))
    with beside(own.data / "fota.db") as connection:
        connection.execute("INSERT INTO roots VALUES (2, ?, 0)", (raw,))
    own.start()
    until(lambda: show(own, rollout)["ended_at"] is not None)
    assert word(own, rollout) == "withdrawn"


# What may be done with it


def test_cancelled_rollout_is_offered_no_more_and_keeps_what_was_confirmed(
    server: Server, releases: dict[str, Built]
) -> None:
    done, offered, waiting = known(server), known(server), known(server)
    rollout = start(server, "1.1.0", group=group_of(server, done, offered, waiting))
    confirm(done, releases["1.1.0"])
    offered.check_in()
    assert server.api("POST", f"rollouts/{rollout['id']}/cancel")[1]["status"] == "cancelled"
    assert word(server, rollout) == "cancelled"
    progress = {state: n for state, n in show(server, rollout)["progress"].items() if n}
    assert progress == {"confirmed": 1, "cancelled": 2}
    for device in (offered, waiting):
        answer = device.check_in()
        assert (answer.wanted, answer.response.interval >= 240) == (None, True)
    payload = f"/v1/payload/{releases['1.1.0'].digest}"
    assert offered.request("GET", payload)[0] == 403
    assert server.rows(
        "SELECT 1 FROM audit WHERE action = 'rollout.cancel' AND subject = ?", str(rollout["id"])
    )


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_rollout_that_has_ended_is_not_changed_any_more(
    server: Server, releases: dict[str, Built], verb: str
) -> None:
    device = known(server)
    rollout = start(server, "1.1.0", device=device.id)
    confirm(device, releases["1.1.0"])
    before = server.rows("SELECT * FROM rollouts WHERE id = ?", rollout["id"])
    status, answer = server.api("POST", f"rollouts/{rollout['id']}/{verb}")
    assert (status, answer["error"]["code"]) == (409, "rollout-ended")
    assert answer["error"]["message"] == f"rollout {rollout['id']} is done: there is nothing to {verb}"
    assert server.rows("SELECT * FROM rollouts WHERE id = ?", rollout["id"]) == before


def test_device_list_of_a_group_that_is_not_there_is_404(server: Server) -> None:
    status, answer = server.api("GET", "devices?group=typo")
    assert (status, answer["error"]["code"]) == (404, "unknown-group")


@pytest.mark.parametrize("how", ["revoke", "retire"])
def test_key_of_a_device_that_is_shut_out_cannot_be_ordered(server: Server, how: str) -> None:
    device = known(server)
    group = group_of(server, device)
    server.api("POST", f"devices/{device.id}/{how}", {})
    for path in (f"devices/{device.id}/key", f"groups/{group}/key"):
        assert server.api("POST", path, {"kind": "rotate"})[0] == 409
    assert server.rows("SELECT * FROM device_keys WHERE device_id = ?", device.id) == []


# Groups, and back


def test_device_is_taken_out_of_a_group_and_the_group_deleted(server: Server) -> None:
    stays, leaves = known(server), known(server)
    group = group_of(server, stays, leaves)
    rollout = start(server, "1.1.0", group=group)
    assert server.api("POST", f"groups/{group}/remove", {"devices": [leaves.id]})[1]["removed"] == 1
    status, answer = server.api("POST", f"groups/{group}/remove", {"devices": [stays.id, leaves.id]})
    assert (status, answer["error"]["message"]) == (404, f"device {leaves.id} is not in group {group}")
    assert server.rows("SELECT device_id FROM members WHERE group_name = ?", group) == [
        {"device_id": stays.id}
    ]
    assert show(server, rollout)["total"] == 2, "what is wanted of it stays"
    assert server.api("DELETE", f"groups/{group}") == (200, {"name": group, "devices": 1})
    assert server.rows("SELECT * FROM groups WHERE name = ?", group) == []
    assert server.api("DELETE", f"groups/{group}")[0] == 404
    actions = server.rows("SELECT action FROM audit WHERE subject = ? ORDER BY id", group)
    assert [row["action"] for row in actions] == ["group.create", "group.add", "group.remove", "group.delete"]


# Releases


class Line:
    """Releases of a device class of the test's own; ``version(n)`` is above ``version(n - 1)``."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self.server, self.keys = server, keys
        self.class_id = secrets.token_bytes(16)
        self.minor = f"77.{secrets.randbelow(256)}.{secrets.randbelow(6000)}"

    def version(self, number: int) -> str:
        return f"{self.minor}{number}"

    def build(self, number: int, sequence: int, **kwargs: Any) -> Built:
        return build_release(self.keys, self.version(number), 1, sequence, class_id=self.class_id, **kwargs)

    def publish(self, number: int, sequence: int) -> Built:
        built = self.build(number, sequence)
        status, answer = self.server.publish(built)
        assert status == 201, answer
        return built

    def signed_anew(self, built: Built, sequence: int, **kwargs: Any) -> Built:
        envelope = self.keys.envelope(built.file, sequence, class_id=self.class_id, **kwargs)
        return Built(built.version, built.file, envelope)

    def refused(self, built: Built) -> dict[str, str]:
        before = self.rows()
        status, answer = self.server.publish(built)
        assert (status, self.rows()) == (409, before), answer
        return dict(answer["error"])

    def rows(self) -> list[dict[str, Any]]:
        return self.server.rows("SELECT * FROM releases WHERE class_id = ?", self.class_id.hex())

    def on_disk(self, built: Built) -> bool:
        return (self.server.data / "artifacts" / built.digest[:2] / built.digest).exists()


@pytest.fixture
def line(server: Server, keys: Keys) -> Line:
    return Line(server, keys)


def test_withdrawn_release_is_offered_no_more_and_can_be_restored(server: Server, line: Line) -> None:
    built = line.publish(1, 1)
    runs, waits = known(server, built), known(server, built)
    newer = line.publish(2, 2)
    rollout = start(server, newer.version, group=group_of(server, runs, waits))
    confirm(runs, newer)
    withdrawn = server.api("POST", f"releases/{newer.version}/withdraw")[1]
    assert withdrawn["barred"] == f"release {newer.version} was withdrawn"
    until(lambda: show(server, rollout)["ended_at"] is not None)
    assert word(server, rollout) == "withdrawn"
    assert (waits.check_in().wanted, runs.check_in().wanted) == (None, None)
    assert server.api("GET", f"devices/{runs.id}")[1]["status"] == "confirmed", "what runs it stays"
    assert server.api("POST", f"releases/{newer.version}/withdraw")[0] == 409
    body = {"version": newer.version, "device": waits.id}
    assert server.api("POST", "rollouts", body)[0] == 409
    assert server.api("POST", f"releases/{newer.version}/restore")[1]["barred"] is None
    assert word(server, rollout) == "withdrawn", "that is over"
    start(server, newer.version, device=waits.id)
    assert waits.check_in().wanted == newer.manifest_digest
    actions = server.rows("SELECT action FROM audit WHERE subject = ? ORDER BY id", newer.version)
    assert [row["action"] for row in actions] == ["release.publish", "release.withdraw", "release.restore"]
    assert server.api("GET", f"releases/{built.version}")[1]["barred"] is None


@pytest.mark.parametrize(
    ("number", "sequence", "code", "said"),
    [
        (3, 5, "sequence", "sequence 5 is not above 5, the newest of its class: the next free one is 6"),
        (3, 4, "sequence", "sequence 4 is not above 5, the newest of its class: the next free one is 6"),
        (2, 6, "version-taken", "with another image and sequence 5: take a new version and sequence 6"),
    ],
)
def test_sequence_and_version_are_taken_once_in_a_class(
    line: Line, number: int, sequence: int, code: str, said: str
) -> None:
    line.publish(2, 5)
    error = line.refused(line.build(number, sequence, salt="x"))
    assert (error["code"], said in error["message"]) == (code, True), error


def test_same_image_under_another_manifest_takes_no_second_place(server: Server, line: Line) -> None:
    first = line.publish(1, 3)
    again = line.signed_anew(first, 4)
    error = line.refused(again)
    assert error["code"] == "version-taken"
    assert "with this image and sequence 3" in error["message"]
    assert f"fota release withdraw {first.version}" in error["message"]
    assert server.api("POST", f"releases/{first.version}/withdraw")[0] == 200
    assert server.publish(again)[0] == 201, "no device has it: it makes room"
    assert server.api("GET", f"releases/{first.version}")[1]["sequence"] == 4
    status, answer = server.api("POST", f"releases/{first.manifest_digest.hex()}/restore")
    assert (status, answer["error"]["code"]) == (409, "version-taken")


def test_release_that_a_device_runs_makes_no_room(server: Server, line: Line) -> None:
    first = line.publish(1, 3)
    known(server, first)
    assert server.api("POST", f"releases/{first.version}/withdraw")[0] == 200
    error = line.refused(line.build(1, 4, salt="x"))
    assert (error["code"], "withdraw" in error["message"]) == ("version-taken", False)


def test_upload_of_a_refused_release_is_not_kept(line: Line, keys: Keys) -> None:
    first = line.publish(1, 3)
    low = line.build(2, 2)
    line.refused(low)
    short = line.signed_anew(line.build(3, 9), 9, signers=keys.release[:1])
    line.refused(short)
    assert (line.on_disk(low), line.on_disk(short)) == (False, False)
    line.refused(line.signed_anew(first, 9))
    assert line.on_disk(first), "a release has it"


def test_other_class_has_sequences_and_versions_of_its_own(own: Server, keys: Keys) -> None:
    other = build_release(keys, "1.2.0", 1, 1, class_id=bytes(16))
    assert own.publish(other)[0] == 201
    device = known(own)
    device.take(other, state="confirmed")
    device.check_in()
    status, answer = own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
    assert (status, "the device runs firmware of another class" in answer["error"]["message"]) == (409, True)
    assert device.check_in().wanted is None
    status, answer = own.api("GET", "releases/1.2.0")
    assert (status, answer["error"]["code"]) == (400, "ambiguous-release")
    assert other.manifest_digest.hex()[:16] in answer["error"]["message"]


def test_release_below_a_new_minimum_can_be_published_anew(
    own: Server, keys: Keys, releases: dict[str, Built]
) -> None:
    assert own.api("POST", "roots?force=1", raw=keys.root_document(2, min_sequence=10))[0] == 201
    file = releases["1.2.0"].file
    assert own.publish(Built("1.2.0", file, keys.envelope(file, 10)))[0] == 201


# Killed in the middle


def test_killed_server_goes_on_with_the_rollout_that_it_gave_a_number(own: Server) -> None:
    size = 3000
    own.stop()
    with beside(own.data / "fota.db") as connection:
        ids = [f"0123{number:014x}" for number in range(size)]
        rows = [(one, "x", False) for one in ids]
        connection.executemany("INSERT INTO devices (id, admitted_by, revoked) VALUES (?, ?, ?)", rows)
        connection.execute("INSERT INTO groups (name, created_at) VALUES ('all', 0)")
        connection.executemany("INSERT INTO members VALUES ('all', ?)", [(one,) for one in ids])
    own.start()
    status, rollout = own.api("POST", "rollouts", {"version": "1.1.0", "group": "all"})
    assert (status, rollout["status"]) == (202, "planning")
    own.stop(9)
    own.start()
    assert word(own, rollout) == "running"
    assert show(own, rollout)["progress"]["pending"] == size
    counts = "SELECT count(*) n, count(DISTINCT device_id) m FROM targets WHERE rollout_id = ?"
    assert own.rows(counts, rollout["id"]) == [{"n": size, "m": size}]
    device = Device(own, ids[-1])
    device.check_in()
    assert device.check_in().wanted is not None
    device.close()
    page = own.api("GET", f"rollouts/{rollout['id']}/devices?limit=2&after={ids[5]}")[1]
    assert ([item["device_id"] for item in page["devices"]], page["next"]) == (ids[6:8], ids[7])
