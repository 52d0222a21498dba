"""Rollouts in waves on a running server: who is given what and when, what stops it, what takes it back."""

import secrets
import signal
import time
from typing import Any

import pytest
from databases import BOTH, beside
from lifeline import until
from server_world import Built, Device, Keys, Server

Devices = list[Device]

DATABASES = BOTH


@pytest.fixture(scope="module")
def own(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory, database_kind: str
) -> Any:
    """A server of this module's own: what holds for all rollouts is changed on it, and it is killed."""
    server = Server(keys, tmp_path_factory.mktemp("waves") / "data").init().start()
    for built in releases.values():
        assert server.publish(built)[0] == 201
    yield server
    assert server.stop()[0] == 0


def fleet(server: Server, releases: dict[str, Built], size: int) -> tuple[str, Devices]:
    """A group of devices that have confirmed 1.0.0."""
    devices = [Device(server) for _ in range(size)]
    for device in devices:
        device.check_in()
        device.take(releases["1.0.0"], state="confirmed")
        device.check_in()
    name = "w-" + secrets.token_hex(4)
    assert server.api("POST", "groups", {"name": name})[0] == 201
    ids = [device.id for device in devices]
    assert server.api("POST", f"groups/{name}/devices", {"devices": ids})[0] == 200
    return name, devices


def start(server: Server, group: str, policy: dict[str, Any], version: str = "1.1.0", **more: Any) -> int:
    status, answer = server.api(
        "POST", "rollouts", {"version": version, "group": group, "policy": policy, **more}
    )
    assert status == 201, answer
    return int(answer["id"])


def show(server: Server, number: int) -> dict[str, Any]:
    return dict(server.api("GET", f"rollouts/{number}")[1])


def phases(server: Server, number: int) -> list[str]:
    return [wave["phase"] for wave in show(server, number)["waves"]]


def restart(server: Server, devices: Devices, sig: int) -> None:
    for device in devices:
        device.close()
    server.stop(sig)
    server.start()


def given(server: Server, devices: Devices, built: Built) -> Devices:
    """Those who are given the release when all call."""
    return [device for device in devices if device.check_in().wanted == built.manifest_digest]


def end(devices: Devices, built: Built, state: str = "confirmed") -> None:
    for device in devices:
        device.take(built, state=state)
        device.check_in()


def fall_back(device: Device, old: Built, new: Built) -> None:
    """Its bootloader went back to the old release after a trial of the new one."""
    device.take(old, state="confirmed")
    device.installed, device.events = new.manifest_digest, [("reverted", "AP1 watchdog")]
    device.check_in()


def test_next_wave_opens_when_the_one_before_has_confirmed(
    server: Server, releases: dict[str, Built]
) -> None:
    new = releases["1.1.0"]
    group, devices = fleet(server, releases, 5)
    number = start(server, group, {"waves": ["1", "40%", "rest"]})
    until(lambda: phases(server, number) == ["open", "waiting", "waiting"])
    first = given(server, devices, new)
    assert len(first) == 1
    assert [wave["devices"] for wave in show(server, number)["waves"]] == [1, 2, 2]
    end(first, new)
    until(lambda: phases(server, number) == ["passed", "open", "waiting"])
    second = given(server, [device for device in devices if device not in first], new)
    assert len(second) == 2
    end(second[:1], new)
    assert phases(server, number) == ["passed", "open", "waiting"], "installed or asked for is not confirmed"
    end(second[1:], new)
    until(lambda: phases(server, number) == ["passed", "passed", "open"])
    third = given(server, [device for device in devices if device not in (*first, *second)], new)
    end(third, new)
    until(lambda: phases(server, number) == ["passed", "passed", "passed"])
    assert show(server, number)["status"] == "done"
    rows = server.rows(
        "SELECT action, detail FROM audit WHERE subject = ? AND action = 'rollout.wave'", str(number)
    )
    assert len(rows) == 9, "each of three was opened, soaked and passed"


