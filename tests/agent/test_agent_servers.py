"""ROOT moves a fleet to another host and another CA, and a wrong move locks no device out."""

import pytest
from test_agent_sdk import HOUR_MS, rest

from fota_agent.engine.state import State, decode
from fota_agent.runner.servers import Servers, places
from fota_wire import cbor, checkin
from fota_wire.errors import TransportError, VerifyError

FACTORY = ("https://localhost", b"-")


def ca(letter):
    """Something in DER that could be a certificate; whose it is only TLS asks."""
    return b"\x30\x82\x01\x00" + letter.encode() * 256


OLD, NEW, BAD = ca("o"), ca("n"), ca("x")


@pytest.fixture
def step(world):
    """``step(version, servers, cas)``: a signed ROOT."""
    return lambda version, servers=(), cas=(): world.root(version, servers=servers, server_cas=cas)


# -- which places, in which order ----------------------------------------------------------------------------


def root_of(raw):
    from fota_wire import root

    return None if raw is None else root.unsafe_read_root(raw)


def set_of(raw):
    from fota_wire.root import unsafe_read_servers

    return unsafe_read_servers(memoryview(raw))


@pytest.mark.parametrize(
    ("newest", "worked", "expected"),
    [
        ((1,), None, [(1, *FACTORY)]),
        ((2, ("https://a",)), None, [(2, "https://a", b"-"), (0, *FACTORY)]),
        ((2, (), (NEW,)), None, [(2, "https://localhost", NEW), (0, *FACTORY)]),
        ((2, ("https://a", "https://b"), (OLD, NEW)), None,
         [(2, "https://a", OLD + NEW), (2, "https://b", OLD + NEW), (0, *FACTORY)]),
        ((3, ("https://b",), (NEW,)), (2, ("https://a",), (OLD,)),
         [(3, "https://b", NEW), (2, "https://a", OLD), (0, *FACTORY)]),
        ((3, ("https://a",), (OLD,)), (2, ("https://a",), (OLD,)), [(3, "https://a", OLD), (0, *FACTORY)]),
        ((3,), (2, ("https://a",), (OLD,)), [(3, *FACTORY), (2, "https://a", OLD)]),
        ((2, ("https://localhost",), ()), None, [(2, *FACTORY)]),
    ],
)  # fmt: skip
def test_places_are_the_newest_set_the_one_that_worked_and_the_factorys(step, newest, worked, expected):
    factory = (0, [FACTORY[0]], [FACTORY[1]])
    found = places(set_of(step(*newest)), set_of(step(*worked)) if worked else None, factory)
    found = [(version, url, b"".join(cas)) for version, url, cas in found]
    assert found == expected


class Wire:
    """A transport that can be pointed."""

    aims = ()

    def aim(self, url):
        self.aims = (*self.aims, url)


class Board:
    server_url, server_cas = FACTORY[0], [FACTORY[1]]


EVENTS = [
    # (what the check-ins came to, where they went; the set that worked last in the end)
    ("new set is right", [True, True, True], ["b", "b", "b"], 3),
    ("new set is wrong: back to the last, and the new one is tried again", [False, True, False, True],
     ["b", "a", "b", "a"], 2),
    ("both are wrong: the factory's", [False, False, True, False, True], ["b", "a", "f", "b", "f"], 0),
    ("nothing works: round and round", [False] * 7, ["b", "a", "f", "b", "a", "f", "b"], 2),
    ("a bad day of the new one", [True, False, True, True], ["b", "b", "f", "b"], 3),
    ("the new one comes up later", [False, True, True, True], ["b", "a", "b", "b"], 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "visited", "last"), [row[1:] for row in EVENTS], ids=[row[0] for row in EVENTS]
)
def test_transition_table(step, verdicts, visited, last):
    names = {"https://a": "a", "https://b": "b", "https://localhost": "f"}
    state, board = State(), Board()
    state.roots = [step(2, ("https://a",), (OLD,)), step(3, ("https://b",), (NEW,))]
    state.server = 2
    newest = root_of(state.roots[1])
    servers = Servers(board, Wire(), state, None)
    seen = []
    for good in verdicts:
        servers.aim(newest)
        seen.append(names[board.server_url])
        servers.begun()
        if good:
            servers.worked(newest, True)
    assert seen == visited
    assert state.server == last


def test_what_is_under_way_with_an_older_server_is_ended_there(step):
    """Each check-in answers the last one's nonce: who goes elsewhere in between is never reported."""
    state, board = State(), Board()
    state.roots = [step(2, ("https://a",), (OLD,)), step(3, ("https://b",), (NEW,))]
    newest, seen = root_of(state.roots[1]), []
    servers = Servers(board, Wire(), state, None)
    for good, settled in (
        (False, False),
        (True, False),
        (True, False),
        (True, True),
        (False, False),
        (True, False),
    ):
        servers.aim(newest)
        seen.append(board.server_url)
        servers.begun()
        if good:
            servers.worked(newest, settled)
    factory, new = "https://localhost", "https://b"
    assert seen == [new, factory, factory, factory, new, factory]


