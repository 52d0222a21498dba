"""Import and export of devices: any bytes in, each bad line named, all of it or nothing."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifeline import until
from server_world import Device, Server, fota
from test_server_roles import make_token

from fota_cli import bulk
from fota_wire.errors import InputError

DATABASES = BOTH
Run = Callable[..., Any]


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    env = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }

    def call(content: str | bytes, *options: str) -> Any:
        file = tmp_path / "devices.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return fota("device", "import", str(file), *options, env=env)

    return call


def new_id() -> str:
    return "0123" + secrets.token_hex(7)


def state(server: Server) -> list[Any]:
    return [
        server.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("devices", "attributes", "members")
    ]


def said(server: Server, device_id: str) -> dict[str, str]:
    found = server.api("GET", f"devices/{device_id}")[1]["attributes"]
    return {name: item["value"] for name, item in found.items()}


def test_csv_and_json_lines_say_the_same(server: Server, run: Run) -> None:
    one, two, three = (new_id() for _ in range(3))
    done = run(
        f'id,hardware,site,tags\n{one},C,"Hall 3, left",frozen  lab\r\n\n{two.upper()},,Hof,\n', "--admit"
    )
    assert done.stdout == "2 device(s): 2 changed, 2 let in\n", done.stderr
    assert said(server, one) == {"hardware": "C", "site": "Hall 3, left", "frozen": "", "lab": ""}
    assert said(server, two) == {"site": "Hof"}
    lines = [{"id": one, "site": None, "hardware": "D"}, {"id": three, "frozen": ""}]
    done = run("\n".join(json.dumps(line) for line in lines), "--admit")
    assert done.stdout == "2 device(s): 2 changed, 1 let in\n", done.stderr
    assert said(server, one) == {"hardware": "D", "frozen": "", "lab": ""}
    before = state(server)
    assert run("\n".join(json.dumps(line) for line in lines)).stdout == "2 device(s): 0 changed, 0 let in\n"
    assert state(server) == before, "given again it changes nothing"


def test_what_is_exported_can_be_imported(server: Server, run: Run, tmp_path: Path) -> None:
    tag, ids = "t" + secrets.token_hex(5), [new_id() for _ in range(3)]
    words = [{tag: "", "site": 'a "b", c'}, {tag: "", "lab": "x"}, {tag: ""}]
    run("\n".join(json.dumps({"id": one, **said}) for one, said in zip(ids, words, strict=True)), "--admit")
    env = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }
    for form in ("csv", "jsonl"):
        out = tmp_path / f"out.{form}"
        done = fota("device", "export", "--filter", tag, "--format", form, "-o", str(out), env=env)
        assert done.stdout == f"3 device(s) in {out}\n", done.stderr
        before = state(server)
        assert run(out.read_bytes()).stdout == "3 device(s): 0 changed, 0 let in\n"
        for one in ids:
            server.api("POST", f"devices/{one}/attributes", {"attributes": dict.fromkeys(said(server, one))})
            assert said(server, one) == {}
        assert run(out.read_bytes()).stdout == "3 device(s): 3 changed, 0 let in\n"
        assert state(server) == before


def test_token_for_a_group_exports_it(server: Server, run: Run, tmp_path: Path) -> None:
    """The names of attributes of the whole fleet are not its, and not needed: columns are what is there."""
    group, mine, other = "g" + secrets.token_hex(5), new_id(), new_id()
    run(f"id,site,{group},tags\n{mine},Hof,x,lab\n{other},Halle,,\n", "--admit")
    assert server.api("POST", "groups", {"name": group})[0] == 201
    assert server.api("POST", f"groups/{group}/devices", {"devices": [mine]})[0] == 200
    env = {"FOTA_SERVER": server.operator_url, "FOTA_CA": str(server.keys.server_ca)}
    env["FOTA_TOKEN"] = make_token(server, group, "--role", "viewer", "--group", group)
    done = fota("device", "export", "--group", group, env=env)
    assert done.stdout == f"id,{group},site,tags\n{mine},x,Hof,lab\n", done.stderr
    assert done.stderr == "1 device(s) on standard output\n"


def test_device_that_was_let_in_before_it_called_was_first_seen_when_it_did(server: Server, run: Run) -> None:
    device = Device(server)
    run(f"id\n{device.id}\n", "--admit")
    assert server.api("GET", f"devices/{device.id}")[1]["first_seen"] is None
    device.check_in()
    shown = server.api("GET", f"devices/{device.id}")[1]
    assert shown["first_seen"] == shown["last_seen"] is not None
    first = shown["first_seen"]
    device.check_in()
    assert server.api("GET", f"devices/{device.id}")[1]["first_seen"] == first


def test_bad_lines_are_named_and_nothing_is_done(server: Server, run: Run) -> None:
    good, gone = new_id(), Device(server)
    gone.check_in()
    assert server.api("POST", f"devices/{gone.id}/retire", {})[0] == 200
    before = state(server)
    rows = [
        *(f"{good},C,", "not-a-device,C,", f"{new_id()},C", f"{new_id()},\x1b[2J,", f"{good},D,"),
        *(f"{gone.id},C,", f"{new_id()}," + "x" * 129 + ","),
    ]
    done = run("id,hardware,zone\n" + "\n".join(rows) + f"\n{new_id()},C,Nowhere\n", "--admit")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr
    assert "nothing is done, 7 of 8 line(s) wrong: line 3: " in done.stderr
    assert all(f"line {number}: " in done.stderr for number in (4, 5, 6, 7))
    assert "and 2 more" in done.stderr
    assert state(server) == before
    done = run(f"id,hardware\n{new_id()},C\n")
    assert (done.returncode, "line 2: no device" in done.stderr) == (3, True), "not let in"
    assert run(f"id,hardware\n{good},C\n", "--admit", "--dry-run").returncode == 0
    assert state(server) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\xff\xfe", b"hardware\nC\n", b"id,id\n", b"id,\"a\n", b"id,a\n" + b"\xff" * 18 + b",x\n",
     b"id,A\n012345678901234567,x\n", b"{}\n", b'{"id": 5}\n', b'{"id": "012345678901234567", "a": 1}\n',
     b'{"id": "012345678901234567", "a": "x", "a": "y"}\n', b"\0\n", b"{" * 5000,
     b'{"id": "012345678901234567"\n',
     b'{"id": "012345678901234567", "a": "\\ud800"}\n', b"id,tags\n012345678901234567,A b\n",
     b"id,tags\n012345678901234567,id\n", b"id,a,tags\n012345678901234567,x,a\n", b"id\n" + b"0" * 70000],
)  # fmt: skip
def test_file_of_any_bytes_is_refused_in_one_line(server: Server, run: Run, content: bytes) -> None:
    before = state(server)
    done = run(content, "--admit")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr
    assert done.stderr.strip().isprintable()
    assert state(server) == before


@pytest.mark.sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text('id,"{}:\n\rabc 012\0', max_size=60).map(str.encode))
def test_lines_of_any_bytes_are_lines_or_faults(data: bytes) -> None:
    for head in (b"", b"id,tags\n", b"{}\n"):
        try:
            found = list(bulk._lines("x", head + data))
        except InputError as exc:
            assert str(exc).isprintable()  # noqa: PT017 - both ends are allowed
        else:
            assert all(line.fault is None or line.fault.isprintable() for line in found)


@pytest.mark.parametrize(
    "body",
    [{}, {"devices": []}, {"devices": {}}, {"devices": [1]}, {"devices": [{"id": "x"}]},
     {"devices": [[]] * 1001},
     {"devices": [{"id": 5, "attributes": {}}]}, {"devices": [{"id": "x", "attributes": []}]},
     {"devices": [{"id": "x", "attributes": {}}]}, {"devices": [{"id": "0" * 18, "attributes": {"A": "x"}}]},
     {"devices": [{"id": "0" * 18, "attributes": {}}] * 2, "admit": True}, {"devices": [], "admit": 1}],
)  # fmt: skip
def test_server_takes_no_rows_that_are_none(server: Server, body: dict[str, Any]) -> None:
    before = state(server)
    status, answer = server.api("POST", "devices/import", body)
    assert (status, answer["error"]["code"] in ("json", "row")) == (400, True), answer
    assert state(server) == before


def test_devices_that_are_imported_come_into_their_groups(server: Server, run: Run) -> None:
    tag, ids = "t" + secrets.token_hex(5), sorted(new_id() for _ in range(600))
    assert server.api("POST", "groups", {"name": tag, "filter": f"{tag} = red"})[0] == 202
    until(lambda: server.rows("SELECT filled_to FROM groups WHERE name = ?", tag) == [{"filled_to": None}])
    done = run(f"id,{tag}\n" + "".join(f"{one},red\n" for one in ids), "--admit")
    assert done.stdout == "600 device(s): 600 changed, 600 let in\n", done.stderr
    members = server.rows("SELECT device_id FROM members WHERE group_name = ? ORDER BY 1", tag)
    assert [row["device_id"] for row in members] == ids
    rows = server.rows(
        "SELECT subject FROM audit WHERE action = 'device.attributes' AND detail LIKE ?", f"%{tag}%"
    )
    assert len(rows) == 3, "a page is a transaction"
