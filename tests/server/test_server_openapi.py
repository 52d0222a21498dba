"""The OpenAPI documents: valid, made of what is served, and true of what is answered."""

import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from lifeline import HANG_S, until
from openapi_spec_validator import OpenAPIV31SpecValidator
from server_world import Built, Device, Keys, Refused, Server, client_context, fota
from starlette.routing import Route
from test_server_roles import make_token

from fota_server import ddi_plane, device_plane, openapi
from fota_server.operator_events import EventHandlers
from fota_server.operator_plane import OperatorPlane
from fota_server.operator_routes import OPERATIONS

UNTRIED = {  # of which no answer of success is made here, and who else holds them
    "certificate": "test_server_renewal.py",
    "set_campaign": "test_server_campaigns.py",
    "set_sbom": "test_server_components.py",
    "hand_in_rehearsal": "test_server_rehearsals.py",
    "stream": "test_server_events.py",
    "log_checkpoint": "test_server_log.py",
    "log_tile": "test_server_log.py",
    "approve_rollout": "test_server_in_waves.py",
    "how_to_sign_in": "test_server_login.py",
    "sign_in": "test_server_login.py",
}


def document(plane: str) -> Any:
    done = fota("server", "openapi", "--plane", plane)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("plane", ["operator", "device"])
