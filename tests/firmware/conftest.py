"""The reference firmware on the virtual device: real bootloader, real server, real TLS. Skipped, with the
reason, where MicroPython's sources cannot be had."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

import chip_world


@pytest.fixture(scope="session")
def elf():
    """The firmware, 1.0.0."""
    if chip_world.why_not():
        pytest.skip(chip_world.why_not())
    return chip_world.firmware("1.0.0")


@pytest.fixture(scope="session")
def symbols(elf):
    out = subprocess.run(["arm-none-eabi-nm", elf], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in out.splitlines()}


@pytest.fixture(scope="module")
def chip(elf, tmp_path_factory):
    """A provisioned chip that runs 1.0.0 of the firmware, which the server knows; switched on."""
    world = chip_world.ChipWorld(tmp_path_factory.mktemp("chip"))
    try:
        world.make_keys()
        world.start_server()
        world.provision(world.sign("1.0.0", 2, elf=elf))
        world.release_chip("1.0.0", 1)
        world.switch_on()
        yield world
        world.switch_off()
    finally:
        world.stop()
        world._lock.close()
