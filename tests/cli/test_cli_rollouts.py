"""Orders on the command line: previewed, asked about, waited for, cancelled; and what a lost answer says."""

import os
import pty
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest
from lifeline import HANG_S, until
from server_world import FOTA, Built, Device, Server

from fota_cli import progress
from fota_cli.client import OperatorClient
from fota_wire.errors import TransportError

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def published(server: Server, releases: dict[str, Built]) -> None:
    for built in releases.values():
        assert server.publish(built)[0] == 201


@pytest.fixture
def group(server: Server, releases: dict[str, Built], request: pytest.FixtureRequest) -> Iterator[Any]:
    """A group of three devices that have confirmed 1.0.0, then 1.1.0."""
    devices = [Device(server) for _ in range(3)]
    for device in devices:
        device.take(releases["1.0.0"], state="confirmed")
        device.check_in()
        device.check_in()
    name = f"g{abs(hash(request.node.name)) % 10**9}"
    server.api("POST", "groups", {"name": name})
    server.api("POST", f"groups/{name}/devices", {"devices": [device.id for device in devices]})
    assert server.api("POST", "rollouts", {"version": "1.1.0", "group": name})[0] == 201
    for device in devices:
        device.check_in()
        device.take(releases["1.1.0"], state="confirmed")
        device.check_in()
    return name, devices


def rollouts_of(server: Server, name: str) -> list[dict[str, Any]]:
    return server.rows("SELECT id, kind, state FROM rollouts WHERE scope = ? ORDER BY id", f"group:{name}")


def test_dry_run_says_where_devices_go_and_does_nothing(cli: Run, server: Server, group: Any) -> None:
    name, devices = group
    server.api("POST", f"devices/{devices[0].id}/revoke")
    before = rollouts_of(server, name)
    done = cli("rollback", "--group", name, "--dry-run", "--devices")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["2", "device(s)", "1.1.0", "->", "1.0.0"]
    assert lines[1] == f"left out: device {devices[0].id}: the device is revoked"
    rows = {line.split()[0]: line.split()[1:3] for line in lines[3:]}
    assert rows == {devices[0].id: ["1.1.0", "-"]} | {device.id: ["1.1.0", "1.0.0"] for device in devices[1:]}
    assert rollouts_of(server, name) == before


def test_dry_run_of_what_would_do_nothing_is_exit_1(cli: Run, group: Any) -> None:
    done = cli("rollout", "start", "1.1.0", "--group", group[0], "--dry-run")
    assert done.returncode == 1
    assert "brought this release to it already" in done.stdout
    assert done.stderr == "fota: error: nothing would be done: every device is left out\n"


def test_rollback_typed_twice_is_refused_and_names_the_first(cli: Run, server: Server, group: Any) -> None:
    name, _devices = group
    assert cli("rollback", "--group", name).returncode == 0
    first = rollouts_of(server, name)[-1]["id"]
    again = cli("rollback", "--group", name)
    assert again.returncode == 1
    assert f"rollback {first} is under way for it: name the version with --to" in again.stderr
    assert "(and 2 more)" in again.stderr
    assert rollouts_of(server, name)[-1]["id"] == first


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 130)])
def test_terminal_is_asked_before_more_than_one_device_goes_back(
    server: Server, group: Any, typed: str, code: int
) -> None:
    name, _devices = group
    before = rollouts_of(server, name)
    env = os.environ | {"FOTA_SERVER": server.operator_url, "FOTA_TOKEN": server.token}
    env |= {"FOTA_CA": str(server.keys.server_ca)}
    main, side = pty.openpty()
    os.write(main, typed.encode())
    done = subprocess.run(
        [*FOTA, "rollback", "--group", name],
        stdin=side, capture_output=True, text=True, env=env, check=False, timeout=HANG_S,
    )  # fmt: skip
    os.close(side)
    os.close(main)
    assert done.returncode == code, done.stderr
    assert "3 device(s)  1.1.0 -> 1.0.0" in done.stderr
    assert "rollback of 3 devices: go on?" in done.stderr
    assert len(rollouts_of(server, name)) == len(before) + (code == 0)


def test_waiting_for_a_rollout_that_is_cancelled_ends_with_1(cli: Run, server: Server, group: Any) -> None:
    _ends_while_waited_for(cli, server, group, "cancelled", lambda number: cli("rollout", "cancel", number))


def test_waiting_for_a_rollout_that_another_takes_over_ends_with_1(
    cli: Run, server: Server, group: Any
) -> None:
    def take_over(_number: str) -> CompletedProcess[str]:
        return cli("rollback", "--group", group[0], "--to", "1.0.0")

    _ends_while_waited_for(cli, server, group, "superseded", take_over)


def test_waiting_for_a_release_that_is_withdrawn_ends_with_1(cli: Run, server: Server, group: Any) -> None:
    try:
        _ends_while_waited_for(
            cli, server, group, "withdrawn", lambda _number: cli("release", "withdraw", "1.2.0")
        )
        listed = cli("release", "list").stdout.splitlines()
        assert next(line for line in listed if line.startswith("1.2.0")).endswith(
            "release 1.2.0 was withdrawn"
        )
    finally:
        assert cli("release", "restore", "1.2.0").stdout == "release 1.2.0 can be rolled out again\n"


