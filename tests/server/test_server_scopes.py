"""A token for some groups reaches these and nothing else, at every route there is."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from server_world import Built, Device, Keys, Server, fota
from test_server_roles import ALLOWED, make_token

from fota_server.operator_routes import OPERATIONS
from fota_server.scopes import MEANS

DATABASES = BOTH
FLEETS = {  # closed to a token for groups, whatever they name; others are judged by what they name
    *(("PUT", "artifacts/" + "0" * 64), ("POST", "releases"), ("POST", "releases/9.9.9/hardware")),
    *(("POST", "releases/9.9.9/campaign"), ("POST", "releases/9.9.9/sbom"), ("GET", "components")),
    *(("POST", "releases/9.9.9/rehearsal"), ("POST", "policies/rehearsal")),
    *(("POST", "releases/9.9.9/withdraw"), ("POST", "releases/9.9.9/restore"), ("POST", "roots")),
    *(("GET", "devices"), ("GET", "attributes"), ("POST", "devices/import"), ("GET", "refusals")),
    *(("GET", "orders"), ("POST", "groups"), ("DELETE", "groups/none"), ("POST", "groups/none/filter")),
    *(("POST", "groups/none/devices"), ("POST", "limits"), ("POST", "halt"), ("POST", "unhalt")),
    *(("GET", "preview"), ("GET", "audit"), ("GET", "metrics"), ("POST", "policies/lab")),
    ("POST", "policies/approval"),
    *((method, path) for method, path in ALLOWED if {"ddi", "webhooks"} & set(path.split("/"))),
}
OPEN = {
    *(("GET", "releases"), ("GET", "releases/9.9.9"), ("GET", "roots"), ("GET", "limits")),
    *(("GET", "groups"), ("GET", "rollouts"), ("GET", "policies"), ("GET", "openapi.json")),
    *(("GET", "events"), ("GET", "events/stream?after=x")),
    *(("GET", "log/checkpoint"), ("GET", "log/tile/0/000")),
    # judged by what the request is about: test_server_second
    *(("GET", "approvals"), ("GET", "approvals/1")),
    *(("POST", "approvals/1/give"), ("POST", "approvals/1/deny")),
}
BODIES: dict[str, Any] = {
    "rollouts": {"version": "1.1.0"},
    "key": {"kind": "renew"},
    "attributes": {"attributes": {"site": "x"}},
}


class World:
    """A server with two groups of one device each, a rollout for each, and a token for the first."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.mine, self.others = Device(server), Device(server)
        for name, device in (("mine", self.mine), ("others", self.others)):
            device.check_in()
            assert server.api("POST", "groups", {"name": name})[0] == 201
            assert server.api("POST", f"groups/{name}/devices", {"devices": [device.id]})[0] == 200
        self.rollouts = {
            name: server.api("POST", "rollouts", {"version": "1.1.0", "group": name})[1]["id"]
            for name in ("mine", "others")
        }
        self.token = make_token(
            server, "scoped-" + secrets.token_hex(3), "--role", "admin", "--group", "mine"
        )

    def call(self, method: str, path: str, *, inside: bool) -> tuple[int, Any]:
        """Ask a route, as ALLOWED has it, about what is inside or outside."""
        device, group = (self.mine, "mine") if inside else (self.others, "others")
        asked = path.replace("nobody", device.id).replace("none", group)
        asked = asked.replace("rollouts/1", f"rollouts/{self.rollouts[group]}")
        body = None if method == "GET" else dict(BODIES.get(asked.rpartition("/")[2], {}))
        if asked in ("rollouts", "rollbacks") and body is not None:
            body["group"] = group
        return self.server.api(method, asked, body, token=self.token)


@pytest.fixture
def world(keys: Keys, releases: dict[str, Built], tmp_path: Path, database_kind: str) -> Iterator[World]:
    server = Server(keys, tmp_path / "data").init().start()
    assert server.publish(releases["1.1.0"])[0] == 201
    yield World(server)
    assert server.stop()[0] == 0


