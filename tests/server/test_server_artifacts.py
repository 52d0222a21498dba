"""Where artifacts are kept: the same of a folder and of a bucket; and what a bucket does to a server."""

import asyncio
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from buckets import ACCESS, CREDENTIALS, SECRET, Bucket, Moto, fronted
from server_world import Device, Keys, Server, build_release, fota

from fota_server import artifacts, bucket, config, device_plane
from fota_server.artifacts import ArtifactsAway, ArtifactStore, FolderStore, open_artifact
from fota_wire.errors import FotaError, InputError, StorageError, VerifyError


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    server = Moto()
    yield server
    server.stop()


@pytest.fixture
def remote(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "AGAIN_S", 0.0)
    monkeypatch.setitem(bucket._RETRIES, "max_retries", 0)
    with fronted(moto) as made:
        yield made


class Home:
    """A store, and how to get at what it keeps behind its back."""

    def __init__(self, store: ArtifactStore, remote: Bucket | None) -> None:
        self.store, self.remote = store, remote

    def damage(self, digest: str, content: bytes) -> None:
        if self.remote:
            self.remote.overwrite(digest, content)
        else:
            (self.store.folder / digest[:2] / digest).write_bytes(content)

    def names(self) -> list[str]:
        if self.remote:
            return [name.rpartition("/")[2] for name in self.remote.names()]
        return [path.name for path in self.store.folder.glob("??/*")]


