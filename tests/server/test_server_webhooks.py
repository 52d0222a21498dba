"""Webhooks: signed as others check it, in order, at least once whatever is killed, and to nobody else."""

import asyncio
import http.server
import ipaddress
import json
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH, url_of
from lifeline import HANG_S, until
from server_world import Keys, Server, fota
from standardwebhooks import Webhook
from test_server_roles import make_token

from fota_server import changes, webhook_send, webhooks
from fota_server.database import Database, open_engine, read_url
from fota_server.webhook_send import Undelivered, why_not
from fota_server.webhook_work import Sender
from fota_wire.errors import InputError

DATABASES = BOTH


class Receiver:
    """A program that is told: what came, in order, and what it answers."""

    def __init__(self, keys: Keys | None = None) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[dict[str, Any]], int] = lambda event: 204
        self.at_request: Callable[[], None] = lambda: None
        mine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                mine.came.append(({k.lower(): v for k, v in self.headers.items()}, body))
                mine.at_request()
                self.send_response(mine.answer(json.loads(body)))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        scheme = "http"
        if keys is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(keys.folder / "server.crt", keys.folder / "server.pem")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_address[1]}/hook?x=1"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.came]

    def subjects(self) -> list[str]:
        return [event["data"]["subject"] for event in self.events()]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def own(keys: Keys, tmp_path: Path, database_kind: str) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    yield server
    if server.process and server.process.returncode is None:
        assert server.stop()[0] == 0


def as_cli(server: Server, *args: str) -> Any:
    env = {
        "FOTA_SERVER": server.operator_url,
        "FOTA_TOKEN": server.token,
        "FOTA_CA": str(server.keys.server_ca),
    }
    return fota("webhook", *args, env=env)


def test_library_of_others_takes_what_is_sent_by_https(own: Server, keys: Keys, tmp_path: Path) -> None:
    receiver = Receiver(keys)
    try:
        out = tmp_path / "secret"
        done = as_cli(own, *("add", "chat", receiver.url, "--kind", "group.", "-o", str(out)),
                      *("--receiver-ca", str(keys.server_ca)))  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert out.stat().st_mode & 0o777 == 0o600
        secret = out.read_text().strip()
        assert secret not in done.stdout
        assert own.api("POST", "groups", {"name": "a"})[0] == 201
        assert own.api("POST", "limits", {"trials": 3})[0] == 200
        assert own.api("POST", "groups", {"name": "b"})[0] == 201
        until(lambda: len(receiver.came) >= 2, "two messages", own.process)
        assert receiver.subjects() == ["a", "b"], "of the kind that was asked for"
        for headers, body in receiver.came:
            event = Webhook(secret).verify(body, headers)
            assert event["type"] == "group.create"
            with pytest.raises(Exception, match="signature"):
                Webhook(secret).verify(body.replace(b"group", b"Group"), headers)
        assert [headers["webhook-id"] for headers, _ in receiver.came] == [
            f"change_{event['data']['id']}" for event in receiver.events()
        ]
        listed = json.loads(as_cli(own, "list", "--json").stdout)["webhooks"]
        assert [(one["name"], one["dead"], one["failing"]) for one in listed] == [("chat", 0, None)]
        assert secret not in json.dumps(listed)
        assert as_cli(own, "remove", "chat", "--yes").returncode == 0
        assert own.rows("SELECT * FROM webhooks") == []
        assert secret.removeprefix("whsec_") not in json.dumps(own.api("GET", "audit")[1])
    finally:
        receiver.close()


def test_server_that_is_killed_in_between_tells_everything_at_least_once(
    own: Server, receiver: Receiver
) -> None:
    added = own.api("POST", "webhooks", {"name": "x", "url": receiver.url, "kinds": ["group.create"]})
    assert added[0] == 201
    gate, kill_at = threading.Event(), ["g2"]

    def at_request() -> None:
        if receiver.subjects()[-1] == "g0":
            gate.wait(HANG_S)
        elif receiver.subjects()[-1] in kill_at:
            kill_at.clear()
            assert own.process
            own.process.kill()

    receiver.at_request = at_request
    for number in range(6):
        assert own.api("POST", "groups", {"name": f"g{number}"})[0] == 201
    gate.set()
    assert own.process
    own.process.wait(HANG_S)
    own.stop(signal.SIGKILL)
    own.start()
    until(lambda: "g5" in receiver.subjects(), "all of them", own.process)
    assert set(receiver.subjects()) == {f"g{number}" for number in range(6)}
    first = list(dict.fromkeys(receiver.subjects()))
    assert first == sorted(first), "in order, but for what is told again"


# In one process, by a clock of its own


