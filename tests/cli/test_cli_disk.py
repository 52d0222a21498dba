"""A disk that is full: one line that names what was to be written there, exit code 5, nothing left behind."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from server_world import Keys, Server, fota
from walk_world import World

SIZE = 640 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of `SIZE` bytes."""
    folder, libc = tmp_path / "disk", ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    if os.geteuid() != 0 or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=%d" % SIZE) != 0:
        pytest.skip("only root may mount a file system to fill")
    try:
        yield folder
    finally:
        libc.umount2(bytes(folder), 2)


def fill(disk: Path, *, but: int = 0) -> None:
    """Fill the disk, and free ``but`` bytes of it again."""
    with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - but)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("vdev create {disk}/x.vdev", "{disk}/x.vdev"),
        ("keys new image/x -o {disk}/x.pem", "{disk}/x.pem"),
        ("keys example {disk}", "{disk}/README.md"),
        ("keys public image-a.pem -o {disk}/x.pub", "{disk}/x.pub"),
        ("sign app.bin -o {disk}/x.img --key image-a.pem --version 1.2.3 --security-counter 3 --model m"
         " --vendor-domain example.com --linked-for 0x08004200", "{disk}/x.img"),
        ("manifest new image.img -o {disk}/x.suit --sequence 1 --vendor-domain example.com --model m",
         "{disk}/x.suit"),
        ("root sign root.cbor --key root-3.pem -o {disk}/x.cbor", "{disk}/x.cbor"),
        ("ca new -o {disk}/ca.pem --cert {disk}/ca.crt --name CA", "{disk}/ca.pem"),
        ("provision plan --image-key-a image-a.pub.pem --image-key-b image-b.pub.pem -o {disk}/x.json",
         "{disk}/x.json"),
        ("provision device blank.vdev --image-key-a image-a.pub.pem --image-key-b image-b.pub.pem"
         " --ca-key device-ca.pem --ca-cert device-ca.crt --ledger {disk}/ledger", "{disk}/ledger"),
        ("provision device blank.vdev --image-key-a image-a.pub.pem --image-key-b image-b.pub.pem"
         " --ca-key device-ca.pem --ca-cert device-ca.crt --work {disk}/new/work", "{disk}/new/work/0123"),
        ("provision batch --count 1 --image-key-a image-a.pub.pem --image-key-b image-b.pub.pem"
         " --ca-key device-ca.pem --ca-cert device-ca.crt --ledger {disk}/ledger --devices {disk}/a/b",
         "{disk}/ledger"),
        ("keys example {disk}/new/keys", "{disk}/new/keys/README.md"),
        ("agent card image.img release.suit -o {disk}/card", "{disk}/card"),
        ("vdev run blank.vdev --time-ms 1 --bus-log {disk}/x.log", "{disk}/x.log"),
    ],
)  # fmt: skip
def test_what_was_to_be_written_to_a_full_disk_is_named(
    world: World, disk: Path, line: str, named: str
) -> None:
    fill(disk)
    done = world.run(line.format(disk=disk).split())
    told = [text for text in done["err"].splitlines() if not text.startswith("-- ")]
    assert (done["code"], len(told)) == (5, 1), done
    assert named.format(disk=disk) in done["err"]
    assert "No space left" in done["err"] or "disk full" in done["err"]
    assert [str(path) for path in disk.rglob("*")] == [f"{disk}/ballast"]


@pytest.mark.parametrize("free", [0, 65536])
def test_backup_onto_a_full_disk_names_that_disk(keys: Keys, tmp_path: Path, disk: Path, free: int) -> None:
    server = Server(keys, tmp_path / "data").init().start()
    assert server.stop()[0] == 0
    fill(disk, but=free)
    done = fota("server", "backup", str(disk / "copy"), "--data", str(server.data))
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert str(disk / "copy") in done.stderr or str(disk / ".copy") in done.stderr
    assert str(server.data) not in done.stderr
    assert "No space left" in done.stderr or "disk full" in done.stderr
    assert [path.name for path in disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize("free", [0, 16384, 131072])
def test_server_on_a_full_disk_says_so_whatever_sqlite_calls_it(keys: Keys, disk: Path, free: int) -> None:
    server = Server(keys, disk / "data").init()
    fill(disk, but=free)
    done = fota("server", "run", "--data", str(server.data), "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert "fota.db" in done.stderr
    assert "disk full: free some space" in done.stderr
