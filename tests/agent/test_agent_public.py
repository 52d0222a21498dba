"""Every public call of the SDK with what people really pass, and every mistake that an application can make:
what is bad is refused at the call, and nothing ends the agent.
"""

import enum
import math
import random
import threading
import time
from decimal import Decimal

import pytest
from lifeline import HANG_S, until
from test_agent_sdk import HOUR_MS, Live, end, offline, rest

from fota_agent import Hooks
from fota_agent.agent import LATE_MS, Agent
from fota_agent.engine import telemetry
from fota_agent.engine.state import State, decode
from fota_agent.schedule import Schedule
from fota_wire import cbor, checkin, journal, layout
from fota_wire.errors import FotaError, InputError, TransportError

CYCLE = []
CYCLE.append(CYCLE)
DEEP = 5
for _ in range(2000):
    DEEP = [DEEP]
BILLION = ["lol"]
for _ in range(30):
    BILLION = [BILLION] * 10

SHORT_S = 1
"""What an agent is given that has nothing to do, or cannot."""


class Text(str):
    __slots__ = ()


class Topic(str, enum.Enum):  # noqa: UP042 - as people write it: its format is its name
    CLIMATE = "climate"


class Formatted(str):
    __slots__ = ()

    def __format__(self, spec):
        return "x" * 5000


class Unspeakable:
    def __str__(self):
        raise ZeroDivisionError("no words")


# -- arguments -----------------------------------------------------------------------------------------------


REFUSED = [
    # (method, arguments, words of the error)
    ("publish", ({"t": 21.5}, {"t": 1}), "topic is a dict"),
    ("publish", ({"t": 21.5}, "not a topic"), "use 1 to 32"),
    ("publish", (["climate"], 1), "topic is a list"),
    ("publish", (("a", "b"), 1), "topic is a tuple"),
    ("publish", (b"climate", 1), "topic is a bytes"),
    ("publish", (None, 1), "topic is a NoneType"),
    ("publish", (5, "open"), "topic is a int"),
    ("publish", (21.5, "climate"), "topic is a float"),
    ("publish", (math.nan, "climate"), "topic is a float"),
    ("publish", ("", 1), "use 1 to 32"),
    ("publish", ("t" * 33, 1), "use 1 to 32"),
    ("publish", ("t" * 10_000_000, 1), "use 1 to 32"),
    ("publish", ("a b", 1), "use 1 to 32"),
    ("publish", ("größe", 1), "use 1 to 32"),
    ("publish", ("a\n", 1), "use 1 to 32"),
    ("publish", ("\ud800", 1), "use 1 to 32"),
    ("publish", ("t", math.nan), "not a JSON value: float nan"),
    ("publish", ("t", math.inf), "not a JSON value"),
    ("publish", ("t", {"a": [1, -math.inf]}), "not a JSON value"),
    ("publish", ("t", {1, 2}), "not a JSON value: set"),
    ("publish", ("t", b"raw"), "not a JSON value: bytes"),
    ("publish", ("t", Decimal("21.5")), "not a JSON value: Decimal"),
    ("publish", ("t", 1j), "not a JSON value"),
    ("publish", ("t", object()), "not a JSON value"),
    ("publish", ("t", lambda: 21.5), "not a JSON value"),
    ("publish", ("t", [Unspeakable()]), "not a JSON value: no words"),
    ("publish", ("t", (n for n in (1, 2))), "not a JSON value: generator"),
    ("publish", ("t", {1: 2}), "keys are no texts"),
    ("publish", ("t", {None: 2}), "keys are no texts"),
    ("publish", ("t", {("a",): 2}), "keys are no texts"),
    ("publish", ("t", "\ud800"), "not a JSON value"),
    ("publish", ("t", {"\udcff": 1}), "not a JSON value"),
    ("publish", ("t", CYCLE), "longer than 256"),
    ("publish", ("t", DEEP), "longer than 256"),
    ("publish", ("t", BILLION), "longer than 256"),
    ("publish", ("t", "v" * 255), "longer than 256"),
    ("publish", ("t", "v" * 50_000_000), "longer than 256"),
    ("publish", ("t", [0] * 5_000_000), "longer than 256"),
    ("publish", ("t", 10**300), "longer than 256"),
    ("publish", ("t", 10**5000), "JSON"),
    ("publish", ("t", 1, "yes"), "urgent is a str"),
    ("publish", ("t", 1, None), "urgent is a NoneType"),
    ("publish", ("t", 1, 1), "urgent is a int"),
    ("sync", ("60",), "str"),
    ("sync", (None,), "NoneType"),
    ("sync", (-1,), "not 0 to"),
    ("sync", (math.nan,), "not 0 to"),
    ("sync", (math.inf,), "not 0 to"),
    ("sync", (True,), "seconds is a bool"),
    ("sync", (10**5000,), "not 0 to"),
    ("sync", (Decimal("NaN"),), "not 0 to"),
    ("run", ("60",), "str"),
    ("run", (-0.1,), "not 0 to"),
    ("run", (math.nan,), "not 0 to"),
    ("run", (1e300,), "not 0 to"),
    ("run", ([],), "list"),
    ("install_from", (None,), "folder is a NoneType"),
    ("install_from", (5,), "folder is a int"),
    ("install_from", (b"/sd",), "folder is a bytes"),
    ("install_from", ("",), "cannot be read"),
    ("install_from", ("/no/such/folder",), "cannot be read"),
    ("install_from", ("\x00",), "null"),
]