@pytest.mark.parametrize("by", ["group", "since"])
def test_rollback_goes_in_waves_each_device_to_its_own_and_a_wave_that_fails_pauses_it(
    server: Server, releases: dict[str, Built], by: str
) -> None:
    old, new, newer = releases.values()
    group, devices = fleet(server, releases, 4)
    time.sleep(1)
    since = int(time.time())
    ids = [device.id for device in devices[:2]]
    half = "h-" + secrets.token_hex(4)
    assert server.api("POST", "groups", {"name": half})[0] == 201
    assert server.api("POST", f"groups/{half}/devices", {"devices": ids})[0] == 200
    orders = [(new, group, devices), (newer, half, devices[:2])]
    for built, name, those in orders:
        assert server.api("POST", "rollouts", {"version": built.version, "group": name})[0] == 201
        end(given(server, those, built), built)
    goal = {device: new if device in devices[:2] else old for device in devices}
    scope: dict[str, Any] = {"group": group}
    if by == "since":
        goal, scope = dict.fromkeys(devices, old), {"since": since}
    order = {**scope, "policy": {"waves": ["1", "rest"], "soak_s": 0}}
    status, seen = server.api("POST", "rollbacks", {**order, "dry_run": True})
    assert (status, [wave["devices"] for wave in seen["waves"]]) == (200, [1, 3]), seen
    status, answer = server.api("POST", "rollbacks", order)
    assert status in (201, 202), answer
    number = int(answer["id"])
    until(lambda: phases(server, number)[0] == "open")
    first = [device for device in devices if device.check_in().wanted == goal[device].manifest_digest]
    assert len(first) == 1
    end(first, goal[first[0]])
    until(lambda: phases(server, number)[1] == "open")
    left = [device for device in devices if device not in first]
    assert all(device.check_in().wanted == goal[device].manifest_digest for device in left)
    runs = newer if left[0] in devices[:2] else new
    fall_back(left[0], runs, goal[left[0]])
    until(lambda: show(server, number)["held"] is not None)
    assert show(server, number)["status"] == "paused"
    assert server.api("POST", f"rollouts/{number}/cancel")[0] in (200, 202)


def test_wave_that_fails_pauses_the_rollout_and_one_command_takes_it_back(
    server: Server, releases: dict[str, Built]
) -> None:
    new, old = releases["1.1.0"], releases["1.0.0"]
    group, devices = fleet(server, releases, 6)
    number = start(server, group, {"waves": ["2", "2", "rest"], "soak_s": 0})
    until(lambda: phases(server, number)[0] == "open")
    first = given(server, devices, new)
    end(first, new)
    until(lambda: phases(server, number)[1] == "open")
    left = [device for device in devices if device not in first]
    second = given(server, left, new)
    second[0].take(new, state="trial")
    second[0].check_in()
    fall_back(second[0], old, new)
    until(lambda: show(server, number)["held"] is not None)
    shown = show(server, number)
    assert (shown["status"], shown["held"]) == (
        "paused",
        "wave 2: 1 of 2 device(s) in error (1 failed); at most 5% may",
    )
    third = [device for device in left if device not in second]
    assert not given(server, third, new)
    status, back = server.api("POST", f"rollouts/{number}/rollback")
    assert (status, back["scope"]) == (202, f"rollout:{number}")
    until(lambda: show(server, back["id"])["state"] != "planning")
    assert show(server, number)["status"] == "cancelled"
    # Each device that was given it goes to what it had confirmed; the others hear nothing.
    assert given(server, first, old) == first
    assert [device.check_in().wanted for device in third] == [None, None]
    told = server.api("GET", f"rollouts/{back['id']}/devices")[1]["devices"]
    assert {item["device_id"]: item["version"] for item in told} == {
        device.id: "1.0.0" for device in (*first, *second)
    }
    end(first, old)
    for device in second:
        device.take(old, state="confirmed")
        device.check_in()
    until(lambda: show(server, back["id"])["status"] == "done")


