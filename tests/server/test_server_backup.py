"""A server's life in another folder and back, and a server that does not begin anew where one has been."""

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_world import FOTA, Built, Device, Keys, Refused, Server, build_release, fota

from fota_server import backup


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    yield server
    if server.process and server.process.returncode is None:
        assert server.stop()[0] == 0


def with_a_history(server: Server, built: Built) -> tuple[Device, Device]:
    """Publish a release; return a device that is retired and one that is assigned the release."""
    assert server.publish(built)[0] == 201
    retired, device = Device(server), Device(server)
    retired.check_in()
    device.check_in()
    assert server.api("POST", f"devices/{retired.id}/retire", {"reason": "lost"})[0] == 200
    assert server.api("POST", "rollouts", {"version": built.version, "device": device.id})[0] == 201
    retired.close()
    return retired, device


def test_backup_of_a_running_server_is_all_of_it(own: Server, keys: Keys, tmp_path: Path) -> None:
    built = build_release(keys, "1.1.0", 2, 2, size=50_000)
    retired, device = with_a_history(own, built)
    done = fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data))
    assert done.returncode == 0, done.stderr
    assert "2 devices (1 retired), 1 releases, with the private keys" in done.stdout
    Device(own).check_in()  # after the backup, and not in it
    device.close()
    own.stop(signal.SIGKILL)

    done = fota("server", "restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert "after that is not in it" in done.stdout
    again = Server(keys, tmp_path / "new")
    (tmp_path / "new" / "operator.token").write_text(own.token)  # a backup has no token in it
    again.start()
    try:
        retired.server = device.server = again
        with pytest.raises(Refused):
            retired.check_in()
        answer = device.check_in()
        assert answer.wanted == built.manifest_digest
        assert device.request("GET", f"/v1/payload/{built.digest}")[2] == built.file
        assert len(again.api("GET", "devices")[1]["devices"]) == 2
        assert fota("server", "doctor", "--data", str(again.data)).returncode == 0
    finally:
        device.close()
        again.stop()


def test_backup_holds_secrets_and_says_so_and_nobody_else_may_read_it(own: Server, tmp_path: Path) -> None:
    fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data))
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert all(own.token.encode() not in path.read_bytes() for path in files), "tokens are hashes only"
    done = fota(
        "server", "backup", str(tmp_path / "bare"), "--data", str(own.data), "--without-keys", "--json"
    )
    assert json.loads(done.stdout)["keys"] is False
    names = {path.name for path in (tmp_path / "bare" / "keys").iterdir()}
    assert names == {"device-ca.crt", "root.cbor", "tls-cert.crt"}
    done = fota("server", "restore", str(tmp_path / "bare"), "--data", str(tmp_path / "new"))
    assert "made without private keys" in done.stdout


@pytest.mark.parametrize("what", ["fota.db", "keys/root.cbor", "config.json", "backup.json"])
def test_damaged_backup_is_not_restored(own: Server, tmp_path: Path, what: str) -> None:
    fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data))
    path = tmp_path / "copy" / what
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if what != "backup.json" else b"{}")
    done = fota("server", "restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"))
    assert done.returncode in (1, 3)
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir() if "new" in entry.name] == []


def test_backup_list_cannot_name_files_elsewhere(own: Server, tmp_path: Path) -> None:
    fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data))
    listing = json.loads((tmp_path / "copy" / "backup.json").read_text())
    for name in ("../escaped", "/etc/passwd", "keys/../../escaped", "operator.token"):
        listing["files"] = listing["files"] | {name: "0" * 64}
        (tmp_path / "copy" / "backup.json").write_text(json.dumps(listing))
        done = fota("server", "restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"))
        assert (done.returncode, "no backup has" in done.stderr) == (3, True)


def test_nothing_is_overwritten(own: Server, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    done = fota("server", "backup", str(tmp_path / "there"), "--data", str(own.data))
    assert (done.returncode, "exists already" in done.stderr) == (3, True)
    assert fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data)).returncode == 0
    for target in (own.data, tmp_path / "there"):
        done = fota("server", "restore", str(tmp_path / "copy"), "--data", str(target))
        assert (done.returncode, "overwrites nothing" in done.stderr) == (1, True)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]


def test_backup_is_not_made_where_it_is_lost_with_its_server_or_on_a_disk_that_is_not_there(
    own: Server, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(own.data)
    before = sorted(path.name for path in own.data.iterdir())
    for target in (own.data / "copy", own.data / "keys" / "copy", tmp_path / "link" / "copy"):
        done = fota("server", "backup", str(target), "--data", str(own.data))
        assert (done.returncode, "would be lost with it" in done.stderr) == (3, True), done.stderr
    assert sorted(path.name for path in own.data.iterdir()) == before
    assert fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data)).returncode == 0
    for words in (
        ("backup", str(tmp_path / "unmounted" / "copy"), "--data", str(own.data)),
        ("restore", str(tmp_path / "copy"), "--data", str(tmp_path / "unmounted" / "data")),
    ):
        done = fota("server", *words)
        assert (done.returncode, "unmounted: no such folder" in done.stderr) == (3, True), done.stderr
    assert not (tmp_path / "unmounted").exists()


