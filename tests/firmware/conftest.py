"""The reference firmware on the virtual device: real bootloader, real server, real TLS. Skipped, with the
reason, where MicroPython's sources cannot be had."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
sys.path.insert(0, str(REPO / "tests/demo"))

from world import World  # noqa: E402

from fota_vdev import modem  # noqa: E402
from fota_vdev.machine import Machine, StopReason  # noqa: E402
from fota_vdev.network import HostNetwork  # noqa: E402
from fota_wire import layout  # noqa: E402
from fota_wire.bootreport import unpack  # noqa: E402

BUILD = REPO / "build"
RELEASES = ("release-1", "release-2")
WALL_S = 120


def firmware(version):
    """Return the ELF of one version of the firmware, built."""
    why = BUILD / "micropython/unavailable"
    if why.exists():
        pytest.skip(why.read_text().strip())
    elf = BUILD / f"agent-firmware/firmware-{version}.elf"
    if not elf.exists():
        pytest.fail(f"{elf.name} is missing: make agent-firmware")
    return elf


class Net(HostNetwork):
    """Real sockets, with the chip's count of instructions at each of their events."""

    def __init__(self, machine, **how):
        super().__init__(**how)
        self.machine = machine
        self.events = []

    def note(self, what, size=0):
        self.events.append((what, self.machine.instructions, size))

    def connect(self, host, port):
        self.note("connect")
        link = super().connect(host, port)
        send, receive = link.send, link.receive

        def noted_send(data):
            self.note("send", len(data))
            send(data)

        def noted_receive(limit, wait_ms):
            data = receive(limit, wait_ms)
            if data is not None:
                self.note("receive", len(data))
            return data

        link.send, link.receive = noted_send, noted_receive
        return link


class ChipWorld(World):
    """One server, and one chip whose firmware is the agent."""

    machine = None

    def release(self, version, sequence, app=""):
        image = self.sign(version, 2, elf=firmware(app or version))
        envelope = self.manifest(image, sequence, RELEASES)
        self.fota("release", "publish", image, envelope)
        return image

    def switch_on(self, **how):
        self.machine = Machine.load(self.device)
        self.net = Net(self.machine, **how)
        self.modem = modem.attach(self.machine, self.net)
        self.machine.power_on()

    def run(self, text):
        """Run the chip until its UART says ``text`` anew; return what it said since."""
        said = len(self.machine.uart)
        deadline = time.monotonic() + WALL_S
        wanted = text.encode()
        result = self.machine.run(
            until=lambda m: m.uart.find(wanted, said) >= 0 or time.monotonic() > deadline
        )
        new = bytes(self.machine.uart[said:]).decode()
        assert result.reason is StopReason.UNTIL, (result, new)
        assert text in new, new
        return new

    def report(self):
        return unpack(self.machine.read(layout.BOOT_REPORT_ADDRESS, layout.BOOT_REPORT_SIZE))

    def row(self):
        return self.json("device", "show", self.device_id)

    def close(self):
        if self.machine is not None:
            self.machine.power_off()
            self.machine.close()
        self.stop()
        self._lock.close()


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    """A provisioned chip that runs 1.0.0 of the firmware, which the server knows; switched on."""
    firmware("1.0.0")
    world = ChipWorld(tmp_path_factory.mktemp("chip"))
    try:
        world.make_keys()
        world.start_server()
        world.provision(world.sign("1.0.0", 2, elf=firmware("1.0.0")))
        world.release("1.0.0", 1)
        world.switch_on()
        yield world
    finally:
        world.close()


@pytest.fixture(scope="session")
def elf():
    """The firmware, 1.0.0."""
    return firmware("1.0.0")


@pytest.fixture(scope="session")
def symbols(elf):
    out = subprocess.run(["arm-none-eabi-nm", elf], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in out.splitlines()}