@pytest.mark.parametrize(
    ("method", "arguments", "words"), REFUSED, ids=[f"{row[0]}-{n}" for n, row in enumerate(REFUSED)]
)
def test_call_that_makes_no_sense_is_refused_at_once_and_changes_nothing(
    device, told, method, arguments, words
):
    agent = device.run()
    before = b"".join(agent.engine.state.parts(6000)), agent.engine.phase, len(device.network.requests)
    with pytest.raises((TypeError, InputError, TransportError, ValueError), match=words):
        getattr(agent, method)(*arguments)
    assert (
        b"".join(agent.engine.state.parts(6000)),
        agent.engine.phase,
        len(device.network.requests),
    ) == before
    agent.publish("after", 1)
    rest(device, agent, 120_000)
    assert told[-1][::2] == ("after", "1"), "the agent goes on"


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        (("climate", {"t": 21.5}), ("climate", '{"t": 21.5}')),
        (({"t": 21.5}, "climate"), ("climate", '{"t": 21.5}')),
        (({}, "climate"), ("climate", "{}")),
        (("t", None), ("t", "null")),
        (("t", [True, 1, -0.0, "ä", (), {"": []}]), ("t", '[true, 1, -0.0, "\\u00e4", [], {"": []}]')),
        ((Text("t"), Text("x")), ("t", '"x"')),
        ((Topic.CLIMATE, {Topic.CLIMATE: Topic.CLIMATE}), ("climate", '{"climate": "climate"}')),
        (({"t": 21.5}, Topic.CLIMATE), ("climate", '{"t": 21.5}')),
        ((Formatted("t"), 1), ("t", "1")),
        (("t", "v" * 254), ("t", '"' + "v" * 254 + '"')),
        (("t", 1e300), ("t", "1e+300")),
        (("t", list(range(64))[:60]), None),
        (("t", 10**200), ("t", str(10**200))),
    ],
)
def test_value_that_json_can_say_arrives(device, told, arguments, got):
    agent = device.agent()
    agent.publish(*arguments)
    device.run(agent)
    rest(device, agent, 1000)
    if got:
        assert told[-1][::2] == got
    assert agent.engine.state.telemetry == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"board": None}, "board"),
        ({"board": "stm32"}, "board is a str"),
        ({"transport": "https://host"}, "transport is a str"),
        ({"hooks": Hooks}, "hooks is a class"),
        ({"hooks": {"log": print}}, "hooks is a dict, and has no health_check"),
        ({"hooks": print}, "hooks"),
        ({"verify": b"key"}, "verify is a bytes"),
        ({"server_url": 5}, "server_url is a int"),
        ({"server_url": b"https://x"}, "server_url is a bytes"),
        ({"mirror": 5}, "mirror is a int"),
        ({"mirror": "https://x"}, "begins with http://"),
        ({"schedule": "auto"}, "schedule is a str"),
        ({"schedule": (0, 1)}, "schedule is a tuple"),
        ({"tls12": "yes"}, "tls12 is a str"),
    ],
    ids=str,
)
def test_agent_is_not_made_of_what_it_cannot_be_made_of(device, change, words):
    arguments = {"board": device.board(), "transport": device.network, **change}
    with pytest.raises((TypeError, TransportError), match=words):
        Agent(**arguments)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": None}, {"mode": 5}, {"mode": ["auto"]}, {"until": "tomorrow"}, {"until": None},
        {"until": -1}, {"until": 1.5}, {"windows": "02:00-04:30"}, {"windows": ["02:00-04:30"]},
        {"windows": (1, 2)},
        {"windows": [(1,)]}, {"windows": [("1", "2")]}, {"windows": [(1, 2, 3)]}, {"windows": 5},
        {"windows": [(0.5, 7.5)]},
    ],
    ids=str,
)  # fmt: skip
def test_schedule_that_makes_no_sense_is_refused_when_it_is_made(wrong):
    with pytest.raises((TypeError, InputError)):
        Schedule(**wrong)


