"""What a command says when it cannot: one line, which file, which status, which exit code."""

import ctypes
import errno
import os
import subprocess
from pathlib import Path

import pytest
from lifeline import HANG_S
from server_world import Keys, fota


def line(*args: str, code: int, **options: str) -> str:
    """Run ``fota``; return its one line of complaint."""
    done = fota(*args, **options)  # type: ignore[arg-type]
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (("nonsense",), "fota --help"),
        (("keys", "nonsense"), "fota keys --help"),
        (("keys", "new"), "fota keys new --help"),
        (("sign", "--nonsense"), "fota sign --help"),
    ],
)
def test_usage_mistake_is_one_line_that_names_the_help(args: tuple[str, ...], where: str) -> None:
    said = line(*args, code=2)
    assert said.startswith("fota: error: ")
    assert said.endswith(f"(see '{where}')\n")


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        (b"junk", ("manifest", "new", "FILE", "--sequence", "1"), "IM1 image-magic: not a firmware image"),
        (b"\x3d\xb8\xf3\x96junk", ("inspect", "FILE"), "IM3 image-size: image is truncated"),
        (b"\xd8\x6b\xa1", ("inspect", "FILE"), "CBOR: ends too early"),
        (b"-----BEGIN CERTIFICATE-----\n", ("inspect", "FILE"), "not a certificate in PEM"),
        (b"\xd8\x6b\xa1", ("manifest", "sign", "FILE", "--key", "no.pem"), "CBOR: ends too early"),
    ],
)
def test_damaged_file_is_named_with_its_status(
    tmp_path: Path, content: bytes, args: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "damaged"
    file.write_bytes(content)
    words = [str(file) if word == "FILE" else word for word in args]
    if words[0] == "manifest":
        words += ["-o", str(tmp_path / "out")]
    if words[1] == "new":
        words += ["--vendor-domain", "example.com", "--model", "x"]
    done = fota(*words)
    assert done.returncode in (1, 3)
    assert done.stderr.startswith(f"fota: error: {file}: {said}")
    assert done.stderr.count("\n") == 1


def test_place_that_is_no_folder_is_named_and_not_the_file_that_was_to_come_first(
    keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "out"
    said = line("keys", "public", str(keys.folder / "assign.pem"), "-o", str(target), code=3)
    assert said == f"fota: error: {tmp_path / 'file'} is no folder\n"


def test_retiring_without_a_terminal_wants_a_yes() -> None:
    env = {"FOTA_SERVER": "https://127.0.0.1:1", "FOTA_TOKEN": "x"}
    assert "pass --yes" in line("device", "retire", "0123" + "00" * 7, code=2, env=env)  # type: ignore[arg-type]


def test_words_of_others_move_no_terminal(tmp_path: Path) -> None:
    said = line("inspect", str(tmp_path / "\x1b[2Jno\rsuch"), code=3)
    assert said == f"fota: error: {tmp_path}/?[2Jno?such: No such file or directory\n"


# -- fota server init ----------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Path:
    """A file system of 16 KiB; skipped where this machine lets nobody mount one."""
    folder = tmp_path / "full"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=16k") != 0:
        pytest.skip(f"no mount here: {errno.errorcode.get(ctypes.get_errno(), 'not root')}")
    try:
        yield folder  # type: ignore[misc]
    finally:
        libc.umount2(bytes(folder), 2)


def test_init_on_a_full_disk_leaves_nothing_behind(keys: Keys, full_disk: Path) -> None:
    data = full_disk / "data"
    said = line("server", "init", "--data", str(data), "--keys", str(keys.folder), code=5)
    assert "No space left on device" in said
    assert list(full_disk.iterdir()) == []


def test_init_where_no_folder_can_be_is_a_matter_of_the_disk(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = tmp_path / "file" / "data"
    said = line("server", "init", "--data", str(data), "--keys", str(keys.folder), code=5)
    assert said == f"fota: error: cannot use {data}: Not a directory\n"


def test_init_that_fails_keeps_what_was_there(keys: Keys, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "keys" / "device-ca.crt").mkdir(parents=True)
    (data / "keys" / "tls-cert.crt").write_text("mine")
    line("server", "init", "--data", str(data), "--keys", str(keys.folder), code=5)
    assert not (data / "config.json").exists()
    assert (data / "keys" / "tls-cert.crt").exists()
    assert not (data / "keys" / "tls-key.pem").exists()


def test_server_help_says_its_defaults() -> None:
    told = " ".join(fota("server", "run", "--help").stdout.split())
    for default in ("[8443]", "[8444]", "[300]", "[auto]", "[127.0.0.1]", "[0.0.0.0: every"):
        assert default in told


def test_ready_line_says_that_every_address_is_listened_on(keys: Keys, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert fota("server", "init", "--data", data, "--keys", str(keys.folder)).returncode == 0
    command = ["fota", "server", "run", "--data", data, "--port", "0"]
    from server_world import FOTA

    process = subprocess.Popen([*FOTA, *command[1:]], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert " (listening on 0.0.0.0), operators https://127.0.0.1:" in process.stdout.readline()
    finally:
        process.terminate()
        process.wait(HANG_S)
        process.stdout.close()  # type: ignore[union-attr]
