"""hawkBit's device API, as its clients need it: SWUpdate, rauc-hawkbit-updater, Zephyr."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import databases
import pytest
from ddi_world import Ddi
from lifeline import until
from server_world import (
    Built,
    Device,
    Keys,
    Server,
    build_release,
    cert_pem,
    fota,
    key_pem,
    make_cert,
    new_key,
)

DATABASES = databases.BOTH
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def ddi_server(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory, database_kind: str
) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("ddi") / "data"
    running = Server(keys, data).init("--ddi-tenant", "DEFAULT").start()
    for built in releases.values():
        assert running.publish(built)[0] == 201
    yield running
    code, stderr = running.stop()
    assert code == 0, stderr
    assert "Traceback" not in stderr, stderr


@pytest.fixture
def one(ddi_server: Server) -> Ddi:
    return Ddi(ddi_server, f"press-{next(NUMBERS)}")


def target_of(one: Ddi) -> dict[str, Any]:
    query = "SELECT t.* FROM devices d JOIN targets t ON t.id = d.target_id WHERE d.id = ?"
    return one.server.rows(query, one.id)[0]


# Who gets in


def test_server_that_is_not_told_to_serve_it_has_nothing_there(server: Server) -> None:
    one = Ddi(server, "press-nowhere")
    status, _, _ = one.raw("GET", one.root())
    assert status == 404


def test_token_is_shown_once_and_only_its_hash_is_kept(one: Ddi) -> None:
    assert one.token
    assert re.fullmatch("[0-9a-f]{64}", one.token)
    (row,) = one.server.rows("SELECT * FROM ddi_devices WHERE device_id = ?", one.id)
    assert row["token_hash"] == hashlib.sha256(one.token.encode()).hexdigest()
    assert one.token not in json.dumps(one.twin())
    assert one.token not in json.dumps(one.server.api("GET", "audit")[1])


@pytest.mark.parametrize("tenant", ["DEFAULT", "default"])
def test_tenant_is_known_in_any_case(one: Ddi, tenant: str) -> None:
    one.tenant = tenant
    assert one.get()[0] == 200


def test_other_tenant_is_not_here(one: Ddi) -> None:
    one.tenant = "acme"
    assert one.get()[0] == 404


@pytest.mark.parametrize("flaw", ["unknown", "wrong", "empty", "gateway", "bearer", "none", "of-another"])
def test_who_does_not_show_who_it_is_gets_401_and_leaves_a_trace(one: Ddi, flaw: str) -> None:
    name, before = one.name, one.twin()["last_seen"]
    if flaw == "unknown":
        name = f"nobody-{next(NUMBERS)}"
    token = {"wrong": "0" * 64, "empty": "", "none": None}.get(flaw, one.token)
    if flaw == "of-another":
        token = Ddi(one.server, f"other-{next(NUMBERS)}").token
    liar = Ddi(one.server, name, token=token)
    liar.scheme = {"gateway": "GatewayToken", "bearer": "Bearer"}.get(flaw, "TargetToken")
    status, answer = liar.get()
    assert (status, answer["errorCode"]) == (401, "fota.ddi-token")
    assert one.twin()["last_seen"] == before
    refused = one.server.api("GET", "refusals")[1]["refusals"]
    assert [row["proved"] for row in refused if row["who"] == name and row["code"] == "ddi-token"] == [False]


def test_token_of_a_gateway_speaks_for_those_enrolled_by_one_alone(ddi_server: Server, one: Ddi) -> None:
    behind = Ddi(ddi_server, f"behind-{next(NUMBERS)}", by="gateway")
    assert behind.token is None
    behind.scheme = "GatewayToken"
    first, second = (ddi_server.api("POST", "ddi/gateway", {})[1]["token"] for _ in range(2))
    for token, wanted in ((first, 401), (second, 200)):
        behind.token = token
        assert behind.get()[0] == wanted
    assert Ddi(ddi_server, one.name, token=second, scheme="GatewayToken").get()[0] == 401
    assert ddi_server.api("POST", "ddi/gateway", {"revoke": True}) == (200, {"token": None})
    assert behind.get()[0] == 401


@pytest.mark.parametrize("flaw", ["", "other-name", "own-token-too"])
def test_certificate_speaks_for_the_name_in_it(ddi_server: Server, flaw: str) -> None:
    keys, key, name = ddi_server.keys, new_key(), f"cell-{next(NUMBERS)}"
    common = "somebody" if flaw == "other-name" else name
    pem = keys.folder / f"{name}.pem"
    pem.write_bytes(cert_pem(make_cert(common, key, (keys.device_ca, keys.device_ca_key))) + key_pem(key))
    one = Ddi(ddi_server, name, by="certificate", pem=pem)
    one.token = "0" * 64 if flaw == "own-token-too" else None
    assert one.get()[0] == (401 if flaw else 200)


def test_new_token_ends_the_old_one(one: Ddi) -> None:
    old = one.token
    status, answer = one.server.api("POST", f"ddi/{one.id}/token")
    assert status == 200
    assert one.get()[0] == 401
    one.token = answer["token"]
    assert one.token != old
    assert one.get()[0] == 200


def test_revoked_device_is_shut_out_and_let_in_again(one: Ddi) -> None:
    one.server.api("POST", f"devices/{one.id}/revoke")
    assert one.get()[0] == 403
    one.server.api("POST", f"devices/{one.id}/admit")
    assert one.get()[0] == 200


@pytest.mark.parametrize("name", ["", "..", "a b", "a/b", "a" * 129, "ä"])
def test_name_that_no_client_could_send_is_not_enrolled(ddi_server: Server, name: str) -> None:
    before = ddi_server.rows("SELECT * FROM ddi_devices")
    assert ddi_server.api("POST", "ddi", {"controller": name})[0] == 400
    assert ddi_server.rows("SELECT * FROM ddi_devices") == before


def test_name_is_enrolled_once(one: Ddi) -> None:
    status, answer = one.server.api("POST", "ddi", {"controller": one.name})
    assert (status, answer["error"]["code"]) == (400, "enrolled")
    assert one.get()[0] == 200


# What clients read: the tables of what each needs


def test_poll_has_what_all_clients_need(one: Ddi) -> None:
    status, headers, raw = one.raw("GET", one.root())
    assert status == 200
    assert headers["content-type"].startswith("application/json")
    assert int(headers["content-length"]) == len(raw)  # Zephyr: not chunked
    answer = json.loads(raw)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", answer["config"]["polling"]["sleep"])
    assert set(answer["_links"]) == {"configData"}


def test_poll_comes_soon_while_there_is_a_step_to_do_and_as_configured_else(one: Ddi) -> None:
    def sleep_s() -> int:
        hours, minutes, seconds = map(int, one.poll()["config"]["polling"]["sleep"].split(":"))
        return hours * 3600 + minutes * 60 + seconds

    assert sleep_s() <= 12
    one.configure({"hw": "A"})
    assert 240 <= sleep_s() <= 360


def test_deployment_has_what_all_clients_need(one: Ddi, releases: dict[str, Built]) -> None:
    one.roll_out("1.1.0")
    href = one.links()["deploymentBase"]
    assert re.fullmatch(
        rf"https://localhost:\d+/DEFAULT/controller/v1/{one.name}/deploymentBase/\d+\?c=\d+", href
    )
    assert len(href) <= 300  # Zephyr
    answer, file = one.follow(href), releases["1.1.0"].file
    assert isinstance(answer["id"], str)
    assert 0 < int(answer["id"]) < 1 << 31
    assert answer["deployment"]["download"] == answer["deployment"]["update"] == "forced"
    (chunk,) = answer["deployment"]["chunks"]  # rauc and Zephyr: exactly one
    assert (chunk["part"], chunk["version"]) == ("bApp", "1.1.0")  # Zephyr
    assert chunk["name"]
    (artifact,) = chunk["artifacts"]
    assert artifact["size"] == len(file)
    assert artifact["filename"] == "1.1.0.bin"
    assert artifact["hashes"] == {
        "sha1": hashlib.sha1(file, usedforsecurity=False).hexdigest(),
        "md5": hashlib.md5(file, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(file).hexdigest(),
    }
    assert set(artifact["_links"]) == {"download", "download-http", "md5sum", "md5sum-http"}
    listed = one.get(f"/softwaremodules/{artifact['_links']['download']['href'].split('/')[-3]}/artifacts")
    assert listed == (200, [artifact])


def file_path(one: Ddi) -> str:
    (chunk,) = one.follow(one.links()["deploymentBase"])["deployment"]["chunks"]
    href = str(chunk["artifacts"][0]["_links"]["download-http"]["href"])
    return href[href.index("/DEFAULT") :]


def test_file_comes_whole_in_ranges_and_by_head_without_a_write(one: Ddi, releases: dict[str, Built]) -> None:
    one.roll_out("1.1.0")
    path, file = file_path(one), releases["1.1.0"].file

    def written() -> list[object]:  # refusals of others may still be on their way
        tables = ("events", "audit", f"refusals WHERE who = '{one.name}'")
        return [one.server.rows(f"SELECT count(*) AS n FROM {table}") for table in tables]

    before = written()
    status, headers, body = one.raw("GET", path)
    assert (status, body) == (200, file)
    etag = headers["etag"]
    status, headers, body = one.raw("HEAD", path)
    assert (status, int(headers["content-length"]), body) == (200, len(file), b"")
    for begin in range(0, len(file), 30_000):
        end = min(begin + 30_000, len(file))
        status, headers, body = one.raw("GET", path, headers={"range": f"bytes={begin}-{end - 1}"})
        assert (status, body) == (206, file[begin:end])
        assert headers["content-range"] == f"bytes {begin}-{end - 1}/{len(file)}"
    assert one.raw("GET", path, headers={"range": f"bytes={len(file)}-"})[0] == 416
    assert one.raw("GET", path, headers={"if-match": etag, "range": "bytes=1-2"})[0] == 206
    assert one.raw("GET", path, headers={"if-match": '"other"'})[0] == 412
    md5 = hashlib.md5(file, usedforsecurity=False).hexdigest()
    assert one.raw("GET", path + ".MD5SUM")[2] == f"{md5}  1.1.0.bin\n".encode()
    assert written() == before


def test_file_is_for_whom_it_is_given_to_and_while_it_is(one: Ddi, ddi_server: Server) -> None:
    rollout = one.roll_out("1.1.0")
    path = file_path(one)
    other = Ddi(ddi_server, f"other-{next(NUMBERS)}")
    assert other.raw("GET", path.replace(one.name, other.name))[0] == 404
    assert one.raw("GET", path + "x")[0] == 404
    ddi_server.api("POST", f"rollouts/{rollout}/pause")
    assert one.raw("GET", path)[0] == 404
    ddi_server.api("POST", f"rollouts/{rollout}/resume")
    assert one.raw("GET", path)[0] == 200
    ddi_server.api("POST", f"rollouts/{rollout}/cancel")
    assert one.raw("GET", path)[0] == 404


# What devices say


def test_action_is_done_when_the_device_closes_it_and_not_before(one: Ddi) -> None:
    rollout = one.roll_out("1.1.0")
    action = one.action()
    for execution in ("proceeding", "download", "downloaded", "scheduled", "resumed", "rejected", "canceled"):
        assert one.tell(action, execution, "none", f"at {execution}") == 200
        assert target_of(one)["state"] == "offered"
        assert "deploymentBase" in one.links(), "SWUpdate confirms by the link that it finds after its reboot"
    assert one.tell(action) == 200
    assert target_of(one)["state"] == "said"
    links = one.links()
    assert "deploymentBase" not in links
    assert one.follow(links["installedBase"])["id"] == str(action)
    assert [event["detail"] for event in one.twin()["events"]][:2] == ["at proceeding", "at download"]
    shown = one.server.api("GET", f"rollouts/{rollout}")[1]
    assert (shown["status"], shown["progress"]["confirmed"], shown["progress"]["said"]) == ("said", 0, 1)


def test_what_it_says_is_said_and_not_proved(one: Ddi) -> None:
    one.roll_out("1.1.0")
    one.tell(one.action(), "closed", "none")
    twin = one.twin()
    assert twin["ddi"]["said"]["version"] == "1.1.0"
    assert twin["running"] is twin["confirmed"] is twin["installed"] is twin["report_at"] is None
    assert twin["history"] == []
    assert twin["status"] == twin["wanted"]["state"] == "said"


def test_device_that_failed_is_not_offered_it_again(one: Ddi) -> None:
    rollout = one.roll_out("1.1.0")
    action = one.action()
    assert one.tell(action, "closed", "failure", "flash is worn", "gave up") == 200
    assert (target_of(one)["state"], target_of(one)["reason"]) == ("failed", "gave up")
    assert set(one.links()) == {"configData"}
    assert one.server.api("GET", f"rollouts/{rollout}")[1]["status"] == "failed"
    assert one.twin()["ddi"]["said"] is None


def test_word_that_closed_an_action_may_be_said_again_and_no_other(one: Ddi) -> None:
    one.roll_out("1.1.0")
    action = one.action()
    assert one.tell(action) == 200
    before = target_of(one), one.twin()["events"]
    assert one.tell(action) == 200
    assert one.tell(action, "proceeding", "none") == 410
    assert one.tell(action, "closed", "failure") == 410
    assert (target_of(one), one.twin()["events"]) == before


def test_cancelled_action_is_stopped_before_there_is_another(one: Ddi) -> None:
    rollout = one.roll_out("1.1.0")
    action = one.action()
    one.server.api("POST", f"rollouts/{rollout}/cancel")
    one.roll_out("1.2.0")
    links = one.links()
    assert "deploymentBase" not in links
    assert one.follow(links["cancelAction"]) == {"id": str(action), "cancelAction": {"stopId": str(action)}}
    assert one.get(f"/deploymentBase/{action}")[0] == 404
    assert one.tell(action, "rejected", "none", kind="cancelAction") == 200
    assert "cancelAction" in one.links(), "it goes on with it, and is asked again"
    assert one.tell(action, "closed", "success", kind="cancelAction") == 200
    assert one.tell(action, "closed", "success", kind="cancelAction") == 200, "its first answer may be lost"
    assert target_of(one)["state"] == "pending"
    assert one.action() != action


def test_device_that_was_done_before_it_heard_of_the_cancel_may_still_say_so(one: Ddi) -> None:
    rollout = one.roll_out("1.1.0")
    action = one.action()
    one.server.api("POST", f"rollouts/{rollout}/cancel")
    assert one.tell(action) == 200
    assert target_of(one)["state"] == "cancelled", "the operator's word stands"
    assert one.twin()["ddi"]["said"]["version"] == "1.1.0", "and so does what the device says of itself"
    assert "cancelAction" not in one.links()


def test_cancel_is_acknowledged_by_a_client_that_loses_the_first_digit(one: Ddi) -> None:
    rollout = one.roll_out("1.1.0")
    action = one.action()
    one.server.api("POST", f"rollouts/{rollout}/cancel")
    assert one.tell(str(action)[1:], kind="cancelAction") == 200
    assert "cancelAction" not in one.links()


def test_paused_rollout_has_its_devices_wait_and_hear_it_by_another_number(one: Ddi) -> None:
    rollout = one.roll_out("1.1.0")
    first = one.links()["deploymentBase"]
    one.server.api("POST", f"rollouts/{rollout}/pause")
    waiting = one.links()["deploymentBase"]
    assert waiting != first
    deployment = one.follow(waiting)["deployment"]
    assert (deployment["download"], deployment["update"]) == ("skip", "skip")
    one.server.api("POST", f"rollouts/{rollout}/resume")
    assert one.links()["deploymentBase"] == first


def test_attributes_are_merged_replaced_removed_and_asked_for_after_an_update(one: Ddi) -> None:
    assert one.configure({"hw": "A", "serial": 17}) == 200
    assert "configData" not in one.links()
    assert one.configure({"hw": "B"}, "merge") == 200
    assert one.twin()["ddi"]["attributes"] == {"hw": "B", "serial": "17"}
    assert one.configure({"hw": ""}, "remove") == 200
    assert one.twin()["ddi"]["attributes"] == {"serial": "17"}
    assert one.configure({"fw": "1.0"}, "replace") == 200
    assert one.twin()["ddi"]["attributes"] == {"fw": "1.0"}
    one.roll_out("1.1.0")
    one.tell(one.action())
    assert "configData" in one.links()


def test_group_goes_by_what_a_device_tells_of_itself(one: Ddi) -> None:
    group = f"line-{next(NUMBERS)}"
    body = {"name": group, "filter": f'line = "{group}"'}
    status, answer = one.server.api("POST", "groups", body)
    assert status == 202, answer
    one.configure({"Line": group, "no name here": "x", "id": "mine"})
    until(lambda: one.twin()["groups"] == [group], "it is in the group", one.server.process)
    assert one.twin()["attributes"] == {"line": {"value": group, "by": "device"}}
    one.configure({"Line": ""}, "remove")
    assert one.twin()["groups"] == []


# Rollouts and devices of both kinds


def policy(**more: object) -> dict[str, object]:
    return {"waves": ["rest"], "confirmed": "100%", "errors": "0%", **more}


def test_rollout_in_waves_takes_in_who_proves_nothing_only_if_its_policy_says_so(ddi_server: Server) -> None:
    said = Ddi(ddi_server, f"press-{next(NUMBERS)}")
    proves = Device(ddi_server)
    proves.check_in()
    group = f"mixed-{next(NUMBERS)}"
    ddi_server.api("POST", "groups", {"name": group})
    ddi_server.api("POST", f"groups/{group}/devices", {"devices": [said.id, proves.id]})
    order = {"version": "1.1.0", "group": group, "policy": policy()}
    plan = ddi_server.api("POST", "rollouts", order | {"dry_run": True})[1]
    (left,) = plan["left_out"]
    assert (left["first"], left["devices"]) == (said.id, 1)
    assert '"said": true' in left["reason"]
    taken = ddi_server.api("POST", "rollouts", order | {"policy": policy(said=True), "dry_run": True})[1]
    assert (taken["left_out"], taken["total"]) == ([], 2)


def test_wave_passes_by_what_is_said_where_the_policy_counts_it(one: Ddi) -> None:
    order = {"version": "1.1.0", "device": one.id, "policy": policy(said=True)}
    status, answer = one.server.api("POST", "rollouts", order)
    assert status == 201, answer
    until_poll(one, "deploymentBase")
    one.tell(one.action())
    shown = until_phase(one.server, answer["id"], "passed")
    (wave,) = shown["waves"]
    assert (wave["confirmed"], wave["said"], shown["status"]) == (0, 1, "said")


def test_device_goes_back_to_what_it_said_before(one: Ddi) -> None:
    for version in ("1.0.0", "1.1.0"):
        one.roll_out(version)
        one.tell(one.action())
    status, answer = one.server.api("POST", "rollbacks", {"device": one.id})
    assert (status, answer["versions"]) == (201, ["1.0.0"]), answer
    one.tell(one.action())
    assert one.twin()["ddi"]["said"]["version"] == "1.0.0"
    assert one.server.api("POST", "rollbacks", {"device": one.id})[0] == 409, "it never leads forward again"


def test_device_on_a_bad_release_goes_back_to_what_it_said_last(one: Ddi) -> None:
    one.roll_out("1.0.0")
    one.tell(one.action())
    one.roll_out("1.1.0")
    one.tell(one.action(), "closed", "failure")
    answer = one.server.api("POST", "rollbacks", {"device": one.id})[1]
    assert answer["versions"] == ["1.0.0"], answer


def test_rollout_takes_back_what_it_gave_to_who_only_says_so(one: Ddi) -> None:
    one.roll_out("1.0.0")
    one.tell(one.action())
    rollout = one.roll_out("1.1.0")
    one.tell(one.action())
    status, answer = one.server.api("POST", f"rollouts/{rollout}/rollback")
    assert status in (201, 202), answer
    until_poll(one, "deploymentBase")
    assert one.twin()["wanted"]["version"] == "1.0.0"


def test_device_on_a_release_is_offered_none_of_another_class(one: Ddi) -> None:
    other = build_release(one.server.keys, "7.0.0", 3, 1, class_id=bytes(16))
    assert one.server.publish(other)[0] in (200, 201)
    one.roll_out("1.1.0")
    one.tell(one.action())
    status, answer = one.server.api("POST", "rollouts", {"version": "7.0.0", "device": one.id})
    assert status == 409, answer
    assert "another class" in answer["error"]["message"]


def test_attached_file_is_what_devices_get_and_stays_once_one_was_given_it(one: Ddi, keys: Keys) -> None:
    number = next(NUMBERS)
    built = build_release(keys, f"2.0.{number}", 3, 100 + number)
    assert one.server.publish(built)[0] == 201
    swu = b"swupdate's own form " * 1000
    digest = hashlib.sha256(swu).hexdigest()
    body = {"digest": digest, "name": "press.swu"}
    status, answer = one.server.api("POST", f"releases/{built.version}/ddi", body)
    assert (status, answer["error"]["code"]) == (404, "artifact-missing")
    one.server.api("PUT", f"artifacts/{digest}", raw=swu)
    assert one.server.api("POST", f"releases/{built.version}/ddi", body)[0] == 200
    one.roll_out(built.version)
    path = file_path(one)
    assert path.endswith("/press.swu")
    assert one.raw("GET", path)[2] == swu
    status, answer = one.server.api("POST", f"releases/{built.version}/ddi", body | {"name": "other.swu"})
    assert (status, answer["error"]["code"]) == (409, "given")
    assert file_path(one) == path


@pytest.mark.sqlite
def test_attached_file_is_kept_in_backups_and_missed_when_it_is_gone(
    ddi_server: Server, keys: Keys, tmp_path: Path
) -> None:
    number = next(NUMBERS)
    built = build_release(keys, f"3.0.{number}", 3, 200 + number)
    assert ddi_server.publish(built)[0] == 201
    file = b"a file of another form"
    digest = hashlib.sha256(file).hexdigest()
    ddi_server.api("PUT", f"artifacts/{digest}", raw=file)
    body = {"digest": digest, "name": "press.raucb"}
    assert ddi_server.api("POST", f"releases/{built.version}/ddi", body)[0] == 200
    done = fota("server", "backup", str(tmp_path / "backup"), "--data", str(ddi_server.data))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "backup/artifacts" / digest[:2] / digest).read_bytes() == file
    place = ddi_server.data / "artifacts" / digest[:2] / digest
    place.unlink()
    done = fota("server", "doctor", "--data", str(ddi_server.data))
    assert done.returncode == 1
    assert f"release {built.version}: " in done.stdout + done.stderr
    place.write_bytes(file)


def until_poll(one: Ddi, link: str) -> None:
    until(lambda: link in one.links(), f"a poll offers {link}", one.server.process)


def until_phase(server: Server, rollout: int, phase: str) -> dict[str, Any]:
    def reached() -> bool:
        return [wave["phase"] for wave in server.api("GET", f"rollouts/{rollout}")[1]["waves"]] == [phase]

    until(reached, f"rollout {rollout} is {phase}", server.process)
    return dict(server.api("GET", f"rollouts/{rollout}")[1])