def test_first_wave_may_ask_for_more_than_the_others(server: Server, releases: dict[str, Built]) -> None:
    new, old = releases["1.1.0"], releases["1.0.0"]
    group, devices = fleet(server, releases, 6)
    first = {"size": "2", "confirmed": "100%", "errors": "0%", "approval": True}
    policy = {"waves": [first, "2", "rest"], "confirmed": "50%", "errors": "50%"}
    body = {"version": "1.1.0", "group": group, "policy": policy}
    status, plan = server.api("POST", "rollouts", body | {"dry_run": True})
    assert status == 200
    assert [(wave["terms"]["confirmed"], wave["terms"]["approval"]) for wave in plan["waves"]] == [
        ("100%", True),
        ("50%", False),
        ("50%", False),
    ]
    looser = {**policy, "waves": ["2", "2", "rest"]}
    promise = {"seed": plan["seed"], "digest": plan["digest"]}
    status, answer = server.api("POST", "rollouts", body | promise | {"policy": looser})
    assert (status, answer["error"]["code"]) == (409, "plan"), "the plan promises each wave's terms, too"
    number = start(server, group, policy, **promise)
    until(lambda: phases(server, number)[0] == "open")
    one = given(server, devices, new)
    end(one[:1], new)
    assert phases(server, number)[0] == "open", "half of it is not all of it"
    end(one[1:], new)
    until(lambda: show(server, number)["status"] == "approval")
    assert server.api("POST", f"rollouts/{number}/approve")[0] == 200
    two = given(server, [device for device in devices if device not in one], new)
    two[0].take(new, state="trial")
    two[0].check_in()
    fall_back(two[0], old, new)
    assert show(server, number)["held"] is None, "one of two may fail here"
    end(two[1:], new)
    until(lambda: phases(server, number) == ["passed", "passed", "open"])


def test_silence_is_judged_wave_by_wave(own: Server, releases: dict[str, Built]) -> None:
    new = releases["1.1.0"]
    group, devices = fleet(own, releases, 2)
    patient = {"size": "1", "confirmed": "1%", "silence_s": 86400}
    number = start(own, group, {"waves": [patient, "rest"], "silence_s": 60, "on_failure": "pause"})
    until(lambda: phases(own, number)[0] == "open")
    (first,) = given(own, devices, new)
    silence(own, [first])
    assert show(own, number)["waves"][0]["silent"] == 0, "a day, in its wave"
    end([first], new)
    until(lambda: phases(own, number)[1] == "open")
    left = given(own, [device for device in devices if device is not first], new)
    silence(own, left)
    until(lambda: show(own, number)["held"] is not None)
    assert show(own, number)["held"] == "wave 2: 1 of 1 device(s) in error (1 silent); at most 5% may"
    assert own.api("POST", f"rollouts/{number}/resume")[1]["waves"][1]["forgiven"] == 1