@pytest.mark.parametrize("digest", [None, "00" * 32, bytes(31), 5])
def test_consent_to_nothing_is_refused(digest):
    with pytest.raises((TypeError, InputError)):
        Schedule("notify").approve(digest)


# -- wrong times, wrong threads ------------------------------------------------------------------------------


def test_calls_at_odd_times_do_what_they_can(device, world, told):
    agent = device.agent()
    assert agent.time() is None
    assert not agent.alive, "nobody steps"
    agent.check_in()
    agent.close()
    agent.close(save=False)
    agent.publish("early", 1)
    device.network.wanted = world.v2
    device.run(agent)
    assert agent.rebooting
    agent.publish("late", 1)
    agent.check_in()
    assert agent.sync(SHORT_S) is False
    agent.run(1)
    assert agent.step() == 0
    agent.close()
    assert ("late", "1") in [value[::2] for value in decode(device.board().load_store()).telemetry]


def test_value_published_by_a_hook_before_the_reset_or_right_before_close_is_not_lost(device, world):
    class Last(Hooks):
        def before_reboot(self):
            agent.publish("last", "words")

    device.network.wanted = world.v2
    agent = Agent(device.board(), device.network, Last())
    device.run(agent)
    assert agent.rebooting
    kept = decode(device.board().load_store()).telemetry
    assert [value[::2] for value in kept] == [("last", '"words"')]


def test_life_is_told_and_its_end_too(device):
    agent = device.agent()
    agent.step()
    assert agent.alive
    device.now += LATE_MS - 1
    assert agent.alive
    device.now += 2
    assert not agent.alive, "nobody has stepped for ten minutes"
    device.run(agent)
    rest(device, agent, 3 * 60_000)
    assert agent.alive


MISUSES = {
    "step": lambda agent: agent.step(),
    "run": lambda agent: agent.run(SHORT_S),
    "sync": lambda agent: agent.sync(SHORT_S),
    "close": lambda agent: agent.close(),
    "publish": lambda agent: agent.publish("from/hook", 1, urgent=True),
    "install_from": lambda agent: agent.install_from("/nowhere"),
}