class World:
    """A database, a sender, and a clock."""

    def __init__(self, path: Path) -> None:
        self.database = Database(open_engine(read_url(url_of(path), path.parent)))
        self.database.bring_up_to_date()
        self.now = 1_000_000
        self.sender = Sender(self.database, lambda: self.now)

    def add(self, url: str, *kinds: str) -> None:
        self.database.transact(webhooks.add, "x", url, list(kinds), None, "admin")

    def change(self, *subjects: str) -> None:
        for subject in subjects:
            self.database.transact(changes.note, "a.b", subject, None)

    def round(self, wait_s: int = 0) -> int:
        self.now += wait_s
        return asyncio.run(self.sent())

    async def sent(self) -> int:
        begun = await self.sender.begin()
        await asyncio.gather(*begun)
        return len(begun)

    def hook(self) -> dict[str, Any]:
        return self.database.transact(webhooks.show, "x")


@pytest.fixture
def world(tmp_path: Path, database_kind: str) -> Iterator[World]:
    made = World(tmp_path / "fota.db")
    yield made
    made.sender.stop()
    made.database.close()


def test_receiver_that_is_down_is_tried_ever_more_seldom_and_loses_nothing(
    world: World, receiver: Receiver
) -> None:
    world.add(receiver.url, "a.")
    world.change("1", "2")
    receiver.answer = lambda event: 503
    for wait_s in webhooks.WAITS_S:
        assert world.round() == 1
        assert world.round(wait_s - 1) == 0, "not before its time"
        world.now += 1
    assert world.round() == 1
    assert (world.round(1 << 20), world.hook()["stopped"]) == (0, True), "given up"
    assert world.hook()["failing"] == "answered 503"
    assert set(receiver.subjects()) == {"1"}, "in order: the second waits"
    receiver.answer = lambda event: 204
    world.database.transact(webhooks.redeliver, "x", "admin")
    assert world.round() == 1
    assert receiver.subjects()[-2:] == ["1", "2"]
    assert (world.hook()["failing"], world.hook()["dead"], world.hook()["stopped"]) == (None, 0, False)
    assert len({headers["webhook-id"] for headers, _ in receiver.came}) == 2, "the same id each time"


def test_event_that_is_refused_becomes_a_dead_letter_and_can_be_told_again(
    world: World, receiver: Receiver
) -> None:
    world.add(receiver.url, "a.")
    world.change("good", "bad", "next")
    receiver.answer = lambda event: 422 if event["data"]["subject"] == "bad" else 204
    for _ in range(webhooks.REFUSALS + 1):
        world.round(1 << 16)
    assert receiver.subjects() == ["good", *["bad"] * webhooks.REFUSALS, "next"]
    (letter,) = world.database.transact(webhooks.dead, "x", 0, 10)
    assert (letter["event"]["data"]["subject"], letter["error"]) == ("bad", "answered 422")
    assert world.database.transact(webhooks.redeliver, "x", "admin") == 1
    world.round(1 << 16)
    assert world.hook()["dead"] == 1, "refused again, and kept"
    assert world.round(1 << 16) == 0, "once for each time that somebody asks"
    receiver.answer = lambda event: 204
    world.database.transact(webhooks.redeliver, "x", "admin")
    world.round(1 << 16)
    assert world.hook()["dead"] == 0
    assert receiver.came[-1][1] == receiver.came[1][1], "word for word"


def test_who_was_taken_for_dead_turns_nothing_back(world: World, receiver: Receiver) -> None:
    world.add(receiver.url, "a.")
    world.change(*map(str, range(2 * webhooks.AT_ONCE)))
    (late,) = world.database.transact(webhooks.due_rounds, world.now, ())
    assert world.round() == 1, "as another server that has taken over"
    before = world.hook()
    for told, error in ((0, "no answer"), (3, "no answer"), (webhooks.AT_ONCE, None)):
        world.database.transact(webhooks.taken, late, told, error, 0, world.now)
        assert world.hook() == before
    assert world.round() == 1
    assert receiver.subjects() == [str(number) for number in range(2 * webhooks.AT_ONCE)]


def test_slow_receiver_keeps_no_other_waiting(world: World, receiver: Receiver) -> None:
    slow, gate = Receiver(), threading.Event()
    slow.at_request = lambda: gate.wait(HANG_S) and None
    try:
        world.add(receiver.url, "a.")
        world.database.transact(webhooks.add, "slow", slow.url, ["a."], None, "admin")

        async def work() -> None:
            world.change("1")
            under_way = await world.sender.begin()
            assert len(under_way) == 2
            world.change("2")
            while len(receiver.came) < 2:
                under_way += await world.sender.begin()
                await asyncio.sleep(0.01)
            assert len(slow.came) <= 1
            gate.set()
            await asyncio.gather(*under_way)

        asyncio.run(work())
        assert world.round() == 1
        assert slow.subjects() == receiver.subjects() == ["1", "2"]
    finally:
        gate.set()
        slow.close()


def test_what_is_not_for_it_moves_it_on(world: World) -> None:
    world.add("https://127.0.0.1:9/", "nothing.")
    world.change("1", "2")
    assert world.round() == 0
    assert world.hook()["behind"] <= 1, "but for the row that says that it was added"


