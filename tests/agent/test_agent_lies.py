"""A server that lies in every field, with the ASSIGN key in its hands, and a network that spoils what it can.

Whatever comes: no exception leaves the engine, nothing but the signed manifest is pursued, waits are finite,
the agent's memory stays bounded and readable, and there is one clear reason.
"""

import importlib.util
import json
import select
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fota_agent.engine import actions
from fota_agent.engine.state import decode as decode_state
from fota_agent.transport import patience, tls_cpython
from fota_agent.transport.download import Download
from fota_agent.transport.http import HttpTransport
from fota_wire import assignment, cbor, cose, host_crypto
from fota_wire.chips import stm32l476
from fota_wire.errors import FotaError, TransportError, VerifyError

VECTORS = Path(__file__).parents[1] / "vectors"
NONCE = bytes(range(100, 116))
WEEK_MS = 8 * 86_400_000
SEARCH = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.sampled_from([0, 1, 23, 24, 255, 256, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
    | st.binary(max_size=80)
    | st.text(max_size=40)
    | st.sampled_from([bytes(16), bytes(32), bytes(9), bytes(5000)])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 30), inner, max_size=4),
    max_leaves=12,
)


def signed(world, payload):
    return cose.sign1(cbor.encode(payload), world.assign.kid, world.assign.sign, assignment.AAD)


def ask(engine):
    engine.start(0)
    engine.nonce(0, NONCE)


def assert_unharmed(world, engine, action):
    assert action.kind in (actions.IDLE, actions.COMPARE_RUNNING)
    assert 0 <= action.until < WEEK_MS
    assert engine.state.pending is None
    assert engine.state.writing is None
    assert engine.root.version in (1, 2)
    if action.kind == actions.COMPARE_RUNNING:
        assert engine.wanted.digest == world.v2.digest
        assert action.size == len(world.v2.image)
    elif engine.error is not None:
        code, detail = engine.state.events[-1]
        assert code == "refused"
        assert 0 < len(detail.encode()) <= 64
        assert "\n" not in detail
    assert len(engine.state.events) <= 16
    again = decode_state(b"".join([bytes(part) for part in engine.state.parts(6128)]))
    assert again.events == engine.state.events


def base(world):
    roots = [world.root(2)]
    return cbor.decode(world.answer(NONCE, world.v2, roots=roots, root_version=2))


def encodable(value):
    """Tell whether our CBOR can say it at all (integers of 64 bits)."""
    try:
        cbor.encode(value)
    except (ValueError, TypeError):
        return False
    return True


@settings(max_examples=250, **SEARCH)
@given(key=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 99, -1, "x"]), value=VALUES.filter(encodable))
def test_any_value_in_any_field_of_the_answer(world, key, value):
    body = base(world)
    body[key] = value
    engine = world.engine()
    ask(engine)
    assert_unharmed(world, engine, engine.response(10, cbor.encode(body)))


@settings(max_examples=60, **SEARCH)
@given(missing=st.sets(st.sampled_from(range(1, 8)), min_size=1))
def test_any_field_missing_from_the_answer(world, missing):
    body = {key: value for key, value in base(world).items() if key not in missing}
    engine = world.engine()
    ask(engine)
    assert_unharmed(world, engine, engine.response(10, cbor.encode(body)))


@settings(max_examples=250, **SEARCH)
@given(key=st.sampled_from([*range(1, 11), "x"]), value=VALUES.filter(encodable))
def test_any_value_in_any_field_of_a_rightly_signed_assignment(world, key, value):
    payload = cbor.decode(cose.parse_sign1(world.order(NONCE, world.v2, root_version=2)).payload)
    payload[key] = value
    order = signed(world, payload)
    if len(order) > 8000:
        return
    answer = world.answer(NONCE, world.v2, order=order, roots=[world.root(2)])
    engine = world.engine()
    ask(engine)
    action = engine.response(10, answer)
    assert_unharmed(world, engine, action)
    if action.kind == actions.COMPARE_RUNNING:  # what may differ: time, campaign, validity
        assert key in (4, 8, 9) or value == payload[key]


@pytest.mark.parametrize("time_s", [2**40 + 1, 2**63 - 1])
def test_time_beyond_all_reason_does_not_poison_what_is_stored_and_sent(device, world, time_s):
    device.network.order["time"] = time_s
    agent = device.run()
    agent.publish("t", 1)
    agent.step()
    assert agent.time() is None
    assert decode_state(b"".join([bytes(part) for part in agent.engine.state.parts(6128)])).telemetry == [
        ("t", 0, "1")
    ]