def test_lost_artifact_is_named_by_backup_and_check(own: Server, keys: Keys, tmp_path: Path) -> None:
    built = build_release(keys, "1.1.0", 2, 2)
    own.publish(built)
    (own.data / "artifacts" / built.digest[:2] / built.digest).write_bytes(b"rotten")
    done = fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data))
    assert (done.returncode, built.digest[:16] in done.stderr) == (1, True)
    assert (tmp_path / "copy" / "fota.db").exists(), "all the rest is in it"
    done = fota("server", "doctor", "--data", str(own.data))
    assert (done.returncode, "is damaged" in done.stderr) == (1, True)


# Beginning anew


def refused_to_start(data: Path) -> str:
    done = fota("server", "run", "--data", str(data), "--port", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert "--accept-loss" in done.stderr
    return done.stderr


def test_copy_of_the_database_without_its_wal_does_not_start(own: Server, keys: Keys, tmp_path: Path) -> None:
    with_a_history(own, build_release(keys, "1.1.0", 2, 2))
    for names in (["config.json", "keys", "fota.db"], ["config.json", "keys", "fota.db", "artifacts"]):
        target = tmp_path / f"copy{len(names)}"
        target.mkdir()
        for name in names:
            copy = shutil.copytree if (own.data / name).is_dir() else shutil.copy
            copy(own.data / name, target / name)
        assert "without its fota.db-wal" in refused_to_start(target)
        done = fota("server", "token", "list", "--data", str(target))
        assert (done.returncode, "without its fota.db-wal" in done.stderr) == (1, True)
        started = Server(keys, target, "--accept-loss")
        (target / "operator.token").write_text(own.token)
        started.start()
        started.stop()
        Server(keys, target).start().stop()


@pytest.mark.parametrize("sign", ["artifacts", "server.json", "operator.token", "empty database"])
def test_server_does_not_begin_anew_beside_signs_of_an_earlier_life(
    keys: Keys, tmp_path: Path, sign: str
) -> None:
    own = Server(keys, tmp_path / "data").init()
    if sign == "artifacts":
        (own.data / "artifacts" / "ab").mkdir(parents=True)
        (own.data / "artifacts" / "ab" / ("ab" + "0" * 62)).write_bytes(b"firmware")
    elif sign == "empty database":
        with sqlite3.connect(own.data / "fota.db") as database:
            database.execute("PRAGMA journal_mode = WAL")
        database.close()
    else:
        (own.data / sign).write_text("{}")
    before = sorted(path.name for path in own.data.iterdir())
    refused_to_start(own.data)
    after = sorted(path.name for path in own.data.iterdir() if not path.name.endswith("lock"))
    assert after == before, "nothing was made"
    Server(keys, own.data, "--accept-loss").start().stop()


def test_server_that_died_starts_again_also_after_a_command_beside_it(own: Server, tmp_path: Path) -> None:
    device = Device(own)
    device.check_in()
    device.close()
    own.stop(signal.SIGKILL)
    assert fota("server", "token", "list", "--data", str(own.data)).returncode == 0
    own.start()
    own.stop(signal.SIGKILL)
    own.start()
    assert own.api("GET", f"devices/{device.id}")[0] == 200
    assert own.stop()[0] == 0
    assert not (own.data / "fota.db-wal").exists()
    shutil.copytree(own.data, tmp_path / "copy")
    Server(own.keys, tmp_path / "copy").start().stop()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is no URL"),
        ("postgresql+asyncpg://db/fota", "which is not served: use sqlite:////PATH or postgresql://"),
        ("sqlite://", "which is not served"),
        ("postgresql://db", "names no database"),
        ("nosuch+driver:///x", "which is not served"),
        ("sqlite:////nowhere/at/all/fota.db", "unable to open database file"),
        ("sqlite+aiosqlite:////nowhere/at/all/fota.db", "unable to open database file"),
    ],
)
def test_database_that_cannot_be_had_is_one_line(keys: Keys, tmp_path: Path, url: str, said: str) -> None:
    own = Server(keys, tmp_path / "data").init()
    config = json.loads((own.data / "config.json").read_text())
    (own.data / "config.json").write_text(json.dumps(config | {"database_url": url}))
    done = fota("server", "run", "--data", str(own.data), "--port", "0")
    assert done.returncode in (3, 5)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"made_at": "5"},
        {"made_at": 1e300},
        {"made_at": 10**18},
        {"made_at": -(10**15)},
        {"schema": float("inf")},
        {"schema": "1"},
        {"keys": "no"},
        {"files": {"fota.db": None}},
    ],
)
def test_backup_list_that_was_tampered_with_is_not_restored(
    own: Server, tmp_path: Path, changed: dict[str, object]
) -> None:
    fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data))
    listing = json.loads((tmp_path / "copy" / "backup.json").read_text())
    (tmp_path / "copy" / "backup.json").write_text(json.dumps(listing | changed))
    done = fota("server", "restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"))
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert [entry.name for entry in tmp_path.iterdir() if "new" in entry.name] == []


A_MOMENT_S = 2
"""How long is looked at a command that waits, for as long as the other one writes."""


def test_backup_waits_for_one_that_is_being_written(own: Server, tmp_path: Path) -> None:
    command = ["server", "backup", str(tmp_path / "copy"), "--data", str(own.data)]
    with backup._new_folder(tmp_path / "copy") as unfinished:
        (unfinished / "half").write_text("so far")
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([*FOTA, *command], timeout=A_MOMENT_S, capture_output=True, check=False)
        assert (unfinished / "half").read_text() == "so far"
    done = fota(*command)
    assert (done.returncode, "exists already" in done.stderr) == (3, True)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["half"]
