"""What one device costs the others: ranges are cheap, and who asks too often is slowed down."""

import asyncio
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from lifeline import HANG_S, until
from server_world import Built, Device, Keys, Server, client_context
from sqlalchemy import select
from test_server_devices import assigned

from fota_server import device_plane, operator_plane, schema
from fota_server.certificates import read_tls_files
from fota_server.config import load_config
from fota_server.connection import Limits, PlaneProtocol
from fota_server.database import Database, open_engine, sqlite_url
from fota_server.device_plane import admitted_device, payload_asked
from fota_server.listener import TlsListener, bind
from fota_server.pace import BURST, CHECK_IN, MAX_KNOWN, MAX_WAIT_S, PER_SECOND, RANGE, Pace
from fota_server.quick import Statement, open_reader
from fota_wire import checkin


def processor_time(server: Server) -> int:
    """Return the clock ticks that the server has used."""
    assert server.process
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_range_costs_a_small_part_of_a_check_in_that_is_written(
    server: Server, device: Device, releases: dict[str, Built]
) -> None:
    path = assigned(server, device, releases["1.1.0"])

    def ranges() -> None:
        for start in range(0, 40 * 256, 256):
            status, _, body = device.request("GET", path, headers={"range": f"bytes={start}-{start + 4095}"})
            assert (status, body) == (206, releases["1.1.0"].file[start : start + 4096])

    ranges()
    before = processor_time(server)
    for _ in range(10):
        ranges()
    for_ranges = processor_time(server) - before
    for count in range(40):
        device.check_in(raw_report=device.report(reset_cause=count))
    for_check_ins = processor_time(server) - before - for_ranges
    assert os.sysconf("SC_CLK_TCK") >= 50
    assert for_ranges / 400 < for_check_ins / 40 / 3


def test_first_requests_of_a_device_wait_for_nothing_and_then_it_has_its_share() -> None:
    book, now = Pace(), 0.0
    for _ in range(int(BURST / RANGE)):
        assert book.wait("a", RANGE, now) == 0
    assert book.wait("b", CHECK_IN, now) == 0, "another device"
    served = 0
    while now < 600:  # eight connections are eight at a time: each asks again once it is answered
        now += max(book.wait("a", CHECK_IN, now), 0.001)
        served += 1
    assert served <= 600 * PER_SECOND / CHECK_IN + 2
    assert book.wait("a", RANGE, now + 3600) == 0


def test_wait_and_memory_are_bounded() -> None:
    book = Pace()
    for _ in range(100_000):
        longest = book.wait("a", CHECK_IN, 0.0)
    assert longest == MAX_WAIT_S
    for number in range(MAX_KNOWN + 100):
        book.wait(f"{number}", RANGE, float(number))
    assert len(book.left) <= MAX_KNOWN


def test_device_that_asks_too_often_is_told_of(server: Server, device: Device) -> None:
    def traces() -> list[tuple[str, bool]]:
        shown = server.api("GET", f"devices/{device.id}")[1]["refusals"]
        return [(item["code"], item["proved"]) for item in shown]

    device.check_in()
    rounds = 0
    while not traces():
        rounds += 1
        assert rounds < 20, "200 units in each, of 1200"
        for _ in range(20):
            device.check_in(with_report=False)
    assert traces() == [("too-often", True)]
    Device(server).check_in()


def test_device_that_asks_for_what_is_not_here_is_told_of_and_keeps_pace(
    server: Server, device: Device
) -> None:
    device.check_in()
    traces: set[str] = set()
    rounds = 0
    while "too-often" not in traces:
        rounds += 1
        assert rounds < 20, "200 units in each, of 1200"
        for _ in range(10):
            assert device.request("GET", "/v2")[0] == 404
            device.close()
            assert device.request("GET", "/v1/checkin")[0] == 405
            device.close()
        traces = {item["code"] for item in server.api("GET", f"devices/{device.id}")[1]["refusals"]}
    assert traces == {"not-found", "method", "too-often"}


def test_device_that_shakes_hands_too_often_is_told_of(server: Server, device: Device) -> None:
    device.check_in()
    rounds, told = 0, False
    while not told:
        rounds += 1
        assert rounds < 20, "100 units in each, of 1200"
        for _ in range(20):
            device.close()
            device.connect().close()
        shown = server.api("GET", f"devices/{device.id}")[1]["refusals"]
        told = [(item["code"], item["proved"]) for item in shown] == [("too-often", True)]


