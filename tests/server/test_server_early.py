"""Answers that come before the request is whole: whoever sends does not read yet, and is heard out, so that
the answer arrives; within limits.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from lifeline import HANG_S
from server_world import Built, Device, Server, client_context

from fota_server.device_plane import SLOWEST_RATE
from fota_server.handshake import Patience, TlsProtocol, _Linger
from fota_wire import checkin

PART = 1000
REST = 50_000

Asks = Callable[[Server, Built], bytes]
OPERATOR: dict[str, tuple[int, Asks]] = {
    "no token": (401, lambda server, _: b"PUT /api/v1/artifacts/%s HTTP/1.1\r\n" % (b"0" * 64)),
    "a token that nobody knows": (
        401,
        lambda server, _: b"POST /api/v1/groups HTTP/1.1\r\nauthorization: Bearer fota_0_0\r\n",
    ),
    "nothing is there": (404, lambda server, _: b"PUT /api/v1/nothing HTTP/1.1\r\n"),
    "not by this method": (405, lambda server, _: b"PUT /api/v1/releases HTTP/1.1\r\n"),
    "a body that is too long": (413, lambda server, _: _with_token(server, b"POST /api/v1/releases")),
    "no name of an artifact": (400, lambda server, _: _with_token(server, b"PUT /api/v1/artifacts/x")),
    "it is there already": (
        200,
        lambda server, built: _with_token(server, b"PUT /api/v1/artifacts/" + built.digest.encode()),
    ),
    "two hosts": (400, lambda server, _: b"PUT /api/v1/releases HTTP/1.1\r\nhost: y\r\n"),
    "no HTTP": (400, lambda server, _: b"\x00\x01\r\n"),
    "a client of HTTP 1.0": (401, lambda server, _: b"POST /api/v1/releases HTTP/1.0\r\n"),
}
DEVICE: dict[str, tuple[int, bytes]] = {
    "nothing is there": (404, b"POST /v2/checkin HTTP/1.1\r\n"),
    "not by this method": (405, b"PUT /v1/checkin HTTP/1.1\r\n"),
    "a body that is too long": (413, b"POST /v1/checkin HTTP/1.1\r\n"),
    "a header that is too long": (431, b"POST /v1/checkin HTTP/1.1\r\nx: %s\r\n" % (b"a" * 9000)),
}


def _with_token(server: Server, line: bytes) -> bytes:
    return line + b" HTTP/1.1\r\nauthorization: Bearer " + server.token.encode() + b"\r\n"


def connect(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=HANG_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def answer_to(connection: ssl.SSLSocket, head: bytes) -> bytes:
    """Send a request that is answered before it is whole, go on sending, and only then read on."""
    with connection:
        connection.sendall(head + b"host: x\r\ncontent-length: %d\r\n\r\n" % (PART + REST) + bytes(PART))
        data = connection.recv(1)  # the answer is there
        for _ in range(REST // PART):
            connection.sendall(bytes(PART))
        while chunk := connection.recv(65536):
            data += chunk
    return data


@pytest.mark.parametrize("why", OPERATOR)
def test_operator_that_is_answered_early_gets_the_answer(
    server: Server, releases: dict[str, Built], why: str
) -> None:
    status, head = OPERATOR[why]
    connection = connect(client_context(server.keys.server_ca, None), server.operator_port)
    answer = answer_to(connection, head(server, releases["1.1.0"]))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert answer.endswith(b"}")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("why", DEVICE)
def test_device_that_is_answered_early_gets_the_answer(
    server: Server, device: Device, why: str, version: ssl.TLSVersion
) -> None:
    status, head = DEVICE[why]
    device.context.maximum_version = version
    answer = answer_to(connect(device.context, server.device_port), head)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


def test_retired_device_that_goes_on_sending_is_told(server: Server) -> None:
    device = Device(server)
    device.check_in()
    device.close()
    assert server.api("POST", f"devices/{device.id}/retire", {"reason": "stolen"})[0] == 200
    answer = answer_to(connect(device.context, server.device_port), b"POST /v1/checkin HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"retired" in answer


def test_device_that_goes_on_for_too_long_is_hung_up_on(server: Server, device: Device) -> None:
    head = b"POST /v2/checkin HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n"
    with connect(device.context, server.device_port) as connection:
        connection.sendall(head)
        assert connection.recv(9) == b"HTTP/1.1 "
        with pytest.raises((ConnectionError, ssl.SSLError)):
            connection.sendall(bytes(1000 * Patience().size))
    device.check_in()


def test_what_follows_half_a_request_that_was_answered_is_no_request(server: Server) -> None:
    """Its body might say anything."""
    name = "smuggled"
    inner = _with_token(server, b"POST /api/v1/groups") + b'content-length: 20\r\n\r\n{"name": "smuggled"}'
    head = b"PUT /api/v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345"
    with connect(client_context(server.keys.server_ca, None), server.operator_port) as connection:
        connection.sendall(head)
        answer = connection.recv(1)
        connection.sendall(b"67890" + inner.replace(b"\r\n", b"\r\nhost: x\r\n", 1))
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.count(b"HTTP/1.1") == 1
    assert server.rows("SELECT * FROM groups WHERE name = ?", name) == []


def test_request_behind_another_is_waited_for_though_its_body_is_slow(server: Server) -> None:
    """The one before it was whole: an answer to that one ends nothing."""
    line = _with_token(server, b"POST /api/v1/groups") + b"host: x\r\n"
    first = line + b'content-length: 21\r\n\r\n{"name": "of-a-pair"}'
    second = line + b'connection: close\r\ncontent-length: 22\r\n\r\n{"name": "of-'
    with connect(client_context(server.keys.server_ca, None), server.operator_port) as connection:
        connection.sendall(first + second)
        answer = connection.recv(65536)
        connection.sendall(b'a-pair2"}')
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.count(b"HTTP/1.1 201 ") == 2, answer


# The limits


class Line:
    """A TCP transport that only notes what is done with it."""

    def __init__(self, *, reset: bool = False) -> None:
        self.reset = reset
        self.done: list[str] = []

    def write_eof(self) -> None:
        if self.reset:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self.done.append("half")

    def abort(self) -> None:
        self.done.append("end")


class Timers:
    """A loop's timers, that go off when a test says so."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Callable[[], None]]] = []
        self.cancelled = 0

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        self.set.append((seconds, call))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.mark.parametrize(("size", "ended"), [(999, False), (1000, False), (1001, True)])
def test_client_is_heard_out_for_so_many_bytes(size: int, ended: bool) -> None:
    line, timers = Line(), Timers()
    linger = _Linger(timers, line, lambda: None, Patience(seconds=7.0, size=1000))  # type: ignore[arg-type]
    linger.data_received(bytes(size - 1))
    linger.data_received(b"x")
    assert line.done == ["half", *(["end"] if ended else [])]


