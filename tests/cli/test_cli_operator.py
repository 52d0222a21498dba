"""The operator's commands as processes of their own against a real server process."""

import json
import os
import pty
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest
from lifeline import HANG_S
from server_world import FOTA, Built, Device, Keys, Server, cert_pem, fota, make_cert, new_key

from fota_wire import cose, host_crypto
from fota_wire import root as roots

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def published(cli: Run, files: dict[str, tuple[str, str]]) -> None:
    for version, paths in files.items():
        done = cli("release", "publish", *paths)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"published {version} (sequence ")


@pytest.fixture
def device(server: Server, releases: dict[str, Built]) -> Device:
    """A device that runs and has confirmed 1.0.0."""
    fresh = Device(server)
    fresh.running = releases["1.0.0"].image
    fresh.check_in()
    fresh.check_in()
    return fresh


def parsed(done: CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def update(cli: Run, device: Device, built: Built) -> None:
    parsed(cli("rollout", "start", built.version, "--device", device.id, "--json"))
    device.check_in()
    device.take(built, state="confirmed")
    device.check_in()


class Fleet(threading.Thread):
    """Has a device check in again and again, and do what ``act`` says when it is wanted to change."""

    def __init__(self, device: Device, act: Callable[[Device], None]) -> None:
        super().__init__()
        self.device, self.act, self.ended = device, act, False

    def run(self) -> None:
        while not self.ended:
            answer = self.device.check_in()
            if answer.wanted and answer.wanted != self.device.installed:
                self.act(self.device)
            time.sleep(0.05)

    def __enter__(self) -> "Fleet":
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.ended = True
        self.join()


# Releases


def test_publishing_again_says_so(
    cli: Run, published: None, files: dict[str, tuple[str, str]], server: Server
) -> None:
    done = cli("release", "publish", *files["1.1.0"])
    assert done.returncode == 0
    assert done.stdout == "is published already: 1.1.0 (sequence 2, security counter 2)\n"
    assert len(server.rows("SELECT * FROM releases WHERE version = '1.1.0'")) == 1


def test_releases_are_listed_as_table_and_json(cli: Run, published: None, releases: dict[str, Built]) -> None:
    lines = cli("release", "list").stdout.splitlines()
    assert lines[0].split() == [
        "VERSION",
        "SEQUENCE",
        "SEC_CNT",
        "BYTES",
        "CLASS",
        "MANIFEST",
        "PUBLISHED",
        "BY",
        "FITS",
        "CAMPAIGN",
        "BARRED",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["1.0.0", "1.1.0", "1.2.0"]
    listed = parsed(cli("release", "list", "--json"))["releases"]
    assert [item["file_digest"] for item in listed] == [built.digest for built in releases.values()]


def test_release_with_one_signature_of_two_is_refused(
    cli: Run, server: Server, keys: Keys, tmp_path: Path, files: dict[str, tuple[str, str]]
) -> None:
    image = Path(files["1.1.0"][0])
    envelope = tmp_path / "one.suit"
    envelope.write_bytes(keys.envelope(image.read_bytes(), 9, signers=keys.release[:1]))
    done = cli("release", "publish", str(image), str(envelope))
    assert done.returncode == 1
    assert done.stderr == "fota: error: 1 of 2 necessary signatures\n"
    assert server.rows("SELECT * FROM releases WHERE sequence = 9") == []


def test_file_that_is_missing_or_no_firmware_is_exit_3(
    cli: Run, tmp_path: Path, keys: Keys, files: dict[str, tuple[str, str]]
) -> None:
    missing = cli("release", "publish", str(tmp_path / "none.bin"), files["1.1.0"][1])
    assert (missing.returncode, missing.stderr) == (
        3,
        f"fota: error: {tmp_path / 'none.bin'}: No such file or directory\n",
    )
    text = tmp_path / "text.bin"
    text.write_bytes(b"hello")
    envelope = tmp_path / "text.suit"
    envelope.write_bytes(keys.envelope(b"hello", 9))
    done = cli("release", "publish", str(text), str(envelope))
    says = "fota: error: IM1 image-magic: not a firmware image: magic is missing\n"
    assert (done.returncode, done.stderr) == (3, says)


def test_upload_shows_a_bar_on_a_terminal_only(
    cli: Run, published: None, server: Server, files: dict[str, tuple[str, str]]
) -> None:
    assert "uploading" not in cli("release", "publish", *files["1.1.0"]).stderr
    env = os.environ | {"FOTA_SERVER": server.operator_url, "FOTA_TOKEN": server.token, "TERM": "xterm"}
    env |= {"FOTA_CA": str(server.keys.server_ca)}
    main, side = pty.openpty()
    done = subprocess.run(
        [*FOTA, "release", "publish", *files["1.1.0"]], stderr=side, env=env, check=True, timeout=HANG_S
    )
    os.close(side)
    shown = os.read(main, 65536).decode()
    os.close(main)
    assert done.returncode == 0
    assert "uploading 1.1.0.bin" in shown
    assert "100%" in shown


# Rollouts


def test_rollout_that_is_waited_for_ends_with_its_devices_confirmed(
    cli: Run, published: None, device: Device, releases: dict[str, Built], server: Server
) -> None:
    def act(device: Device) -> None:
        device.take(releases["1.1.0"])
        device.check_in()
        device.state = "confirmed"

    with Fleet(device, act):
        done = cli("rollout", "start", "1.1.0", "--device", device.id, "--wait", "--timeout", str(HANG_S))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": 1.1.0 for 1 device(s)\n")
    assert done.stderr.splitlines()[-1] == "1/1 confirmed (done: 1 confirmed)"
    assert device.running.version == (1, 1, 0, 0)
    query = "SELECT t.state FROM devices d JOIN targets t ON t.id = d.target_id WHERE d.id = ?"
    assert server.rows(query, device.id) == [{"state": "confirmed"}]


def test_rollout_that_fails_is_exit_1_with_the_reason(
    cli: Run, published: None, device: Device, releases: dict[str, Built]
) -> None:
    def act(device: Device) -> None:
        device.installed = releases["1.2.0"].manifest_digest
        device.events = [("reverted", "AP1 self-test")]

    with Fleet(device, act):
        done = cli("rollout", "start", "1.2.0", "-d", device.id, "--wait", "--timeout", str(HANG_S), "--json")
    assert done.returncode == 1
    shown = json.loads(done.stdout)
    assert (shown["status"], shown["progress"]["reverted"], "devices" in shown) == ("failed", 1, False)
    assert f"failed: {device.id} reverted: AP1 self-test" in done.stderr
    text = cli("device", "show", device.id).stdout
    assert f"device     {device.id} (reverted)" in text
    assert "running    1.0.0 in slot A, confirmed" in text
    assert ", reverted: AP1 self-test" in text
    assert "installed  1.2.0" in text
    assert "reverted AP1 self-test" in text.splitlines()[-1]


SHORT_S = "0.2"
"""What is waited for a device that never comes."""


def test_waiting_ends_with_its_timeout(cli: Run, published: None, device: Device) -> None:
    done = cli("rollout", "start", "1.1.0", "-d", device.id, "--wait", "--timeout", SHORT_S)
    assert done.returncode == 1
    assert "is still running after 0.2 s; it goes on" in done.stderr


def test_rollout_is_paused_resumed_and_shown(
    cli: Run, published: None, device: Device, server: Server
) -> None:
    number = str(parsed(cli("rollout", "start", "1.1.0", "-d", device.id, "--json"))["id"])
    assert "0/1 confirmed (paused: 1 pending)" in cli("rollout", "pause", number).stdout
    assert server.rows("SELECT paused FROM rollouts WHERE id = ?", int(number)) == [{"paused": 1}]
    assert device.check_in().wanted is None
    assert cli("rollout", "resume", number).returncode == 0
    assert device.check_in().wanted is not None
    lines = cli("rollout", "show", number).stdout.splitlines()
    assert lines[0] == f"update {number} of 1.1.0 for device:{device.id}"
    assert lines[-1].split()[:3] == [device.id, "1.1.0", "offered"]
    first = cli("rollout", "list").stdout.splitlines()[1].split()
    assert first[:5] == [number, "update", "1.1.0", f"device:{device.id}", "running"]


def test_rollback_returns_to_the_release_before(
    cli: Run, published: None, device: Device, releases: dict[str, Built]
) -> None:
    update(cli, device, releases["1.1.0"])

    def act(device: Device) -> None:
        device.take(releases["1.0.0"], state="confirmed")

    with Fleet(device, act):
        done = cli("rollback", "--device", device.id, "--wait", "--timeout", str(HANG_S), "--json")
    assert (done.returncode, json.loads(done.stdout)["versions"]) == (0, ["1.0.0"])
    assert device.running.version == (1, 0, 0, 0)


def test_rollback_below_the_floor_is_exit_1_with_the_reason(
    cli: Run, published: None, device: Device, releases: dict[str, Built], server: Server
) -> None:
    update(cli, device, releases["1.1.0"])
    device.floor = 2
    device.check_in()
    before = server.rows("SELECT target_id FROM devices WHERE id = ?", device.id)
    done = cli("rollback", "-d", device.id, "--to", "1.0.0")
    assert done.returncode == 1
    assert done.stderr == (
        f"fota: error: device {device.id}: PO1 rollback: security counter 1 is below the device's floor 2\n"
    )
    assert server.rows("SELECT target_id FROM devices WHERE id = ?", device.id) == before


# Devices and groups


def test_device_list_keeps_installed_running_and_confirmed_apart(
    cli: Run, published: None, device: Device, releases: dict[str, Built]
) -> None:
    parsed(cli("rollout", "start", "1.1.0", "-d", device.id, "--json"))
    device.check_in()
    device.installed = releases["1.1.0"].manifest_digest
    device.check_in()
    rows = {line.split()[0]: line.split() for line in cli("device", "list").stdout.splitlines()}
    assert rows["DEVICE"] == [
        "DEVICE",
        "INSTALLED",
        "RUNNING",
        "CONFIRMED",
        "WANTED",
        "STATUS",
        "SEEN",
        "GROUPS",
    ]
    assert rows[device.id][1:6] == ["1.1.0", "1.0.0", "1.0.0", "1.1.0", "installed"]
    device.take(releases["1.1.0"])
    device.check_in()
    rows = {line.split()[0]: line.split() for line in cli("device", "list").stdout.splitlines()}
    assert rows[device.id][1:6] == ["1.1.0", "1.1.0", "-", "1.1.0", "trial"]
    shown = parsed(cli("device", "show", f" {device.id.upper()}", "--json"))  # as a label has it
    assert (shown["running"]["version"], shown["confirmed"]) == ("1.1.0", None)


def test_group_is_created_filled_and_rolled_out_to(cli: Run, published: None, server: Server) -> None:
    devices = [Device(server) for _ in range(2)]
    for device in devices:
        device.check_in()
    assert cli("group", "create", "pilot").stdout == "group pilot created\n"
    assert cli("group", "create", "pilot").stdout == "group pilot exists already\n"
    assert (
        cli("group", "add", "pilot", *(device.id.upper() for device in devices)).stdout
        == "group pilot: 2 device(s) added\n"
    )
    assert cli("group", "list").stdout.splitlines()[1].split()[:2] == ["pilot", "2"]
    assert parsed(cli("rollout", "start", "1.1.0", "-g", "pilot", "--json"))["total"] == 2
    listed = parsed(cli("device", "list", "--group", "pilot", "--json"))["devices"]
    assert {item["id"] for item in listed} == {device.id for device in devices}


def test_device_is_revoked_and_admitted_again(cli: Run, device: Device, server: Server) -> None:
    assert cli("device", "revoke", device.id).stdout == f"device {device.id}: revoked\n"
    assert server.rows("SELECT revoked FROM devices WHERE id = ?", device.id) == [{"revoked": 1}]
    assert cli("device", "admit", device.id).returncode == 0
    device.check_in()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("device", "show", "0123000000000000aa"), 3, "no device 0123000000000000aa: see 'fota device list'"),
        (("device", "show", "../tokens"), 3, "is not the id of a device, 18 hex digits"),
        (("group", "add", "nobody", "0123000000000000aa"), 3, "or create it with 'fota group create nobody'"),
        (("rollout", "show", "99999"), 3, "no rollout 99999: see 'fota rollout list'"),
        (("rollout", "start", "9.9.9", "-g", "x"), 3, "no group x: see 'fota group list'"),
        (("device", "list", "-g", "typo"), 3, "no group typo: see 'fota group list'"),
        (("rollout", "cancel", "99999"), 3, "no rollout 99999: see 'fota rollout list'"),
        (("group", "remove", "nobody", "0123000000000000aa"), 3, "no group nobody: see 'fota group list'"),
        (("group", "delete", "nobody"), 3, "no group nobody: see 'fota group list'"),
        (("release", "withdraw", "9.9.9"), 3, "no release 9.9.9: publish it first"),
        (("device", "rotate", "-g", "nobody"), 3, "no group nobody: see 'fota group list'"),
    ],
)
def test_unknown_name_says_what_to_do(cli: Run, args: tuple[str, ...], code: int, said: str) -> None:
    done = cli(*args)
    assert done.returncode == code
    assert done.stderr.startswith("fota: error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("rollout", "start", "1.0.0"), "name either --device or --group"),
        (("rollback",), "name --device, --group, --rollout or --since"),
        (("rollback", "-d", "0123000000000000aa", "-g", "y"), "name either --device or --group"),
    ],
)
def test_scope_must_be_one_thing(cli: Run, args: tuple[str, ...], said: str) -> None:
    done = cli(*args)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


