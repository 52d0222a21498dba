"""The reference firmware on the virtual device: real bootloader, real server, real TLS. Skipped, with the
reason, where MicroPython's sources cannot be had."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

import chip_world
from crowd import Crowd

from fota_wire.host_chips import DEFAULT

TOOLS = {DEFAULT: "arm-none-eabi-", "stm32u585": "arm-none-eabi-", "esp32c3": "riscv64-unknown-elf-"}


@pytest.fixture(scope="session")
def elf():
    """The firmware, 1.0.0."""
    if chip_world.why_not():
        pytest.skip(chip_world.why_not())
    return chip_world.firmware("1.0.0")


@pytest.fixture(scope="session", params=TOOLS)
def symbols(request, elf):
    """Names in the firmware of each chip."""
    command = [TOOLS[request.param] + "nm", chip_world.firmware("1.0.0", request.param)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in out.splitlines()}


@pytest.fixture(scope="module")
def chip(elf, tmp_path_factory):
    """A provisioned chip that runs 1.0.0 of the firmware, which the server knows; switched on."""
    with switched_on(tmp_path_factory.mktemp("chip"), DEFAULT) as world:
        yield world


@pytest.fixture(scope="module", params=TOOLS)
def each_chip(request, elf, tmp_path_factory):
    """The same of each chip that there is a firmware for."""
    with switched_on(tmp_path_factory.mktemp("chip"), request.param) as world:
        yield world


@contextmanager
def switched_on(folder, name):
    world = chip_world.ChipWorld(folder, name)
    world.make_keys()
    with Crowd(world.keys / "assign.pem") as crowd:
        try:
            world.start_server(0, "--assign-key", crowd.path)
            world.provision(world.sign("1.0.0", 2, elf=chip_world.firmware("1.0.0", name)))
            world.release_chip("1.0.0", 1)
            world.switch_on()
            world.paint_stack()
            yield world
            assert crowd.shared, "every ASSIGNMENT was the longest that there is"
            world.switch_off()
        finally:
            world.stop()
            world._lock.close()
