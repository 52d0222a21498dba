"""The agent's TLS for MicroPython, on the unix build of the same sources: 1.2 and 1.3, the key elsewhere."""

import datetime
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import chip_world
import pytest
from lifeline import until

from fota_wire import host_crypto

REPO = Path(__file__).parents[2]
sys.path.insert(0, str(REPO / "tests/agent"))

from date_cases import CASES, IDS  # noqa: E402
from test_agent_tls import DER, Pki, Server  # noqa: E402

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MICROPYTHON = REPO / "build/agent-firmware/unix/micropython"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if chip_world.why_not():
        pytest.skip(chip_world.why_not())
    return tmp_path_factory.mktemp("tls")


def make_pki(folder, *life):
    made = Pki(folder, *life)
    made.folder = folder
    (folder / "ca.der").write_bytes(made.ca.public_bytes(DER))
    (folder / "device.der").write_bytes(made.device.public_bytes(DER))
    return made


@pytest.fixture(scope="module")
def pki(folder):
    return make_pki(folder)


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def server(request, pki):
    made = Server(pki, request.param)
    yield made
    made.close()


def talk(server, folder, answer, host="localhost", times=()):
    """Run the program; ``answer(digest)`` returns what it is told, ``times`` are its clock and a time that
    has passed. Return (its last lines, digests).
    """
    command = [MICROPYTHON, Path(__file__).with_name("tls_suite.py"), REPO, server.port, host, folder, *times]
    digests, lines = [], []
    with subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("sign "):
                digests.append(bytes.fromhex(line.split()[1]))
                process.stdin.write(answer(digests[-1]) + "\n")
                process.stdin.flush()
            else:
                lines.append(line.strip())
    return lines, digests


def signing(key):
    return lambda digest: host_crypto.signer(key)(digest).hex()


def refused(server):
    """Tell whether the server's side of the handshake failed, which its thread may learn a little later."""
    return bool(until(lambda: server.errors))


def test_two_requests_on_one_connection_with_one_signature_from_outside(server, pki, folder):
    lines, digests = talk(server, folder, signing(pki.device_key))
    assert lines == ["answer 200 0123456789abcdef01"] * 2 + ["connections 1"]
    assert [len(digest) for digest in digests] == [32]
    assert server.connections == 1


def test_element_that_does_not_sign_is_an_error_of_the_element_and_no_handshake(server, pki, folder):
    lines, digests = talk(server, folder, lambda digest: "refuse")
    assert "error DeviceError the element does not sign" in lines
    assert len(digests) == 1
    assert refused(server)


def test_signature_of_another_key_is_refused_by_the_server(server, pki, folder):
    lines, _ = talk(server, folder, signing(pki.ca_key))
    says = (REFUSED, "connection reset")  # TLS 1.2 goes on writing: the alert may be lost with the connection
    assert any(line.startswith("error TransportError") and line.endswith(says) for line in lines), lines
    assert not any(line.startswith("answer") for line in lines)
    assert refused(server)


def test_server_of_another_name_is_refused(server, pki, folder):
    lines, digests = talk(server, folder, signing(pki.device_key), host="elsewhere")
    assert any(line.startswith("error TransportError elsewhere:") for line in lines)
    assert digests == []


def test_server_of_another_ca_is_refused(server, pki, folder, tmp_path):
    other = Pki(tmp_path)
    (tmp_path / "ca.der").write_bytes(other.ca.public_bytes(DER))
    (tmp_path / "device.der").write_bytes(pki.device.public_bytes(DER))
    lines, digests = talk(server, tmp_path, signing(pki.device_key))
    assert any(line.startswith("error TransportError localhost:") for line in lines)
    assert digests == []


REFUSED = "refused by the server: its TLS is another version, or it does not take the certificate"


def answering(how):
    """Return the port of a server that does ``how(connection)`` to the first who comes, and ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            how(connection)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection):
    connection.shutdown(socket.SHUT_RDWR)


def answer_without_tls(connection):
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def refuse_the_version(connection):
    connection.sendall(bytes([21, 3, 1, 0, 2, 2, 70]))  # alert: fatal, protocol_version


def speak_tls_1_1(connection):
    hello = b"\x03\x02" + bytes(32) + b"\x00\xc0\x09\x00"  # ServerHello: no session, a suite of ECDSA
    connection.sendall(b"\x16\x03\x02" + bytes([0, len(hello) + 4, 2, 0, 0, len(hello)]) + hello)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (refuse_the_version, f"TLS: {REFUSED}"),
        (speak_tls_1_1, "TLS: no version of TLS in common"),
        (reset, "TLS: connection reset"),
        (hang_up, "TLS: hung up"),
        (answer_without_tls, "TLS: no TLS there"),
    ],
)
def test_what_a_server_does_that_is_none_is_said_in_words(pki, folder, how, says):
    port = answering(how)
    lines, _ = talk(SimpleNamespace(port=port), folder, signing(pki.device_key))
    assert f"error TransportError localhost:{port}: {says}" in lines


def test_that_nobody_listens_is_said_in_words(pki, folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines, _ = talk(SimpleNamespace(port=port), folder, signing(pki.device_key))
    says = f"cannot reach localhost:{port}: no such host, or nobody listens"
    assert f"error TransportError {says}" in lines


@pytest.mark.parametrize(("name", "begin", "end", "clock", "passed", "says"), CASES, ids=IDS)
def test_dates_of_certificates_are_judged_by_what_the_device_can_know(
    folder, tmp_path, name, begin, end, clock, passed, says
):
    start = datetime.datetime.fromtimestamp(begin, datetime.UTC)
    made = make_pki(tmp_path, (end - begin) // 86_400, start)
    server = Server(made)
    lines, _ = talk(server, tmp_path, signing(made.device_key), times=(clock, passed))
    server.close()
    wanted = "answer 200" if says is None else "error TransportError localhost:.*" + says
    assert any(re.match(wanted, line) for line in lines), lines
