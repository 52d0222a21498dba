"""A check-in is answered the same whether it came whole, in pieces, ahead of its turn, or as the last."""

import http.client
import secrets
import ssl
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from lifeline import until
from server_world import Built, Device, Keys, Server

from fota_server.at_once import AtOnce
from fota_wire import checkin

PATH = b"POST /v1/checkin HTTP/1.1\r\n"


@pytest.fixture
def device(server: Server) -> Device:
    return Device(server)


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    running = Server(keys, tmp_path / "data").init().start()
    yield running
    code, said = running.stop()
    assert code == 0
    assert "Traceback" not in said, said


def asked(nonce: bytes, *fields: bytes, line: bytes = PATH) -> bytes:
    body = checkin.encode_request(checkin.Request(nonce, 1, None))
    head = (line + b"host: x", b"content-length: %d" % len(body), *fields)
    return b"\r\n".join(head) + b"\r\n\r\n" + body


class _Read(BytesIO):
    def makefile(self, *_: object) -> "_Read":
        return self


def answer(connection: ssl.SSLSocket) -> tuple[int, dict[str, str], bytes]:
    """Return the next answer on a connection, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    found = http.client.HTTPResponse(_Read(head))  # type: ignore[arg-type]
    found.begin()
    body = b""
    while len(body) < int(found.headers.get("content-length", "0")):
        body += connection.recv(65536)
    return found.status, {name.lower(): value for name, value in found.getheaders()}, body


def nonce_of(body: bytes) -> bytes:
    """Return the nonce that an ASSIGNMENT answers, unverified."""
    raw = bytes(checkin.parse_response(body).assignment)
    at = raw.index(b"\xa9\x01\x01\x02\x50") + 5
    return raw[at : at + 16]


def test_two_that_come_in_one_piece_are_answered_in_turn_each_by_its_own_id(device: Device) -> None:
    first, second = secrets.token_bytes(16), secrets.token_bytes(16)
    with device.connect() as connection:
        connection.sendall(asked(first, b"x-request-id: one") + asked(second, b"x-request-id: two"))
        found = [answer(connection), answer(connection)]
    assert [status for status, _, _ in found] == [200, 200]
    assert [headers["x-request-id"] for _, headers, _ in found] == ["one", "two"]
    assert [nonce_of(body) for _, _, body in found] == [first, second]


def test_what_comes_behind_a_check_in_waits_for_its_answer(
    device: Device, releases: dict[str, Built]
) -> None:
    nonce = secrets.token_bytes(16)
    payload = b"GET /v1/payload/" + releases["1.1.0"].digest.encode() + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    with device.connect() as connection:
        connection.sendall(asked(nonce) + payload)
        status, _, body = answer(connection)
        assert (status, nonce_of(body)) == (200, nonce)
        assert answer(connection)[0] == 403  # it is not assigned


@pytest.mark.parametrize("cut", ["within the header", "behind the header", "within the body", "everywhere"])
def test_one_that_comes_in_pieces_is_answered(device: Device, cut: str) -> None:
    nonce = secrets.token_bytes(16)
    raw = asked(nonce)
    header = raw.index(b"\r\n\r\n") + 4
    at = {"within the header": [9], "behind the header": [header], "within the body": [header + 7]}
    places = at.get(cut, list(range(1, len(raw))))
    with device.connect() as connection:
        for begin, end in zip([0, *places], [*places, len(raw)], strict=True):
            connection.sendall(raw[begin:end])
        assert nonce_of(answer(connection)[2]) == nonce
        connection.sendall(asked(nonce))
        assert answer(connection)[0] == 200


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (PATH, b"connection: close"),
        (PATH.replace(b"1.1", b"1.0"), b"x: y"),
    ],
)
def test_the_last_of_a_connection_is_answered_and_says_that_it_ends(
    device: Device, line: bytes, field: bytes
) -> None:
    nonce = secrets.token_bytes(16)
    with device.connect() as connection:
        connection.sendall(asked(nonce, field, line=line))
        status, headers, body = answer(connection)
        assert (status, headers["connection"], nonce_of(body)) == (200, "close", nonce)
        assert connection.recv(1) == b""


def test_one_whose_head_was_read_before_is_answered_by_an_id_of_its_own(device: Device) -> None:
    nonces = [secrets.token_bytes(16) for _ in range(3)]
    with device.connect() as connection:
        found = []
        for nonce in nonces:
            connection.sendall(asked(nonce))
            found.append(answer(connection))
    assert [(status, nonce_of(body)) for status, _, body in found] == [(200, nonce) for nonce in nonces]
    assert len({headers["x-request-id"] for _, headers, _ in found}) == 3


def test_an_id_that_a_client_gives_is_in_each_answer(device: Device) -> None:
    with device.connect() as connection:
        for name in ("one", "two", "two"):
            connection.sendall(asked(secrets.token_bytes(16), b"X-Request-ID: " + name.encode()))
            assert answer(connection)[1]["x-request-id"] == name


@pytest.mark.parametrize("more", [b"", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["in pieces", "ahead"])
def test_a_head_that_was_read_before_is_none_before_its_body_is_here_and_nothing_else(
    device: Device, more: bytes
) -> None:
    nonce = secrets.token_bytes(16)
    with device.connect() as connection:
        for _ in range(2):
            connection.sendall(asked(secrets.token_bytes(16)))
            assert answer(connection)[0] == 200
        raw = asked(nonce) + more
        places = [] if more else [raw.index(b"\r\n\r\n") + 4, len(raw) - 1]
        for begin, end in zip([0, *places], [*places, len(raw)], strict=True):
            connection.sendall(raw[begin:end])
        assert nonce_of(answer(connection)[2]) == nonce
        if more:
            assert answer(connection)[0] == 404


@pytest.mark.parametrize(
    ("came", "body"),
    [
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", b"ab"),
        (b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nabPOST / HTTP/1.1\r\n", b"ab"),
        (b"POST / HTTP/1.1\r\nX-Request-Id: one\r\ncontent-length: 2\r\n\r\nab", b"ab"),
        (b"POST / HTTP/1.1\r\nx: " + bytes(600) + b"\r\ncontent-length: 2\r\n\r\nab", b"ab"),
        (b"", b"ab"),  # it came in pieces
    ],
    ids=["chunked", "another behind it", "an id of its own", "long", "in pieces"],
)
def test_the_head_of_what_did_not_come_alone_and_whole_is_not_kept(came: bytes, body: bytes) -> None:
    kept = AtOnce(b"/", (), lambda *_: pytest.fail("asked"), lambda *_: pytest.fail("refused"))
    kept.learn(came, body)
    assert kept.body_of(came) is None
    head = came[: came.find(b"\r\n\r\n") + 4]
    assert kept.body_of(head + body) is None, "what comes behind it next time is as long, and another thing"


def test_few_heads_are_kept() -> None:
    kept = AtOnce(b"/", (), lambda *_: pytest.fail("asked"), lambda *_: pytest.fail("refused"))
    heads = [b"POST / HTTP/1.1\r\nx: %d\r\ncontent-length: 2\r\n\r\n" % number for number in range(1000)]
    for head in heads:
        kept.learn(head + b"ab", b"ab")
        assert kept.body_of(head + b"cd") == b"cd"
        assert kept.body_of(head + b"c") is kept.body_of(head + b"cde") is None
    assert sum(kept.body_of(head + b"cd") is not None for head in heads) <= 256


def test_one_that_waits_for_leave_gets_it(device: Device) -> None:
    raw = asked(secrets.token_bytes(16), b"expect: 100-continue")
    header = raw.index(b"\r\n\r\n") + 4
    with device.connect() as connection:
        connection.sendall(raw[:header])
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(raw[header:])
        assert answer(connection)[0] == 200


def test_one_that_is_refused_says_why_ends_and_leaves_a_trace(own: Server) -> None:
    device = Device(own)
    assert device.check_in()
    own.api("POST", f"devices/{device.id}/revoke")
    with device.connect() as connection:
        connection.sendall(asked(secrets.token_bytes(16), b"x-request-id: told"))
        status, headers, body = answer(connection)
        connection.sendall(asked(secrets.token_bytes(16)))
        assert connection.recv(1) == b""  # it is not asked again
    assert (status, checkin.parse_error(body)[0]) == (403, "revoked")
    assert (headers["connection"], headers["x-request-id"]) == ("close", "told")

    def codes() -> list[str]:
        return [row["code"] for row in own.api("GET", f"devices/{device.id}")[1]["refusals"]]

    until(lambda: "revoked" in codes(), "the trace of a refusal")


def test_one_that_is_no_check_in_is_refused_as_ever(device: Device) -> None:
    with device.connect() as connection:
        connection.sendall(PATH + b"host: x\r\ncontent-length: 3\r\n\r\nabc")
        status, headers, body = answer(connection)
        assert connection.recv(1) == b""
    assert (status, headers["connection"]) == (400, "close")
    assert checkin.parse_error(body)[0].startswith("cbor-")


def test_who_hangs_up_before_the_answer_costs_nobody_anything(own: Server) -> None:
    for _ in range(8):
        with Device(own).connect() as connection:
            connection.sendall(asked(secrets.token_bytes(16)))
    assert Device(own).check_in()


def test_a_connection_carries_no_ticket_that_no_device_would_use(device: Device) -> None:
    """1.2 KB, 5 s at 256 B/s; and a session that is taken up again is older than its certificate may be."""
    with device.connect() as connection:
        connection.sendall(asked(secrets.token_bytes(16)))
        assert answer(connection)[0] == 200
        assert connection.version() == "TLSv1.3"
        session = connection.session
        assert session is None or not session.has_ticket