def test_fixed_address_stays_and_its_ca_follows_root(step):
    board, wire = Board(), Wire()
    servers = Servers(board, wire, State(), "https://here")
    servers.aim(root_of(step(2, ("https://b",), (NEW,))))
    assert wire.aims == ("https://here",)
    assert board.server_cas == [NEW]


# -- a device ------------------------------------------------------------------------------------------------


class Net:
    """The servers of a world: each place that answers is one server of the same fleet."""

    def __init__(self, device, *alive):
        self.device, self.alive, self.visits = device, alive, []
        self.request_of_one = device.network.request
        device.network.request = self.request
        device.network.aim = lambda _url: None
        device.network.checkin, self.answer = self.checkin, device.network.checkin

    def request(self, method, path, headers, body=b""):
        board = self.device.live
        place = (board.server_url, b"".join(board.server_cas))
        self.visits.append(place)
        if not any(url == place[0] and cert in place[1] for url, cert in self.alive):
            raise TransportError(f"cannot reach {place[0]}")
        return self.request_of_one(method, path, headers, body)

    def checkin(self, body):
        """As the server: ROOT steps that the device lacks come with the answer."""
        have = checkin.parse_request(body).root_version
        self.device.network.order["root_version"] = root_of(self.device.steps[-1]).version
        try:
            raw = self.answer(body)
        except VerifyError:  # a report of an earlier life, which costs itself
            body = checkin.encode_request(checkin.Request(checkin.parse_request(body).nonce, 9, None))
            raw = self.answer(body)
        response = checkin.parse_response(raw)
        response.roots = [raw for raw in self.device.steps if root_of(raw).version > have]
        return checkin.encode_response(response)


@pytest.fixture
def moved(device, step):
    """A device that knows set 2 (https://a, OLD) and is told of set 3 (https://b, NEW)."""
    device.steps = [step(2, ("https://a",), (OLD,))]

    def agent():
        from fota_agent.agent import Agent

        device.live = device.board()
        return Agent(device.live, device.network, device.hooks)

    device.agent = agent
    net = Net(device, FACTORY, ("https://a", OLD))
    device.run(device.agent())
    live = device.agent()
    rest(device, live, 300_000)
    live.close()
    assert decode(device.board().load_store()).server == 2
    assert net.visits[-1] == ("https://a", OLD)
    device.steps.append(step(3, ("https://b",), (NEW,)))
    return net


def test_fleet_moves_to_another_host_and_another_ca(device, moved):
    moved.alive = (("https://a", OLD), ("https://b", NEW))
    agent = device.agent()
    rest(device, agent, HOUR_MS // 6)
    assert agent.engine.state.server == 3
    moved.alive = (("https://b", NEW),)  # the old one is switched off, and its CA has ended
    agent.close()
    agent, before = device.agent(), len(moved.visits)
    rest(device, agent, HOUR_MS // 6)
    assert agent.engine.settled
    assert set(moved.visits[before:]) == {("https://b", NEW)}


@pytest.mark.parametrize(
    ("alive", "place", "server"),
    [
        ((("https://a", OLD),), ("https://a", OLD), 2),
        ((FACTORY,), FACTORY, 0),
        ((("https://b", BAD), FACTORY), FACTORY, 0),
        ((("https://a", BAD), ("https://b", OLD), FACTORY), FACTORY, 0),
    ],
    ids=["new-wrong", "both-wrong", "new-has-another-ca", "all-mixed-up"],
)
def test_set_that_is_wrong_brings_the_device_back(device, moved, alive, place, server):
    agent = device.agent()
    moved.alive = (("https://a", OLD),)
    rest(device, agent, 120_000)
    assert agent.engine.root.version == 3, "it has heard of the new set"
    moved.alive = alive
    rest(device, agent, HOUR_MS // 4)
    assert place in moved.visits[-3:]
    assert agent.engine.state.server == server
    assert ("https://b", NEW) in moved.visits, "and goes on trying it"
    device.network.wanted = device.world.v2  # a repair still arrives
    rest(device, agent, HOUR_MS // 2)
    assert agent.rebooting


def test_power_cut_at_any_step_of_the_move_locks_no_device_out(device, moved):
    """The process is gone between two steps: what was saved is all that the next one has."""
    moved.alive = (("https://a", OLD), ("https://b", NEW))
    start = device.machine.snapshot()
    for steps in range(1, 12):
        device.machine.restore(start)
        agent = device.agent()
        for _ in range(steps):
            device.now += max(1, agent.step())
        moved.visits.clear()  # the old one is gone for good
        moved.alive = (
            (FACTORY,) if steps % 2 else (("https://b", NEW), FACTORY)
        )  # the old one is gone for good
        agent = device.agent()
        rest(device, agent, HOUR_MS // 6)
        assert moved.alive[0] in moved.visits
        assert agent.engine.state.server == (0 if steps % 2 else 3)
        moved.alive = (("https://a", OLD), ("https://b", NEW), FACTORY)


def test_memory_of_the_set_that_worked_survives_and_is_no_field_of_older_releases_until_it_is_used(step):
    state = State()
    assert 14 not in cbor.decode(b"".join(state.parts(6000)))
    state.server = 7
    assert decode(b"".join(state.parts(6000))).server == 7
