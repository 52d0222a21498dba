"""The HTTP client over streams that answer, lie, stall and break off."""

import pytest

from fota_agent.transport import mirror
from fota_agent.transport.download import FIXED_MS, MIN_RATE, read_body
from fota_agent.transport.http import (
    HEAD_DEADLINE_MS,
    MAX_HEAD,
    HttpTransport,
    host_and_base,
    parse_head,
    split_url,
)
from fota_wire.errors import TransportError


class Stream:
    """Gives out ``data`` in pieces of ``piece`` bytes, then the end; ``fault`` instead of the end."""

    def __init__(self, data, piece=7, fault=None, clock=None) -> None:
        self.data, self.piece, self.fault, self.clock = data, piece, fault, clock
        self.written = b""
        self.closed = False

    def write(self, data):
        self.written += data

    def readinto(self, buf):
        if self.clock:
            self.clock.now += 1000
        if not self.data and self.fault:
            raise self.fault
        count = min(self.piece, len(buf), len(self.data))
        buf[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def close(self):
        self.closed = True


class Clock:
    now = 0

    def __call__(self):
        return self.now


def client(*streams, clock=None):
    waiting = list(streams)
    return HttpTransport(lambda: waiting.pop(0), "host:1", clock or Clock())


OK = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "x"\r\n\r\nhello'


@pytest.mark.parametrize("piece", [1, 2, 7, 600])
def test_answer_in_pieces_of_any_size_is_read_whole(piece):
    stream = Stream(OK, piece)
    status, headers, body = client(stream).request("POST", "/v1/checkin", {"Accept": "a/b"}, b"xy")
    assert (status, headers["etag"], read_body(body, 10, Clock())) == (200, '"x"', b"hello")
    assert stream.written == (
        b"POST /v1/checkin HTTP/1.1\r\nHost: host:1\r\nAccept: a/b\r\nContent-Length: 2\r\n\r\nxy"
    )
    assert not stream.closed


def test_connection_is_kept_for_the_next_request_unless_the_server_closes_it():
    kept, fresh = Stream(OK + OK.replace(b"ETag", b"Connection: close\r\nETag"), 63), Stream(OK)
    transport = client(kept, fresh)
    kept.piece = len(OK)
    assert read_body(transport.request("GET", "/", {})[2], 10, Clock()) == b"hello"
    kept.piece = 1000
    assert read_body(transport.request("GET", "/", {})[2], 10, Clock()) == b"hello"
    assert kept.closed
    assert read_body(transport.request("GET", "/", {})[2], 10, Clock()) == b"hello"
    assert not fresh.closed


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200", "broke off in its head"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 20x OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "malformed header"),
        (b"HTTP/1.1 200 OK\r\nX: \xff\r\n\r\n", "not text"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "no usable Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "no usable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "no usable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "no usable"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD + 600) + b"\r\n\r\n", "longer than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", "more bytes"),
    ],
)
def test_answer_that_is_not_as_it_must_be_is_refused_and_closed(answer, word):
    stream = Stream(answer, 100)
    with pytest.raises(TransportError, match=word):
        client(stream).request("GET", "/", {})
    assert stream.closed


@pytest.mark.parametrize("fault", [None, TimeoutError("timed out"), ConnectionResetError("reset")])
def test_body_cut_short_is_an_error_however_it_ends(fault):
    stream = Stream(OK[:-2], 1000, fault)
    _, _, body = client(stream).request("GET", "/", {})
    with pytest.raises(TransportError, match="2 bytes missing"):
        read_body(body, 10, Clock())
    assert stream.closed


@pytest.mark.parametrize(("limit", "good"), [(4, False), (5, True), (6, True)])
def test_body_above_its_limit_is_refused_unread(limit, good):
    stream = Stream(OK, 100)
    _, _, body = client(stream).request("GET", "/", {})
    if good:
        assert read_body(body, limit, Clock()) == b"hello"
        return
    with pytest.raises(TransportError, match="more than 4"):
        read_body(body, limit, Clock())
    assert stream.closed


