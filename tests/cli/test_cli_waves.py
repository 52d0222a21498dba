"""Waves on the command line: a plan, the rollout that keeps it, what it says, and what stops all of them."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from lifeline import until
from server_world import Built, Device, Server

Run = Callable[..., CompletedProcess[str]]
NAME = "wavy"


@pytest.fixture(scope="module")
def group(server: Server, releases: dict[str, Built]) -> list[Device]:
    """Four devices in the group `NAME` that have confirmed 1.0.0."""
    for built in releases.values():
        server.publish(built)
    devices = [Device(server) for _ in range(4)]
    for device in devices:
        device.check_in()
        device.take(releases["1.0.0"], state="confirmed")
        device.check_in()
    server.api("POST", "groups", {"name": NAME})
    ids = [device.id for device in devices]
    assert server.api("POST", f"groups/{NAME}/devices", {"devices": ids})[0] == 200
    return devices


def test_plan_is_kept_shown_halted_and_taken_back(
    cli: Run, server: Server, releases: dict[str, Built], group: list[Device], tmp_path: Path
) -> None:
    new, file = releases["1.1.0"], tmp_path / "plan.json"
    waves = ("--group", NAME, "--waves", "1,50%,rest", "--soak", "1h")
    done = cli("rollout", "plan", "1.1.0", *waves, "-o", str(file), "--price", "0.5")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:3] for line in lines[1:4]] == [["1", "1", "1"], ["2", "50%", "2"], ["3", "rest", "1"]]
    size = len(new.file)
    assert f"4 device(s), {4 * size} bytes, up to 3 h 18 min by how often devices call;" in done.stdout
    plan = json.loads(file.read_text())
    assert sorted(item["device"] for item in plan["devices"]) == sorted(device.id for device in group)
    assert [item["wave"] for item in plan["devices"]] == [1, 2, 2, 3]

    said = cli("rollout", "start", "1.1.0", *waves, "--dry-run", "--devices")
    assert (said.returncode, said.stderr) == (0, "")
    assert "2     50%   2 " in said.stdout
    assert [line.split()[0] for line in said.stdout.splitlines()[-4:]] == sorted(one.id for one in group)

    started = cli("rollout", "start", "--plan", str(file), "--json")
    assert started.returncode == 0, started.stderr
    number = json.loads(started.stdout)["id"]
    assert json.loads(started.stdout)["digest"] == plan["order"]["digest"]

    def shown() -> str:
        return cli("rollout", "show", str(number)).stdout

    until(lambda: "open" in shown())
    for verb in ("plan", "start"):
        none = cli("rollout", verb, "1.1.0", *waves, *(["--dry-run"] if verb == "start" else []))
        assert none.returncode == 1
        assert f"rollout {number} wants this release of it already (and 3 more)" in none.stderr
    again = cli("rollout", "start", "--plan", str(file))
    assert (again.returncode, f"rollout {number} was started from this plan" in again.stderr) == (1, True)
    assert cli("rollout", "halt", "--reason", "smoke").returncode == 0
    assert "(halted: 4 pending)" in shown()
    assert "halted" in cli("rollout", "list").stdout, "and not running"
    assert "by first-operator: smoke" in cli("rollout", "limits").stdout
    assert {device.check_in().wanted for device in group} == {None}
    assert cli("rollout", "unhalt").returncode == 0
    first = [device for device in group if device.check_in().wanted == new.manifest_digest]
    assert [device.id for device in first] == [plan["devices"][0]["device"]]
    again = cli("rollout", "halt")
    assert cli("rollout", "halt").returncode == 1, again.stdout
    assert cli("rollout", "unhalt").returncode == 0

    first[0].take(new, state="trial")
    first[0].check_in()
    first[0].take(releases["1.0.0"], state="confirmed")
    first[0].installed, first[0].events = new.manifest_digest, [("reverted", "AP1 watchdog")]
    first[0].check_in()
    why = "wave 1: 1 of 1 device(s) in error (1 failed); at most 5% may"
    until(lambda: f"paused itself: {why}" in shown())
    expected = cli("rollback", "--rollout", str(number), "--dry-run")
    assert (expected.returncode, expected.stdout.split()) == (0, ["1", "device(s)", "1.0.0", "->", "1.0.0"])
    back = cli("rollback", "--rollout", str(number), "--json")
    assert back.returncode == 0, back.stderr
    until(lambda: "cancelled" in shown())
    rollback = json.loads(back.stdout)["id"]
    until(lambda: server.api("GET", f"rollouts/{rollback}")[1]["total"] == 1)
    assert "is a rollback" in cli("rollback", "--rollout", str(rollback)).stderr


def test_lab_is_named_shown_and_told_of_in_every_plan(
    cli: Run, server: Server, releases: dict[str, Built], group: list[Device]
) -> None:
    del group  # all releases are published by then
    lab, device = Device(server), Device(server)
    for one in (lab, device):
        one.check_in()
    server.api("POST", "groups", {"name": "bench"})
    assert server.api("POST", "groups/bench/devices", {"devices": [lab.id]})[0] == 200
    try:
        named = cli("policy", "lab", "bench")
        assert named.stdout == "lab: 1 device(s) of group bench confirm each release first; 1 are in force\n"
        order = ("1.1.0", "--device", device.id)
        waits = "1.1.0 for 1 device(s) waits for lab bench: 0 of 1 confirmed\n"
        assert waits in cli("rollout", "plan", *order, "--waves", "rest").stdout
        assert waits in cli("rollout", "start", *order, "--dry-run").stdout
        started = cli("rollout", "start", *order)
        assert (started.returncode, waits in started.stderr) == (0, True), started.stderr
        assert device.check_in().wanted is None
        assert cli("policy", "lab", "bench", "--none").returncode == 2
        refused = cli("policy", "lab", "bench", "--devices", "2")
        assert (refused.returncode, refused.stderr.count("\n")) == (3, 1), refused.stderr
    finally:
        assert cli("policy", "lab", "--none").stdout == "lab: none, releases go to any device\n"
    assert device.check_in().wanted == releases["1.1.0"].manifest_digest


def test_wave_that_fails_as_a_whole_says_why(
    cli: Run, server: Server, releases: dict[str, Built], group: list[Device]
) -> None:
    del group  # all releases are published by then
    new, device = releases["1.2.0"], Device(server)
    device.check_in()
    started = cli("rollout", "start", "1.2.0", "--device", device.id, "--waves", "rest", "--json")
    number = json.loads(started.stdout)["id"]
    until(lambda: device.check_in().wanted == new.manifest_digest)
    device.installed, device.events = new.manifest_digest, [("rejected", "IM10 image-signature")]
    device.check_in()
    until(lambda: server.api("GET", f"rollouts/{number}")[1]["held"] is not None)
    assert server.api("GET", f"rollouts/{number}")[1]["status"] == "failed"
    told = cli("rollout", "show", str(number)).stdout
    assert "wave 1: 1 of 1 device(s) in error (1 failed)" in told


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--waves", "0,rest"), 3, "waves: a wave of 0 would reach no device"),
        (("--waves", "10%"), 3, "waves: the last one, and only that, has to be 'rest'"),
        (("--soak", "1h"), 2, "which waves? pass --waves"),
        (("--waves", "rest", "--soak", "soon"), 3, "is no time such as 90s, 30m, 4h or 2d"),
        (("--waves", "rest", "--policy", "none.json"), 3, "none.json"),
        (("--plan", "none.json"), 3, "none.json"),
        (
            ("--policy", '{"waves": ["rest"], "errors": "1%", "errors": "9%"}'),
            3,
            "p.json: says 'errors' twice",
        ),
    ],
)
def test_waves_that_cannot_be_are_one_line(
    cli: Run, group: list[Device], options: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    del group
    if options[1].startswith("{"):
        (tmp_path / "p.json").write_text(options[1])
        options = (options[0], str(tmp_path / "p.json"))
    order = () if "--plan" in options else ("1.1.0", "--group", NAME)
    done = cli("rollout", "start", *order, *options)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_rollback_in_waves_is_told_with_its_plan(
    cli: Run, server: Server, releases: dict[str, Built], group: list[Device]
) -> None:
    done = cli("rollback", "--group", NAME, "--to", "1.0.0", "--waves", "1,rest", "--dry-run")
    assert done.returncode == 0, done.stderr
    told = [line.split()[:3] for line in done.stdout.splitlines() if line[:1].isdigit()][:2]
    assert (told[0], told[1][:2]) == (["1", "1", "1"], ["2", "rest"])
    assert int(told[1][2]) >= 1
    assert server.rows("SELECT * FROM rollouts WHERE kind = 'rollback' AND policy IS NOT NULL") == []


def test_file_that_is_no_plan_is_not_started(cli: Run, tmp_path: Path) -> None:
    for text in (
        "[]",
        "{}",
        '{"kind": "fota rollout plan"}',
        "{",
        '{"kind": "fota rollout plan", "order": []}',
    ):
        path = tmp_path / "plan.json"
        path.write_text(text)
        done = cli("rollout", "start", "--plan", str(path))
        assert done.returncode == 3, text
        assert str(path) in done.stderr or "plan.json" in done.stderr
