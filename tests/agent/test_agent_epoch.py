"""The key epoch is raised by ROOT's word alone, on root B alone, and a power cut does not stop it."""

import pytest

from fota_agent.runner.epoch import due, key_hash
from fota_wire import cose, image, layout
from fota_wire import root as roots
from fota_wire.chips import stm32l476
from fota_wire.errors import DeviceError, FormatError, VerifyError
from fota_wire.host_crypto import verify


@pytest.fixture
def on_root_b(device, world):
    """A device whose running image names root B, and a ROOT that retires root A."""
    raw = bytearray(world.v1.image)
    parsed = image.parse_image(world.v1.image)
    at = bytes(raw).rindex(parsed.key_hash)
    raw[at : at + 32] = cose.key_hash(world.stranger.xy)
    device.machine.flash.write_phys(1, stm32l476.SLOT_OFFSET, bytes(raw))

    def board():
        made = device.board()
        made.root_b = cose.key_hash(world.stranger.xy)
        return made

    device.raw_image, device.make_board = bytes(raw), board
    device.next_root = world.root(2, epoch=1)
    return device


def run(device, world, steps=30):
    from fota_agent.agent import Agent

    agent = Agent(device.make_board(), device.network, device.hooks)
    runner = agent._runner
    runner.engine.trust._root = roots.step(runner.engine.root, device.next_root, verify)
    for _ in range(steps):
        device.now += agent.step()
        if agent.engine.settled and not agent.renewing:
            break
    return agent


def test_key_hash_is_read_from_the_running_image(on_root_b, world):
    assert key_hash(on_root_b.make_board().running) == cose.key_hash(world.stranger.xy)


def test_root_document_retires_root_a_on_a_device_that_runs_root_b(on_root_b, world):
    agent = run(on_root_b, world)
    assert on_root_b.element.counters == (0, 8)
    assert ("epoch", "1: firmware root A is retired") in agent.engine.state.events
    on_root_b.boot(world.v1, epoch=1)
    run(on_root_b, world)
    assert on_root_b.element.counters == (0, 8), "once"


def test_device_that_runs_root_a_keeps_it(on_root_b, world):
    on_root_b.machine.flash.write_phys(1, stm32l476.SLOT_OFFSET, world.v1.image)
    run(on_root_b, world)
    assert on_root_b.element.counters == (0, 0)


def test_nothing_is_counted_without_roots_word(on_root_b, world):
    on_root_b.next_root = world.root(2)
    run(on_root_b, world)
    assert on_root_b.element.counters == (0, 0)


@pytest.mark.parametrize("command", range(1, 30))
@pytest.mark.parametrize("torn", [None, 5], ids=["before", "torn"])
def test_power_cut_at_any_command_is_continued_at_the_next_boot(on_root_b, world, command, torn):
    on_root_b.machine.cut_power_at(element_command=command, torn=torn)
    try:
        run(on_root_b, world)
    except DeviceError:
        assert not on_root_b.machine.powered
    on_root_b.boot(world.v1, epoch=on_root_b.element.counters[1] // 8)
    run(on_root_b, world)
    assert 8 <= on_root_b.element.counters[1] <= 9


@pytest.mark.parametrize(
    ("fields", "wanted", "yes"),
    [
        ({}, 1, True),
        ({}, 0, False),
        ({"epoch": 1}, 1, False),
        ({"trial": True}, 1, False),
        ({"running": layout.SLOT_B}, 1, False),
    ],
    ids=["due", "not-wanted", "done", "in-a-trial", "fallback"],
)
def test_when_it_is_due(world, fields, wanted, yes):
    assert due(wanted, world.boot(**fields)) is yes


def test_root_takes_no_epoch_back_and_knows_no_third_root(world):
    second = roots.step(roots.open_genesis(world.genesis, verify), world.root(2, epoch=1), verify)
    assert second.epoch == 1
    with pytest.raises(VerifyError, match="lowers"):
        roots.step(second, world.root(3), verify)
    with pytest.raises(FormatError):
        roots.build_root(2, {0: (1, [world.device.xy]), 1: (1, [world.device.xy]), 2: (1, [world.device.xy])},
                         epoch=2)  # fmt: skip


def test_image_that_names_no_key_is_no_reason_to_count(on_root_b, world):
    damaged = on_root_b.raw_image.replace(cose.key_hash(world.stranger.xy), bytes(32))
    on_root_b.machine.flash.write_phys(1, stm32l476.SLOT_OFFSET, damaged)
    run(on_root_b, world)
    assert on_root_b.element.counters == (0, 0)
