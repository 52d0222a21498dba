"""A cut in the middle of the chip's download: it goes on where it was, and fetches again at most one page."""

import chip_world
import pytest

from fota_vdev.machine import StopReason
from fota_wire.chips.stm32l476 import PAGE_SIZE, SLOT_OFFSET

pytestmark = pytest.mark.slow
CUT_AT_STORE = 12_345  # of some 26,000 double words of the image
CUT_AT_BYTE = 120_000
OVERHEAD = 3_500  # handshake, head of the answer, records: 2,910 when this was written


@pytest.fixture(scope="module")
def offered(chip):
    """The image of an update that waits for the chip."""
    chip.run_chip("agent 1.0.0: settled")
    image = chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    return image.read_bytes()


def written(chip, size):
    """Return how far into the inactive slot there is anything but erased flash."""
    return len(chip.machine.flash.read_phys(2, SLOT_OFFSET, size).rstrip(b"\xff"))


def resumed(chip, size):
    """Run until the chip has said where it goes on after a reset, and went on; return that offset."""
    said = chip.run_chip(f" of {size} bytes\r\n")
    return int(said.rpartition("resuming at ")[2].split()[0])


def test_power_cut_within_a_page_costs_at_most_that_page(chip, offered):
    chip.run_chip(": fetch\r\n")
    chip.machine.cut_power_at(flash_op=CUT_AT_STORE, torn=1)
    assert chip.machine.run().reason is StopReason.POWER_CUT
    before = written(chip, len(offered))
    assert before > 90_000
    chip.machine.power_on()
    offset = resumed(chip, len(offered))
    assert 0 <= before - offset <= PAGE_SIZE


def test_network_cut_costs_at_most_a_page_and_the_image_gets_whole(chip, offered, monkeypatch):
    receive = chip_world.CountedLink.receive
    left = [CUT_AT_BYTE - written(chip, len(offered))]

    def cut_once(link, limit, wait_ms):
        data = receive(link, limit, wait_ms)
        left[0] -= len(data or b"")
        if left[0] < 0 and not left[1:]:
            left.append("cut")
            raise ConnectionResetError
        return data

    monkeypatch.setattr(chip_world.CountedLink, "receive", cut_once)
    chip.run_chip("broke off")
    before, start = written(chip, len(offered)), chip.modem.received
    chip.run_chip(": compare-written")
    fetched = chip.modem.received - start
    assert before > CUT_AT_BYTE - 20_000
    assert fetched <= len(offered) - before + PAGE_SIZE + OVERHEAD
    said = chip.run_chip("agent 1.1.0: settled")
    assert "fota-boot: slot B 1.1.0 trial" in said
    assert chip.machine.flash.read_phys(2, SLOT_OFFSET, len(offered)) == offered
