"""Certificates of a running server: renewed without a restart, and told of before they end."""

import asyncio
import http.client
import json
import os
import signal
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lifeline import HANG_S, until
from server_world import (
    Device,
    Keys,
    Server,
    cert_pem,
    client_context,
    key_pem,
    make_cert,
    new_key,
)
from test_server_devices import raw_connection
from test_server_renewal import order, post

from fota_server.certificates import read_aside, read_tls_files
from fota_wire import certify
from fota_wire.errors import InputError


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    server = Server(Keys(tmp_path / "keys"), tmp_path / "data").init().start()
    yield server
    if server.process and server.process.returncode is None:
        assert server.stop()[0] == 0


def replace_server_certificate(server: Server, **dates: Any) -> Path:
    """Put a certificate of a new CA into the data folder, as a renewal would; return the CA."""
    ca_key, key = new_key(), new_key()
    ca = make_cert("a new server CA", ca_key, ca=True, days=100)
    cert = make_cert("localhost", key, (ca, ca_key), server=True, **{"days": 100} | dates)
    (server.data / "keys" / "tls-cert.crt").write_bytes(cert_pem(cert))
    (server.data / "keys" / "tls-key.pem").write_bytes(key_pem(key))
    path = server.data / "new-ca.crt"
    path.write_bytes(cert_pem(ca))
    return path


def serial_at(port: int) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=HANG_S)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_hang_up_signal_takes_the_new_certificate_and_drops_nobody(own: Server) -> None:
    device = Device(own)
    device.check_in()  # the connection stays open
    old = serial_at(own.device_port)
    new_ca = replace_server_certificate(own)
    assert own.process
    own.process.send_signal(signal.SIGHUP)
    until(lambda: serial_at(own.device_port) != old)
    assert serial_at(own.operator_port) == serial_at(own.device_port)
    device.check_in()
    other = Device(own)
    other.context = client_context(new_ca, other.pem)
    other.check_in()
    _, stderr = own.stop()
    assert "read again" in stderr


@pytest.mark.parametrize("fault", ["cut", "gone", "another-key", "no-ca"])
def test_files_that_are_no_good_change_nothing(own: Server, fault: str) -> None:
    old = serial_at(own.device_port)
    replace_server_certificate(own)
    folder = own.data / "keys"
    if fault == "cut":
        (folder / "tls-cert.crt").write_bytes((folder / "tls-cert.crt").read_bytes()[:200])
    elif fault == "gone":
        (folder / "tls-key.pem").unlink()
    elif fault == "another-key":
        (folder / "tls-key.pem").write_bytes(key_pem(new_key()))
    else:
        (folder / "device-ca.crt").write_bytes(b"")
    assert own.process
    for _ in range(3):
        own.process.send_signal(signal.SIGHUP)
        assert own.api("GET", "health/ready")[0] == 200
    Device(own).check_in()
    assert serial_at(own.device_port) == old
    code, stderr = own.stop()
    assert code == 0, stderr
    assert "goes on with the certificates that it has: " in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("name", ["tls-cert.crt", "tls-key.pem", "device-ca.crt"])
def test_files_that_never_answer_stop_nobody(own: Server, name: str) -> None:
    old = serial_at(own.device_port)
    new_ca = replace_server_certificate(own)
    path = own.data / "keys" / name
    good = path.read_bytes()
    path.unlink()
    os.mkfifo(path, 0o600)  # as a network file system that has died: whoever opens it waits for ever
    device = Device(own)
    assert own.process
    for _ in range(3):
        own.process.send_signal(signal.SIGHUP)
        device.check_in()
        assert own.api("GET", "health/ready")[0] == 200
    assert serial_at(own.device_port) == old
    path.unlink()
    path.write_bytes(good)
    path.chmod(0o600)
    own.process.send_signal(signal.SIGHUP)
    until(lambda: serial_at(own.device_port) != old)
    device.check_in()
    device.context = client_context(new_ca, device.pem)
    os.mkfifo(own.data / "again", 0o600)
    (own.data / "again").rename(path)
    own.process.send_signal(signal.SIGHUP)  # and in this state it ends all the same
    code, stderr = own.stop()
    assert code == 0, stderr
    assert stderr.count("read again") == 1
    assert "Traceback" not in stderr