def _ends_while_waited_for(
    cli: Run, server: Server, group: Any, word: str, end: Callable[[str], CompletedProcess[str]]
) -> None:
    name, devices = group
    told: list[CompletedProcess[str]] = []

    def wait() -> None:
        told.append(cli("rollout", "start", "1.2.0", "--group", name, "--wait"))

    before = len(rollouts_of(server, name))
    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: len(rollouts_of(server, name)) > before)
    number = rollouts_of(server, name)[before]["id"]
    done = end(str(number))
    assert done.returncode == 0, done.stderr
    waiting.join()
    assert told[0].returncode == 1
    assert f"fota: error: update {number} {word}: {min(one.id for one in devices)} {word}: " in told[0].stderr
    assert rollouts_of(server, name)[before]["state"] == word
    assert f"({word}: 3 {word})" in cli("rollout", "show", str(number)).stdout


def test_rollout_is_shown_with_who_was_left_out_and_who_came_later(
    cli: Run, server: Server, group: Any
) -> None:
    name, devices = group
    server.api("POST", f"devices/{devices[0].id}/revoke")
    started = cli("rollout", "start", "1.2.0", "--group", name)
    assert started.stderr == f"left out: device {devices[0].id}: the device is revoked\n"
    number = str(rollouts_of(server, name)[-1]["id"])
    late = Device(server)
    late.check_in()
    added = cli("group", "add", name, late.id)
    assert f"under way without them: rollout {number};" in added.stderr
    shown = cli("rollout", "show", number).stdout
    assert f"left out: device {devices[0].id}: the device is revoked\n" in shown
    assert "not covered: 1 device(s) that joined the group later\n" in shown
    assert cli("rollout", "show", number, "--left-out").stdout.splitlines()[-1].split()[0] == devices[0].id
    states = cli("rollout", "show", number, "--state", "failed").stdout.splitlines()
    assert states[-1].split() == ["DEVICE", "VERSION", "STATE", "SINCE", "REASON"]
    typo = cli("rollout", "show", number, "--state", "faild")
    assert (typo.returncode, "no state faild: there are pending" in typo.stderr) == (3, True)
    assert cli("group", "remove", name, late.id).stdout == f"group {name}: 1 device(s) removed\n"
    assert cli("group", "delete", name).stdout == f"group {name} deleted; 3 device(s) were in it\n"


def test_change_of_a_rollout_that_has_ended_is_refused_with_its_state(
    cli: Run, server: Server, group: Any
) -> None:
    number = str(rollouts_of(server, group[0])[-1]["id"])
    for verb in ("pause", "resume", "cancel"):
        done = cli("rollout", verb, number)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"fota: error: rollout {number} is done: there is nothing to {verb}\n"


# An answer that does not come


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("rollout", "start", "1.2.0", "-d", "0123000000000000aa"),
            "it may still be carried out; 'fota rollout list' shows it",
        ),
        (("rollout", "pause", "7"), "it may still be carried out; 'fota rollout show 7' shows it"),
        (
            ("group", "add", "g", "0123000000000000aa"),
            "it may still be carried out; 'fota device list --group g' shows it",
        ),
        (("rollout", "list"), "try again"),
    ],
)
def test_order_without_an_answer_says_how_to_go_on(
    cli: Run, server: Server, args: tuple[str, ...], said: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.keys.folder / "server.crt", server.keys.folder / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def swallow() -> None:
            plain, _ = listening.accept()
            with context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(65536)

        thread = threading.Thread(target=swallow)
        thread.start()
        done = cli(*args, FOTA_SERVER=f"https://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert done.returncode == 4
    assert "took the request and did not answer: " in done.stderr
    assert done.stderr.endswith(said + "\n")
    assert "is the server running there" not in done.stderr


# What it costs to wait and to list


class Answers:
    """A server that says what it is told to, and how often it was asked."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers, self.asked = answers, 0

    def get(self, path: str, **_query: str | None) -> dict[str, Any]:
        assert path == "rollouts/7", "counts only"
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def progress_of(confirmed: int, ended: int | None = None) -> dict[str, Any]:
    status = "running" if ended is None else "done"
    return {"progress": {"confirmed": confirmed}, "total": 9, "status": status, "ended_at": ended}


def test_waiting_asks_ever_more_seldom_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(progress.time, "sleep", slept.append)
    quiet = [progress_of(1) for _ in range(40)]
    client = Answers([*quiet, progress_of(2), progress_of(9, 1)])
    answer = progress.follow(client, 7, None)  # type: ignore[arg-type]
    assert (answer["status"], client.asked) == ("done", 42)
    assert slept[0] == progress.FIRST_POLL_S
    assert slept[30:40] == [progress.LONGEST_POLL_S] * 10
    assert slept[40] == progress.FIRST_POLL_S, "something happens: at once again"


def test_who_cannot_ask_any_more_is_told_that_the_rollout_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(_path: str) -> dict[str, Any]:
        raise TransportError("cannot reach https://h: connection refused")

    client = Answers([progress_of(1)])
    monkeypatch.setattr(progress.time, "sleep", lambda _seconds: setattr(client, "get", gone))
    with pytest.raises(TransportError):
        progress.follow(client, 7, None)  # type: ignore[arg-type]
    assert "rollout 7 goes on: 'fota rollout show 7'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["releases", "rollouts", "groups", "devices"])
def test_list_is_read_page_by_page_to_its_end(
    server: Server, group: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    client = OperatorClient(url=server.operator_url, token=server.token, ca=server.keys.server_ca)
    whole, asked, get = list(client.pages(name, name)), 0, OperatorClient.get

    def one_at_a_time(self: OperatorClient, path: str, **query: str | None) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return get(self, path, **(query | {"limit": "1"}))

    monkeypatch.setattr(OperatorClient, "get", one_at_a_time)
    assert list(client.pages(name, name)) == whole
    assert asked > len(whole) >= 1
    assert list(client.pages(name, name, most=1)) == whole[:1]
