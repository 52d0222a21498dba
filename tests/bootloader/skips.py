"""A seeded sample of skipped instructions on the path of one boot, on any chip of the virtual device."""

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from unicorn import UC_HOOK_CODE
from unicorn.arm_const import UC_ARM_REG_CPSR, UC_ARM_REG_PC

from fota_vdev.machine import Machine

RAM = 0x2000_0000
Steps = list[tuple[int, int]]
# loops whose every round is alike: one place in them is enough
DULL = (
    "fota_sha256_blocks",
    "fota_port_wait_us",
    "atecc_crc",
    "fota_crc32",
    "fota_port_put",
    "memcpy",
    "memset",
)


def trace(machine: Any, until: Callable[[Any], bool]) -> Steps:
    """(address, size) of every instruction up to the end of a boot; the machine is put back."""
    start, out = machine.snapshot(), []
    uc = machine.cpu.uc
    hook = uc.hook_add(UC_HOOK_CODE, lambda _u, address, size, _d: out.append((address, size)))
    uc.ctl_flush_tb()
    machine.run(time_ms=5000, until=until)
    uc.hook_del(hook)
    uc.ctl_flush_tb()
    machine.restore(start)
    return out


def places(steps: Steps, elf: Path, sample: int, seed: int) -> Iterator[int]:
    """Positions to skip: each address once, at a random one of its executions, dull loops left out."""
    symbols = sorted((address & ~1, name) for name, address in Machine.symbols(elf).items())
    ends = {name: following for (_, name), (following, _) in pairwise(symbols)}
    ranges = [(address, ends[name]) for address, name in symbols if name in DULL]
    executions: dict[int, list[int]] = {}
    for position, (address, _) in enumerate(steps):
        executions.setdefault(address, []).append(position)
    dice = random.Random(seed)
    keep = [e for a, e in executions.items() if not any(low <= a < high for low, high in ranges)]
    return iter(sorted(dice.choice(e) for e in dice.sample(keep, sample)))


def skip_each(
    machine: Any, steps: Steps, positions: Iterator[int], over: Callable[[Any], bool]
) -> Iterator[int]:
    """Skip one instruction after the other, each in a boot of its own; yield its address once that boot is
    over. Places inside IT blocks are passed over. Between, the machine and its adversary go back."""
    first, tamper = machine.instructions, machine.i2c_tamper
    for position in positions:
        machine.run(max_instructions=first + position - machine.instructions)
        address, size = steps[position]
        flags = machine.cpu.uc.reg_read(UC_ARM_REG_CPSR)
        in_it_block = flags >> 25 & 3 or flags >> 8 & 0xFC
        if machine.instructions != first + position or machine.cpu.pc != address or in_it_block:
            continue
        before, memory = machine.snapshot(), dict(vars(tamper)) if tamper else {}
        machine.cpu.uc.reg_write(UC_ARM_REG_PC, (address + size) | 1)
        machine.run(time_ms=4000, max_instructions=2_000_000, until=over)
        yield address
        machine.restore(before)
        if tamper:
            vars(tamper).update(memory)


def stray_jump(machine: Any, address: int) -> tuple[list[str], str]:
    """Send a machine that has just been switched on to ``address``, in the middle of its first session with
    the element. Return the causes of the resets that follow, and the last fault."""
    machine.run(time_ms=100)
    if address >= RAM:
        machine.mem32[address] = 0xE7FEE7FE  # b . ; b .
    resets = len(machine.resets)
    machine.cpu.uc.reg_write(UC_ARM_REG_PC, address | 1)
    machine.run(time_ms=50, until=lambda m: len(m.resets) > resets)
    return [cause for _, cause in machine.resets[resets:]], machine.faults[-1][1]
