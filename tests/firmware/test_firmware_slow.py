"""The chip behind a slow line, in virtual time: 256 bytes per second, lines that break, somebody on the path
who lets a byte through now and then. The bootloader's watchdog is armed all the while.
"""

import chip_world
import pytest

from fota_agent.transport.patience import WRITE_MS
from fota_vdev.modem import peripheral as modem
from fota_vdev.modem.network import HostNetwork, SlowNetwork
from fota_wire.chips.stm32l476 import SLOT_OFFSET

pytestmark = pytest.mark.slow
PROMISED, KIB = 256, 1024
CRAWL, TRICKLE = 25, 10  # bytes per second: a handshake takes 50 s; longer than anybody waits
HANDSHAKE = 2_300  # bytes of the server before its first answer, two session tickets among them


@pytest.fixture(scope="module")
def world(elf, tmp_path_factory):
    """A chip that runs 1.0.0, and whose line `world.line` can be made as bad as one likes."""
    world = chip_world.ChipWorld(tmp_path_factory.mktemp("slow"))
    try:
        world.make_keys()
        world.start_server()
        world.provision(world.sign("1.0.0", 2, elf=elf))
        world.release_chip("1.0.0", 1)
        world.machine = chip_world.Machine.load(world.device)
        world.line = SlowNetwork(HostNetwork(), world.machine.clock, 100_000)
        world.modem = modem.attach(world.machine, world.line)
        world.machine.power_on()
        world.run_chip("agent 1.0.0: settled")
        yield world
        world.switch_off()
    finally:
        world.stop()
        world._lock.close()


@pytest.fixture
def line(world):
    """The line, which is a good one again afterwards."""
    yield world.line
    world.line.rate, world.line.segment, world.line.breaks_after = 100_000, 64, None
    assert [cause for _, cause in world.machine.resets if cause == "iwdg"] == []
    assert world.machine.faults == []


def test_check_in_at_25_bytes_per_second_goes_well(world, line):
    world.machine.reset()  # it has no connection then
    line.rate, line.segment = CRAWL, 1
    connections = line.connections
    world.run_chip("agent 1.0.0: settled")
    assert line.connections == connections + 1


def test_handshake_that_trickles_is_a_failed_attempt_and_no_watchdog_reset(world, line):
    world.machine.reset()  # it has no connection then
    line.rate, line.segment = TRICKLE, 1
    start = world.machine.time_us
    world.run_chip("TLS: timed out")
    assert world.machine.time_us - start < (WRITE_MS + 30_000) * 1000
    connections = line.connections
    world.machine.run(until=lambda _: line.connections > connections + 2)
    line.rate, line.segment = 100_000, 64
    world.run_chip("agent 1.0.0: settled")


def test_image_arrives_over_a_line_that_breaks_after_every_kib(world, line):
    elf = chip_world.BUILD / "sample/app-1.1.0.elf"
    image = world.release_chip("3.0.0", 30, elf).read_bytes()
    world.fota("rollout", "start", "3.0.0", "--device", world.device_id)
    world.run_chip(": erase")
    connections = line.connections
    line.rate, line.breaks_after = PROMISED, HANDSHAKE + KIB
    world.run_chip(": compare-written", 7200)
    assert line.connections - connections > len(image) // KIB
    assert world.machine.flash.read_phys(2, SLOT_OFFSET, len(image)) == image
    world.fota("rollout", "pause", 1)


def test_whole_update_at_the_promised_rate_of_256_bytes_per_second(world, line):
    world.machine.power_off()  # before the image of the other test is started
    world.machine.power_on()
    image = world.release_chip("1.1.0", 31).read_bytes()
    world.fota("rollout", "start", "1.1.0", "--device", world.device_id)
    world.run_chip(": erase")
    line.rate = PROMISED
    start = world.machine.time_us
    said = world.run_chip("agent 1.1.0: confirmed")
    assert "broke off" not in said
    assert "slow" not in said
    assert "timed out" not in said
    assert "fota-boot: slot B 1.1.0 trial" in said
    seconds = (world.machine.time_us - start) / 1e6
    assert 1 <= seconds * PROMISED / len(image) < 1.2
