"""What has changed is told in order, once, to whom it concerns, and goes on where somebody left off."""

import http.client
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH, url_of
from lifeline import HANG_S, until
from server_world import FOTA, Built, Device, Keys, Server, fota
from test_server_roles import make_token

from fota_server import changes, operator_events
from fota_server.database import Database, open_engine, read_url

DATABASES = BOTH


@pytest.fixture
def own(keys: Keys, releases: dict[str, Built], tmp_path: Path, database_kind: str) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    assert server.publish(releases["1.1.0"])[0] == 201
    yield server
    if server.process and server.process.returncode is None:
        assert server.stop()[0] == 0


class Stream:
    """A stream of events, read one by one."""

    def __init__(
        self, server: Server, token: str | None = None, last: int | None = None, query: str = ""
    ) -> None:
        context = ssl.create_default_context(cafile=str(server.keys.server_ca))
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", server.operator_port, context=context, timeout=HANG_S
        )
        headers = {"authorization": f"Bearer {token or server.token}"}
        if last is not None:
            headers["last-event-id"] = str(last)
        self.connection.request("GET", "/api/v1/events/stream" + query, headers=headers)
        self.answer = self.connection.getresponse()
        self.status = self.answer.status
        if self.status == 200:
            assert self.answer.readline() == b": fota\n", "it has begun"

    def next(self) -> dict[str, Any] | None:
        """The next event; None: the stream has ended."""
        fields: dict[str, str] = {}
        for line in iter(self.answer.readline, b""):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            if name == "data":
                event = json.loads(value)
                assert (fields["id"], fields["event"]) == (str(event["id"]), event["kind"])
                return dict(event)
        return None

    def close(self) -> None:
        self.connection.close()


def kinds(server: Server, **query: str) -> list[str]:
    pairs = "&".join(f"{name}={value}" for name, value in query.items())
    return [event["kind"] for event in server.api("GET", f"events?{pairs}")[1]["events"]]


def test_whole_life_of_a_rollout_is_told_in_order_to_whoever_listens(
    own: Server, releases: dict[str, Built]
) -> None:
    with closing(Stream(own)) as stream:
        device = Device(own)
        device.check_in()
        device.check_in()
        number = own.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})[1]["id"]
        device.check_in()
        device.take(releases["1.1.0"])
        device.check_in()
        device.state = "confirmed"
        device.check_in()
        told: list[dict[str, Any]] = []
        while not told or told[-1]["kind"] != "rollout.end":
            event = stream.next()
            assert event
            told.append(event)
    assert [event["id"] for event in told] == sorted({event["id"] for event in told})
    states = [event["detail"]["state"] for event in told if event["kind"] == "device.state"]
    assert states == ["offered", "trial", "confirmed"]
    assert [event["kind"] for event in told if event["kind"] == "device.new"] == ["device.new"]
    assert [e["detail"]["version"] for e in told if e["kind"] == "device.runs"] == ["1.0.0", "1.1.0"]
    assert told[-1]["subject"] == str(number)
    assert told[-1]["detail"] == {"by": "server", "verdict": "done"}
    stored = own.api("GET", f"events?after={told[0]['id'] - 1}")[1]["events"]
    assert stored == told, "and what is stored is the same"


def test_listener_goes_on_where_it_was_over_a_kill_and_another_server(own: Server) -> None:
    own.api("POST", "groups", {"name": "a"})
    with closing(Stream(own, last=0)) as stream:
        event = stream.next()
        while event and event["subject"] != "a":
            event = stream.next()
        assert event
        last = event["id"]
        own.api("POST", "groups", {"name": "b"})
        own.stop(signal.SIGKILL)
    own.start()
    own.api("POST", "groups", {"name": "c"})
    with closing(Stream(own, last=last)) as again:
        assert [again.next()["subject"] for _ in "bc"] == ["b", "c"]  # type: ignore[index]