def test_what_a_rollout_gave_is_taken_back_once_whatever_came_after(
    server: Server, releases: dict[str, Built]
) -> None:
    old, bad, newer = (releases[version] for version in ("1.0.0", "1.1.0", "1.2.0"))
    group, (stayed, moved, failed) = fleet(server, releases, 3)
    number = server.api("POST", "rollouts", {"version": "1.1.0", "group": group})[1]["id"]
    for device in (stayed, moved, failed):
        device.check_in()
    end([stayed, moved, failed], bad)
    later = [
        server.api("POST", "rollouts", {"version": "1.2.0", "device": device.id})[1]["id"]
        for device in (moved, failed)
    ]
    assert given(server, [moved, failed], newer) == [moved, failed]
    end([moved], newer)
    failed.take(newer, state="trial")
    failed.check_in()
    fall_back(failed, bad, newer)
    status, seen = server.api("GET", f"rollouts/{number}/rollback")
    assert (status, seen["moves"][0]["version"], seen["total"]) == (200, "1.0.0", 2), seen
    assert seen["left_out"][0] == {
        "reason": f"rollout {later[0]} has it by now",
        "devices": 1,
        "first": moved.id,
    }
    status, back = server.api("POST", f"rollouts/{number}/rollback")
    assert status == 202
    status, again = server.api("POST", f"rollouts/{number}/rollback")
    assert (status, again["error"]["code"]) == (409, "under-way")
    assert f"rollback {back['id']} takes it back already" in again["error"]["message"]
    until(lambda: show(server, back["id"])["state"] == "running")
    assert given(server, [stayed, moved, failed], old) == [stayed, failed], "and nobody is sent to 1.1.0"
    failed.events = []
    end([stayed, failed], old)
    status, again = server.api("POST", f"rollouts/{number}/rollback")
    assert (status, again["error"]["code"]) == (409, "refused")
    assert "brought it back already" in again["error"]["message"] or "by now" in again["error"]["message"]
    assert len(server.rows("SELECT id FROM rollouts WHERE scope = ?", f"rollout:{number}")) == 1


def test_rollout_takes_itself_back_if_its_policy_says_so(server: Server, releases: dict[str, Built]) -> None:
    new, old = releases["1.1.0"], releases["1.0.0"]
    group, devices = fleet(server, releases, 2)
    number = start(server, group, {"waves": ["1", "rest"], "on_failure": "rollback"})
    until(lambda: phases(server, number)[0] == "open")
    (first,) = given(server, devices, new)
    first.take(new, state="trial")
    first.check_in()
    fall_back(first, old, new)
    until(lambda: show(server, number)["status"] == "cancelled")
    rows = server.rows("SELECT id FROM rollouts WHERE scope = ?", f"rollout:{number}")
    assert len(rows) == 1
    until(lambda: show(server, rows[0]["id"])["state"] != "planning")
    assert show(server, rows[0]["id"])["total"] == 1


def test_resume_forgives_what_the_pause_was_for(server: Server, releases: dict[str, Built]) -> None:
    new, old = releases["1.1.0"], releases["1.0.0"]
    group, devices = fleet(server, releases, 3)
    number = start(server, group, {"waves": ["2", "rest"]})
    until(lambda: phases(server, number)[0] == "open")
    bad, good = given(server, devices, new)
    bad.take(new, state="trial")
    bad.check_in()
    fall_back(bad, old, new)
    until(lambda: show(server, number)["held"] is not None)
    assert server.api("POST", f"rollouts/{number}/resume")[1]["held"] is None
    end([good], new)
    until(lambda: phases(server, number) == ["passed", "open"])
    assert show(server, number)["waves"][0]["forgiven"] == 1


def test_wave_waits_for_a_person_where_the_policy_says_so(server: Server, releases: dict[str, Built]) -> None:
    new = releases["1.1.0"]
    group, devices = fleet(server, releases, 2)
    number = start(server, group, {"waves": ["1", "rest"], "approval": True})
    assert server.api("POST", f"rollouts/{number}/approve")[1]["error"]["code"] == "no-approval"
    until(lambda: phases(server, number)[0] == "open")
    first = given(server, devices, new)
    end(first, new)
    until(lambda: show(server, number)["status"] == "approval")
    left = [device for device in devices if device not in first]
    assert not given(server, left, new)
    status, answer = server.api("POST", f"rollouts/{number}/approve")
    assert (status, answer["status"], [wave["phase"] for wave in answer["waves"]]) == (
        200,
        "running",
        ["passed", "open"],
    )
    assert given(server, left, new) == left


def silence(server: Server, devices: Devices) -> None:
    """Have these devices not have called for 100 s."""
    with beside(server.data / "fota.db") as connection:
        for device in devices:
            connection.execute("UPDATE devices SET last_seen = last_seen - 100 WHERE id = ?", (device.id,))
            connection.execute(
                "UPDATE targets SET given_at = given_at - 100 WHERE device_id = ?", (device.id,)
            )


