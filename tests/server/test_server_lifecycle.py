"""Starting, stopping, killing, filling the disk: what is left behind."""

import hashlib
import json
import os
import resource
import signal
import socket
import sqlite3
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from lifeline import HANG_S, until
from server_world import (
    Built,
    Device,
    Keys,
    Refused,
    Server,
    build_release,
    fota,
    key_pem,
    new_key,
)

from fota_server.listener import bind
from fota_wire import example_keys
from fota_wire.errors import InputError


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Any:
    """A server of the test's own, set up and not started."""
    server = Server(keys, tmp_path / "data").init()
    yield server
    if server.process and server.process.poll() is None:
        server.stop(signal.SIGKILL)


def test_no_collection_of_cycles_walks_over_what_a_server_has_loaded(own: Server, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > len(gc.get_objects()), file=sys.stderr))\n"
    )
    own.start(env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert Device(own).check_in()
    _, said = own.stop()
    assert said.splitlines()[-1] == "True"


def test_first_start_makes_everything_and_prints_no_secret(own: Server) -> None:
    own.start()
    assert own.ready_line == (
        f"fota-server ready: devices https://127.0.0.1:{own.device_port}, operators {own.operator_url}\n"
    )
    token = own.data / "operator.token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert own.data.stat().st_mode & 0o777 == 0o700
    for name in ("assign-key.pem", "tls-key.pem"):
        assert (own.data / "keys" / name).stat().st_mode & 0o777 == 0o600
    assert json.loads((own.data / "server.json").read_text())["pid"] == own.process.pid  # type: ignore[union-attr]
    code, stderr = own.stop()
    assert (code, stderr) == (0, "")
    assert not (own.data / "server.json").exists()
    assert own.token not in own.ready_line


def test_second_start_keeps_token_and_data(own: Server) -> None:
    own.start()
    token = own.token
    own.api("POST", "groups", {"name": "kept"})
    own.stop()
    own.start()
    assert own.token == token
    assert own.api("GET", "groups")[1]["groups"][0]["name"] == "kept"
    assert own.stop()[0] == 0


def test_second_server_on_the_same_folder_is_one_clear_error(own: Server) -> None:
    own.start()
    done = fota("server", "run", "--data", str(own.data), "--port", "0")
    assert done.returncode == 5
    assert done.stdout == ""
    pid = own.process.pid  # type: ignore[union-attr]
    assert done.stderr == (
        f"fota: error: {own.data} is in use by another server (process {pid}): stop it first\n"
    )
    assert own.api("GET", "health/ready")[0] == 200


@pytest.mark.parametrize("by", ["name", "link"])
def test_second_folder_that_names_the_same_database_is_refused(own: Server, tmp_path: Path, by: str) -> None:
    own.start()
    place = own.data / "fota.db"
    if by == "link":
        place = tmp_path / "linked.db"
        place.symlink_to(own.data / "fota.db")
    other = Server(own.keys, tmp_path / "other").init("--database-url", f"sqlite:///{place}")
    assert own.process
    holder = f"in use by another server (process {own.process.pid})"
    busy = f"fota: error: {own.data / 'fota.db'} is {holder}: each needs a database"
    for command in (("run", "--port", "0"), ("migrate",)):
        done = fota("server", *command, "--data", str(other.data))
        assert (done.returncode, done.stderr) == (5, busy + " of its own\n")
    assert fota("server", "token", "list", "--data", str(other.data)).returncode == 0
    assert own.rows("SELECT value FROM meta WHERE key = 'running'"), "a look does not take the mark away"
    assert own.api("GET", "health/ready")[0] == 200
    assert own.stop()[0] == 0
    assert fota("server", "migrate", "--data", str(other.data)).returncode == 0


def test_port_that_is_taken_is_one_clear_error(own: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = fota("server", "run", "--data", str(own.data), "--host", "127.0.0.1", "--port", str(port))
    assert done.returncode == 5
    assert done.stderr.startswith(f"fota: error: cannot listen on 127.0.0.1 port {port}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("198.51.100.1", "cannot listen on 198.51.100.1: this machine has no such address"),
        ("x" * 64, "it is no address, nor a name we know"),
    ],
)
def test_address_that_nobody_has_is_no_matter_of_ports(host: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        bind(host, 0)


def test_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    done = fota("server", "run", "--data", str(tmp_path / "none"))
    assert done.returncode == 3
    assert (
        "pass --tls-cert, --tls-key, --device-ca, --root, --assign-key, or run 'fota server init"
        in done.stderr
    )
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_init_twice_is_refused_and_keeps_the_first(own: Server, keys: Keys) -> None:
    before = (own.data / "config.json").read_bytes()
    done = fota("server", "init", "--data", str(own.data), "--keys", str(keys.folder))
    assert done.returncode == 3
    assert "is set up already" in done.stderr
    assert (own.data / "config.json").read_bytes() == before


def test_run_takes_all_files_from_options(keys: Keys, tmp_path: Path) -> None:
    files = {"tls-cert": "server.crt", "tls-key": "server.pem", "device-ca": "device-ca.crt"}
    files |= {"root": "root.cbor", "assign-key": "assign.pem"}
    options = [item for name, file in files.items() for item in (f"--{name}", str(keys.folder / file))]
    server = Server(keys, tmp_path / "data", *options).start()
    assert server.api("GET", "health/ready")[0] == 200
    assert server.stop()[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("assign-key.pem", b"nonsense", 3, "not a private key"),
        ("assign-key.pem", None, 3, "No such file"),
        ("tls-key.pem", b"nonsense", 3, "TLS certificate"),
        ("tls-cert.crt", b"nonsense", 3, "not a certificate in PEM"),
        ("device-ca.crt", b"", 3, "not a certificate in PEM"),
        ("root.cbor", b"\xff", 3, ""),
    ],
)
def test_file_that_is_not_usable_is_one_clear_error(
    own: Server, name: str, content: bytes | None, code: int, said: str
) -> None:
    path = own.data / "keys" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    done = fota("server", "run", "--data", str(own.data), "--port", "0")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("fota: error: ")
    assert done.stderr.count("\n") == 1


def test_assign_key_that_root_does_not_name_is_refused(own: Server, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(key_pem(new_key()))
    other.chmod(0o600)
    done = fota("server", "run", "--data", str(own.data), "--port", "0", "--assign-key", str(other))
    assert done.returncode == 1
    assert "does not name the ASSIGN key" in done.stderr


def test_other_genesis_root_is_refused_once_set_up(own: Server, tmp_path: Path) -> None:
    own.start()
    own.stop()
    (own.data / "keys" / "root.cbor").write_bytes(own.keys.root_document(1, min_sequence=1))
    done = fota("server", "run", "--data", str(own.data), "--port", "0")
    assert done.returncode == 1
    assert "is not the ROOT that" in done.stderr


def test_published_example_key_is_refused_unless_allowed(keys: Keys, tmp_path: Path) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    number = int.from_bytes(hashlib.sha256(example_keys.SEED + b"\0assign").digest(), "big") % (order - 1) + 1
    path = tmp_path / "assign.pem"
    path.write_bytes(key_pem(ec.derive_private_key(number, ec.SECP256R1())))
    arguments = ["--data", str(tmp_path / "data"), "--keys", str(keys.folder), "--assign-key", str(path)]
    done = fota("server", "init", *arguments)
    assert done.returncode == 1
    assert "a published example key" in done.stderr
    assert not (tmp_path / "data").exists()
    assert fota("server", "init", *arguments, "--allow-example-keys").returncode == 0
    assert json.loads((tmp_path / "data" / "config.json").read_text())["allow_example_keys"] is True


def test_encrypted_assign_key_needs_its_password_to_be_set_up(keys: Keys, tmp_path: Path) -> None:
    path, data = tmp_path / "assign.pem", tmp_path / "data"
    label = (keys.folder / "assign.pem").read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(
        label
        + keys.assign.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct horse")
        )
    )
    path.chmod(0o600)
    arguments = ["--data", str(data), "--keys", str(keys.folder), "--assign-key", str(path)]
    for env in ({}, {"FOTA_ASSIGN_PASSWORD": "wrong"}):
        done = fota("server", "init", *arguments, env=env)
        assert done.returncode == 3
        assert "password" in done.stderr
        assert not data.exists()
    assert fota("server", "init", *arguments, env={"FOTA_ASSIGN_PASSWORD": "correct horse"}).returncode == 0
    assert (data / "keys").is_dir()


def test_sigterm_lets_a_running_download_finish(own: Server, keys: Keys) -> None:
    own.start()
    built = build_release(keys, "1.1.0", 2, 2, size=400_000)
    own.publish(built)
    device = Device(own)
    device.check_in()
    own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
    device.check_in()
    plain = socket.create_connection(("127.0.0.1", own.device_port), timeout=HANG_S)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    with device.context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(f"GET /v1/payload/{built.digest} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        data = connection.recv(1000)
        own.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        time.sleep(0.3)
        while chunk := connection.recv(65536):
            data += chunk
    assert data.partition(b"\r\n\r\n")[2] == built.file
    device.close()
    assert own.process.wait(HANG_S) == 0  # type: ignore[union-attr]
    own.process.communicate()  # type: ignore[union-attr]


def test_kill_within_an_upload_leaves_no_half_artifact(own: Server, keys: Keys) -> None:
    own.start()
    built = build_release(keys, "1.1.0", 2, 2, size=300_000)
    context = ssl.create_default_context(cafile=str(keys.server_ca))
    plain = socket.create_connection(("127.0.0.1", own.operator_port), timeout=HANG_S)
    with context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=True) as connection:
        head = f"PUT /api/v1/artifacts/{built.digest} HTTP/1.1\r\nhost: x\r\n"
        connection.sendall(
            f"{head}authorization: Bearer {own.token}\r\ncontent-length: {len(built.file)}\r\n\r\n".encode()
            + built.file[:200_000]
        )
        until(lambda: sum(path.stat().st_size for path in own.tmp_files()) > 0)
        own.stop(signal.SIGKILL)
    final = own.data / "artifacts" / built.digest[:2] / built.digest
    assert not final.exists()
    assert len(own.tmp_files()) == 1, "what the dead server left"
    own.start()
    assert own.tmp_files() == []
    assert own.publish(built)[0] == 201
    assert final.read_bytes() == built.file
    assert own.stop()[0] == 0


@pytest.mark.parametrize("pause_s", [0.005, 0.03])
def test_kill_while_publishing_leaves_all_or_nothing(own: Server, keys: Keys, pause_s: float) -> None:
    own.start()
    built = build_release(keys, "1.1.0", 2, 2)
    assert own.api("PUT", f"artifacts/{built.digest}", raw=built.file)[0] == 201
    answers: list[Any] = []

    def publish() -> None:
        try:
            answers.append(own.api("POST", "releases", raw=built.envelope))
        except Exception as exc:
            answers.append(exc)

    thread = threading.Thread(target=publish)
    thread.start()
    time.sleep(pause_s)
    own.stop(signal.SIGKILL)
    thread.join()
    own.start()
    rows, audit = (
        own.rows("SELECT * FROM releases"),
        own.rows("SELECT * FROM audit WHERE action = 'release.publish'"),
    )
    assert len(rows) == len(audit)
    if isinstance(answers[0], tuple):
        assert len(rows) == 1, "what was acknowledged is there"
    assert own.api("POST", "releases", raw=built.envelope)[0] == (200 if rows else 201)
    assert own.stop()[0] == 0


def test_kill_does_not_make_a_used_report_good_again(own: Server) -> None:
    own.start()
    device = Device(own)
    device.check_in()
    raw = device.report()
    assert device.check_in(raw_report=raw).response.report_status == "accepted"
    device.close()
    own.stop(signal.SIGKILL)
    own.start()
    assert device.check_in(raw_report=raw).response.report_status.startswith("refused")
    device.close()
    assert own.stop()[0] == 0


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_disk_that_takes_no_more_is_507_and_leaves_nothing(own: Server, keys: Keys) -> None:
    own.start()
    own.stop()
    own.start(preexec_fn=limit_files)
    built = build_release(keys, "1.1.0", 2, 2, size=480_000)
    status, answer = own.api("PUT", f"artifacts/{built.digest}", raw=built.file + bytes(5_000_000))
    assert (status, answer["error"]["code"]) == (507, "storage")
    assert own.tmp_files() == []
    assert not (own.data / "artifacts" / built.digest[:2] / built.digest).exists()
    assert own.api("GET", "health/ready")[0] == 200
    code, stderr = own.stop()
    assert code == 0
    assert "Traceback" not in stderr


def test_database_that_cannot_grow_answers_and_recovers(own: Server) -> None:
    own.start()
    device = Device(own)
    device.check_in()
    path = own.data / "fota.db"

    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Refused) as refused:
        device.check_in()
    assert refused.value.args[0] == 503
    blocker.execute("ROLLBACK")
    blocker.close()
    assert device.check_in().response.report_status == "accepted"
    device.close()
    code, stderr = own.stop()
    assert (code, "Traceback" in stderr) == (0, False)


def test_build_of_world_is_a_firmware_image(releases: dict[str, Built]) -> None:
    assert releases["1.2.0"].image.version == (1, 2, 0, 0)


@pytest.mark.parametrize("wrong", ["--root", "--tls-key", "--device-ca"])
def test_init_takes_no_file_that_run_would_refuse(keys: Keys, tmp_path: Path, wrong: str) -> None:
    other = {
        "--root": keys.folder / "server.crt",
        "--tls-key": keys.folder / "assign.pem",
        "--device-ca": keys.folder / "root.cbor",
    }[wrong]
    arguments = ["--data", str(tmp_path / "d"), "--keys", str(keys.folder), "--allow-example-keys"]
    done = fota("server", "init", *arguments, wrong, str(other))
    assert done.returncode in (1, 3), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert str(other) in done.stderr
    assert not (tmp_path / "d").exists()
    assert fota("server", "init", *arguments).returncode == 0
