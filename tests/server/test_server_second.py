"""What takes a second person: nobody gets round it alone, and everybody may stop everything."""

import re
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest
from databases import BOTH, beside
from lifeline import until
from server_world import Built, Device, Keys, Server, fota
from test_server_in_waves import end, fleet, given
from test_server_roles import make_token

from fota_server.second_policy import Second, Weight, parse_second, why_not_decide, why_second, within
from fota_server.tokens import Operator
from fota_server.wave_policy import parse_policy
from fota_wire.errors import InputError

DATABASES = BOTH
pure = pytest.mark.sqlite
POLICY = {"share": "50%", "hours": 4, "releases_back": 1, "unhalt": True}

# -- the pure core -------------------------------------------------------------------------------------------


@pure
@pytest.mark.parametrize(
    "body",
    [
        *(None, [], {}, {"share": "200%"}, {"share": 5}, {"hours": 4}, {"unhalt": 1}, {"unhalt": False}),
        *({"share": "1%", "x": 1}, {"share": "1%", "hours": 0}, {"releases_back": True}),
    ],
)
def test_policy_that_is_none_is_refused(body: Any) -> None:
    with pytest.raises(InputError):
        parse_second(body)


@pure
def test_policy_survives_its_own_json() -> None:
    assert parse_second(parse_second(POLICY).to_json()) == parse_second(POLICY)


@pure
def test_waves_count_as_soon_as_they_could_open() -> None:
    second = Second(share=1000, hours=4)
    first = {"size": "10", "soak_s": 4 * 3600, "approval": True}
    assert within(parse_policy({"waves": [first, "40%", "rest"]}), [10, 400, 590], second) == 10
    assert within(parse_policy({"waves": ["10", "40%", "rest"]}), [10, 400, 590], second) == 1000
    slow = {"waves": ["rest"], "per_minute": 1}
    assert within(parse_policy(slow), [1000], second) == 241
    assert within(parse_policy(slow | {"expedite_until": 1 << 32}), [1000], second) == 1000


@pure
@pytest.mark.parametrize(
    ("weight", "recent", "word"),
    [
        (Weight(reached=50), 0, None),
        (Weight(reached=51), 0, "51 of 100"),
        (Weight(reached=30), 21, "51 of 100"),
        (Weight(reached=0), 100, None),
        (Weight(steps=2), 0, "2 releases back"),
        (Weight(steps=1), 0, None),
        (Weight(steps=None), 0, "not known"),
    ],
)
def test_order_is_weighed(weight: Weight, recent: int, word: str | None) -> None:
    reason = why_second(parse_second(POLICY), weight, recent, 100)
    assert (reason is None) if word is None else (reason is not None and word in reason)


@pure
@pytest.mark.parametrize(
    ("person", "state", "now", "word"),
    [
        ("bob", "pending", 9, None),
        ("alice", "pending", 9, "somebody else"),
        ("ALICE", "pending", 9, "somebody else"),
        (None, "pending", 9, "names no person"),
        ("bob", "given", 9, "it is given"),
        ("bob", "pending", 10, "expired"),
    ],
)
def test_who_asked_gives_nothing(person: str | None, state: str, now: int, word: str | None) -> None:
    operator = Operator(name="x", role="admin", person=person)
    reason = why_not_decide(operator, person="alice", state=state, expires_at=10, now=now)
    assert (reason is None) if word is None else (reason is not None and word in reason)


# -- a server ------------------------------------------------------------------------------------------------