def test_silence_that_was_forgiven_forgives_no_failure_after_it(
    own: Server, releases: dict[str, Built]
) -> None:
    new, old = releases["1.1.0"], releases["1.0.0"]
    group, devices = fleet(own, releases, 4)
    number = start(own, group, {"waves": ["rest"], "silence_s": 60})
    until(lambda: phases(own, number) == ["open"])
    assert len(given(own, devices, new)) == 4
    silence(own, devices[:2])
    until(lambda: show(own, number)["held"] is not None)
    assert own.api("POST", f"rollouts/{number}/resume")[1]["waves"][0]["forgiven"] == 2
    assert show(own, number)["status"] == "running", "who is silent still counts no more"
    back, bad = devices[:2]
    end([back], new)
    bad.take(new, state="trial")
    bad.check_in()
    fall_back(bad, old, new)
    assert show(own, number)["held"] == "wave 1: 1 of 4 device(s) in error (1 failed); at most 5% may"


def test_device_that_falls_silent_counts_as_an_error(own: Server, releases: dict[str, Built]) -> None:
    group, devices = fleet(own, releases, 2)
    number = start(own, group, {"waves": ["rest"], "silence_s": 60})
    until(lambda: phases(own, number) == ["open"])
    assert len(given(own, devices, releases["1.1.0"])) == 2
    silence(own, devices[:1])
    until(lambda: show(own, number)["held"] is not None)
    assert "1 of 2 device(s) in error (1 silent)" in show(own, number)["held"]


def test_device_that_calls_and_says_nothing_new_is_not_silent_and_has_confirmed_nothing(
    own: Server, releases: dict[str, Built]
) -> None:
    """SPEC 5.5: silence counts check-ins; that it runs, and has confirmed, is what a report proves."""
    new = releases["1.1.0"]
    group, devices = fleet(own, releases, 2)
    number = start(own, group, {"waves": ["rest"], "silence_s": 60, "errors": "50%", "confirmed": "50%"})
    until(lambda: phases(own, number) == ["open"])
    assert len(given(own, devices, new)) == 2
    end(devices, new, "trial")
    with beside(own.data / "fota.db") as connection:
        for one in devices:
            connection.execute("UPDATE devices SET report_at = report_at - 100 WHERE id = ?", (one.id,))
            connection.execute("UPDATE targets SET given_at = given_at - 100 WHERE device_id = ?", (one.id,))
    quiet, silent = devices
    quiet.state = "confirmed"
    silence(own, [silent])
    for _ in range(2):
        quiet.check_in(with_report=False)
    until(lambda: show(own, number)["waves"][0]["silent"] == 1)
    wave = show(own, number)["waves"][0]
    assert (wave["on_trial"], wave["confirmed"]) == (2, 0)
    twin = own.api("GET", f"devices/{quiet.id}")[1]
    assert (twin["running"]["state"], twin["last_seen"] - twin["report_at"] >= 100) == ("trial", True)
    quiet.check_in()
    assert show(own, number)["waves"][0]["confirmed"] == 1
    twin = own.api("GET", f"devices/{quiet.id}")[1]
    assert (twin["running"]["state"], twin["last_seen"] - twin["report_at"]) == ("confirmed", 0)


def test_device_at_rest_is_asked_for_a_report_where_nothing_goes_on_without(
    own: Server, releases: dict[str, Built]
) -> None:
    new = releases["1.1.0"]
    group, (device,) = fleet(own, releases, 1)
    number = start(own, group, {"waves": ["rest"]})
    until(lambda: phases(own, number) == ["open"])
    assert given(own, [device], new)
    assert own.api("POST", f"rollouts/{number}/pause")[0] == 200
    assert device.check_in().wanted is None  # nothing is left to do, and the server knows all
    held = device.server_nonce
    assert device.check_in(with_report=False).response.nonce == held
    assert own.api("POST", f"rollouts/{number}/resume")[0] == 200
    asked = device.check_in(with_report=False)
    assert (asked.wanted, asked.response.nonce == held) == (None, False)
    restart(own, [device], signal.SIGKILL)
    answer = device.check_in()
    assert (answer.response.report_status, answer.wanted) == ("accepted", new.manifest_digest)