@pytest.mark.parametrize("misuse", MISUSES)
@pytest.mark.parametrize(
    "where", ["may_download", "may_install", "available", "progress", "before_reboot", "log"]
)
def test_hook_that_calls_the_agent_back_keeps_no_update_away(device, world, where, misuse):
    calls = []

    def back(*_args):
        if len(calls) < 3:
            calls.append(where)
            MISUSES[misuse](agent)
        return True

    hooks = Hooks()
    setattr(hooks, where, back)
    device.network.wanted = world.v2
    agent = Agent(device.board(), device.network, hooks)
    device.network.refuse_checkin = (503, {})  # something to log
    rest(device, agent, 60_000)
    device.network.refuse_checkin = None
    rest(device, agent, 4 * HOUR_MS)
    assert calls
    assert agent.rebooting
    assert device.slot(2, len(world.v2.image)) == world.v2.image


ANSWERS = [None, "no", "yes", 2, [], object(), float("nan")]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
@pytest.mark.parametrize("where", ["may_download", "may_install"])
def test_answer_that_is_neither_yes_nor_no_is_no_and_told(device, world, where, answer):
    hooks = Hooks()
    lines = []
    hooks.log = lines.append
    setattr(hooks, where, lambda _manifest: answer)
    device.network.wanted = world.v2
    agent = Agent(device.board(), device.network, hooks)
    rest(device, agent, HOUR_MS)
    assert not agent.rebooting
    assert any(f"{where} returned a {type(answer).__name__}, not True or False" in line for line in lines)


def test_health_check_that_is_a_coroutine_is_not_healthy(device, world):
    """``async def``: calling it returns something, and something is true."""
    record = journal.Record(5, layout.SLOT_A, layout.SLOT_B, journal.TRIAL, 2)
    device.machine.flash.write_phys(2, 0, journal.pack(record))
    device.boot(world.v2, layout.SLOT_B, trial=True, candidate=layout.SLOT_B, state=journal.TRIAL)
    hooks = Hooks()
    lines = []
    hooks.log = lines.append
    hooks.health_check = lambda: (True for _ in ())
    agent = Agent(device.board(), device.network, hooks)
    rest(device, agent, 120_000)
    assert agent.rebooting
    assert lines.count("health check: TypeError: health_check returned a generator, not True or False") == 1


def test_calls_from_many_threads_at_once_end_no_agent(device, told):
    live = Live(device)
    agent, stop, wrong = live.agent, threading.Event(), []

    def hammer(seed):
        generator = random.Random(seed)
        acts = [
            lambda: agent.publish(f"t/{seed}", generator.random(), urgent=generator.random() < 0.5),
            agent.check_in, agent.step, agent.close, lambda: agent.run(SHORT_S / 100),
            lambda: agent.sync(SHORT_S / 100),
            lambda: agent.alive, lambda: agent.rebooting, lambda: agent.renewing, agent.time,
            lambda: agent.engine.phase,
        ]  # fmt: skip
        while not stop.is_set():
            try:
                generator.choice(acts)()
            except Exception as exc:
                wrong.append(exc)

    agent.start()
    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join(HANG_S)
    assert wrong == []
    agent.publish("end", 1)
    assert agent.sync(HANG_S)
    assert ("end", "1") in [value[::2] for value in told]
    assert agent.alive
    end(agent)


# -- nothing ends the agent ----------------------------------------------------------------------------------


