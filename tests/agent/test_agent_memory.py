"""Want of memory where there is nobody left to tell: at a boot, for what is kept, and while a failure is
dealt with. One place at a time has none left, for a while or for good.
"""

import pytest
from test_agent_sdk import HOUR_MS, rest

from fota_agent import Hooks
from fota_agent.agent import Agent
from fota_agent.engine import actions, telemetry
from fota_agent.engine.state import LOST, State
from fota_wire.checkin import LEAST_ANSWER
from fota_wire.errors import TransportError

EVENTS, VALUES = 3, 20
TRIES = 3


def kept(device):
    """Have the device find a store in which there is something of everything."""
    state = State()
    state.sequence, state.keys, state.installed = 7, b"keys", bytes(32)
    for number in range(EVENTS):
        state.add_event("failed", str(number))
    for number in range(VALUES):
        telemetry.add(state, (f"t/{number}", 0, "1"))
    board = device.board()
    board.save_store(state.parts(board.store_size))
    return board


def test_boot_that_has_no_memory_for_what_waits_keeps_the_rest_and_says_what_is_lost(device, monkeypatch):
    board = kept(device)

    def no_memory(values):
        raise MemoryError

    monkeypatch.setattr(telemetry, "sound", no_memory)
    state = Agent(board, device.network, device.hooks).engine.state
    assert (state.sequence, state.keys, state.installed) == (7, b"keys", bytes(32))
    assert state.events == [(LOST, f"{EVENTS + VALUES} events and values, for want of memory")]
    assert state.telemetry == []


def test_boot_that_has_no_memory_for_its_store_begins_again_and_writes_nothing_over_it(device):
    """It knows nothing of its keys, its trial, its ROOT: whoever resets it gives it another try."""
    board = kept(device)
    load = board.load_store
    board.load_store = lambda: (_ for _ in ()).throw(MemoryError())
    with pytest.raises(MemoryError):
        Agent(board, device.network, device.hooks)
    board.load_store = load
    assert Agent(board, device.network, device.hooks).engine.state.sequence == 7


def starve(agent, where, times):
    """Have no memory for that method of the engine, so many times."""
    engine, left = agent.engine, [None] * times
    whole = getattr(engine, where)

    def no_memory(*args, **more):
        if left:
            left.pop()
            raise MemoryError
        return whole(*args, **more)

    setattr(engine, where, no_memory)
    return left


@pytest.mark.parametrize("where", ["failed", "_back_off", "queue"])
def test_want_of_memory_for_dealing_with_a_failure_ends_no_agent(device, world, where):
    device.network.wanted = world.v2
    device.network.on_request = fail_once = Failing(device.network)
    agent = device.agent()
    left = starve(agent, where, TRIES)
    agent.publish("climate", 21.5)
    rest(device, agent, HOUR_MS)
    assert fail_once.done
    assert not left
    assert agent.rebooting
    assert device.slot(2, len(world.v2.image)) == world.v2.image


class Failing:
    """The network's first request fails."""

    def __init__(self, network) -> None:
        self.done = False

    def __call__(self, method, path):
        if not self.done:
            self.done = True
            raise TransportError("gone")


class Heard(Hooks):
    def __init__(self) -> None:
        self.resets = 0

    def before_reboot(self):
        self.resets += 1


@pytest.mark.parametrize("also", [(), ("save_store",), ("close",)], ids=str)
def test_want_of_memory_for_dealing_with_a_failure_that_lasts_ends_in_a_fresh_start(device, also):
    board, hooks = device.board(), Heard()
    device.network.on_request = lambda method, path: (_ for _ in ()).throw(TransportError("gone"))
    agent = Agent(board, device.network, hooks)
    resets, reset = [], board.reset

    def no_memory(*args):
        raise MemoryError

    for name in also:
        setattr(board if hasattr(board, name) else device.network, name, no_memory)
    board.reset = lambda: (resets.append(device.now), reset())
    starve(agent, "failed", 10**6)
    rest(device, agent, HOUR_MS)
    assert agent.rebooting
    assert len(resets) == 1
    assert hooks.resets, "the application hears of it"


def in_memory(board, saved):
    """Have the board keep its store where it lies, as a chip does, and little of it."""

    def save(parts):
        saved.append(b"".join(parts))
        return memoryview(saved[-1])

    board.save_store = save


def test_manifest_that_the_store_has_no_room_for_comes_again_and_costs_no_write_each_time(device, world):
    board, saved = device.board(), []
    board.store_size, board.longest_answer = 400, LEAST_ANSWER
    in_memory(board, saved)
    device.network.wanted = world.v1  # which runs
    agent = Agent(board, device.network, device.hooks)
    rest(device, agent, 4 * HOUR_MS)
    assert agent.engine.settled
    assert agent.engine.state.envelope is None
    assert len(device.network.nonces) > 200
    assert len(saved) < 12, "flash wears"


@pytest.mark.parametrize("cramped", [True, False])
def test_what_cannot_be_saved_is_copied_only_where_there_is_memory_for_copies(device, world, cramped):
    board = device.board()
    board.save_store = lambda parts: (_ for _ in ()).throw(MemoryError())
    if cramped:
        board.longest_answer = LEAST_ANSWER
    device.network.wanted = world.v2
    agent = Agent(board, device.network, device.hooks)
    while agent.engine.phase != actions.COMPARE_RUNNING:
        device.now += agent.step()
    assert agent.engine.wanted is not None
    assert (agent.engine.state.envelope is None) == cramped
    assert (agent.engine.trust.held is None) == cramped, "so that it is sent again"
