"""nginx in front: limits, ends, settings that cannot be, and what a stranger sees of its TLS (ADR 72)."""

import json
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from fronts import ME, Fronted, given, opened
from lifeline import HANG_S, until
from server_world import FOTA, Built, Device, Keys, Server, client_context
from test_server_refusals import traces

from fota_server.config import load_config
from fota_server.front import bind_front, uid_of
from fota_wire import checkin
from fota_wire.errors import InputError, StorageError

pytestmark = pytest.mark.usefixtures("fronted")


def test_one_certificate_and_one_address_have_their_share_of_requests(
    keys: Keys, big: Built, tmp_path: Path
) -> None:
    few = {
        "limit_conn address 256;": "limit_conn address 3;",
        "limit_conn device 8;": "limit_conn device 2;",
        "rate=200r/s;": "rate=1r/m;",
        "burst=400 nodelay;": "burst=200 nodelay;",
    }
    own = Fronted(keys, tmp_path, few)
    held: list[ssl.SSLSocket] = []
    try:
        own.server.publish(big)
        one, other = given(own.server, big), given(own.server, big)
        one.close()

        def download(device: Device) -> bytes:
            held.append(opened(own, device))
            held[-1].sendall(f"GET /v1/payload/{big.digest} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            return held[-1].recv(500)

        assert [download(one)[:12] for _ in range(3)] == [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 503"]
        assert b"Retry-After: 30\r\n" in download(one)
        assert other.check_in()
        assert download(other)[:12] == b"HTTP/1.1 200"
        assert other.request("GET", "/")[0] == 503, "the address has its three"
        for connection in held:
            connection.close()
        until(lambda: other.request("GET", "/")[0] == 404, "the end of the downloads")
        nobody = Device(own.server)
        nobody.context = client_context(keys.server_ca, None)  # no device, so that none is slowed down
        statuses = [nobody.request("GET", "/v1/checkin")[0] for _ in range(201)]
        assert (statuses[0], statuses[-1]) == (405, 503), "and no more than so many in a minute"
    finally:
        for connection in held:
            connection.close()
        own.stop()


@pytest.mark.parametrize(("size", "statuses"), [(7900, {404}), (8400, {400, 431}), (60_000, {400, 431})])
def test_header_is_held_to_the_servers_limit(fronted: Fronted, size: int, statuses: set[int]) -> None:
    device = Device(fronted.server)
    one, many = b"x: " + b"a" * size + b"\r\n", (b"x: " + b"a" * 95 + b"\r\n") * (size // 100)
    for fields in (one, many):
        with opened(fronted, device) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + fields + b"\r\n")
            assert int(connection.recv(12)[9:]) in statuses
    device.check_in()


def test_body_is_held_to_the_servers_limit_and_to_nginx_s(fronted: Fronted) -> None:
    device = Device(fronted.server)
    status, _, body = device.request("POST", "/v1/checkin", bytes(8193))
    assert (status, checkin.parse_error(body)[0]) == (413, "too-large")
    status, headers, _ = device.request("POST", "/v1/checkin", bytes(80_000))
    assert (status, headers["content-type"]) == (413, "text/html")
    device.close()
    assert "too-large" in traces(fronted.server, device.id)
    device.check_in()


def test_server_that_is_away_is_said_and_comes_back(keys: Keys, tmp_path: Path) -> None:
    own = Fronted(keys, tmp_path)
    try:
        device = Device(own.server)
        device.check_in()
        assert own.server.process
        own.server.process.kill()  # its socket stays behind
        own.server.process.communicate()
        status, headers, _ = device.request("POST", "/v1/checkin", b"")
        assert (status, headers["retry-after"]) == (503, "30")
        own.server.start()
        own.before_nginx()
        assert device.check_in().response.report_status in ("none", "accepted", "refused")
    finally:
        own.stop()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"front": "f.sock"}, "name both, or neither"),
        ({"front_user": ME}, "name both, or neither"),
        ({"front_files": "/a"}, "front_files is a location"),
        ({"front": "f.sock", "front_user": ME, "front_files": "/a/"}, "front_files is a location"),
        ({"front": "f.sock", "front_user": ME, "front_files": "/a b"}, "front_files is a location"),
        ({"front": 5, "front_user": ME}, "has the wrong type"),
    ],
)
def test_settings_of_a_front_that_contradict_each_other_are_refused(
    fronted: Fronted, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    kept = json.loads((fronted.server.data / "config.json").read_text())
    own = {name: value for name, value in kept.items() if not name.startswith("front")} | settings
    (tmp_path / "config.json").write_text(json.dumps(own))
    with pytest.raises(InputError, match=said):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("user", "said"), [("no-such", "no user 'no-such'"), ("nobody", "give nginx its own")]
)
def test_user_who_is_none_or_stands_for_many_is_refused(user: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        uid_of(user)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("x" * 200, InputError, "too long for a socket's name"),
        ("file", InputError, "is no socket"),
        ("no/folder", StorageError, "No such file"),
    ],
)
def test_place_where_no_socket_can_be_is_refused(
    tmp_path: Path, name: str, error: type[Exception], said: str
) -> None:
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(error, match=said):
        bind_front(tmp_path / name)
    assert (tmp_path / "file").read_text() == "somebody's"


def test_front_that_cannot_be_ends_the_start_with_a_line(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data").init()
    own.configure(front="config.json", front_user=ME)
    command = [*FOTA, "server", "run", "--data", str(own.data), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "is there, and is no socket" in done.stderr


def test_two_servers_do_not_share_a_socket(tmp_path: Path) -> None:
    with bind_front(tmp_path / "f.sock") as first:
        first.listen()
        with pytest.raises(StorageError, match="another process listens there"):
            bind_front(tmp_path / "f.sock")
    with bind_front(tmp_path / "f.sock"):
        pass  # what the first has left is taken away


# What a stranger sees of its TLS


def s_client(fronted: Fronted, *options: str) -> str:
    openssl = shutil.which("openssl")
    assert openssl
    done = subprocess.run(
        [openssl, "s_client", "-connect", f"127.0.0.1:{fronted.nginx.port}", *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2", "-tls1_3"])
def test_tls_is_1_2_or_1_3(fronted: Fronted, version: str) -> None:
    said = s_client(fronted, version, "-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    shaken = "Cipher is (NONE)" not in said and "Cipher is" in said
    assert shaken is (version in ("-tls1_2", "-tls1_3")), said


def test_every_cipher_of_tls_1_2_has_forward_secrecy_and_authenticates(fronted: Fronted) -> None:
    found: list[str] = []
    while True:
        offered = ":".join(["ALL:COMPLEMENTOFALL", *(f"!{name}" for name in found), "@SECLEVEL=0"])
        said = s_client(fronted, "-tls1_2", "-cipher", offered)
        name = said.partition("Cipher is ")[2].split("\n")[0]
        if name in ("", "(NONE)"):
            break
        found.append(name)
    assert {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM"} <= set(found)
    assert all(
        name.startswith("ECDHE-ECDSA-") and any(mode in name for mode in ("GCM", "CCM", "CHACHA20"))
        for name in found
    ), found


def test_stranger_cannot_have_it_renegotiate_or_compress(fronted: Fronted) -> None:
    said = s_client(fronted, "-tls1_2")
    assert "Secure Renegotiation IS supported" in said
    assert "Compression: NONE" in said