@settings(max_examples=150, **SEARCH)
@given(data=st.data())
def test_any_cut_or_insertion_in_the_bytes_of_the_answer(world, data):
    raw = world.answer(NONCE, world.v2, roots=[world.root(2)], root_version=2)
    at = data.draw(st.integers(0, len(raw) - 1))
    length = data.draw(st.integers(0, 30))
    new = data.draw(st.binary(max_size=30))
    engine = world.engine()
    ask(engine)
    assert_unharmed(world, engine, engine.response(10, raw[:at] + new + raw[at + length :]))


@settings(max_examples=100, **SEARCH)
@given(raw=st.binary(max_size=300) | VALUES.filter(encodable).map(cbor.encode))
def test_any_bytes_as_an_answer(world, raw):
    engine = world.engine()
    ask(engine)
    assert_unharmed(world, engine, engine.response(10, raw))


# The fixed corpus, for every interpreter


def here(name):
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module(name)


def test_fixed_lies_end_as_they_have_to():
    table = json.loads((VECTORS / "lies.json").read_text())
    assert len(table["cases"]) > 90
    assert here("lies").run(table, host_crypto.verify) == []


def test_fixed_lies_would_be_noticed():
    table = json.loads((VECTORS / "lies.json").read_text())
    table["cases"] = [dict(case, pursued=not case["pursued"]) for case in table["cases"]]
    assert len(here("lies").run(table, host_crypto.verify)) == len(table["cases"])
    assert here("lies").run({**table, "cases": table["cases"][:1]}, lambda *_: True)


def test_committed_lies_are_those_of_the_script():
    spec = importlib.util.spec_from_file_location("make_lies", VECTORS / "make_lies.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (VECTORS / "lies.json").read_text() == script.all_lies()


# HTTP


class Bytes:
    def __init__(self, data, piece):
        self.data, self.piece = data, piece

    def write(self, data):
        pass

    def readinto(self, buf):
        count = min(self.piece, len(buf), len(self.data))
        buf[:count], self.data = self.data[:count], self.data[count:]
        return count

    def close(self):
        pass


HEADERS = [
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"content-length:5",
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Location: https://elsewhere/",
    b":",
    b"a:b",
]
LINES = st.lists(st.binary(max_size=40) | st.sampled_from(HEADERS), max_size=5)
STATUS_LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.0 206 x",
        b"HTTP/1.1 99",
        b"HTTP/1.1 0x0 a",
        b"",
        b"HTTP/9.9",
    ]
)


@settings(max_examples=250, **SEARCH)
@given(
    status=STATUS_LINES | st.binary(max_size=30),
    lines=LINES,
    body=st.binary(max_size=12),
    piece=st.integers(1, 50),
)
def test_any_head_is_an_answer_or_one_clear_error(status, lines, body, piece):
    raw = b"\r\n".join([status, *lines]) + b"\r\n\r\n" + body
    transport = HttpTransport(lambda: Bytes(raw, piece), "host", lambda: 0)
    try:
        code, headers, reader = transport.request("GET", "/", {})
        assert 0 <= code <= 999
        assert all(isinstance(name, str) for name in headers)
        assert reader.length <= 9_999_999_999
        reader.close()
    except TransportError:
        pass


class Slot:
    page_size, size = 2048, stm32l476.SLOT_SIZE

    def __init__(self):
        self.pages = {}

    def program(self, offset, data):
        assert offset % self.page_size == 0
        self.pages[offset] = bytes(data)


@settings(max_examples=150, **SEARCH)
@given(
    status=st.sampled_from([200, 206, 302, 404, 416, 500]),
    range_=st.sampled_from(
        ["bytes 2048-{last}/{size}", "bytes 0-{last}/{size}", "bytes 2048-{size}/{size}", "", "x"]
    ),
    change=st.integers(-3000, 3000),
    offset=st.sampled_from([0, 2048]),
)
def test_any_answer_to_a_payload_request_writes_no_byte_behind_the_image(
    world, status, range_, change, offset
):
    class Liar:
        def request(self, *_args):
            size = len(world.v2.image)
            data = world.v2.image[offset if status == 206 else 0 :]
            data = data[:change] if change < 0 else data + bytes(change)
            answer = {"content-range": range_.format(last=size - 1, size=size)}
            return status, answer, Reader(data)

    slot = Slot()
    job = Download(world.v2, slot, offset, memoryview(bytearray(2048)), lambda: 0)
    world.v2.uri, world.v2.size = "payload/x", len(world.v2.image)
    try:
        while not job.step(Liar()):
            pass
        image = world.v2.image
        assert b"".join(slot.pages[at] for at in sorted(slot.pages))[: len(image) - offset] == image[offset:]
    except (TransportError, VerifyError):
        pass
    assert all(offset <= at < len(world.v2.image) for at in slot.pages)


