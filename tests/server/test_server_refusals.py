"""Who is turned away leaves a trace: counted, bounded, told in the log, shown to operators."""

import asyncio
import json
import socket
import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from databases import BOTH, url_of
from lifeline import HANG_S
from server_world import Built, Device, Keys, Refused, Server, make_cert, new_key

from fota_server import refusals, schema
from fota_server.database import Database, open_engine, read_url

TLS_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


DATABASES = BOTH


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    yield server
    if server.process and server.process.returncode is None:
        assert server.stop()[0] == 0


def traces(server: Server, who: str) -> dict[str, dict[str, Any]]:
    return {item["code"]: item for item in server.api("GET", "refusals")[1]["refusals"] if item["who"] == who}


def test_clone_with_another_key_is_shown_with_the_device(server: Server) -> None:
    device = Device(server)
    device.check_in()
    clone = Device(server, device.id)
    for _ in range(3):
        with pytest.raises(Refused):
            clone.check_in()
    shown = server.api("GET", f"devices/{device.id}")[1]["refusals"]
    assert [(item["code"], item["count"], item["address"], item["proved"]) for item in shown] == [
        ("key", 3, "127.0.0.1", True)
    ]
    assert "was admitted with another key" in shown[0]["detail"]
    assert shown[0]["first_at"] <= shown[0]["last_at"]
    assert traces(server, device.id)["key"] == shown[0]


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (b"\x00\x01 HELLO\r\n\r\n", b"400", "not-http"),
        (b"GET /v1 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", b"400", "host"),
        (b"GET /v1 HTTP/1.1\r\nhost: a\r\nx: %s\r\n\r\n" % (b"x" * 9000), b"431", "header-too-large"),
        (b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n", b"404", "not-found"),
        (b"GET /v1/checkin HTTP/1.1\r\nhost: a\r\n\r\n", b"405", "method"),
    ],
)
def test_device_that_talks_nonsense_leaves_a_trace(
    server: Server, said: bytes, status: bytes, code: str
) -> None:
    device = Device(server)
    device.check_in()
    plain = socket.create_connection(("127.0.0.1", server.device_port), timeout=HANG_S)
    with device.context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(said)
        assert connection.recv(64).split()[1] == status
    shown = server.api("GET", f"devices/{device.id}")[1]["refusals"]
    assert [(item["code"], item["count"], item["proved"]) for item in shown] == [(code, 1, True)]


@pytest.mark.parametrize(
    ("path", "methods"), [("/v1/checkin", "POST"), ("/v1/payload/" + "0" * 64, "GET, HEAD")]
)
def test_method_that_a_path_has_not_is_answered_with_those_that_it_has(
    server: Server, path: str, methods: str
) -> None:
    device = Device(server)
    status, headers, _ = device.request("PUT", path)
    assert (status, headers["allow"]) == (405, methods)