def state(server: Server) -> list[Any]:
    tables = ("devices", "members", "rollouts", "targets", "attributes", "groups", "audit", "device_keys")
    return [server.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


def is_out(found: tuple[int, Any]) -> bool:
    status, answer = found
    return status == 403 and answer["error"]["code"] == "scope"


def test_token_for_a_group_reaches_no_other_at_any_route(world: World) -> None:
    before = state(world.server)
    for method, path in ALLOWED:
        found = world.call(method, path, inside=False)
        assert is_out(found) == ((method, path) not in OPEN), (method, path, found)
    assert state(world.server) == before, "and has changed nothing"


def test_token_for_a_group_reaches_what_is_in_it(world: World) -> None:
    for method, path in ALLOWED:
        if path.endswith(("retire", "remove")):
            continue  # these end what the others need
        found = world.call(method, path, inside=True)
        assert is_out(found) == ((method, path) in FLEETS), (method, path, found)
    assert is_out(world.server.api("GET", "devices?group=others", token=world.token))
    status, answer = world.server.api("GET", "devices?group=mine", token=world.token)
    assert (status, [item["id"] for item in answer["devices"]]) == (200, [world.mine.id])
    assert is_out(world.server.api("GET", f"devices?group=mine&device={world.mine.id}", token=world.token))
    preview = "preview?kind=update&version=1.1.0&device="
    assert world.server.api("GET", preview + world.mine.id, token=world.token)[0] == 200
    assert is_out(world.server.api("GET", preview + world.others.id, token=world.token))


def test_lists_show_what_is_inside(world: World) -> None:
    groups = world.server.api("GET", "groups", token=world.token)[1]["groups"]
    assert [item["name"] for item in groups] == ["mine"]
    rollouts = world.server.api("GET", "rollouts", token=world.token)[1]["rollouts"]
    assert [item["id"] for item in rollouts] == [world.rollouts["mine"]]


def test_order_is_judged_by_what_it_is_given_to(world: World) -> None:
    before = state(world.server)
    for body in (
        {"version": "1.1.0", "group": "others"},
        {"version": "1.1.0", "device": world.others.id},
        {"version": "1.1.0", "device": world.others.id.upper(), "dry_run": True},
        {"version": "1.1.0", "device": "0" * 18},
        {"version": "1.1.0", "group": "nowhere"},
    ):
        assert is_out(world.server.api("POST", "rollouts", body, token=world.token))
    assert state(world.server) == before
    body = {"version": "1.1.0", "device": world.mine.id, "dry_run": True}
    assert world.server.api("POST", "rollouts", body, token=world.token)[0] == 200


def test_device_that_leaves_the_group_is_out_of_reach(world: World) -> None:
    assert world.call("GET", "devices/nobody", inside=True)[0] == 200
    assert world.server.api("POST", "groups/mine/remove", {"devices": [world.mine.id]})[0] == 200
    assert is_out(world.call("GET", "devices/nobody", inside=True))


def test_token_for_groups_says_so_and_needs_groups_that_are_there(world: World, tmp_path: Path) -> None:
    data = ["--data", str(world.server.data)]
    listed = fota("server", "token", "list", *data).stdout
    assert "in force, for group mine\n" in listed
    for options, code in ((["--group", "nowhere"], 3), (["--role", "publisher", "--group", "mine"], 3)):
        out = tmp_path / "x.token"
        done = fota("server", "token", "create", "x", *data, *options, "-o", str(out))
        assert (done.returncode, done.stderr.count("\n"), out.exists()) == (code, 1, False), done.stderr


@pytest.mark.sqlite
def test_what_is_judged_is_named_as_the_handlers_are() -> None:
    assert set(MEANS) <= {one.name for one in OPERATIONS}


def test_group_that_a_token_is_for_stays_until_that_is_revoked(world: World) -> None:
    """The next group of its name is other devices."""
    server = world.server
    name = next(row["name"] for row in server.rows("SELECT name FROM tokens WHERE groups IS NOT NULL"))
    status, answer = server.api("DELETE", "groups/mine")
    assert (status, answer["error"]["code"]) == (409, "tokens")
    assert f"fota server token revoke {name}" in answer["error"]["message"]
    members = server.rows("SELECT device_id FROM members WHERE group_name = 'mine'")
    assert [row["device_id"] for row in members] == [world.mine.id], "nothing half done"
    assert fota("server", "token", "revoke", name, "--data", str(server.data)).returncode == 0
    assert server.api("DELETE", "groups/mine")[0] == 200
    assert server.api("POST", "groups", {"name": "mine"})[0] == 201
    assert world.call("GET", "devices/nobody", inside=True)[0] == 401
