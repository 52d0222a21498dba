"""What each role may do, tokens that end, and an audit trail that shows who laid hands on it."""

import http.client
import json
import re
import sqlite3
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lifeline import HANG_S
from server_world import Built, Device, Keys, Server, fota

from fota_server.operator_routes import OPERATIONS
from fota_server.tokens import ROLES

EVERYBODY = {"viewer", "publisher", "operator", "admin"}
READERS, OPERATORS, PUBLISHERS = EVERYBODY - {"publisher"}, {"operator", "admin"}, {"publisher", "admin"}
ALLOWED = {  # by method and path: all that there is; what is refused to the able is refused for other reasons
    ("PUT", "artifacts/" + "0" * 64): PUBLISHERS,
    ("GET", "releases"): EVERYBODY,
    ("POST", "releases"): PUBLISHERS,
    ("GET", "releases/9.9.9"): EVERYBODY,
    ("POST", "releases/9.9.9/hardware"): PUBLISHERS,
    ("POST", "releases/9.9.9/campaign"): PUBLISHERS,
    ("POST", "releases/9.9.9/sbom"): PUBLISHERS,
    ("GET", "components"): READERS,
    ("POST", "releases/9.9.9/rehearsal"): PUBLISHERS,
    ("POST", "releases/9.9.9/withdraw"): OPERATORS,
    ("POST", "releases/9.9.9/restore"): OPERATORS,
    ("GET", "log/checkpoint"): EVERYBODY,
    ("GET", "log/tile/0/000"): EVERYBODY,
    ("GET", "roots"): EVERYBODY,
    ("POST", "roots"): {"admin"},
    ("GET", "devices"): READERS,
    ("GET", "devices/nobody"): READERS,
    ("GET", "attributes"): READERS,
    ("POST", "devices/import"): OPERATORS,
    ("POST", "devices/nobody/attributes"): OPERATORS,
    ("POST", "devices/nobody/revoke"): OPERATORS,
    ("POST", "devices/nobody/admit"): OPERATORS,
    ("POST", "devices/nobody/retire"): {"admin"},
    ("POST", "devices/nobody/key"): OPERATORS,
    ("POST", "devices/nobody/certificate"): OPERATORS,
    ("POST", "ddi"): OPERATORS,
    ("POST", "ddi/gateway"): {"admin"},
    ("POST", "ddi/nobody/token"): OPERATORS,
    ("POST", "releases/9.9.9/ddi"): PUBLISHERS,
    ("GET", "refusals"): READERS,
    ("GET", "orders"): OPERATORS,
    ("GET", "groups"): READERS,
    ("POST", "groups"): OPERATORS,
    ("DELETE", "groups/none"): OPERATORS,
    ("POST", "groups/none/filter"): OPERATORS,
    ("POST", "groups/none/devices"): OPERATORS,
    ("POST", "groups/none/remove"): OPERATORS,
    ("POST", "groups/none/key"): OPERATORS,
    ("GET", "rollouts"): READERS,
    ("POST", "rollouts"): OPERATORS,
    ("GET", "rollouts/1"): READERS,
    ("GET", "rollouts/1/devices"): READERS,
    ("GET", "rollouts/1/left-out"): READERS,
    ("POST", "rollouts/1/pause"): OPERATORS,
    ("POST", "rollouts/1/resume"): OPERATORS,
    ("POST", "rollouts/1/cancel"): OPERATORS,
    ("POST", "rollouts/1/approve"): OPERATORS,
    ("POST", "rollouts/1/rollback"): OPERATORS,
    ("GET", "rollouts/1/rollback"): READERS,
    ("GET", "limits"): READERS,
    ("POST", "limits"): OPERATORS,
    ("GET", "policies"): READERS,
    ("POST", "policies/lab"): {"admin"},
    ("POST", "policies/approval"): {"admin"},
    ("POST", "policies/rehearsal"): {"admin"},
    ("GET", "approvals"): READERS,
    ("GET", "approvals/1"): READERS,
    ("POST", "approvals/1/give"): OPERATORS,
    ("POST", "approvals/1/deny"): OPERATORS,
    ("POST", "halt"): OPERATORS,
    ("POST", "unhalt"): OPERATORS,
    ("POST", "rollbacks"): OPERATORS,
    ("GET", "preview"): READERS,
    ("GET", "audit"): READERS,
    ("GET", "events"): READERS,
    ("GET", "events/stream?after=x"): READERS,  # no stream is made of it, which would not end
    ("GET", "metrics"): READERS,
    ("GET", "webhooks"): READERS,
    ("POST", "webhooks"): {"admin"},
    ("DELETE", "webhooks/none"): {"admin"},
    ("GET", "webhooks/none/dead"): READERS,
    ("POST", "webhooks/none/redeliver"): OPERATORS,
    ("GET", "openapi.json"): EVERYBODY,
}
WITHOUT_TOKEN = {("GET", "health/live"), ("GET", "health/ready"), ("GET", "login"), ("POST", "login")}


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    yield server
    if server.process and server.process.returncode is None:
        assert server.stop()[0] == 0


def make_token(server: Server, name: str, *options: str) -> str:
    file = server.data.parent / f"{name}.token"
    command = ["server", "token", "create", name, "--data", str(server.data), *options, "-o", str(file)]
    done = fota(*command)
    assert done.returncode == 0, done.stderr
    return file.read_text().strip()