def test_dribbling_head_ends_at_its_deadline():
    clock = Clock()
    stream = Stream(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 5000, 1, clock=clock)
    with pytest.raises(TransportError, match="no head within"):
        client(stream, clock=clock).request("GET", "/", {})
    assert clock.now <= HEAD_DEADLINE_MS + 2000


def test_dribbling_body_ends_at_its_deadline():
    clock = Clock()
    stream = Stream(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 1000)
    _, _, body = client(stream, clock=clock).request("GET", "/", {})
    stream.data, stream.piece, stream.clock = b"a" * 5000, 1, clock
    with pytest.raises(TransportError, match="not done within"):
        read_body(body, 10_000, clock)
    assert clock.now <= FIXED_MS + 5000 * 1000 // MIN_RATE + 2000


@pytest.mark.parametrize("piece", [1, 7, 600])
@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3]
)
def test_interim_answers_are_passed_over(interim, piece):
    status, headers, body = client(Stream(interim + OK, piece)).request("GET", "/", {})
    assert (status, headers["etag"], read_body(body, 10, Clock())) == (200, '"x"', b"hello")


def test_interim_answers_without_end_end_at_the_deadline_and_a_switch_of_protocols_is_refused():
    clock = Clock()
    with pytest.raises(TransportError):
        client(Stream(b"HTTP/1.1 102 Processing\r\n\r\n" * 9, 20, clock=clock), clock=clock).request(
            "GET", "/", {}
        )
    with pytest.raises(TransportError, match="no usable"):
        client(Stream(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n")).request("GET", "/", {})


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://[::1]", "[::1]:443"),
        ("https://[fe80::443]:9/x", "[fe80::443]:9"),
        ("https://host", "host:443"),
        ("https://10.0.0.1:8443", "10.0.0.1:8443"),
    ],
)
def test_host_header_has_brackets_round_an_ipv6_address(url, name):
    assert host_and_base(url)[0] == name


@pytest.mark.parametrize(
    ("url", "port", "name"),
    [
        ("http://[2001:db8::443]/fota", 80, "[2001:db8::443]:80"),
        ("http://cache/a:443/b", 80, "cache:80"),
        ("http://cache:443/b", 443, "cache:443"),
        ("http://[::1]:443", 443, "[::1]:443"),
    ],
)
def test_port_of_a_mirror_is_the_one_behind_its_host(url, port, name, monkeypatch):
    seen = []
    monkeypatch.setattr(mirror, "PlainStream", lambda *place: seen.append(place))
    made = mirror.plain_transport(url, Clock())
    made._connect()
    assert seen[0][1] == port
    assert made._host == name


def test_redirect_is_not_followed():
    stream = Stream(b"HTTP/1.1 302 Found\r\nLocation: https://evil/\r\nContent-Length: 0\r\n\r\n")
    assert client(stream).request("GET", "/", {})[0] == 302


def test_head_names_are_lower_case_and_the_last_counts():
    assert parse_head(b"HTTP/1.0 206 x\r\nA: 1\r\na:  2 ") == (206, {"a": "2"})


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://host", ("host", 443, "")),
        ("https://host:8443/", ("host", 8443, "")),
        ("https://host:8443/base/", ("host", 8443, "/base")),
        ("https://[::1]:9", ("::1", 9, "")),
    ],
)
def test_url_is_taken_apart(url, parts):
    assert split_url(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "host",
        "https://",
        "https://host:0",
        "https://host:x",
        "https://u@host",
        "https://host:99999",
        "https://[::1",
        "https://[::1]x",
        "https://[]:1",
        "https://[host]",
        "https://::1",
    ],
)
def test_url_that_is_not_https_or_not_usable_is_refused(url):
    with pytest.raises(TransportError):
        split_url(url)
