"""Files of a command line: read once, written whole, by one, and never over what was read."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lifeline import HANG_S

from fota_wire import files
from fota_wire.errors import InputError, StorageError

NOBODY = 65534


@pytest.fixture(autouse=True)
def a_command_begins() -> None:
    files.begin()


@pytest.mark.parametrize("size", [99, 100, 101])
def test_input_is_read_up_to_its_limit(tmp_path: Path, size: int) -> None:
    path = tmp_path / "in"
    path.write_bytes(bytes(size))
    if size > 100:
        with pytest.raises(InputError, match="larger than 100 bytes"):
            files.read_input(path, 100)
    else:
        assert files.read_input(path, 100) == bytes(size)


def test_pipe_is_read_once_and_known_ever_after() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"key")
    os.close(writer)
    path = Path(f"/dev/fd/{reader}")
    assert files.read_input(path) == files.read_input(path) == b"key"
    os.close(reader)


@pytest.mark.parametrize("name", ["none", "none/x", ".", "x" * 300])
def test_name_that_leads_to_no_file_is_bad_input(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        files.read_input(tmp_path / name)


def test_endless_file_is_too_large() -> None:
    with pytest.raises(InputError, match="larger than 10 bytes"):
        files.read_input(Path("/dev/zero"), 10)


@pytest.mark.parametrize("way", ["itself", "hard link", "other name"])
def test_input_is_never_an_output(tmp_path: Path, way: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"key")
    output = {
        "itself": path,
        "hard link": tmp_path / "hard",
        "other name": tmp_path / "." / "x" / ".." / "key",
    }[way]
    (tmp_path / "x").mkdir()
    if way == "hard link":
        output.hardlink_to(path)
    files.read_input(path)
    with pytest.raises(InputError, match="used by this command already"):
        files.write_output(output, b"other", force=True)
    assert path.read_bytes() == b"key"


@pytest.mark.parametrize("swap_at", [1, 2])
def test_stream_that_becomes_a_link_to_a_key_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap_at: int
) -> None:
    """Between the look at what it is and the writing, that is."""
    key, output = tmp_path / "key", tmp_path / "out"
    key.write_bytes(b"key")
    output.symlink_to("/dev/null")
    looks = []
    look = files._is_stream

    def look_and_swap(path: Path) -> bool:
        found = look(path)
        looks.append(found)
        if len(looks) == swap_at:
            output.unlink()
            output.symlink_to(key)
        return found

    monkeypatch.setattr(files, "_is_stream", look_and_swap)
    with suppress(StorageError):  # "it has become a file"
        files.write_output(output, b"other", force=True)
    assert looks[:1] == [True]
    assert len(looks) >= swap_at
    assert key.read_bytes() == b"key"


@pytest.mark.parametrize("way", ["hard link", "link", "folder", "pipe"])
def test_lock_is_not_taken_through_another_files_name(tmp_path: Path, way: str) -> None:
    key, lock = tmp_path / "key", tmp_path / "lock"
    key.write_bytes(b"key")
    if way == "hard link":
        lock.hardlink_to(key)
    elif way == "link":
        lock.symlink_to(key)
    elif way == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(StorageError):
        files.take_lock(lock, key, "is in use")
    assert key.read_bytes() == b"key"


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_lock_that_the_file_system_does_not_give_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))

    def no_locks(_fd: int, _operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StorageError, match=f"gives no locks: {os.strerror(error)}") as told:
        files.take_lock(tmp_path / "lock", tmp_path, "is in use")
    assert told.value.code != "locked"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_lock_is_in_use_while_another_has_it(tmp_path: Path) -> None:
    fd = files.take_lock(tmp_path / "lock", tmp_path, "is in use")
    with pytest.raises(StorageError, match=f"is in use by {os.getpid()}") as told:
        files.take_lock(tmp_path / "lock", tmp_path, "is in use by {pid}")
    assert told.value.code == "locked"
    os.close(fd)
    os.close(files.take_lock(tmp_path / "lock", tmp_path, "is in use"))


def test_lock_that_its_holder_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between opening and locking it: the lock on a file that has no name any more would be nobody's."""
    lock, opened, opening = tmp_path / "lock", [], files.open_lock

    def open_and_remove(path):
        opened.append(opening(path))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(files, "open_lock", open_and_remove)
    fd = files.take_lock(lock, tmp_path, "is in use")
    assert os.path.samestat(os.fstat(fd), lock.stat())
    assert len(opened) == 2
    os.close(fd)


def test_input_is_replaced_where_that_is_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes(b"1")
    files.write_output(path, files.read_input(path) + b"2", over=path)
    assert path.read_bytes() == b"12"


def test_output_of_this_run_is_not_written_twice(tmp_path: Path) -> None:
    files.write_output(tmp_path / "x", b"1", force=True)
    with pytest.raises(InputError):
        files.write_output(tmp_path / "x", b"2", force=True)
    assert (tmp_path / "x").read_bytes() == b"1"


def test_of_many_that_write_one_name_one_does(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from fota_wire import files\n"
        "sys.stdin.read()\n"  # until all are there
        "try: files.write_output(pathlib.Path('out'), sys.argv[1].encode() * 1000)\n"
        "except files.InputError: sys.exit(3)"
    )
    many = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], cwd=tmp_path, stdin=subprocess.PIPE)
        for n in range(8)
    ]
    for one in many:
        one.stdin.close()  # type: ignore[union-attr]
    codes = [one.wait(HANG_S) for one in many]
    assert sorted(codes) == [0] + 7 * [3]
    assert (tmp_path / "out").read_bytes() == str(codes.index(0)).encode() * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    files.write_output(tmp_path / "key", b"x", secret=True)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("force", [False, True])
def test_output_that_fails_leaves_nothing(tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"{tmp_path}/none: no such folder: make it first"):
        files.write_output(tmp_path / "none" / "x", b"1", force=force)
    with pytest.raises(InputError, match=f"{tmp_path}/file is no folder"):
        files.take_lock(tmp_path / "file/x.lock", tmp_path / "file/x", "is busy")
    with pytest.raises(InputError):
        files.write_output(tmp_path, b"1", force=force)
    with pytest.raises(StorageError, match="No space left"):
        files.write_output(Path("/dev/full"), b"1", force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_output(pipe, b"x", force=True)
    with pytest.raises(StorageError, match="not a regular file"):
        files.write_atomic(pipe, b"y")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.fixture
def shut() -> Iterator[Path]:
    """A folder into which this process may not write; root is somebody else for so long."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield folder
    if user == 0:
        os.seteuid(0)
    folder.rmdir()


def test_folder_that_takes_no_file_is_found_before_the_work_is_done(shut: Path) -> None:
    with pytest.raises(StorageError, match="Permission denied"):
        files.check_output(shut / "secret", force=False)
    with pytest.raises(StorageError, match="Permission denied"):
        files.write_output(shut / "secret", b"secret")