def test_document_is_openapi_3_1(plane: str) -> None:
    found = document(plane)
    assert found["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(found).validate()
    ids = [one["operationId"] for path in found["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))
    assert all(one["summary"] for path in found["paths"].values() for one in path.values())


def served(routes: Any, prefix: str = "") -> set[tuple[str, str]]:
    found = set()
    for route in routes:
        if isinstance(route, Route):
            plain = prefix + openapi._PARAMETER.sub(r"{\1}", route.path)
            found |= {(method.lower(), plain) for method in route.methods or ()}
        else:
            found |= served(route.routes, prefix + route.path)
    return found


def told(found: Any) -> set[tuple[str, str]]:
    return {(method, path) for path, item in found["paths"].items() for method in item}


def test_every_route_is_in_it_and_nothing_else() -> None:
    nothing: Any = None
    plane = OperatorPlane(*[nothing] * 9, EventHandlers(nothing))
    operators = {key for key in served(plane.app().routes) if key[0] != "head"}
    assert told(document("operator")) == operators
    devices = device_plane.DevicePlane(*[nothing] * 6)
    ddi = ddi_plane.DdiPlane("default", *[nothing] * 6, 300)
    assert told(document("device")) == served(devices._others([ddi.mount()]).routes)


@pytest.fixture
def own(keys: Keys, releases: dict[str, Built], tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    yield server
    assert server.stop()[0] == 0


class Asker:
    """Asks operations and holds each answer to its shape."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen: dict[str, set[int]] = {}
        self.document = server.api("GET", "openapi.json")[1]

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        bare, _, _ = path.partition("?")
        (one,) = [item for item in OPERATIONS if item.method == method and matches(item.path, bare)]
        status, answer = self.server.api(method, path, body, **more)
        plain = "/api/v1/" + openapi._PARAMETER.sub(r"{\1}", one.path)
        described = self.document["paths"][plain][method.lower()]
        assert status in one.statuses, (method, path, answer)
        schema = described["responses"][str(status)]["content"][one.media]["schema"]
        problems = [error.message for error in Draft202012Validator(schema).iter_errors(answer)]
        assert not problems, (method, path, answer, problems)
        if body is not None:
            asked = described["requestBody"]["content"]["application/json"]["schema"]
            Draft202012Validator(asked).validate(body)
        self.seen.setdefault(one.name, set()).add(status)
        return answer


def matches(pattern: str, path: str) -> bool:
    parts, given = pattern.split("/"), path.split("/")
    return (
        len(parts) == len(given)
        and all(part.startswith("{") or part == word for part, word in zip(parts, given, strict=True))
        and not (pattern == "devices/{id}" and path == "devices/import")
    )


def test_every_answer_has_the_shape_that_it_is_said_to_have(
    own: Server, keys: Keys, releases: dict[str, Built]
) -> None:
    ask = Asker(own)
    for built in releases.values():
        ask("PUT", f"artifacts/{built.digest}", raw=built.file)
        ask("POST", "releases", raw=built.envelope)
    ask("POST", "releases", raw=releases["1.1.0"].envelope)
    for path in ("withdraw", "restore"):
        ask("POST", f"releases/1.0.0/{path}")
    ask("POST", "releases/1.0.0/hardware", {"hardware": ["B"]})
    ask("POST", "releases/1.0.0/hardware", {"hardware": []})
    ask("POST", "releases/1.0.0/ddi", {"digest": releases["1.0.0"].digest, "name": "x.swu"})
    devices = [Device(own) for _ in range(4)]
    for device in devices:
        device.check_in()
        device.events = [("update.started", "1.1.0")]
        device.check_in()
    with pytest.raises(Refused):
        Device(own, devices[0].id).check_in()
    ids = [device.id for device in devices]
    ask("POST", "groups", {"name": "lab"})
    ask("POST", "groups", {"name": "lab"})
    ask("POST", "groups", {"name": "site", "filter": "site = x"})
    ask("POST", "groups", {"filter": "site = x", "dry_run": True})
    ask("POST", "groups/site/filter", {"filter": "site = y"})
    ask("POST", "groups/site/filter", {"filter": "site = y", "dry_run": True})
    ask("POST", "groups/lab/devices", {"devices": ids})
    ask("POST", f"devices/{ids[0]}/attributes", {"attributes": {"site": "x", "tag": ""}})
    row = {"id": "0123" + "0" * 14, "attributes": {"a": "b"}}
    ask("POST", "devices/import", {"devices": [row], "admit": True, "dry_run": True})
    ask("POST", "devices/import", {"devices": [row], "admit": True})
    wanted = {"version": "1.1.0", "group": "lab"}
    policy = {"waves": ["50%", "rest"], "soak_s": 60, "holdback": "25%"}
    ask("POST", "rollouts", {**wanted, "dry_run": True})
    ask("POST", "rollouts", {**wanted, "dry_run": True, "policy": policy})
    ask("GET", "preview?kind=update&version=1.1.0&group=lab")
    ask(
        "GET",
        "preview?kind=update&version=1.1.0&group=lab&seed=a&policy=" + json.dumps(policy).replace(" ", ""),
    )
    number = ask("POST", "rollouts", {**wanted, "policy": policy})["id"]
    ask("POST", f"rollouts/{number}/pause")
    ask("POST", f"rollouts/{number}/resume")
    ask("POST", "rollbacks", {"group": "lab", "dry_run": True})

    def given() -> bool:
        for device in devices:
            device.check_in()
        rows = ask("GET", f"rollouts/{number}/devices")["devices"]
        return any(row["state"] == "offered" for row in rows)

    until(given, "a device to be given it", own.process)
    ask("GET", f"rollouts/{number}/left-out")
    ask("GET", f"rollouts/{number}/rollback")
    ask("GET", f"rollouts/{number}")
    for path in (
        *("devices", "devices?group=lab&limit=2", f"devices/{ids[0]}", f"devices/{row['id']}", "attributes"),
        *("refusals", "orders", "groups", "rollouts", "limits", "releases", "releases/1.1.0", "roots"),
        "components?component=mbedtls&below=3.6.6",
        *(
            "audit?limit=3",
            "audit?form=lines",
            "events",
            "events?limit=2&kind=rollout.",
            "health/live",
            "health/ready",
            "metrics",
            "openapi.json",
        ),
    ):
        ask("GET", path)
    ask("POST", f"devices/{ids[1]}/key", {"kind": "renew"})
    ask("POST", "groups/lab/key", {"kind": "rotate"})
    ask("POST", "policies/lab", {"group": "lab", "devices": 1})
    ask("GET", "policies")
    ask("POST", "policies/lab", {"group": None})
    ask("POST", "policies/rehearsal", {"keys": None})
    ask("POST", "limits", {"trials": 5})
    ask("POST", "halt", {"reason": "drill"})
    ask("GET", "limits")
    ask("POST", "unhalt")
    hook = {"name": "chat", "url": "https://127.0.0.1:9/", "kinds": ["root."]}
    ask("POST", "webhooks", hook)
    ask("GET", "webhooks")
    ask("GET", "webhooks/chat/dead")
    ask("POST", "webhooks/chat/redeliver")
    ask("DELETE", "webhooks/chat")
    enrolled = ask("POST", "ddi", {"controller": "press"})["id"]
    ask("GET", f"devices/{enrolled}")
    ask("POST", f"ddi/{enrolled}/token")
    ask("POST", "ddi/gateway", {})
    ask("POST", f"rollouts/{number}/rollback")
    single = ask("POST", "rollouts", {"version": "1.2.0", "device": ids[3]})["id"]
    ask("POST", f"rollouts/{single}/cancel")
    ask("POST", f"devices/{ids[2]}/revoke")
    ask("POST", f"devices/{ids[2]}/admit")
    ask("POST", "groups/lab/remove", {"devices": [ids[3]]})
    ask("DELETE", "groups/site")
    ask("POST", f"devices/{ids[3]}/retire", {"reason": "x"})
    ask("GET", f"devices/{ids[3]}")
    ask("POST", "roots", raw=keys.root_document(2))
    persons = [make_token(own, who, "--role", "admin", "--person", who) for who in ("alice", "bob")]
    approvals(ask, *persons)
    assert {one.name for one in OPERATIONS} - set(ask.seen) == set(UNTRIED)
    assert all((Path(__file__).parent / test).exists() for test in UNTRIED.values())


def test_method_that_a_path_has_not_is_answered_with_those_that_it_has(server: Server) -> None:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.operator_port, context=client_context(server.keys.server_ca, None), timeout=HANG_S
    )
    for path in {one.path for one in OPERATIONS}:
        connection.request("TRACE", "/api/v1/" + re.sub(r"{\w+(:\w+)?}", "1", path))
        answer = connection.getresponse()
        answer.read()
        methods = {one.method for one in OPERATIONS if one.path == path}
        methods |= {"HEAD"} if "GET" in methods else set()
        assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, methods), path
    connection.close()


def test_schemathesis_finds_nothing_but_what_a_shape_cannot_say(
    own: Server, releases: dict[str, Built], tmp_path: Path
) -> None:
    """It asks what the document allows, and what it does not: no mistake of ours, no answer of another shape.
    Left out is its check that whatever fits the shapes is accepted: no shape says which group there is.
    """
    program = Path(__file__).parents[2] / "build/schemathesis/bin/st"
    if not program.exists():
        pytest.skip("no schemathesis: make oracles")
    for built in releases.values():  # of its own: what is allowed it does, and withdraws what it finds
        own.publish(built)
    (tmp_path / "api.json").write_text(json.dumps(own.api("GET", "openapi.json")[1]))
    done = subprocess.run(
        [program, "run", "api.json", "--url", own.operator_url, "--tls-verify", own.keys.server_ca,
         "--header", f"Authorization: Bearer {own.token}", "--seed", "1", "--phases", "coverage",
         "--exclude-path-regex", "stream", "--checks", "all", "--exclude-checks", "positive_data_acceptance",
         "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout + done.stderr
    assert int(tested[1]) >= len(OPERATIONS) - 1 - 3, "the stream, and three bodies that are no JSON"
    assert "❌ ST" not in done.stdout, done.stdout


CBOR_FOR_IT = """
import schemathesis
from fota_wire import cbor
from fota_wire.errors import FotaError

@schemathesis.serializer("application/cbor")
def as_cbor(context, value):
    try:
        return cbor.encode(value)
    except (FotaError, TypeError, ValueError):  # a value that our profile of CBOR has not
        return b"\\xff"
"""


def test_schemathesis_finds_no_mistake_on_the_device_plane(keys: Keys, tmp_path: Path) -> None:
    """With a device's certificate, CBOR and hawkBit's JSON. It takes the methods of DDI's catch-all, which
    answers 404 to any of them below a controller, for those of each path (ST205).
    """
    repo = Path(__file__).parents[2]
    program = repo / "build/schemathesis/bin/st"
    if not program.exists():
        pytest.skip("no schemathesis: make oracles")
    own = Server(keys, tmp_path / "data").init("--ddi-tenant", "DEFAULT").start()
    device = Device(own)
    (tmp_path / "api.json").write_text(json.dumps(document("device")))
    (tmp_path / "cbor_hooks.py").write_text(CBOR_FOR_IT)
    done = subprocess.run(
        [program, "run", "api.json", "--url", f"https://127.0.0.1:{own.device_port}",
         "--tls-verify", own.keys.server_ca, "--request-cert", device.pem, "--seed", "1",
         "--phases", "coverage", "--checks", "all", "--exclude-checks", "positive_data_acceptance",
         "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "cbor_hooks", "PYTHONPATH": f"{tmp_path}:{repo / 'wire'}"},
    )  # fmt: skip
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout + done.stderr
    assert int(tested[1]) == sum(len(path) for path in document("device")["paths"].values())
    assert set(re.findall(r"❌ (ST\d+)", done.stdout)) <= {"ST205"}, done.stdout
    code, said = own.stop()
    assert (code, "Traceback" in said) == (0, False), said


def approvals(ask: Asker, alice: str, bob: str) -> None:
    rules = {"share": "50%", "releases_back": 1, "unhalt": True}
    assert ask("POST", "policies/approval", {"policy": rules}, token=alice)["approval"]["hours"] == 4
    ask("POST", "halt", {"reason": "drill"})
    for decide, body in (("deny", {"reason": "too soon"}), ("give", None)):
        assert ask.server.api("POST", "unhalt", token=alice)[0] == 409
        (waiting,) = ask("GET", "approvals?state=pending")["approvals"]
        ask("GET", f"approvals/{waiting['id']}")
        ask("POST", f"approvals/{waiting['id']}/{decide}", body, token=bob)
    assert [one["state"] for one in ask("GET", "approvals?limit=2")["approvals"]] == ["given", "denied"]


@pytest.mark.parametrize(
    ("path", "known"), [("devices?filtr=x", "after, device, filter, group, limit"), ("limits?a=1", "none")]
)
def test_parameter_that_nobody_looks_at_is_refused(server: Server, path: str, known: str) -> None:
    status, answer = server.api("GET", path)
    assert (status, answer["error"]["code"]) == (400, "query")
    assert known in answer["error"]["message"]


def test_error_has_its_shape(server: Server) -> None:
    shape = server.api("GET", "openapi.json")[1]["components"]["responses"]["error"]["content"]
    for path in ("devices/nobody", "nothing", "devices?limit=x"):
        Draft202012Validator(shape["application/json"]["schema"]).validate(server.api("GET", path)[1])