def test_address_that_only_shakes_hands_is_closed_before_the_next_one(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fota_server.pace.PER_SECOND", 1e-9
    )  # nothing comes back meanwhile, however slow we are
    own = Server(keys, tmp_path / "data").init()
    tls = read_tls_files(load_config(own.data, {}).files, allow_example_keys=True)
    client = client_context(keys.server_ca, None)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def shake(address: str, port: int, ask: bytes = b"") -> bytes:
        with socket.socket() as plain:
            plain.settimeout(HANG_S)
            plain.bind((address, 0))
            plain.connect(("127.0.0.1", port))
            with client.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                secured.sendall(ask)
                return secured.recv(12) if ask else b""

    async def live() -> None:
        sock = bind("127.0.0.1", 0)
        listener = TlsListener("operator", app, sock, tls.operator, operator_plane.error_body, Limits())
        listener._bare.left["127.0.0.2"] = (2.5, asyncio.get_running_loop().time())
        listener.start()
        port = sock.getsockname()[1]
        ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        try:
            for _ in range(6):
                assert await asyncio.to_thread(shake, "127.0.0.2", port, ask) == b"HTTP/1.1 200"
            for shaken in range(1, 4):
                await asyncio.to_thread(shake, "127.0.0.2", port)
                await asyncio.to_thread(until, lambda: not listener.door.inside)
                left = listener._bare.left["127.0.0.2"][0]
                assert left == pytest.approx(max(2.5 - shaken, 0), abs=1e-6)
            for words in (b"", ask):
                with pytest.raises((OSError, ssl.SSLError)):
                    await asyncio.to_thread(shake, "127.0.0.2", port, words)
            assert await asyncio.to_thread(shake, "127.0.0.3", port, ask) == b"HTTP/1.1 200"
            assert set(listener._bare.left) == {"127.0.0.2"}
        finally:
            await listener.stop()

    asyncio.run(live())


def test_client_that_goes_before_its_answers_come_is_no_mistake_of_ours(keys: Keys, tmp_path: Path) -> None:
    """It asked for several things at once: uvicorn told the last of them alone that nobody is there."""
    server = Server(keys, tmp_path / "data").init().start()
    device = Device(server)
    for _ in range(int(BURST / CHECK_IN) + 5):  # so that the next answers wait
        device.check_in(with_report=False)
    body = checkin.encode_request(checkin.Request(bytes(16), 1, None, None))
    head = f"POST /v1/checkin HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    for _ in range(4):
        sock = device.connect()
        sock.sendall((head.encode() + body) * 3)
        sock.close()
    code, said = server.stop()
    assert (code, said.count("Traceback")) == (0, 0), said


def test_statement_is_what_sqlalchemy_would_have_asked(server: Server, device: Device) -> None:
    device.check_in()
    database = Database(open_engine(sqlite_url(server.data / "fota.db")))
    reader = open_reader(database)

    def first(query: Any, **parameters: str) -> Any:
        return asyncio.run(reader.first(Statement(query), **parameters))

    try:
        row = first(admitted_device(), device_id=device.id)
        (stored,) = server.rows("SELECT * FROM devices WHERE id = ?", device.id)
        assert {name: getattr(row, name) for name in stored} == stored
        assert row.retired_at is None
        assert first(admitted_device(), device_id="0" * 18) is None
        assert first(admitted_device()) is None, "without a name nobody is found"
        asked = first(payload_asked(), device_id=device.id, file_digest="0" * 64)
        assert (asked[:-1], asked.may_fetch) == (tuple(row), 0)
        assert first(select(schema.devices.c.id))
    finally:
        reader.close()
        database.close()


@pytest.mark.parametrize(
    ("declared", "seconds"),
    [("0", 10), ("50", 10.2), ("8192", 42), ("9" * 30, 42), ("", 42), ("-1", 42), ("\u0663", 42)],
)
def test_body_has_the_time_that_the_slowest_promised_link_takes(declared: str, seconds: float) -> None:
    """256 bytes per second: an 8 KiB check-in takes 32 s, whose end was not waited for."""
    assert device_plane.body_time_s(declared, checkin.MAX_REQUEST, device_plane.BODY_S) == pytest.approx(
        seconds, abs=0.05
    )


def test_handshake_has_the_time_that_the_slowest_promised_link_takes() -> None:
    certificates = 2 * 1024 + 1024  # ours with its chain, and the device's, at their most common
    assert Limits().handshake_s * device_plane.SLOWEST_RATE > 2 * certificates


def test_connection_that_is_just_ending_can_be_hung_up_on_again() -> None:
    """As Debian 12's Python 3.11.2 has it: the server ended with "a bug" at a stop, and a ninth connection
    of a device failed.
    """

    class Gone:
        def abort(self) -> None:
            raise AttributeError("'NoneType' object has no attribute '_abort'")

    connection = object.__new__(PlaneProtocol)
    connection.transport = Gone()  # type: ignore[assignment]
    connection.hang_up()