def test_device_that_nobody_admitted_knocks(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data", "--admission", "known").init().start()
    try:
        device = Device(own)
        with pytest.raises(Refused):
            device.check_in()
        assert traces(own, device.id)["unknown-device"]["proved"]
        assert device.id in own.stop()[1]
    finally:
        assert own.process
        own.process.kill()


def test_retired_device_leaves_a_trace_at_each_handshake(server: Server) -> None:
    device = Device(server)
    device.check_in()
    device.close()
    assert server.api("POST", f"devices/{device.id}/retire", {})[0] == 200
    for _ in range(2):
        device.close()
        with pytest.raises(Refused):
            device.check_in()
    assert traces(server, device.id)["retired"]["count"] == 2


def test_refused_body_leaves_a_trace(server: Server, device: Device) -> None:
    assert device.request("POST", "/v1/checkin", b"\xff")[0] == 400
    (trace,) = traces(server, device.id).values()
    assert trace["proved"]


FLAWS = [
    ("expired", "certificate-expired", "certificate expired"),
    ("not-yet", "certificate-not-yet-valid", "bad certificate"),
    ("other-ca", "certificate-foreign", "unknown ca"),
    ("forged-issuer", "certificate-foreign", "decrypt error"),
]


@pytest.mark.parametrize("version", TLS_VERSIONS, ids=["tls12", "tls13"])
@pytest.mark.parametrize(("flaw", "code", "alert"), FLAWS, ids=[flaw[0] for flaw in FLAWS])
def test_certificate_that_is_refused_gets_its_alert_and_leaves_a_trace(
    server: Server, flaw: str, code: str, alert: str, version: Any
) -> None:
    keys, other = server.keys, new_key()
    flaws: dict[str, dict[str, Any]] = {
        "other-ca": {"issuer": (make_cert("another CA", other, ca=True), other)},
        "expired": {"start_days": -5, "days": -0.01},
        "not-yet": {"start_days": 0.1},
        "forged-issuer": {"issuer": (keys.device_ca, other)},
    }
    device = Device(server, tls=version, **flaws[flaw])
    with pytest.raises(ssl.SSLError, match=alert.replace(" ", ".")) as refused:
        device.request("POST", "/v1/checkin", b"x" * 2000)
    assert "alert" in str(refused.value).lower()
    trace = traces(server, device.id)[code]
    assert not trace["proved"], "anybody can write a name into a certificate"
    assert f"serial {device.cert.serial_number:x}" in trace["detail"]
    assert trace["address"] == "127.0.0.1"
    assert server.rows("SELECT * FROM devices WHERE id = ?", device.id) == []


def test_log_tells_of_refusals_and_of_what_is_no_tls(own: Server) -> None:
    device = Device(own, start_days=-5, days=-0.01)
    with pytest.raises(ssl.SSLError):
        device.request("POST", "/v1/checkin", b"")
    with socket.create_connection(("127.0.0.1", own.device_port), timeout=HANG_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while plain.recv(1000):
            pass
    assert own.api("GET", "devices", token="fota_0123456789abcdef_none")[0] == 401
    _, stderr = own.stop()
    assert f"refused {device.id} from 127.0.0.1: certificate-expired: certificate has expired; " in stderr
    assert "device plane: TLS handshake with 127.0.0.1 failed: http request" in stderr
    assert "operator plane: a token that is not in force" in stderr
    assert "Traceback" not in stderr


def test_name_in_a_certificate_cannot_write_lines_into_the_log(own: Server) -> None:
    other = new_key()
    device = Device(
        own, name="x\nfota-server: all is well\x1b[2J", issuer=(make_cert("a", other, ca=True), other)
    )
    with pytest.raises(ssl.SSLError):
        device.request("POST", "/v1/checkin", b"")
    _, stderr = own.stop()
    assert "\nfota-server: all is well" not in stderr
    assert "\x1b" not in stderr
    assert "x\\nfota-server: all is well\\x1b[2J" in stderr


def test_refusals_survive_the_server(own: Server) -> None:
    device = Device(own)
    assert device.request("POST", "/v1/checkin", b"\xff")[0] == 400
    device.close()
    own.stop()
    own.start()
    assert len(traces(own, device.id)) == 1


def in_database(path: Path, work: Callable[[Database], Awaitable[Any]]) -> Any:
    database = Database(open_engine(read_url(url_of(path), path.parent)))

    async def run() -> Any:
        return await work(database)

    try:
        return asyncio.run(run())
    finally:
        database.close()


def noted(path: Path, notes: list[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    async def work(database: Database) -> list[dict[str, Any]]:
        database.bring_up_to_date()
        book = refusals.Refusals()
        for who, address, proved in notes:
            book.note(who, "key", address, "why", proved=proved)
            if len(book._pending) >= refusals.MAX_PENDING:
                await book.flush(database)
        await book.flush(database)
        return await database.read(refusals.list_refusals, limit=10_000)

    rows = in_database(path, work)
    assert isinstance(rows, list)
    return rows


def test_claims_do_not_push_out_what_was_proved(tmp_path: Path) -> None:
    proved = [(f"{number:018x}", "10.0.0.1", True) for number in range(20)]
    claims = [(f"claim {number}", "10.0.0.2", False) for number in range(3 * refusals.KEPT[False])]
    rows = noted(tmp_path / "fota.db", proved + claims)
    assert sum(row["proved"] for row in rows) == 20
    assert len(rows) == 20 + refusals.KEPT[False]


def test_one_device_keeps_its_newest_only(tmp_path: Path) -> None:
    rows = noted(tmp_path / "fota.db", [("a", f"10.0.0.{n}", True) for n in range(60)] + [("b", "::1", True)])
    assert sum(row["who"] == "a" for row in rows) == refusals.KEPT_OF_ONE
    assert sum(row["who"] == "b" for row in rows) == 1


def test_memory_of_refusals_is_bounded_and_nothing_is_uncounted() -> None:
    book = refusals.Refusals()
    for number in range(5 * refusals.MAX_PENDING):
        book.note(f"{number}", "key", "10.0.0.1", "why", proved=True)
    assert len(book._pending) == refusals.MAX_PENDING + 1
    assert sum(tally.count for tally in book._pending.values()) == 5 * refusals.MAX_PENDING


@pytest.mark.sqlite
def test_what_the_database_did_not_take_is_counted_later(tmp_path: Path) -> None:
    path = tmp_path / "fota.db"

    async def work(database: Database) -> list[dict[str, Any]]:
        database.bring_up_to_date()
        book = refusals.Refusals()
        book.note("a", "key", "10.0.0.1", "why", proved=True)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("DROP TABLE refusals")
        await book.flush(database)
        book.note("a", "key", "10.0.0.1", "why", proved=True)
        await database.write(schema.refusals.create)
        blocker.close()
        await book.flush(database)
        return await database.read(refusals.list_refusals)

    assert [row["count"] for row in in_database(path, work)] == [2]


# What nobody foresaw


@pytest.mark.sqlite
def test_mistake_of_ours_is_told_at_the_server_and_answered_in_the_planes_words(
    own: Server, releases: dict[str, Built]
) -> None:
    database = sqlite3.connect(own.data / "fota.db", isolation_level=None)
    database.execute("INSERT INTO devices (id, admitted_by, revoked) VALUES (?, 'x', 0)", ("f" * 18,))
    database.execute("UPDATE meta SET value = value")
    database.execute(
        "INSERT INTO audit (at, actor, action, subject, detail) VALUES (1, 'x', 'x', 'x', 'no JSON')"
    )
    database.close()
    status, answer = own.api("GET", "audit")
    assert (status, answer["error"]["code"]) == (500, "internal")
    _, stderr = own.stop()
    assert "operator plane: GET /api/v1/audit failed" in stderr
    assert "JSONDecodeError" in stderr


_ODD_WAVES = quote('{"waves": ["group:\\ud800", "rest"]}')


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "groups", {"name": "\ud800"}),
        ("POST", "groups", {"name": "a" * 100_000}),
        ("POST", "groups/x/devices", {"devices": ["\udfff"]}),
        ("POST", "groups/x/devices", {"devices": ["0" * 100_000]}),
        ("POST", "rollouts", {"version": "\ud800", "group": "g"}),
        ("POST", "rollouts", {"version": "1" * 100_000, "group": "g"}),
        ("POST", "rollouts", {"version": "1", "group": "\ud800"}),
        ("POST", "rollouts", {"version": "1", "device": "1" * 100_000}),
        ("POST", "rollbacks", {"to": "9" * 100_000, "device": "0" * 18}),
        ("POST", "rollbacks", {"to": "\ud800", "group": "g"}),
        ("POST", "devices/" + "0" * 18 + "/retire", {"reason": "\ud800"}),
        ("POST", "devices/" + "0" * 18 + "/key", {"kind": "\ud800"}),
        ("POST", "devices/" + "0" * 18 + "/key", {"kind": 10**400}),
        ("POST", "devices/%ED%A0%80/revoke", None),
        ("POST", "devices/%00/admit", None),
        ("GET", "devices/%FF%FE", None),
        ("GET", "releases/%ED%A0%80", None),
        ("GET", "releases/" + "a" * 5000, None),
        ("GET", "devices?group=%ED%A0%80&after=%00", None),
        ("GET", "devices?limit=" + "9" * 30, None),
        ("GET", "devices?limit=%C2%B2", None),
        ("GET", "audit?after=" + "9" * 30, None),
        ("GET", "rollouts/" + "9" * 30, None),
        ("GET", "rollouts/" + "9" * 5000, None),
        ("POST", "rollouts/" + "9" * 30 + "/pause", None),
        ("POST", "rollouts/" + "9" * 5000 + "/resume", None),
        ("PUT", "artifacts/%ED%A0%80", None),
        ("GET", "preview?kind=update&version=1.0.0&device=" + "0" * 18 + "&policy=" + _ODD_WAVES, None),
        ("GET", "groups?limit=1&limit=2", None),
        ("POST", "groups", {}),
        ("POST", "groups", {"name": None}),
        ("POST", "groups", b'{"name": "twice-a", "name": "twice-b"}'),
        ("POST", "groups", b'[{"name": "a"}]'),
        (
            "POST",
            "rollouts",
            b'{"group": "g", "version": "1", "policy": {"waves": ["rest"], "waves": ["rest"]}}',
        ),
    ],
)
def test_no_input_of_an_operator_is_a_mistake_of_ours(
    server: Server, method: str, path: str, body: Any
) -> None:
    status, answer = server.api(
        method, path, raw=body if isinstance(body, bytes | None) else json.dumps(body).encode()
    )
    if path.startswith("devices?group"):
        assert status in (200, 400, 404), answer
    else:
        assert 400 <= status < 500, answer
        assert len(answer["error"]["message"]) < 600, "nobody is sent all of it back"
    assert server.rows("SELECT name FROM groups WHERE name IN ('None', 'twice-a', 'twice-b')") == []