def test_table_of_roles_has_every_route() -> None:
    """A new route without a row here is a door that nobody has tried."""
    patterns = {(one.method, re.sub(r"\{[^}]+\}", "[^/]+", one.path)) for one in OPERATIONS}
    assert len(patterns) == len(OPERATIONS)
    known = {*ALLOWED, *WITHOUT_TOKEN}
    matched = {
        (m, pattern)
        for m, pattern in patterns
        for k, path in known
        if k == m and re.fullmatch(pattern, path.partition("?")[0])
    }
    assert matched == patterns


def test_each_role_may_do_its_part_and_no_other(own: Server) -> None:
    tokens = {role: make_token(own, role, "--role", role) for role in ROLES}
    for (method, path), able in ALLOWED.items():
        for role, token in tokens.items():
            status, answer = own.api(method, path, raw=b"" if method != "GET" else None, token=token)
            refused = status == 403 and answer["error"]["code"] == "role"
            assert refused == (role not in able), (method, path, role, status)
            if refused:
                assert all(other in answer["error"]["message"] for other in able)


def test_ci_publishes_and_retires_nobody(own: Server, releases: dict[str, Built]) -> None:
    device = Device(own)
    device.check_in()
    own.token = make_token(own, "ci", "--role", "publisher", "--expires", "30")
    assert own.publish(releases["1.1.0"])[0] == 201
    assert own.api("POST", f"devices/{device.id}/retire", {})[0] == 403
    assert own.api("GET", f"devices/{device.id}")[0] == 403
    device.check_in()


def test_token_ends_when_it_was_said_to(own: Server) -> None:
    token = make_token(own, "short", "--expires", "1")
    assert own.api("GET", "devices", token=token)[0] == 200
    listed = fota("server", "token", "list", "--data", str(own.data)).stdout
    assert "short" in listed
    assert "in force until 2" in listed
    with sqlite3.connect(own.data / "fota.db") as beside:
        beside.execute("UPDATE tokens SET expires_at = expires_at - 86400 WHERE name = 'short'")
    beside.close()
    assert own.api("GET", "devices", token=token)[0] == 401
    assert "expired on" in fota("server", "token", "list", "--data", str(own.data)).stdout


def check(server: Server) -> tuple[int, str]:
    done = fota("server", "doctor", "--data", str(server.data))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 2", "row 2 was altered"),
        ("UPDATE audit SET at = at + 1 WHERE id = 1", "row 1 was altered"),
        ("UPDATE audit SET detail = '{}' WHERE id = 1", "row 1 was altered"),
        ("DELETE FROM audit WHERE id = 2", "rows 2 to 2 are missing"),
        ("DELETE FROM audit WHERE id = 3", "ends at row 2, and has had row 3"),
        ("DELETE FROM audit", "ends at row 0, and has had row 3"),
        ("UPDATE audit SET id = 9 WHERE id = 3", "rows 3 to 8 are missing"),
    ],
)
def test_audit_row_that_was_altered_or_taken_out_is_found(own: Server, sql: str, said: str) -> None:
    for name in ("a", "b"):
        assert own.api("POST", "groups", {"name": name})[0] == 201
    assert len(own.rows("SELECT * FROM audit")) == 3
    code, text = check(own)
    assert code == 0, text
    assert "whole, head 3 " in text
    with sqlite3.connect(own.data / "fota.db") as beside:
        beside.execute("DROP TRIGGER audit_no_update")
        beside.execute("DROP TRIGGER audit_no_delete")
        beside.execute(sql)
    beside.close()
    code, text = check(own)
    assert code == 1
    assert said in text


def test_disk_that_is_nearly_full_is_not_ready(own: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from fota_server import artifacts

    assert artifacts.free_space(own.data)
    monkeypatch.setattr(artifacts, "FLOOR", 1 << 60)
    assert not artifacts.free_space(own.data)
    store = artifacts.FolderStore(own.data / "artifacts", 1000)
    assert "nearly full" in str(store.why_not())


def test_same_next_root_from_several_hands_at_once_is_added_once(own: Server, keys: Keys) -> None:
    raw = keys.root_document(2)
    with ThreadPoolExecutor(6) as hands:
        answers = list(hands.map(lambda _: own.api("POST", "roots", raw=raw), range(6)))
    assert sorted(status for status, _ in answers) == [201, *[409] * 5], answers
    assert {said["error"]["code"] for status, said in answers if status == 409} == {"root-version"}
    assert len(own.rows("SELECT * FROM roots WHERE version = 2")) == 1


def test_token_on_standard_output_is_alone_there(own: Server) -> None:
    done = fota("server", "token", "create", "ci", "--data", str(own.data), "-o", "-")
    assert done.returncode == 0, done.stderr
    assert own.api("GET", "devices", token=done.stdout.removesuffix("\n"))[0] == 200
    assert "token ci (viewer)" in done.stderr


def test_request_with_two_tokens_is_refused_whichever_comes_first(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.keys.server_ca))
    for fields in ([server.token, "x"], ["x", server.token], [server.token] * 2):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.operator_port, context=context, timeout=HANG_S
        )
        connection.putrequest("GET", "/api/v1/releases")
        for token in fields:
            connection.putheader("Authorization", f"Bearer {token}")
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["error"]["code"]) == (401, "token")
        connection.close()