# Where it may go


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("address", "host", "allowed"),
    [
        ("93.184.216.34", "hooks.example.com", True),
        ("10.1.2.3", "hooks.plant.example", True),
        ("169.254.169.254", "hooks.example.com", False),
        ("169.254.169.254", "169.254.169.254", False),
        ("::ffff:169.254.169.254", "hooks.example.com", False),
        ("fe80::1", "hooks.example.com", False),
        ("fd00:ec2::254", "hooks.example.com", False),
        ("100.100.100.200", "hooks.example.com", False),
        ("127.0.0.1", "hooks.example.com", False),
        ("127.0.0.1", "localhost", True),
        ("::1", "::1", True),
        ("0.0.0.0", "hooks.example.com", False),
        ("224.0.0.1", "hooks.example.com", False),
        ("2002:a9fe:a9fe::1", "hooks.example.com", False),  # the same, by 6to4
        ("2002:7f00:1::", "hooks.example.com", False),
        ("64:ff9b::a9fe:a9fe", "hooks.example.com", False),  # by NAT64
        ("2001:0:4136:e378:8000:63bf:5601:5601", "hooks.example.com", False),  # by Teredo
    ],
)
def test_address_that_a_webhook_may_reach(address: str, host: str, allowed: bool) -> None:
    assert (why_not(ipaddress.ip_address(address), host) is None) == allowed


@pytest.mark.sqlite
def test_name_that_leads_to_a_forbidden_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    port = receiver.server.server_address[1]
    found = [(2, 1, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(webhook_send.socket, "getaddrinfo", lambda *_, **__: found)
    one = webhook_send.Receiver(url=f"https://hooks.example.com:{port}/", secret=bytes(32), ca=None)
    with pytest.raises(Undelivered, match="leads to this machine itself"):
        webhook_send.deliver(one, "change_1", b"{}", 1)
    assert receiver.came == []


@pytest.mark.sqlite
def test_receiver_that_never_ends_its_answer_is_cut_off(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_send, "SEND_S", 0.2)
    held = threading.Event()
    receiver.at_request = lambda: held.wait() and None
    one = webhook_send.Receiver(url=receiver.url, secret=bytes(32), ca=None)
    with pytest.raises(Undelivered, match=r"no answer|timed out|TimeoutError"):
        webhook_send.deliver(one, "change_1", b"{}", 1)
    held.set()


@pytest.mark.sqlite
def test_receiver_whose_tls_takes_all_the_time_has_none_left_to_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever was late before there was a connection was never cut off, and could keep a thread for ever."""
    entered = threading.Event()

    class LateHandshake:
        """A TLS context whose handshakes end when the time is over."""

        def wrap_socket(self, sock: socket.socket, **_: object) -> socket.socket:
            entered.set()
            until(lambda: connection.late)
            return sock

    with socket.create_server(("127.0.0.1", 0)) as receiver:
        connection = webhook_send._Pinned("localhost", 1, receiver.getsockname(), None, tls=False)
        connection._context = LateHandshake()  # type: ignore[assignment]
        threading.Thread(target=lambda: entered.wait() and connection.cut()).start()
        with pytest.raises(TimeoutError):
            connection.request("POST", "/", b"{}")
        connection.close()


def test_clock_that_was_ahead_keeps_no_receiver_waiting_until_then(world: World, receiver: Receiver) -> None:
    world.add(receiver.url, "a.")
    world.change("1")
    receiver.answer = lambda event: 500
    world.round(10**9)  # the clock is ahead by thirty years, and the receiver down
    receiver.answer = lambda event: 204
    world.round(-(10**9))
    assert receiver.subjects() == ["1", "1"]
    assert world.hook()["failing"] is None


@pytest.mark.sqlite
def test_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = lambda event: 307
    one = webhook_send.Receiver(url=receiver.url, secret=bytes(32), ca=None)
    with pytest.raises(Undelivered, match="answered 307"):
        webhook_send.deliver(one, "change_1", b"{}", 1)
    assert len(receiver.came) == 1


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.com/", "ftp://x/", "https://", "https://u:p@x/", "https://x/#a", "//x/"),
        *("https://x:99999/", "https://x:0/", "https://x/ y", "https://x/" + "a" * 600, "https://[::1/", "x"),
        *("http://10.0.0.1/", "http://127.0.0.1.example.com/", "https://\u00e4/"),
        *(
            "https://169.254.169.254/",
            "https://[fe80::1]/",
            "https://0.0.0.0/",
            "https://[::ffff:a9fe:a9fe]/",
        ),
    ],
)
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        webhook_send.require_url(url)


def test_nobody_but_an_admin_adds_one(own: Server) -> None:
    body = {"name": "x", "url": "https://hooks.example.com/"}
    token = make_token(own, "op", "--role", "operator")
    assert own.api("POST", "webhooks", body, token=token)[0] == 403
    for wrong in ({}, {"name": "x"}, body | {"kinds": "a"}, body | {"kinds": [""]}):
        assert own.api("POST", "webhooks", wrong)[0] == 400, wrong
    status, answer = own.api("POST", "webhooks", body | {"ca": "no PEM"})
    assert (status, answer["error"]["code"]) == (400, "ca")
    assert own.api("POST", "webhooks", body)[0] == 201
    assert own.api("POST", "webhooks", body)[0] == 409
    assert own.api("GET", "webhooks/y/dead")[0] == 404