def test_budget_of_devices_on_trial_holds_over_all_rollouts(own: Server, releases: dict[str, Built]) -> None:
    groups = [fleet(own, releases, 3) for _ in range(2)]
    others = own.api("GET", "limits")[1]["on_trial"]  # left by the tests before
    assert own.api("POST", "limits", {"trials": others + 2})[1]["trials"] == others + 2
    one = start(own, groups[0][0], {"waves": ["rest"]})
    assert own.api("POST", "rollouts", {"version": "1.2.0", "group": groups[1][0]})[0] == 201
    until(lambda: phases(own, one) == ["open"])
    new = {
        device: releases[v]
        for v, (_, devices) in zip(("1.1.0", "1.2.0"), groups, strict=True)
        for device in devices
    }
    on_trial: Devices = []
    for _ in range(8):
        for device, built in new.items():
            if device not in on_trial and device.check_in().wanted == built.manifest_digest:
                on_trial.append(device)
        limits = own.api("GET", "limits")[1]
        assert limits["on_trial"] == others + len(on_trial) <= others + 2
        if on_trial:
            end(on_trial[:1], new[on_trial[0]])
            new.pop(on_trial.pop(0))
    assert not new, "each had its turn"
    assert own.api("POST", "limits", {"trials": None})[1]["trials"] is None


def test_halt_stops_everything_at_once_and_unhalt_lets_it_go_on(
    own: Server, releases: dict[str, Built]
) -> None:
    new = releases["1.1.0"]
    group, devices = fleet(own, releases, 3)
    number = start(own, group, {"waves": ["2", "rest"]})
    until(lambda: phases(own, number)[0] == "open")
    first = [device for device in devices if given(own, [device], new)][:1]
    halted = own.api("POST", "halt", {"reason": "smoke"})[1]["halted"]
    assert (halted["reason"], own.api("POST", "halt", {})[0]) == ("smoke", 409)
    restart(own, devices, signal.SIGTERM)
    assert own.api("GET", "limits")[1]["halted"] == halted, "a new life of the server keeps it"
    assert not given(own, devices, new), "also to whom it was named before"
    end(first, new)
    own.api("POST", "unhalt")
    assert own.api("POST", "unhalt")[0] == 409
    assert len(given(own, [device for device in devices if device not in first], new)) == 1


def test_server_that_is_killed_goes_on_where_it_was(own: Server, releases: dict[str, Built]) -> None:
    new = releases["1.1.0"]
    group, devices = fleet(own, releases, 3)
    number = start(own, group, {"waves": ["1", "1", "rest"]})
    had: Devices = []
    for wave in range(3):
        restart(own, devices, signal.SIGKILL)
        until(lambda wave=wave: phases(own, number)[wave] == "open")
        more = given(own, [device for device in devices if device not in had], new)
        assert len(more) == 1
        had += more
        end(more, new)
    until(lambda: phases(own, number) == ["passed"] * 3)