def test_token_for_a_group_hears_of_its_devices_and_rollouts_alone(own: Server) -> None:
    mine, other = Device(own), Device(own)
    for name, device in (("mine", mine), ("other", other)):
        device.check_in()
        own.api("POST", "groups", {"name": name})
        own.api("POST", f"groups/{name}/devices", {"devices": [device.id]})
        device.check_in()
        own.api("POST", "rollouts", {"version": "1.1.0", "group": name})
        device.check_in()
    token = make_token(own, "eve", "--role", "viewer", "--group", "mine")
    heard = own.api("GET", "events", token=token)[1]["events"]
    text = json.dumps(heard)
    assert other.id not in text
    assert {event["subject"] for event in heard} == {"mine", "group:mine", mine.id, "1"}
    assert {"device.new", "device.state", "group.create", "rollout.update"} <= {e["kind"] for e in heard}
    with closing(Stream(own, token, last=0)) as stream:
        assert [stream.next() for _ in heard] == heard
    own.api("POST", "groups/mine/remove", {"devices": [mine.id]})
    assert mine.id not in json.dumps(own.api("GET", "events", token=token)[1]), "no more than it may see now"


def test_only_what_is_asked_for_is_told(own: Server) -> None:
    own.api("POST", "groups", {"name": "a"})
    assert kinds(own, kind="group.") == ["group.create"]
    assert kinds(own, kind="token.,group.") == ["token.create", "group.create"]
    assert kinds(own, kind="grou%25") == [], "a kind is no pattern"
    assert len(kinds(own, limit="1")) == 1


def test_streams_are_bounded_and_end_with_their_clients(own: Server) -> None:
    streams = [Stream(own) for _ in range(operator_events.MAX_STREAMS)]
    refused = Stream(own)
    assert refused.status == 503
    assert json.loads(refused.answer.read())["error"]["code"] == "streams"
    for stream in streams:
        stream.close()

    def room() -> bool:
        stream = Stream(own)
        stream.close()
        return stream.status == 200

    until(room, "a stream to be free", own.process)
    last = Stream(own)
    assert own.stop()[0] == 0
    assert last.next() is None, "a server that stops ends them"
    last.close()


def test_what_is_no_id_of_an_event_is_refused(server: Server) -> None:
    highest = (1 << 63) - 1
    assert server.api("GET", f"events?after={highest}")[0] == 200
    for query in ("?after=-1", "?after=x", "?until=3", f"?after={highest + 1}", "?after=" + "0" * 20):
        assert Stream(server, query=query).status == 400
    context = ssl.create_default_context(cafile=str(server.keys.server_ca))
    connection = http.client.HTTPSConnection("127.0.0.1", server.operator_port, context=context)
    headers = {"authorization": f"Bearer {server.token}", "last-event-id": "x"}
    connection.request("GET", "/api/v1/events/stream", headers=headers)
    assert connection.getresponse().status == 400
    connection.close()


def test_command_prints_and_follows(own: Server) -> None:
    own.api("POST", "groups", {"name": "before"})
    env = {"FOTA_SERVER": own.operator_url, "FOTA_TOKEN": own.token, "FOTA_CA": str(own.keys.server_ca)}
    done = fota("events", "--kind", "group.", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "group.create       before  by=first-operator" in done.stdout
    command = [*FOTA, "events", "--follow", "--after", "0", "--kind", "group.", "--json"]
    following = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | env)
    assert following.stdout
    try:
        assert json.loads(following.stdout.readline())["subject"] == "before"
        own.api("POST", "groups", {"name": "after"})
        assert json.loads(following.stdout.readline())["subject"] == "after"
    finally:
        following.terminate()
        following.communicate()
    assert fota("events", env=env | {"FOTA_TOKEN": "fota_x_y"}).returncode == 1


def test_old_changes_are_forgotten_and_numbers_never_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(open_engine(read_url(url_of(tmp_path / "fota.db"), tmp_path)))
    database.bring_up_to_date()
    monkeypatch.setattr(changes, "PAGE", 10)
    try:
        for number in range(25):
            database.transact(changes.note, "a.b", str(number), None, several=[1, 2])
        assert [database.transact(changes.prune, 1 << 40) for _ in range(4)] == [10, 10, 4, 0]
        assert database.transact(changes.newest) == 25
        database.transact(changes.note, "a.b", "x", None)
        assert database.transact(changes.newest) == 26
        found, last = database.transact(changes.read_after, 0, 10)
        assert ([event["id"] for event in found], last) == ([25, 26], 26)
        assert found[0]["detail"] == {"several": 2}
        monkeypatch.setattr(changes, "MOST", 1)
        assert database.transact(changes.prune, 0) == 1
    finally:
        database.close()