class World:
    """Six devices that confirmed 1.0.0, two persons with three tokens, one token that names nobody."""

    def __init__(self, server: Server, releases: dict[str, Built]) -> None:
        self.server = server
        self.group, self.devices = fleet(server, releases, 6)
        who = {"alice": "admin", "alice-too": "admin", "bob": "admin", "robot": "operator"}
        self.tokens = {
            name: make_token(
                server, name, "--role", role, *([] if name == "robot" else ["--person", name.split("-")[0]])
            )
            for name, role in who.items()
        }

    def call(self, who: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        body = {} if body is None and method == "POST" else body
        return self.server.api(method, path, body, token=self.tokens[who])

    def asks(self, who: str, path: str, body: dict[str, Any] | None = None) -> int:
        """Somebody asks for what takes two; nothing is done but that it stands in the list."""
        before = self.server.rows("SELECT id FROM rollouts")
        status, answer = self.call(who, "POST", path, body)
        assert (status, answer["error"]["code"]) == (409, "approval-pending"), answer
        assert self.server.rows("SELECT id FROM rollouts") == before
        listed = self.call(who, "GET", "approvals?state=pending")[1]["approvals"]
        number = int(re.findall(r"request (\d+) waits for somebody else", answer["error"]["message"])[0])
        assert number in [item["id"] for item in listed]
        return number

    def refused(self, who: str, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        status, answer = self.call(who, method, path, body)
        assert status == 409, answer
        return str(answer["error"]["code"])

    def sub(self, name: str, devices: list[Device]) -> str:
        assert self.server.api("POST", "groups", {"name": name})[0] == 201
        ids = {"devices": [device.id for device in devices]}
        assert self.server.api("POST", f"groups/{name}/devices", ids)[0] == 200
        return name


@pytest.fixture(scope="module")
def world(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory, database_kind: str
) -> Iterator[World]:
    server = Server(keys, tmp_path_factory.mktemp("second") / "data").init().start()
    for built in releases.values():
        assert server.publish(built)[0] == 201
    found = World(server, releases)
    assert found.call("alice", "POST", "policies/approval", {"policy": POLICY})[0] == 200
    yield found
    for device in found.devices:
        device.close()
    assert server.stop()[0] == 0


def audit(world: World, action: str) -> list[str]:
    query = "SELECT actor FROM audit WHERE action = ? ORDER BY id"
    return [row["actor"] for row in world.server.rows(query, action)]


def test_devices_that_have_never_called_make_no_fleet_larger(world: World) -> None:
    """One operator can let in as many as he likes; what they are a share of is what can be given anything."""
    before = world.server.rows("SELECT id FROM devices")
    rows = [{"id": f"01{number:016x}", "attributes": {}} for number in range(100)]
    status, _ = world.call("alice", "POST", "devices/import", {"devices": rows, "admit": True})
    assert status == 200
    assert len(world.server.rows("SELECT id FROM devices")) == len(before) + 100
    body = {"version": "1.1.0", "group": world.sub("most", world.devices[:5])}
    seen = world.call("alice", "POST", "rollouts", body | {"dry_run": True})[1]
    assert seen["second_person"].startswith("5 of 6 device(s) may be given it within 4 h")


def test_wide_order_is_done_when_somebody_else_gives_it(world: World, releases: dict[str, Built]) -> None:
    four = world.sub("four", world.devices[:4])
    body = {"version": "1.1.0", "group": four}
    seen = world.call("alice", "POST", "rollouts", body | {"dry_run": True})[1]
    assert seen["second_person"].startswith("4 of 6 device(s) may be given it within 4 h")
    number = world.asks("alice", "rollouts", body)
    assert world.asks("alice", "rollouts", body) == number, "asked again is the same request"
    give = f"approvals/{number}/give"
    for who in ("alice", "alice-too", "robot"):
        assert world.refused(who, "POST", give) == "approval", who
    assert world.refused("robot", "POST", "rollouts", body) == "persons", "nobody stands behind it"
    assert world.server.rows("SELECT id FROM rollouts") == []
    status, answer = world.call("bob", "POST", give)
    assert (status, answer["state"], answer["decided_by"]) == (200, "given", "bob"), answer
    shown = world.call("bob", "GET", f"rollouts/{answer['rollout']}")[1]
    assert (shown["created_by"], shown["total"]) == ("alice", 4)
    assert world.refused("bob", "POST", give) == "approval", "once"
    assert (audit(world, "approval.ask.order"), audit(world, "approval.give.order")) == (["alice"], ["bob"])


def test_many_small_orders_are_one_large_one(world: World) -> None:
    some, more = world.sub("some", world.devices[:2]), world.sub("more", world.devices[2:4])
    three = world.sub("three", world.devices[:3])
    for _ in range(2):  # what ended before a device was given anything has reached nobody
        status, answer = world.call("alice", "POST", "rollouts", {"version": "1.2.0", "group": three})
        assert status == 201, answer
        path = f"rollouts/{answer['id']}"
        assert world.call("alice", "POST", f"{path}/cancel")[0] == 200
        until(lambda path=path: world.call("bob", "GET", path)[1]["status"] == "cancelled")  # type: ignore[misc]
    assert world.call("alice", "POST", "rollouts", {"version": "1.2.0", "group": some})[0] == 201
    assert (
        world.call("bob", "POST", "rollouts", {"version": "1.2.0", "device": world.devices[5].id})[0] == 201
    )
    number = world.asks("alice", "rollouts", {"version": "1.2.0", "group": more})
    number_back = world.asks("alice", "rollbacks", {"to": "1.2.0", "group": more})
    assert number_back != number, "a rollback that leads forward is none"
    for one in (number, number_back):
        status, answer = world.call("alice-too", "POST", f"approvals/{one}/deny", {"reason": "no need"})
        assert (status, answer["state"], answer["note"]) == (200, "denied", "no need")
        assert world.refused("bob", "POST", f"approvals/{one}/give") == "approval"
    assert audit(world, "approval.deny.order") == ["alice-too"] * 2


def test_plan_that_was_asked_for_is_what_is_given_or_nothing(world: World) -> None:
    five = world.sub("five", world.devices[:5])
    policy = {"waves": ["1", "rest"], "confirmed": "50%"}
    number = world.asks("alice", "rollouts", {"version": "1.2.0", "group": five, "policy": policy})
    assert world.server.api("POST", f"groups/{five}/remove", {"devices": [world.devices[4].id]})[0] == 200
    assert world.refused("bob", "POST", f"approvals/{number}/give") == "plan"
    assert world.call("bob", "GET", f"approvals/{number}")[1]["state"] == "pending", "nothing half done"
    group = world.sub("waved", [*world.devices[:2], *world.devices[4:]])
    for size, alone in (("1", False), ({"size": "1", "soak_s": 4 * 3600}, True)):
        body = {"version": "1.1.0", "group": group, "policy": {"waves": [size, "rest"]}, "dry_run": True}
        seen = world.call("alice", "POST", "rollouts", body)[1]
        assert (seen["second_person"] is None) == alone, "what may come within the first hours counts"


def test_going_far_back_takes_two_and_near_does_not(world: World, releases: dict[str, Built]) -> None:
    pair = world.devices[4:]
    for version in ("1.1.0", "1.2.0"):
        for device in pair:
            device.take(releases[version], state="confirmed")
            device.check_in()
    far = world.sub("far", pair)
    near = world.call("alice", "POST", "rollbacks", {"group": far, "to": "1.1.0", "dry_run": True})[1]
    assert near["second_person"] is None
    for path, name in (("rollbacks", "to"), ("rollouts", "version")):
        number = world.asks("alice", path, {"group": far, name: "1.0.0"})
        assert "2 releases back" in world.call("bob", "GET", f"approvals/{number}")[1]["reason"]
    assert world.call("bob", "POST", f"approvals/{number}/give")[0] == 200
    assert given(world.server, pair, releases["1.0.0"]) == pair
    end(pair, releases["1.0.0"])


def test_everybody_stops_everything_and_two_let_it_go_on(world: World) -> None:
    assert world.call("robot", "POST", "halt", {"reason": "3 a.m."})[0] == 200, "no person need be named"
    number = world.asks("alice", "unhalt")
    assert world.call("alice", "GET", "limits")[1]["halted"] is not None
    assert world.call("bob", "POST", f"approvals/{number}/give")[0] == 200
    assert world.call("alice", "GET", "limits")[1]["halted"] is None


def test_request_ends_with_its_time_and_with_the_token_that_asked(world: World) -> None:
    assert world.call("alice", "POST", "halt")[0] == 200
    number = world.asks("alice", "unhalt")
    with beside(world.server.data / "fota.db") as connection:
        connection.execute("UPDATE approvals SET expires_at = 1 WHERE id = ?", (number,))
    assert world.call("bob", "GET", f"approvals/{number}")[1]["state"] == "expired"
    assert world.refused("bob", "POST", f"approvals/{number}/give") == "approval"
    again = world.asks("alice-too", "unhalt")
    assert again != number
    with beside(world.server.data / "fota.db") as connection:
        connection.execute("UPDATE tokens SET revoked_at = 1 WHERE name = 'alice-too'")
    assert world.refused("bob", "POST", f"approvals/{again}/give") == "approval"
    with beside(world.server.data / "fota.db") as connection:
        connection.execute("UPDATE tokens SET revoked_at = NULL WHERE name = 'alice-too'")
    assert world.call("bob", "POST", f"approvals/{again}/give")[0] == 200


def test_what_binds_everybody_is_not_lifted_by_one(world: World) -> None:
    for path, body in (("policies/approval", {"policy": None}), ("policies/lab", {"group": None})):
        number = world.asks("alice", path, body)
        assert world.refused("alice-too", "POST", f"approvals/{number}/give") == "approval"
    off = world.asks("alice", "policies/approval", {"policy": None})
    assert world.call("bob", "POST", f"approvals/{off}/give")[0] == 200
    assert world.call("bob", "GET", "policies")[1]["approval"] is None
    with beside(world.server.data / "fota.db") as connection:
        connection.execute("UPDATE tokens SET person = 'alice' WHERE name = 'bob'")
    assert world.refused("alice", "POST", "policies/approval", {"policy": POLICY}) == "persons", "one admin"
    with beside(world.server.data / "fota.db") as connection:
        connection.execute("UPDATE tokens SET person = 'bob' WHERE name = 'bob'")
    assert world.call("bob", "POST", "policies/approval", {"policy": POLICY})[0] == 200


@pytest.mark.sqlite
def test_command_line_asks_shows_gives_and_denies(world: World) -> None:
    def cli(who: str, *args: str) -> CompletedProcess[str]:
        known = {"FOTA_SERVER": world.server.operator_url, "FOTA_CA": str(world.server.keys.server_ca)}
        return fota(*args, env=known | {"FOTA_TOKEN": world.tokens[who]})

    set_it = cli("alice", "policy", "approval", "--share", "50%", "--unhalt", "--expires", "1h")
    assert (set_it.returncode, set_it.stdout, set_it.stderr.count("\n")) == (1, "", 1), (
        "changing it takes two"
    )
    number = re.findall(r"'fota approval give (\d+)'", set_it.stderr)[0]
    listed = cli("bob", "approval", "list").stdout
    assert "changed by two while two are wanted" in listed
    assert cli("alice", "approval", "give", number).returncode == 1
    given_it = cli("bob", "approval", "give", number)
    assert (given_it.returncode, "by token bob" in given_it.stdout) == (0, True), given_it.stderr
    shown = cli("alice", "policy", "show").stdout
    told = "approval: two persons for a release to more than 50% of the fleet within 4 h, lifting a halt; "
    assert told + "requests wait 1 h\n" in shown
    again = cli("alice", "policy", "approval", "--none")
    number = re.findall(r"'fota approval give (\d+)'", again.stderr)[0]
    denied = cli("alice", "approval", "deny", number, "--reason", "a slip")
    assert "denied" in denied.stdout
    assert "a slip" in denied.stdout
    assert cli("alice", "policy", "approval").returncode == 2


def test_token_for_groups_asks_and_gives_within_them(world: World) -> None:
    mine, other = world.sub("mine", world.devices), world.sub("other", world.devices[:1])
    for name, group in (("eve", mine), ("mallory", other)):
        options = ("--role", "operator", "--group", group, "--person", name)
        world.tokens[name] = make_token(world.server, name, *options)
    number = world.asks("eve", "rollouts", {"version": "1.1.0", "group": mine})
    assert world.call("mallory", "GET", "approvals")[1]["approvals"] == []
    for method, path in (("GET", ""), ("POST", "/give"), ("POST", "/deny")):
        status, answer = world.call("mallory", method, f"approvals/{number}{path}")
        assert (status, answer["error"]["code"]) == (403, "scope")
    assert [row["id"] for row in world.call("eve", "GET", "approvals")[1]["approvals"]] == [number]
    assert world.call("bob", "POST", f"approvals/{number}/give")[0] == 200
    kinds = {
        who: [one["kind"] for one in world.call(who, "GET", "events?kind=approval.")[1]["events"]]
        for who in ("eve", "mallory")
    }
    assert kinds == {"eve": ["approval.ask.order", "approval.give.order"], "mallory": []}
