"""Private keys of a server: nobody else on the machine can read them, and ASSIGN says what it is for."""

from pathlib import Path

import pytest
from server_world import Keys, Server, fota

KEYS = {"assign_key": "assign.pem", "tls_key": "server.pem"}


def set_up(keys: Keys, data: Path, *options: str) -> tuple[int, str]:
    done = fota("server", "init", "--data", str(data), "--keys", str(keys.folder), *options)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", KEYS.values())
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
def test_key_that_others_can_read_is_not_taken(tmp_path: Path, name: str, mode: int) -> None:
    keys = Keys(tmp_path / "keys")
    path = keys.folder / name
    path.chmod(mode)
    code, said = set_up(keys, tmp_path / "data")
    assert (code, said.count("\n"), f"chmod 600 {path}" in said) == (3, 1, True), said
    assert not (tmp_path / "data").exists()
    path.chmod(0o600)
    assert set_up(keys, tmp_path / "data")[0] == 0


@pytest.mark.parametrize("name", KEYS)
def test_key_that_was_opened_to_others_later_stops_the_next_start(tmp_path: Path, name: str) -> None:
    keys = Keys(tmp_path / "keys")
    Server(keys, tmp_path / "data").init()
    copy = tmp_path / "data" / "keys" / f"{name.replace('_', '-')}.pem"
    copy.chmod(0o644)
    done = fota("server", "run", "--data", str(tmp_path / "data"), "--port", "0")
    assert (done.returncode, f"chmod 600 {copy}" in done.stderr) == (3, True), done.stderr


def test_assign_key_that_does_not_say_what_it_is_for_is_not_taken(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    path = keys.folder / "assign.pem"
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    code, said = set_up(keys, tmp_path / "data")
    assert (code, f"fota keys import {path} --role assign/NAME" in said) == (3, True), said


def test_encrypted_assign_key_says_where_its_password_comes_from(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    path = keys.folder / "assign.pem"
    path.unlink()
    password = "correct-horse"
    assert (
        fota("keys", "new", "assign/1", "-o", str(path), env={"FOTA_KEY_PASSWORD": password}).returncode == 0
    )
    for given in ({}, {"FOTA_ASSIGN_PASSWORD": "another-horse"}):
        done = fota("server", "init", "--data", str(tmp_path / "data"), "--keys", str(keys.folder), env=given)
        assert (done.returncode, "FOTA_ASSIGN_PASSWORD" in done.stderr) == (3, True), done.stderr


def test_published_example_keys_are_no_secret(tmp_path: Path) -> None:
    example, own = tmp_path / "example", Keys(tmp_path / "keys")
    assert fota("keys", "example", str(example)).returncode == 0
    for name in KEYS.values():
        (example / name).chmod(0o644)
    for allowed, code in (("--allow-example-keys",), 0), ((), 1):
        done = fota(
            *("server", "init", "--data", str(tmp_path / f"data{code}"), "--keys", str(example)),
            *("--root", str(own.folder / "root.cbor"), *allowed),
        )
        assert done.returncode == code, done.stderr