# The way to the server


def test_server_that_is_down_is_exit_4_with_one_line(cli: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = cli("release", "list", FOTA_SERVER=f"https://127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"fota: error: cannot reach https://127.0.0.1:{port}: connection refused; "
        "is the server running there?\n"
    )


def test_server_that_is_somebody_else_is_exit_4(cli: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(cert_pem(make_cert("other", new_key(), ca=True)))
    done = cli("release", "list", FOTA_CA=str(other))
    assert done.returncode == 4
    assert "certificate not trusted" in done.stderr
    assert "--ca" in done.stderr
    assert done.stderr.count("\n") == 1


def test_server_that_speaks_no_tls_is_exit_4(cli: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def speak() -> None:
            connection, _ = plain.accept()
            connection.recv(100)
            connection.sendall(b"SSH-2.0-nothing\r\n")
            connection.close()

        thread = threading.Thread(target=speak)
        thread.start()
        done = cli("release", "list", FOTA_SERVER=f"https://127.0.0.1:{plain.getsockname()[1]}")
        thread.join()
    assert done.returncode == 4
    assert "TLS" in done.stderr
    assert done.stderr.count("\n") == 1


def test_device_plane_is_not_mistaken_for_the_operator_plane(cli: Run, server: Server) -> None:
    done = cli("release", "list", FOTA_SERVER=f"https://127.0.0.1:{server.device_port}")
    assert done.returncode == 4
    assert "is that the operator plane of a fota server?" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "code", "said"),
    [
        ({"FOTA_TOKEN": ""}, 2, "no API token: pass --token-file FILE, or set FOTA_TOKEN"),
        ({"FOTA_TOKEN": "fota_0_0"}, 1, "this token is unknown or revoked"),
        ({"FOTA_SERVER": ""}, 2, "which server? pass --server"),
        ({"FOTA_SERVER": "http://127.0.0.1"}, 3, "it begins with http://, and has to begin with https://"),
        ({"FOTA_SERVER": "https://127.0.0.1:x"}, 3, "its port 'x' is not a number"),
        ({"FOTA_CA": "/nonexistent.pem"}, 3, "/nonexistent.pem: No such file"),
    ],
)
def test_wrong_setting_says_what_to_do(cli: Run, overrides: dict[str, str], code: int, said: str) -> None:
    done = cli("release", "list", **overrides)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_token_may_come_from_a_file(cli: Run, server: Server) -> None:
    done = cli("release", "list", "--token-file", str(server.data / "operator.token"), FOTA_TOKEN="")
    assert done.returncode == 0


def test_token_is_in_no_output(cli: Run, server: Server, device: Device) -> None:
    """Whatever is wrong, and with all there is to say about it (-v); nor in what the server keeps."""
    token, secret = server.token, server.token.rpartition("_")[2]
    stranger = token[:-4] + ("0000" if token[-4:] != "0000" else "1111")
    for code, *words, env in (
        (0, "release", "list", "--json", {}),
        (0, "server", "token", "list", "--data", str(server.data), {}),
        (0, "device", "show", device.id, {}),
        (3, "device", "show", "0123" + "0" * 12 + "ee", {}),
        (1, "release", "list", {"FOTA_TOKEN": stranger}),
        (3, "release", "list", {"FOTA_TOKEN": f"{token}'"}),
        (3, "release", "list", "--token-file", token, {}),
        (3, "release", "list", "--ca", token, {}),
        (4, "release", "list", "--server", "https://127.0.0.1:1", {}),
        (4, "release", "list", {"FOTA_CA": str(server.keys.folder / "device-ca.crt")}),
    ):
        done = cli("-v", *words, **env)
        assert done.returncode == code, (words, done.stderr)
        assert secret[:40] not in done.stdout + done.stderr, words
    kept = b"".join(path.read_bytes() for path in server.data.glob("fota.db*"))
    assert device.id.encode() in kept
    assert secret[:40].encode() not in kept


def test_operator_commands_need_no_server_packages() -> None:
    code = (
        "import sys; import fota_cli.operator; "
        "print([m for m in ('starlette', 'sqlalchemy', 'uvicorn', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert done.stdout.strip() == "[]"


def test_full_disk_of_the_server_is_exit_5(
    cli: Run, keys: Keys, tmp_path: Path, files: dict[str, tuple[str, str]]
) -> None:
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    small = Server(keys, tmp_path / "data").init().start()
    small.stop()
    small.start(preexec_fn=limit_files)
    try:
        done = cli(
            "release", "publish", *files["1.1.0"], FOTA_SERVER=small.operator_url, FOTA_TOKEN=small.token
        )
        assert done.returncode == 5, done.stderr
        assert done.stderr.startswith("fota: error: storing the artifact: ")
        assert small.tmp_files() == []
    finally:
        small.stop()


def test_example_keys_of_the_repository_run_a_server_if_allowed(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[2] / "keys.example"
    genesis = tmp_path / "root.cbor"
    publics = {
        role: [host_crypto.load_public_key(folder / f"{name}.pub.pem") for name in names]
        for role, names in {
            roots.ROOT: ("root-1", "root-2", "root-3"),
            roots.RELEASE: ("release-1", "release-2", "release-3"),
            roots.ASSIGN: ("assign",),
        }.items()
    }
    raw = roots.build_root(1, {role: (2 if len(keys) > 1 else 1, keys) for role, keys in publics.items()})
    for name in ("root-1", "root-2"):
        key = host_crypto.load_private_key(folder / f"{name}.pem", allow_example_keys=True)
        raw = roots.FORM.add_signature(raw, cose.kid_of(host_crypto.public_xy(key)), host_crypto.signer(key))
    genesis.write_bytes(raw)
    options = ["--data", str(tmp_path / "data"), "--keys", str(folder), "--root", str(genesis)]
    refused = fota("server", "init", *options)
    assert refused.returncode == 1
    assert "a published example key" in refused.stderr
    assert not (tmp_path / "data").exists()
    done = fota("server", "init", *options, "--allow-example-keys")
    assert done.returncode == 0, done.stderr
    example = SimpleNamespace(folder=folder, server_ca=folder / "server-ca.crt")
    server = Server(example, tmp_path / "data").start()  # type: ignore[arg-type]
    try:
        assert server.api("GET", "health/ready") == (200, {"status": "ok", "warnings": []})
        assert server.api("GET", "roots")[1]["version"] == 1
    finally:
        assert server.stop()[0] == 0