def test_client_is_heard_out_for_so_long() -> None:
    line, timers, lost = Line(), Timers(), []
    linger = _Linger(timers, line, lambda: lost.append(1), Patience(seconds=7.0, size=10))  # type: ignore[arg-type]
    ((seconds, call),) = timers.set
    call()
    assert (seconds, line.done) == (7.0, ["half", "end"])
    linger.connection_lost(None)
    assert (lost, timers.cancelled) == ([1], 1)


def test_client_that_goes_on_sending_is_heard_out_to_the_end() -> None:
    line, timers = Line(), Timers()
    patience = Patience(seconds=7.0, size=1000, again=100)
    linger = _Linger(timers, line, lambda: None, patience)  # type: ignore[arg-type]
    for _ in range(5):
        linger.data_received(bytes(100))
        timers.set[-1][1]()
    assert (len(timers.set), line.done) == (6, ["half"])
    linger.data_received(bytes(99))
    timers.set[-1][1]()
    assert line.done == ["half", "end"], "too slow from here on"


def test_connection_that_was_reset_meanwhile_is_no_mistake_of_ours() -> None:
    line, timers = Line(reset=True), Timers()
    _Linger(timers, line, lambda: None, Patience())  # type: ignore[arg-type]
    assert line.done == ["end"]


def test_promised_link_has_the_time_for_a_check_in() -> None:
    assert Patience().seconds * SLOWEST_RATE >= checkin.MAX_REQUEST + 1024


def test_asyncio_still_has_what_the_end_leans_on() -> None:
    for name in ("_do_shutdown", "_on_handshake_complete", "connection_lost"):
        assert name in asyncio.sslproto.SSLProtocol.__dict__
    assert "_do_shutdown" in TlsProtocol.__dict__
