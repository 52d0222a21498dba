"""Budgets of the bootloader, measured on the virtual device: instructions, flash, RAM, stack."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from fota_vdev.machine import Machine


def test_boot_of_256_kib_stays_within_instruction_budget(device: Any, signed: Callable[..., bytes]) -> None:
    device.boot()
    device.install("B", signed("1.1.0", pad=262144 - 3848))
    device.request("B")
    device.restart(until="self-test passed", time_ms=60_000)
    device.confirm("B")
    device.machine.reset("pin")
    start = device.machine.instructions
    device.machine.run(
        until=lambda m: m.cpu.pc < 0x20000000 and m.mem32[0xE000ED08] == 0x08004200, time_ms=9000
    )
    used = device.machine.instructions - start
    print("boot 256K", used)
    assert used <= 10_000_000