BREAKS = {
    "save": ("save_store", OSError("gone")),
    "save-memory": ("save_store", MemoryError()),
    "save-exit": ("save_store", SystemExit(3)),
    "random": ("random_below", ZeroDivisionError("dice")),
    "clock": ("ticks_ms", OSError("no clock")),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_board_that_fails_once_or_for_a_while_ends_no_thread(device, told, kind):
    """Outside of every handler: saving, jitter, the clock."""
    live = Live(device)
    name, error = BREAKS[kind]
    whole = getattr(live.board, name)
    live.agent.engine._random_below = lambda limit: 0
    failures = []

    def broken(*args):
        if len(failures) < 2 and threading.current_thread().name == "fota-agent":
            failures.append(args)
            raise error
        return 0 if name == "random_below" else whole(*args)

    setattr(live.board, name, broken)
    if name == "random_below":
        live.agent.engine._random_below = broken
        request = device.network.request
        device.network.request = lambda *args: (
            request(*args) if len(failures) == 2 else (_ for _ in ()).throw(TransportError("down"))
        )
    agent = live.agent
    agent._runner._save_ms = 0
    agent.start()
    agent.publish("t", 1, urgent=True)
    until(lambda: len(failures) == 2)
    until(lambda: told)
    assert agent.alive
    end(agent)


@pytest.mark.parametrize("exit_", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("where", ["available", "may_download", "may_install", "log"])
def test_hook_cannot_end_the_thread_without_a_word(device, world, where, exit_):
    live = Live(device)
    live.agent.engine._random_below = lambda limit: 0
    calls = []

    def leave(*_args):
        calls.append(where)
        if len(calls) < 3:
            raise exit_
        return True

    hooks = live.agent._runner._hooks._hooks
    setattr(hooks, where, leave)
    device.network.wanted = world.v2
    live.agent.start()
    until(lambda: live.agent.rebooting)
    assert device.slot(2, len(world.v2.image)) == world.v2.image


def test_what_ended_the_thread_is_told_to_the_server(device, monkeypatch):
    live = Live(device)
    runner, failures = live.agent._runner, []
    step = runner.step

    def broken():
        if not failures:
            failures.append(1)
            raise RuntimeError("a bug in the agent itself")
        return step()

    monkeypatch.setattr(runner, "step", broken)
    live.agent.start()
    until(lambda: any(("failed", "the agent starts anew: RuntimeError: a bug in the agent itself")
                      in report.events for report in device.network.reports))  # fmt: skip
    assert "the agent starts anew: RuntimeError: a bug in the agent itself" in device.hooks.lines
    end(live.agent)


def test_garbage_put_into_the_agents_own_state_costs_itself(device, told):
    agent = device.run()
    agent.engine.state.telemetry += [({"t": 21.5}, 0, '"climate"'), ("ok", 0, "1"), None, ("t", 0.5, "1")]
    agent.check_in()
    rest(device, agent, 120_000)
    assert [value[::2] for value in told] == [("ok", "1")]
    assert agent.engine.settled


def test_queue_of_an_older_release_with_a_bad_value_costs_that_value(device):
    state = State()
    state.sequence = 7
    telemetry.add(state, ("good", 0, "1"))
    body = cbor.decode(b"".join(state.parts(6000)))
    body[10] = [[{"t": 1}, 0, '"climate"'], *body[10], ["a b", 0, "1"], 5, *[["n", 0, "1"]] * 30]
    board = device.board()
    board.save_store([cbor.encode(body)])
    agent = device.agent()
    assert agent.engine.state.sequence == 7, "the rest is not lost"
    assert len(agent.engine.state.telemetry) == telemetry.MAX_VALUES
    assert any("published values ignored" in line for line in device.hooks.lines)


@pytest.mark.parametrize("raw", [b"", b"\x00" * 100, b"\xa1\x01", cbor.encode([]), OSError("worn")], ids=str)
def test_memory_that_cannot_be_read_ends_no_program(device, raw):
    board = device.board()

    def load():
        if isinstance(raw, Exception):
            raise raw
        return raw

    board.load_store = load
    agent = Agent(board, device.network, device.hooks)
    device.run(agent)
    assert agent.engine.settled
    assert any("agent store ignored" in line for line in device.hooks.lines)


# -- the server and haste ------------------------------------------------------------------------------------


def picky(device, bad):
    """A server that refuses a check-in with a value of a topic in ``bad``, as older ones do."""
    answer = device.network.request

    def request(method, path, headers, body=b""):
        if path == "/v1/checkin" and any(v[0] in bad for v in checkin.parse_request(body).telemetry):
            device.network.requests.append((method, path, headers))
            device.network.refuse_checkin = (400, {})
            try:
                return answer(method, path, headers, body)
            finally:
                device.network.refuse_checkin = None
        return answer(method, path, headers, body)

    device.network.request = request


BAD = [{"t3"}, {"t0"}, {"t15"}, {"t3", "t4", "t15"}, set()]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: "-".join(sorted(bad)) or "none")
def test_server_that_refuses_one_value_gets_the_rest(device, told, bad):
    picky(device, bad)
    agent = device.agent()
    for number in range(16):
        agent.publish(f"t{number}", number)
    rest(device, agent, 10 * HOUR_MS)
    assert {value[0] for value in told} == {f"t{n}" for n in range(16)} - bad
    assert agent.engine.settled
    events = [event for report in device.network.reports for event in report.events]
    assert {detail.rpartition(" ")[2] for code, detail in events if code == "value"} == bad


def test_server_that_names_the_refused_value_is_heard(device, told):
    answer = device.network.checkin

    def naming(body):
        response = checkin.parse_response(answer(body))
        response.refused_values = [1] if checkin.parse_request(body).telemetry else []
        return checkin.encode_response(response)

    device.network.checkin = naming
    agent = device.agent()
    for topic in ("a", "b", "c"):
        agent.publish(topic, 1)
    rest(device, agent, HOUR_MS)
    events = [event for report in device.network.reports for event in report.events]
    assert ("value", "not taken by the server: b") in events


def test_flood_of_urgent_values_undoes_neither_back_off_nor_retry_after(device):
    device.network.refuse_checkin = (503, {"retry-after": "3600"})
    agent = device.agent()
    while device.now < HOUR_MS - 1000:
        agent.publish("alarm", device.now, urgent=True)
        agent.check_in()
        agent.step()
        device.now += 500
    assert len(device.network.requests) == 1
    device.network.refuse_checkin = None
    offline(device)
    tries = []
    device.network.request = lambda *_args: (
        tries.append(device.now) or (_ for _ in ()).throw(TransportError("no"))
    )
    while device.now < 3 * HOUR_MS:
        agent.publish("alarm", 1, urgent=True)
        agent.step()
        device.now += 500
    assert len(tries) < 20


def test_flood_of_urgent_values_is_a_check_in_a_second_at_most(device, told):
    agent = device.run()
    start, before = device.now, len(device.network.requests)
    while device.now < start + 60_000:
        agent.publish("alarm", device.now, urgent=True)
        agent.step()
        device.now += 10
    assert 30 <= len(device.network.requests) - before <= 64
    assert told[-1][0] == "alarm"


def test_retry_after_of_a_payload_is_obeyed(device, world):
    device.network.wanted = world.v2
    busy = [True]
    device.network.change_payload = lambda status, headers, body: (
        (503, {"retry-after": "1800"}, b"") if busy else (status, headers, body)
    )
    device.network.order["valid_for"] = 100_000
    agent = device.agent()
    while device.now < HOUR_MS / 2 - 30_000:
        device.now += max(1, agent.step())
        agent.check_in()
    assert len([path for _, path, _ in device.network.requests if "payload" in path]) == 1
    busy.clear()
    rest(device, agent, HOUR_MS)
    assert agent.rebooting


def test_release_with_every_mistake_in_it_still_takes_its_repair(device, world):
    """What ended a fleet: the release was confirmed, and then no agent was left to fetch the next one."""

    class Worst(Hooks):
        def log(self, line):
            raise SystemExit(line)

        def progress(self, done, total):
            agent.publish({"t": 21.5}, "climate", urgent=True)
            agent.publish(["climate"], 21.5)

        def available(self, manifest):
            agent.publish("t", math.nan)

        def before_reboot(self):
            raise MemoryError

    live = Live(device)
    live.board.random_below = lambda limit: 0
    agent = Agent(live.board, device.network, Worst())
    agent.publish({"t": 21.5}, "climate")
    for wrong in (("t", math.nan), (["t"], 1)):
        with pytest.raises((TypeError, FotaError)):
            agent.publish(*wrong)
    device.network.wanted = world.v2
    agent.start()
    until(lambda: agent.rebooting)
    assert device.slot(2, len(world.v2.image)) == world.v2.image