@pytest.mark.parametrize(
    ("policy", "code", "words"),
    [
        ({"waves": ["0", "rest"]}, "policy", "waves: a wave of 0 would reach no device"),
        ({"waves": ["50%", "2", "5", "rest"]}, "empty-wave", "wave 3 (5) would hold no device"),
        ({"waves": ["group:nobody", "rest"]}, "unknown-group", "no group nobody"),
        ({"waves": ["rest"], "confirmed": "96%"}, "policy", "with it, confirmed is 95% at most"),
        (
            {"waves": ["rest"], "expedite_until": 1_700_000_000},
            "policy",
            "expedite_until: 2023-11-14 22:13Z is",
        ),
        ({"waves": ["rest"], "start_at": 1_700_000_000}, "policy", "start_at: 2023-11-14 22:13Z is over"),
        ({"waves": ["rest"], "at_least": "9.9.9"}, "unknown-release", "9.9.9"),
    ],
)
def test_policy_that_cannot_be_carried_out_leaves_nothing(
    server: Server, releases: dict[str, Built], policy: dict[str, Any], code: str, words: str
) -> None:
    group, _ = fleet(server, releases, 3)
    before = server.rows("SELECT count(*) AS n FROM rollouts")
    status, answer = server.api("POST", "rollouts", {"version": "1.1.0", "group": group, "policy": policy})
    assert (status >= 400, answer["error"]["code"]) == (True, code), answer
    assert words in answer["error"]["message"]
    assert server.rows("SELECT count(*) AS n FROM rollouts") == before


def test_device_that_has_not_confirmed_what_comes_first_is_left_out(
    server: Server, releases: dict[str, Built]
) -> None:
    group, devices = fleet(server, releases, 2)
    end(devices[:1], releases["1.1.0"])
    number = start(server, group, {"waves": ["rest"], "at_least": "1.1.0"}, "1.2.0")
    shown = show(server, number)
    reason = "it has not confirmed 1.1.0 or a later release, which has to come first"
    assert shown["left_out"] == [{"reason": reason, "devices": 1, "first": devices[1].id}]
    assert shown["total"] == 1


# The plan


def plan(server: Server, group: str, policy: dict[str, Any]) -> dict[str, Any]:
    body = {"version": "1.1.0", "group": group, "policy": policy, "dry_run": True}
    status, answer = server.api("POST", "rollouts", body)
    assert status == 200, answer
    return dict(answer)


def test_rollout_started_from_a_plan_does_exactly_that(server: Server, releases: dict[str, Built]) -> None:
    new, policy = releases["1.1.0"], {"waves": ["1", "2", "rest"], "holdback": "10%"}
    group, devices = fleet(server, releases, 6)
    promised = plan(server, group, policy)
    query = f"preview?kind=update&version=1.1.0&group={group}&seed={promised['seed']}&policy="
    listed = server.api("GET", query + '{"waves":["1","2","rest"],"holdback":"10%25"}')[1]["devices"]
    ranks = {item["device_id"]: item["rank"] for item in listed if item["rank"] is not None}
    assert len(ranks) == 6 - promised["held_back"]
    number = start(server, group, policy, seed=promised["seed"], digest=promised["digest"])
    assert show(server, number)["digest"] == promised["digest"]
    below, had = -1, []
    for wave in promised["waves"]:
        until(lambda wave=wave: phases(server, number)[wave["number"] - 1] == "open")
        mine = {one for one, place in ranks.items() if below < place <= wave["last_rank"]}
        got = given(server, [device for device in devices if device not in had], new)
        assert {device.id for device in got} == mine
        assert wave["bytes"] == len(mine) * len(new.file)
        end(got, new)
        had += got
        below = wave["last_rank"]
    until(lambda: show(server, number)["status"] == "done")


def test_plan_that_does_not_hold_any_more_is_not_carried_out(
    server: Server, releases: dict[str, Built]
) -> None:
    policy = {"waves": ["1", "rest"]}
    group, devices = fleet(server, releases, 3)
    promised = plan(server, group, policy)
    assert server.api("POST", f"devices/{devices[0].id}/revoke")[0] == 200
    body = {"version": "1.1.0", "group": group, "policy": policy}
    body |= {"seed": promised["seed"], "digest": promised["digest"]}
    status, answer = server.api("POST", "rollouts", body)
    assert (status, answer["error"]["code"]) == (409, "plan")
    assert "make a new one with 'fota rollout plan'" in answer["error"]["message"]
    assert not server.rows("SELECT 1 FROM rollouts WHERE scope = ?", f"group:{group}")
