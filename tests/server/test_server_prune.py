"""`fota server prune`: files of releases that were withdrawn long ago, and no others."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import databases
import pytest
from lifeline import HANG_S
from server_world import FOTA, Built, Device, Keys, Server

DAY = 86400


@pytest.fixture
def server(keys: Keys, releases: dict[str, Built], tmp_path: Path) -> Iterator[Server]:
    """Three releases, files and all of them old."""
    made = Server(keys, tmp_path / "data").init().start()
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        assert made.publish(releases[version])[0] == 201
    yield made
    if made.process and made.process.poll() is None:
        made.stop()


@pytest.fixture
def file_of(server: Server, releases: dict[str, Built]) -> Callable[[str], Path]:
    return lambda version: server.data / "artifacts" / releases[version].digest[:2] / releases[version].digest


def age(server: Server, days: int) -> None:
    """Have all files, and what was withdrawn, be so many days older."""
    for path in (server.data / "artifacts").rglob("*"):
        os.utime(path, (time.time() - days * DAY,) * 2)
    with databases.beside(server.data / "fota.db") as beside:
        beside.execute("UPDATE releases SET withdrawn_at = withdrawn_at - ?", (days * DAY,))


def prune(server: Server, *words: str) -> str:
    command = [*FOTA, "server", "prune", "--data", str(server.data), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def look_over(server: Server, *words: str) -> int:
    command = [*FOTA, "server", *words, "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, timeout=HANG_S).returncode


def test_what_was_withdrawn_long_ago_goes_and_nothing_else(
    server: Server, file_of: Callable[[str], Path], tmp_path: Path
) -> None:
    assert server.api("POST", "releases/1.0.0/withdraw")[0] == 200
    age(server, 40)
    assert server.api("POST", "releases/1.1.0/withdraw")[0] == 200  # a moment ago
    assert json.loads(prune(server, "--withdrawn-for", "41", "--json"))["pruned"] == []
    assert "nothing was deleted" in prune(server, "--dry-run")
    assert [file_of(version).exists() for version in ("1.0.0", "1.1.0", "1.2.0")] == [True] * 3
    said = prune(server)
    assert said.startswith("1.0.0 ")
    assert "1 releases" in said
    assert [file_of(version).exists() for version in ("1.0.0", "1.1.0", "1.2.0")] == [False, True, True]
    listed = {one["version"]: one["pruned_at"] for one in server.api("GET", "releases")[1]["releases"]}
    assert [version for version, at in listed.items() if at] == ["1.0.0"]
    assert "0 releases" in prune(server)
    assert [
        row["subject"] for row in server.rows("SELECT subject FROM audit WHERE action = 'release.prune'")
    ] == ["1.0.0"]
    assert look_over(server, "doctor") == 0
    assert look_over(server, "backup", str(tmp_path / "backup")) == 0


def test_pruned_release_comes_back_by_being_published_again(
    server: Server, releases: dict[str, Built], file_of: Callable[[str], Path]
) -> None:
    assert server.api("POST", "releases/1.1.0/withdraw")[0] == 200
    age(server, 31)
    prune(server)
    status, answer = server.api("POST", "releases/1.1.0/restore")
    assert (status, answer["error"]["code"]) == (409, "pruned")
    assert server.publish(releases["1.1.0"])[0] == 201
    assert file_of("1.1.0").exists()
    device = Device(server)
    device.check_in()
    order = {"version": "1.1.0", "device": device.id}
    assert server.api("POST", "rollouts", order)[0] == 409, (
        "whoever publishes does not take a withdrawal back"
    )
    assert server.api("POST", "releases/1.1.0/restore")[0] == 200
    assert server.api("POST", "rollouts", order)[0] in (200, 201)
    assert device.check_in().wanted == releases["1.1.0"].manifest_digest
    status, _, body = device.request("GET", f"/v1/payload/{releases['1.1.0'].digest}")
    assert (status, body) == (200, releases["1.1.0"].file)


def test_prune_that_was_cut_off_goes_on_the_next_time(server: Server, file_of: Callable[[str], Path]) -> None:
    assert server.api("POST", "releases/1.0.0/withdraw")[0] == 200
    age(server, 31)
    with databases.beside(server.data / "fota.db") as beside:  # and no file went
        beside.execute("UPDATE releases SET pruned_at = 1 WHERE version = ?", ("1.0.0",))
    assert "0 releases" in prune(server)
    assert not file_of("1.0.0").exists()
    assert file_of("1.1.0").exists()


def test_file_that_somebody_is_publishing_again_stays(server: Server, file_of: Callable[[str], Path]) -> None:
    assert server.api("POST", "releases/1.0.0/withdraw")[0] == 200
    age(server, 31)
    os.utime(file_of("1.0.0"))
    prune(server)
    assert file_of("1.0.0").exists()
