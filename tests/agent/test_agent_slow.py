"""Links that are slow or break often, in virtual time: an image arrives at 256 bytes per second, and over a
line that breaks after every KiB of it, on a chip (pages of 2 KiB) and on a gateway (64 KiB).

The line carries TLS records as servers make them: 16 KiB each, readable once the last byte has come.
"""

import random

import pytest

from fota_agent.boards.linux.storage import FileSlot
from fota_agent.engine.clock import Clock
from fota_agent.transport import patience
from fota_agent.transport.download import UNIT
from fota_agent.transport.patience import IDLE_MS, Patience
from fota_wire.errors import TransportError

RECORD, HEAD = 16_384, 300
RATE, KIB = 256, 1024
GATEWAY_PAGE = 65_536


class Line:
    """The network of the conftest behind a line of ``rate`` bytes per second. Each connection carries
    ``breaks`` bytes of payload, heads and records and then is no more; None = it holds.
    """

    def __init__(self, device, rate=None, breaks=None) -> None:
        self._device, self._server = device, device.network
        self._rate, self._breaks = rate, breaks
        self._left = breaks
        self.carried = self.connections = 0

    def request(self, method, path, headers, body=b""):
        if "payload" not in path:
            return self._server.request(method, path, headers, body)
        if self._left is None or self._left <= 0:
            self._left = self._breaks
        self.carry(HEAD)
        status, answer, reader = self._server.request(method, path, headers)
        return status, answer, Records(self, reader)

    def carry(self, count):
        """Let bytes pass."""
        if self._left is not None:
            count, whole = min(count, self._left), count
            self._left -= count
        self.carried += count
        if self._rate:
            self._device.now += count * 1000 // self._rate
        if self._left is not None and count < whole:
            raise TransportError("broke off")

    def close(self):
        self._left = self._breaks


class Records:
    """A body that can be read by whole records."""

    def __init__(self, line, reader) -> None:
        self.length = self._missing = reader.length
        self._line, self._reader = line, reader
        self._ready = 0

    def readinto(self, buf):
        if not self._ready and self._missing:
            record = min(RECORD, self._missing)
            self._line.carry(record + 22)
            self._missing -= record
            self._ready = record
        count = self._reader.readinto(buf[: self._ready])
        self._ready -= count
        return count

    def close(self):
        self._line.close()
        self._reader.close()


@pytest.fixture(params=["chip", "gateway"])
def target(request, device, world, tmp_path):
    """The device, offered an image of 120,000 bytes, with the slots of a chip or of a gateway."""
    device.release = world.release_of((1, 3, 0), 4, 4, size=120_000)
    device.network.releases.append(device.release)
    device.network.wanted = device.release
    device.network.order["valid_for"] = 10_000_000
    make = device.board
    if request.param == "gateway":

        def board():
            made = make()
            made.inactive = FileSlot(tmp_path / "slot-b", made.slot_size, GATEWAY_PAGE)
            return made

        device.board = board
    device.written = lambda: device.board().inactive.read(0, len(device.release.image))
    return device


def arrives(device, seconds=10_000_000):
    agent = device.run(seconds=seconds)
    assert agent.rebooting, device.hooks.lines[-5:]
    assert device.written() == device.release.image
    return agent


def test_image_arrives_at_the_promised_rate_without_a_break(target):
    target.network = line = Line(target, RATE)
    arrives(target)
    assert not any("slow" in text for text in target.hooks.lines)
    assert line.carried < len(target.release.image) * 1.01


def test_image_arrives_over_a_line_that_breaks_after_every_kib(target):
    target.network = line = Line(target, RATE, KIB)
    arrives(target)
    assert line.carried < 4 * len(target.release.image)


@pytest.mark.parametrize("breaks", [700, 3_000, 17_000, 61_000])
def test_image_arrives_however_often_the_line_breaks(target, breaks):
    target.network = Line(target, RATE, breaks)
    arrives(target)


def test_line_that_is_good_again_is_asked_for_all_at_once(target):
    target.network = line = Line(target, None, KIB)
    agent = target.agent()
    while not any("broke off" in text for text in target.hooks.lines):
        target.now += agent.step()
    line._breaks = line._left = None
    before = len(line._server.requests)
    target.run(agent)
    assert agent.rebooting
    assert target.written() == target.release.image
    assert len(line._server.requests) - before < 10


def test_reset_in_the_middle_of_a_page_costs_little(target):
    """A chip fetches that page again, since a word of it may be torn; a file its last block."""
    generator = random.Random(2)
    for _ in range(8):
        target.network.cuts = [generator.randrange(5_000, 14_000)]
        agent = target.agent()
        while not any("broke off" in text for text in target.hooks.lines):
            target.now += agent.step()
        target.hooks.lines.clear()
        agent.close()
    target.network.cuts = []
    arrives(target)
    assert target.network.payload_bytes < len(target.release.image) + 8 * (4096 + UNIT) + 20_000


# What every wait is bounded by


def waiting(total_ms, pieces):
    """Wait for a peer that says something every ``pieces`` ms; return how long that was borne."""
    now = [0]

    def wait(ms):
        now[0] += min(ms, pieces)

    held = Patience(lambda: now[0], total_ms)
    for _ in range(10_000):
        try:
            held.wait(wait)
        except OSError:
            return now[0]
    raise AssertionError("it waits for ever")


def test_wait_for_a_silent_peer_ends_soon_and_for_a_slow_one_late_but_it_ends():
    assert waiting(patience.READ_MS, IDLE_MS + 1) == IDLE_MS
    assert waiting(patience.READ_MS, 40) == patience.READ_MS  # a byte now and then, by somebody on the path
    assert waiting(patience.READ_MS, IDLE_MS - 1) == patience.READ_MS


def test_time_that_passed_is_the_one_that_the_server_told_within_its_certificates_life(device):
    clock = Clock(device.agent().engine.state)
    assert clock.passed(0) == 0
    clock.learn(1000, 1_800_000_000, 1_900_000_000)
    assert clock.passed(61_000) == 1_800_000_060
    clock.learn(2000, 1_900_000_001, 1_900_000_000)  # beyond its own certificate: a lie, perhaps
    assert clock.passed(2000) == 1_800_000_001
    assert clock.time(2000) == 1_900_000_001
