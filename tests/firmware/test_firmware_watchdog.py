"""The shortest watchdog that SPEC 1.2 allows, one second, armed in every boot, and the longest ways that the
chip's agent goes: a boot with its signatures, handshakes on a slow line, a whole update, a trial at its end.
"""

import chip_world
import pytest

from fota_vdev.modem import peripheral as modem
from fota_vdev.modem.network import HostNetwork, SlowNetwork

pytestmark = pytest.mark.slow
SHORTEST = 1  # s
PS_PER_S = 10**12
CRAWL = 100  # bytes per second: a handshake takes half a minute
FAST = 100_000
LONGEST = (
    0.8  # of the time that the watchdog gives: its clock may be 6 % fast (data sheet: 34 kHz), and code grows
)


def longest_unfed(machine):
    """Note how long the application has gone at most between two feeds of the watchdog; ps, in a list."""
    iwdg, clock, longest = machine.board.iwdg, machine.clock, [0]
    write, last = iwdg.write, [None]

    def noted(offset, value):
        write(offset, value)
        if last[0] is not None and machine.application_runs:
            longest[0] = max(longest[0], clock.ps - last[0])
        last[0] = clock.ps

    iwdg.write = noted
    return longest


@pytest.fixture(scope="module")
def world(elf, tmp_path_factory):
    """A chip with that watchdog, and a line that can be made slow."""
    world = chip_world.ChipWorld(tmp_path_factory.mktemp("watchdog"))
    try:
        world.make_keys()
        world.start_server()
        world.provision(world.sign("1.0.0", 2, elf=elf), "--watchdog-s", SHORTEST)
        world.release_chip("1.0.0", 1)
        world.machine = chip_world.Machine.load(world.device)
        world.line = SlowNetwork(HostNetwork(), world.machine.clock, FAST)
        world.modem = modem.attach(world.machine, world.line)
        world.machine.power_on()
        world.longest_ps = longest_unfed(world.machine)
        yield world
        world.switch_off()
    finally:
        world.stop()
        world._lock.close()


def test_whole_update_and_a_trial_whose_check_in_is_slow_go_well(world):
    world.run_chip("agent 1.0.0: settled")
    assert world.machine.board.iwdg.expires_ps is not None
    assert world.machine.board.iwdg.timeout_ps < 1.2 * SHORTEST * PS_PER_S
    world.release_chip("1.1.0", 2)
    world.fota("rollout", "start", "1.1.0", "--device", world.device_id)
    world.run_chip("agent 1.0.0: reboot")
    world.line.rate, world.line.segment = CRAWL, 1
    start = world.machine.time_us
    world.run_chip("agent 1.1.0: confirmed")
    assert world.machine.time_us - start > 10 * SHORTEST * 1_000_000  # so the trial was a slow one
    world.line.rate, world.line.segment = FAST, 64
    world.run_chip("agent 1.1.0: settled")
    assert [cause for _, cause in world.machine.resets if cause == "iwdg"] == []
    assert world.longest_ps[0] < LONGEST * world.machine.board.iwdg.timeout_ps
    assert world.machine.faults == []
