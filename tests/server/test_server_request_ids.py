"""Each answer has an id that the log knows, and the fields that keep a browser from misusing it."""

import http.client
import json
import re
import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifeline import HANG_S
from server_world import Device, Keys, Refused, Server, client_context, fota
from test_server_early import DEVICE, OPERATOR, answer_to, connect
from test_server_roles import ALLOWED, WITHOUT_TOKEN

from fota_server import device_plane, operator_plane

ID = re.compile(r"[0-9a-f]{16}")


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data", "--log", "json").init().start()
    yield server
    if server.process and server.process.returncode is None:
        assert server.stop()[0] == 0


class Asked:
    """An answer of the operator plane, read whole."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.text = answer.status, answer.headers, answer.read().decode()


def ask(server: Server, method: str, path: str, **headers: str) -> Asked:
    context = ssl.create_default_context(cafile=str(server.keys.server_ca))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.operator_port, context=context, timeout=HANG_S
    )
    sent = {"authorization": f"Bearer {server.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
    connection.request(method, "/api/v1/" + path, b"" if method != "GET" else None, sent)
    answer = Asked(connection.getresponse())
    connection.close()
    return answer


def fields(answer: bytes) -> list[tuple[bytes, bytes]]:
    head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in head)]


def test_every_route_of_operators_answers_with_an_id_and_what_browsers_go_by(server: Server) -> None:
    seen = set()
    for method, path in (*ALLOWED, *WITHOUT_TOKEN):
        if path in ("unhalt", "halt") or path.endswith("retire"):
            continue  # they change what the other tests of this server need; their answers are like all
        answer = ask(server, method, path)
        (found,) = answer.headers.get_all("x-request-id") or []
        assert ID.fullmatch(found), (method, path)
        seen.add(found)
        for name, value in operator_plane.HEADERS:
            assert answer.headers.get_all(name.decode()) == [value.decode()], (method, path)
    assert len(seen) == len({*ALLOWED, *WITHOUT_TOKEN}) - 3


@pytest.mark.parametrize("why", OPERATOR)
def test_operator_who_is_answered_early_has_them_too(server: Server, releases: dict, why: str) -> None:
    connection = connect(client_context(server.keys.server_ca, None), server.operator_port)
    got = fields(answer_to(connection, OPERATOR[why][1](server, releases["1.1.0"])))
    assert ID.fullmatch(dict(got)[b"x-request-id"].decode())
    assert set(operator_plane.HEADERS) <= set(got)


@pytest.mark.parametrize("why", DEVICE)
def test_device_that_is_answered_early_has_them_too(server: Server, device: Device, why: str) -> None:
    got = fields(answer_to(connect(device.context, server.device_port), DEVICE[why][1]))
    assert ID.fullmatch(dict(got)[b"x-request-id"].decode())
    assert set(device_plane.HEADERS) <= set(got)


def test_each_request_of_a_device_has_an_id_of_its_own(server: Server, device: Device) -> None:
    device.check_in()
    asked = [("GET", "/v1/payload/" + "0" * 64), ("POST", "/v1/checkin"), ("POST", "/v1/certificate")]
    ids = set()
    for method, path in asked:
        _, headers, _ = device.request(method, path, b"\xff" if method == "POST" else None)
        device.close()
        ids.add(headers["x-request-id"])
        for name, value in device_plane.HEADERS:
            assert headers[name.decode()] == value.decode()
    assert len(ids) == len(asked)


@pytest.mark.parametrize("given", ["ci-1234", "A" * 64, "0"])
def test_well_formed_id_of_a_client_is_kept(server: Server, given: str) -> None:
    assert ask(server, "GET", "devices", x_request_id=given).headers.get_all("x-request-id") == [given]


@pytest.mark.parametrize("given", ["", "A" * 65, "a b", "a\x1b[2J", 'x", "level": "error', "ä", "a_b", "a/b"])
def test_any_other_is_not(server: Server, given: str) -> None:
    (found,) = ask(server, "GET", "devices", x_request_id=given).headers.get_all("x-request-id") or []
    assert ID.fullmatch(found)


def test_log_has_an_object_a_line_and_the_ids_of_what_it_tells(own: Server) -> None:
    device = Device(own)
    _, headers, _ = device.request("POST", "/v1/checkin", b"\xff", {"x-request-id": "from-a-device"})
    device.close()
    with sqlite3.connect(own.data / "fota.db") as beside:
        beside.execute(
            "INSERT INTO audit (at, actor, action, subject, detail) VALUES (1, 'x', 'x', 'x', 'x')"
        )
    beside.close()
    failed = ask(own, "GET", "audit")
    assert ask(own, "GET", "devices", authorization="Bearer x", x_request_id="who-is-it").status == 401
    lines = [json.loads(line) for line in own.stop()[1].splitlines()]
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    of = {line.get("request"): line for line in lines}
    assert headers["x-request-id"] == "from-a-device"
    assert f"refused {device.id} from 127.0.0.1" in of["from-a-device"]["message"]
    assert "a token that is not in force" in of["who-is-it"]["message"]
    told = of[failed.headers["x-request-id"]]
    assert "GET /api/v1/audit failed" in told["message"]
    assert "JSONDecodeError" in told["trace"]


def test_mistake_of_ours_names_its_request_in_the_answer_and_in_the_log(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data").init().start()
    with sqlite3.connect(own.data / "fota.db") as beside:
        beside.execute(
            "INSERT INTO audit (at, actor, action, subject, detail) VALUES (1, 'x', 'x', 'x', 'x')"
        )
    beside.close()
    status, answer = own.api("GET", "audit")
    assert status == 500
    request = answer["error"]["message"].rpartition(" ")[2]
    assert ID.fullmatch(request)
    assert f"GET /api/v1/audit failed (request {request})\n" in own.stop()[1]


def test_refused_certificate_of_a_retired_device_has_an_id(own: Server) -> None:
    device = Device(own)
    device.check_in()
    device.close()
    assert own.api("POST", f"devices/{device.id}/retire", {})[0] == 200
    with pytest.raises(Refused):
        device.check_in()
    lines = [json.loads(line) for line in own.stop()[1].splitlines()]
    (told,) = [line for line in lines if "is retired" in line["message"]]
    assert ID.fullmatch(told["request"])


def test_form_of_the_log_that_is_none_is_refused(own: Server) -> None:
    own.stop()
    own.configure(log="xml")
    done = fota("server", "run", "--data", str(own.data))
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "log is text or json" in done.stderr