class Reader:
    def __init__(self, data):
        self.length, self.data = len(data), data

    def readinto(self, buf):
        count = min(len(buf), len(self.data))
        buf[:count], self.data = self.data[:count], self.data[count:]
        return count

    def close(self):
        pass


# A network that spoils, on real sockets and TLS


class Spoiler(threading.Thread):
    """A TCP proxy that lets ``after`` bytes of the server through and then does ``what``."""

    def __init__(self, port, what, after):
        super().__init__(daemon=True)
        self.target, self.what, self.after = port, what, after
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = []

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.open += [client, server]
            threading.Thread(target=self.pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, self.after), daemon=True).start()

    def pump(self, source, sink, after):
        try:
            while data := source.recv(512):
                if after is not None:
                    if after < len(data):
                        self.spoil(source, sink, data, after)
                        return
                    after -= len(data)
                sink.sendall(data)
        except OSError:
            pass

    def spoil(self, source, sink, data, at):
        sink.sendall(data[:at])
        if self.what == "reset":
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sink.close()
        elif self.what == "truncate":
            sink.shutdown(socket.SHUT_WR)
        elif self.what == "corrupt":
            sink.sendall(bytes([data[at] ^ 1]) + data[at + 1 :])
            while more := source.recv(512):
                sink.sendall(more)
        # "stall": nothing more ever comes

    def close(self):
        self.listener.close()
        for sock in self.open:
            sock.close()


class VirtualTime:
    """Time that passes only where a peer has nothing to say: half a second of silence is any wait's end."""

    def __init__(self):
        self.passed_ms = 0

    def now_ms(self):
        return self.passed_ms

    def wait(self, sock, writing, ms):
        ready = select.select([] if writing else [sock], [sock] if writing else [], [], 0.5)
        if not any(ready):
            self.passed_ms += ms


@pytest.mark.parametrize("after", [0, 3, 40, 200, 900])
@pytest.mark.parametrize("what", ["reset", "truncate", "corrupt", "stall"])
def test_spoilt_connection_is_one_clear_error_in_bounded_time(tls_server, what, after):
    server, connect = tls_server
    spoiler = Spoiler(server.port, what, after)
    spoiler.start()
    clock = VirtualTime()
    transport = HttpTransport(connect(spoiler.port, clock), "localhost", clock.now_ms)

    def talk():
        for _ in range(3):  # what is spoilt late is spoilt in one of them
            transport.request("GET", "/", {})[2].read(100)

    with pytest.raises(FotaError) as caught:
        talk()
    assert isinstance(caught.value, TransportError)
    assert "\n" not in str(caught.value)
    assert clock.now_ms() <= 3 * patience.IDLE_MS
    spoiler.close()
    transport.close()


@pytest.fixture
def tls_server(tmp_path):
    """A TLS server of the device's CA, and a maker of connectors to a port that leads to it."""
    tls = here("test_agent_tls")
    pki = tls.Pki(tmp_path)
    server = tls.Server(pki)
    element = tls.Element(pki.device_key)
    key = tls_cpython.ElementKey(element.public, element.sign)
    der = ssl.PEM_cert_to_DER_cert(pki.device.public_bytes(tls.PEM).decode())
    context = tls_cpython.client_context([pki.ca.public_bytes(tls.DER)], der, key)
    yield (
        server,
        lambda port, clock: tls_cpython.connector(
            "localhost", port, context, key, now_ms=clock.now_ms, wait=clock.wait
        ),
    )
    server.close()


# Hours of it


def test_hours_of_errors_cost_few_requests_and_one_event_and_then_it_goes_on(device, world):
    network = device.network
    network.wanted = world.v2
    network.refuse_checkin = (500, {})
    agent = device.agent()
    end = device.now + 12 * 3_600_000
    while device.now < end:
        device.now += max(1, agent.step())
    assert 10 < len(network.requests) < 60
    assert [code for code, _ in agent.engine.state.events] == ["failed"]
    network.refuse_checkin = None
    agent.check_in()
    device.run(agent)
    assert agent.rebooting


def test_redirect_elsewhere_is_not_followed_and_is_an_error(device, world):
    network = device.network
    network.refuse_checkin = (302, {"location": "https://elsewhere.example/v1/checkin"})
    device.run(seconds=600)
    assert {path for _, path, _ in network.requests} == {"/v1/checkin"}
    assert any("302" in line for line in device.hooks.lines)
    network.refuse_checkin, network.wanted = None, world.v2
    network.change_payload = lambda status, headers, body: (302, {"location": "https://elsewhere"}, b"")
    agent = device.run(seconds=600)
    assert not agent.rebooting
    assert {path for _, path, _ in network.requests} == {
        "/v1/checkin",
        "/v1/payload/" + world.v2.digest.hex(),
    }