def test_files_that_never_answer_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fota_server.certificates.READ_S", 0)
    os.mkfifo(tmp_path / "pipe")
    files = dict.fromkeys(("tls_cert", "tls_key", "device_ca"), tmp_path / "pipe")
    with pytest.raises(InputError, match=f"not read within 0 s: .*{tmp_path}/pipe"):
        asyncio.run(read_aside(files, allow_example_keys=False))


def test_second_device_ca_counts_after_a_reload(own: Server) -> None:
    key = new_key()
    ca = make_cert("second device CA", key, ca=True, days=3650)
    device = Device(own, issuer=(ca, key))
    with pytest.raises(ssl.SSLError):
        device.request("POST", "/v1/checkin", b"")
    bundle = own.data / "keys" / "device-ca.crt"
    bundle.write_bytes(bundle.read_bytes() + cert_pem(ca))
    assert own.process
    own.process.send_signal(signal.SIGHUP)

    def let_in() -> bool:
        try:
            with raw_connection(own, device) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.1 404")
        except OSError:
            return False

    until(let_in)
    first = Device(own)
    first.check_in()
    for mine, issuer in ((device, (ca, key)), (first, (own.keys.device_ca, own.keys.device_ca_key))):
        mine.check_in()
        assert own.api("POST", f"devices/{mine.id}/key", {"kind": "rotate"})[0] == 200
        new = new_key()
        asked = order(mine, new)
        assert post(mine, asked) == (certify.PENDING, None)
        issued = make_cert(mine.id, new, issuer).public_bytes(Encoding.DER)
        assert own.api("POST", f"devices/{mine.id}/certificate", raw=issued)[0] == 200
        assert post(mine, asked) == (certify.ISSUED, issued), "of the CA that this device is of"


NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "words", "failing"),
    [
        (31, None, False),
        (29, "expires in ", False),
        (0.02, "expires in 0 days", False),
        (-1, "EXPIRED on", True),
    ],
)
def test_end_of_a_certificate_is_told_thirty_days_before(
    tmp_path: Path, days: float, words: str | None, failing: bool
) -> None:
    Keys(tmp_path)
    files = {"tls_cert": "server.crt", "tls_key": "server.pem", "device_ca": "device-ca.crt"}
    key = new_key()
    (tmp_path / "server.pem").write_bytes(key_pem(key))
    (tmp_path / "server.pem").chmod(0o600)
    (tmp_path / "server.crt").write_bytes(cert_pem(make_cert("localhost", key, server=True, days=40)))
    read = read_tls_files({name: tmp_path / file for name, file in files.items()}, allow_example_keys=False)
    notices = read.notices(datetime.now(UTC) + timedelta(days=40 - days))
    assert [notice.failing for notice in notices] == ([failing] if words else [])
    assert words is None or words in notices[0].text


def test_expired_server_certificate_is_said_loudly(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    server = Server(keys, tmp_path / "data").init()
    new_ca = replace_server_certificate(server, start_days=-9, days=-1)
    server.start()
    server.keys.server_ca = new_ca
    context = client_context(new_ca, None)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.operator_port, context=context, timeout=HANG_S
    )
    connection.request("GET", "/api/v1/health/ready")
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == 503
    assert answer["error"]["code"] == "certificate"
    assert "EXPIRED" in answer["error"]["message"]
    assert "EXPIRED" in server.ready_line + server.stop()[1]


def test_certificate_that_ends_soon_is_a_warning_of_ready_and_of_the_start(tmp_path: Path) -> None:
    server = Server(Keys(tmp_path / "keys"), tmp_path / "data").init()
    server.keys.server_ca = replace_server_certificate(server, days=12)
    server.start()
    status, answer = server.api("GET", "health/ready")
    assert (status, answer["status"]) == (200, "ok")
    assert [
        "the server certificate" in text and "expires in 11 days" in text for text in answer["warnings"]
    ] == [True]
    assert "expires in 11 days" in server.stop()[1]