@pytest.fixture(params=["folder", "bucket"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "folder":
        store = FolderStore(tmp_path / "artifacts", 1000)
        store.prepare()
        return Home(store, None)
    remote = request.getfixturevalue("remote")
    return Home(remote.store(tmp_path / "cache", 1000), remote)


def put(store: ArtifactStore, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    upload = store.receive(digest)
    try:
        for start in range(0, len(data), 300_000):
            upload.write(data[start : start + 300_000])
        upload.finish()
    finally:
        upload.discard()
    return digest


def content(store: ArtifactStore, digest: str) -> bytes:
    with os.fdopen(open_artifact(store, digest), "rb") as file:
        return file.read()


# What both homes are held to


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_what_was_stored_is_there_whole(home: Home, size: int) -> None:
    data = os.urandom(size)
    digest = put(home.store, data)
    assert home.store.has(digest)
    assert home.store.keep(digest)
    assert home.store.read(digest) == data
    assert content(home.store, digest) == data
    assert home.names() == [digest]
    assert home.store.why_not() is None


def test_larger_than_allowed_is_refused(home: Home) -> None:
    with pytest.raises(InputError, match="larger than 1000 bytes"):
        put(home.store, bytes(1001))
    assert home.names() == []
    assert list((home.store.folder / "tmp").iterdir()) == []


def test_no_name_is_given_to_other_content(home: Home) -> None:
    upload = home.store.receive("0" * 64)
    upload.write(b"x")
    with pytest.raises(VerifyError, match="uploaded content has SHA-256"):
        upload.finish()
    upload.discard()
    assert (home.names(), home.store.has("0" * 64)) == ([], False)
    assert list((home.store.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "../" * 20, "0" * 63, "0" * 65, "G" * 64, "0" * 63 + "/"])
def test_only_digests_are_names(home: Home, name: str) -> None:
    for call in (
        home.store.has,
        home.store.keep,
        home.store.read,
        home.store.at_hand,
        home.store.receive,
        lambda digest: home.store.remove([digest]),
        lambda digest: home.store.fetch(digest).result(),
    ):
        with pytest.raises(InputError):
            call(name)


def test_what_is_not_there_is_said_to_be_missing(home: Home) -> None:
    digest = "ab" + "0" * 62
    assert not home.store.has(digest)
    assert not home.store.keep(digest)
    assert home.store.at_hand(digest) is None
    for call in (home.store.read, lambda name: home.store.fetch(name).result()):
        with pytest.raises(VerifyError) as told:
            call(digest)
        assert told.value.code == "artifact-missing"


@pytest.mark.parametrize("other", [b"firmwarf", b"firmwar", b"firmwares", b""])
def test_damage_is_found_on_reading(home: Home, other: bytes) -> None:
    digest = put(home.store, b"firmware")
    home.damage(digest, other)
    with pytest.raises(VerifyError, match="is damaged") as told:
        home.store.read(digest)
    assert told.value.code == "artifact-damaged"


def test_forgotten_is_what_is_old(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put(home.store, b"firmware")
    assert home.store.forgotten() == []
    monkeypatch.setattr(artifacts, "FORGOTTEN_S", -100)
    assert home.store.forgotten() == [digest]


def test_old_one_that_is_to_be_kept_is_young_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put(home.store, b"firmware")
    if home.remote is None:
        os.utime(home.store.folder / digest[:2] / digest, (0, 0))
        assert home.store.forgotten() == [digest]
        assert home.store.keep(digest)
        assert home.store.forgotten() == []
    else:  # a bucket's own time cannot be set: sent again, it is new
        monkeypatch.setattr(artifacts, "FORGOTTEN_S", -100)
        assert not home.store.keep(digest)
        assert put(home.store, b"firmware") == digest


def test_removed_is_gone_and_may_be_removed_again(home: Home) -> None:
    digest, other = put(home.store, b"firmware"), put(home.store, b"other")
    for _ in range(2):
        home.store.remove([digest])
        assert (home.store.has(digest), home.store.at_hand(digest)) == (False, None)
    home.store.remove([])
    assert home.names() == [other]


def test_full_disk_is_a_storage_error(home: Home) -> None:
    upload = home.store.receive("0" * 64)
    upload._file.close()
    upload._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115  the upload closes it
    with pytest.raises(StorageError, match="disk full while storing the artifact"):
        upload.write(bytes(1000))
    upload.discard()
    assert list((home.store.folder / "tmp").iterdir()) == []


# A bucket alone


def test_what_one_server_stored_another_one_has(remote: Bucket, tmp_path: Path) -> None:
    data = os.urandom(9_500_000)
    digest = put(remote.store(tmp_path / "one"), data)
    other = remote.store(tmp_path / "two")
    assert other.at_hand(digest) is None
    assert content(other, digest) == data


def test_large_upload_is_one_request_and_leaves_no_parts(remote: Bucket, tmp_path: Path) -> None:
    digest = put(remote.store(tmp_path / "one"), os.urandom(9_500_000))
    assert [method for method, _ in remote.asked] == ["PUT"]
    assert remote.unfinished() == []
    assert remote.names() == [f"of/ours/{digest[:2]}/{digest}"]


def test_same_upload_by_two_servers_at_once_is_one_object(
    remote: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bucket._RETRIES, "max_retries", 2)  # as ever: moto answers one of two 500 at times
    stores, data = [remote.store(tmp_path / name) for name in "ab"], os.urandom(500_000)
    with ThreadPoolExecutor(2) as hands:
        digests = set(hands.map(lambda store: put(store, data), stores))
    assert [remote.object(digest) for digest in digests] == [data]


def test_who_asks_at_once_shares_one_fetch(remote: Bucket, tmp_path: Path) -> None:
    digest = put(remote.store(tmp_path / "one"), b"firmware")
    remote.asked.clear()
    remote.mode = "stuck"
    other = remote.store(tmp_path / "two")
    futures = [other.fetch(digest) for _ in range(50)]
    remote.stuck.wait()
    futures += [other.fetch(digest) for _ in range(50)]
    remote.mode = ""
    remote.go_on.set()
    for future in futures:
        future.result()
    assert [method for method, _ in remote.asked] == ["HEAD", "GET"]


def test_what_failed_is_not_asked_for_again_by_every_device(
    remote: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "AGAIN_S", 3600.0)
    store, digest = remote.store(tmp_path / "one"), "ab" + "0" * 62
    for _ in range(20):
        with pytest.raises(VerifyError):
            store.fetch(digest).result()
    assert len(remote.asked) == 1
    assert put(store, b"firmware") != digest
    assert content(store, put(store, b"firmware")) == b"firmware"


def test_cache_is_bounded_and_keeps_what_is_used(remote: Bucket, tmp_path: Path) -> None:
    everything = remote.store(tmp_path / "all")
    first, second, third = (put(everything, bytes([number]) * 400) for number in range(3))
    store = remote.store(tmp_path / "small", cache_size=1000)
    for digest in (first, second, first, third):
        content(store, digest)
    kept = {path.name for path in (tmp_path / "small").glob("??/*")}
    assert kept == {first, third}
    again = remote.store(tmp_path / "small", cache_size=1000)  # as after a restart
    content(again, second)
    assert len(list((tmp_path / "small").glob("??/*"))) == 2


def test_one_that_is_being_read_may_leave_the_cache(remote: Bucket, tmp_path: Path) -> None:
    store = remote.store(tmp_path / "small", cache_size=1000)
    digest = put(store, b"a" * 900)
    fd = open_artifact(store, digest)
    put(store, b"b" * 900)
    assert store.at_hand(digest) is None
    with os.fdopen(fd, "rb") as file:
        assert file.read() == b"a" * 900


FAULTS = {
    403: "access denied",
    401: "access denied",
    500: "answers 500",
    503: "answers 503",
    "gone": "does not answer",
    "cut": "does not answer",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bucket_that_fails_is_named_in_one_line_and_nothing_is_kept(
    remote: Bucket, tmp_path: Path, fault: Any
) -> None:
    digest = put(remote.store(tmp_path / "one"), os.urandom(5000))
    store, remote.mode = remote.store(tmp_path / "two"), fault
    with pytest.raises(ArtifactsAway) as told:
        store.fetch(digest).result()
    line = told.value.message
    assert line.startswith(f"s3://{remote.name}/of/ours: {FAULTS[fault]}"), line
    assert "\n" not in line
    assert ACCESS not in line
    assert SECRET not in line
    if fault != "cut":  # answers that are not of an object come whole
        for call in (
            lambda: store.has(digest),
            lambda: put(store, b"other"),
            store.forgotten,
            lambda: store.remove([digest]),
        ):
            with pytest.raises(ArtifactsAway):
                call()
        assert FAULTS[fault] in str(store.why_not())
    assert [path for path in (tmp_path / "two").rglob("*") if path.is_file()] == []
    remote.mode = ""
    assert len(content(store, digest)) == 5000
    assert store.why_not() is None
    assert remote.names() == [f"of/ours/{digest[:2]}/{digest}"]


def test_other_bytes_on_the_way_never_become_a_file(remote: Bucket, tmp_path: Path) -> None:
    digest = put(remote.store(tmp_path / "one"), os.urandom(5000))
    store, remote.mode = remote.store(tmp_path / "two"), "other"
    with pytest.raises(VerifyError, match="is damaged in s3://"):
        store.fetch(digest).result()
    assert [path for path in (tmp_path / "two").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("size", [4999, 5001, 0, 200_000])
def test_object_of_another_size_is_damaged(remote: Bucket, tmp_path: Path, size: int) -> None:
    digest = put(remote.store(tmp_path / "one", 100_000), os.urandom(5000))
    remote.overwrite(digest, bytes(size))
    store = remote.store(tmp_path / "two", 100_000)
    with pytest.raises(FotaError):
        store.fetch(digest).result()
    assert [path for path in (tmp_path / "two").rglob("*") if path.is_file()] == []


def test_bucket_that_is_not_there_is_said_so(remote: Bucket, tmp_path: Path) -> None:
    remote.name = "no-such-bucket"
    store = remote.store(tmp_path / "one")
    assert "there is no bucket no-such-bucket" in str(store.why_not())
    with pytest.raises(ArtifactsAway, match="there is no bucket"):
        put(store, b"firmware")


def test_device_does_not_wait_for_a_slow_bucket_and_finds_it_there_the_next_time(
    remote: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(remote.store(tmp_path / "one"), b"firmware")
    store, remote.mode = remote.store(tmp_path / "two"), "stuck"
    monkeypatch.setattr(device_plane, "FETCH_S", 0.01)

    async def ask() -> None:
        with pytest.raises(StorageError, match="still on its way from s3://"):
            await device_plane._opened(store, digest)
        remote.mode = ""
        remote.go_on.set()
        await asyncio.wrap_future(store.fetch(digest))
        os.close(await device_plane._opened(store, digest))

    asyncio.run(ask())
    assert threading.active_count() < 20


# A server with a bucket


@pytest.fixture
def own(keys: Keys, remote: Bucket, tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init()
    server.configure(**remote.settings)
    server.start()  # its environment has the credentials
    yield server
    if server.process and server.process.returncode is None:
        code, stderr = server.stop()
        assert (code, "Traceback" in stderr, SECRET in stderr) == (0, False, False), stderr


def empty_cache(server: Server) -> None:
    for path in (server.data / "cache").glob("??/*"):
        path.unlink()


def test_devices_are_served_from_a_bucket_as_from_a_folder(own: Server, keys: Keys, remote: Bucket) -> None:
    built = build_release(keys, "1.1.0", 2, 2, size=150_000)
    assert own.publish(built)[0] == 201
    assert own.api("PUT", f"artifacts/{built.digest}", raw=built.file) == (
        200,
        {"digest": built.digest, "created": False},
    )
    device = Device(own)
    device.check_in()
    assert own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[0] == 201
    assert device.check_in().wanted == built.manifest_digest
    empty_cache(own)
    path, size = f"/v1/payload/{built.digest}", len(built.file)
    for asked, status, start, end in (
        (None, 200, 0, size),
        ("bytes=0-4095", 206, 0, 4096),
        (f"bytes={size - 1}-", 206, size - 1, size),
        ("bytes=-10", 206, size - 10, size),
        (f"bytes={size}-", 416, 0, 0),
    ):
        got, headers, body = device.request("GET", path, headers={"range": asked} if asked else {})
        assert (got, body) == (status, built.file[start:end])
        assert headers["etag"] == f'"{built.digest}"'
    assert not (own.data / "artifacts").exists()
    assert remote.object(built.digest) == built.file


def test_bucket_that_is_away_stops_neither_check_ins_nor_what_is_here(
    own: Server, keys: Keys, remote: Bucket
) -> None:
    built = build_release(keys, "1.1.0", 2, 2)
    own.publish(built)
    device = Device(own)
    device.check_in()
    own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
    device.check_in()
    path = f"/v1/payload/{built.digest}"
    assert own.api("GET", "health/ready")[0] == 200
    remote.mode = 403
    status, said = own.api("GET", "health/ready")
    assert (status, said["error"]["code"]) == (503, "artifacts")
    assert "access denied" in said["error"]["message"]
    status, said = own.api("PUT", f"artifacts/{'0' * 64}", raw=b"x")
    assert (status, said["error"]["code"]) == (503, "artifacts-away")
    assert device.request("GET", path)[0] == 200, "it is in the cache"
    empty_cache(own)
    status, headers, _ = device.request("GET", path)
    assert (status, int(headers["retry-after"]) > 0) == (503, True)
    device.close()
    assert device.check_in().wanted == built.manifest_digest
    remote.mode = ""
    assert own.api("GET", "health/ready")[0] == 200


def test_server_that_dies_while_it_stores_leaves_nothing_in_the_bucket(own: Server, remote: Bucket) -> None:
    data = os.urandom(15 << 20)  # more than the network holds on its way
    digest = hashlib.sha256(data).hexdigest()
    remote.mode = "stuck PUT"

    def upload() -> None:
        with pytest.raises((OSError, http.client.HTTPException)):
            own.api("PUT", f"artifacts/{digest}", raw=data)

    hands = threading.Thread(target=upload)
    hands.start()
    remote.stuck.wait()
    own.stop(signal.SIGKILL)
    hands.join()
    remote.go_on.set()
    remote.mode = ""
    assert len(list((own.data / "cache" / "tmp").iterdir())) == 1, "what the dead server left"
    own.start()
    assert list((own.data / "cache" / "tmp").iterdir()) == []
    assert (remote.names(), remote.unfinished()) == ([], [])
    assert own.api("PUT", f"artifacts/{digest}", raw=data)[0] == 201
    assert remote.names() == [f"of/ours/{digest[:2]}/{digest}"]


def test_check_names_what_the_bucket_lacks_and_backup_says_what_is_not_in_it(
    own: Server, keys: Keys, remote: Bucket, tmp_path: Path
) -> None:
    remote.mode = 403
    done = fota("server", "doctor", "--data", str(own.data))
    assert (done.returncode, done.stderr.count("access denied")) == (1, 1), "and no release asks for it yet"
    remote.mode = ""
    first, second, third = (build_release(keys, f"1.{n}.0", n, n) for n in (1, 2, 3))
    for built in (first, second, third):
        own.publish(built)
    done = fota("server", "doctor", "--data", str(own.data))
    assert (done.returncode, f"3 releases, in s3://{remote.name}/of/ours" in done.stdout) == (0, True)
    done = fota("server", "backup", str(tmp_path / "whole"), "--data", str(own.data))
    assert done.returncode == 0, done.stderr
    assert f"not in it, as it lies elsewhere: 3 artifacts of s3://{remote.name}/of/ours" in done.stdout
    assert not (tmp_path / "whole" / "artifacts").exists()
    remote.delete(second.digest)
    remote.overwrite(third.digest, third.file[:-1])
    done = fota("server", "doctor", "--data", str(own.data))
    assert done.returncode == 1
    assert f"release 1.2.0: no artifact {second.digest}" in done.stderr
    assert f"release 1.3.0: artifact {third.digest} is damaged in s3://" in done.stderr
    assert "1.1.0" not in done.stderr
    done = fota("server", "backup", str(tmp_path / "lacks"), "--data", str(own.data))
    assert (done.returncode, second.digest[:16] in done.stderr) == (1, True)
    remote.mode = 403
    done = fota("server", "doctor", "--data", str(own.data))
    assert (done.returncode, done.stderr.count("\n"), done.stderr.count("access denied")) == (1, 1, 1)
    done = fota("server", "backup", str(tmp_path / "blind"), "--data", str(own.data))
    assert (done.returncode, "were not looked for" in done.stdout) == (0, True)


def test_refused_release_leaves_the_bucket_to_those_who_may_be_publishing_the_same(
    own: Server, keys: Keys, remote: Bucket
) -> None:
    assert own.publish(build_release(keys, "1.0.0", 1, 1))[0] == 201  # else nothing is ever cleaned up
    built = build_release(keys, "1.1.0", 2, 2)
    own.api("PUT", f"artifacts/{built.digest}", raw=built.file)
    assert own.api("POST", "releases", raw=keys.envelope(built.file, 2, signers=keys.release[:1]))[0] == 409
    assert remote.object(built.digest) == built.file
    assert own.publish(built)[0] == 201


@pytest.mark.parametrize(
    "settings",
    [
        {"artifacts": "bucket"},
        {"artifacts": "s3://"},
        {"artifacts": "s3://AKIA:secret@bucket/x"},
        {"artifacts": "s3://bucket/../x"},
        {"artifacts": "s3://bucket/x?region=y"},
        {"artifacts": "s3://bucket", "artifacts_endpoint": "http://storage.example.com"},
        {"artifacts": "s3://bucket", "artifacts_endpoint": "https://user:word@storage.example.com"},
        {"artifacts": "s3://bucket", "artifacts_region": "eu west"},
        {"artifacts": "s3://bucket", "artifacts_cache": 0},
        {"artifacts_endpoint": "https://storage.example.com"},
    ],
)
def test_setting_that_names_no_bucket_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    files = {name: f"{name}.pem" for name in config.FILES}
    (tmp_path / "config.json").write_text(json.dumps(files | settings))
    with pytest.raises(InputError, match=r"config\.json: artifacts") as told:
        config.load_config(tmp_path, {})
    assert "secret" not in told.value.message
    assert "word" not in told.value.message


def test_without_obstore_the_setting_says_what_to_install(keys: Keys, tmp_path: Path) -> None:
    server = Server(keys, tmp_path / "data").init()
    server.configure(artifacts="s3://bucket/ours")
    without = "import sys; sys.modules['obstore'] = None; from fota_cli.entry import main; main()"
    command = [sys.executable, "-c", without, "server", "run", "--data", str(server.data), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert "this needs the Python library obstore: pip install 'obstore" in done.stderr
    assert "'.[s3]'" in done.stderr
    assert json.loads((server.data / "config.json").read_text())["artifacts"] == "s3://bucket/ours"
