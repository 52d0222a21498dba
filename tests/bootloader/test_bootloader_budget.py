"""Budgets of the bootloader, measured: instructions, flash, RAM, stack, flash operations."""

import hashlib
import json
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bootloader_make import make
from unicorn import UC_ARCH_ARM, UC_HOOK_CODE, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn.arm_const import (
    UC_ARM_REG_LR,
    UC_ARM_REG_PC,
    UC_ARM_REG_R0,
    UC_ARM_REG_R1,
    UC_ARM_REG_R2,
    UC_ARM_REG_SP,
    UC_CPU_ARM_CORTEX_M4,
)

ROOT = Path(__file__).resolve().parents[2]
RAM, STACK_SIZE = 0x20000000, 1024


@pytest.fixture(scope="session")
def sha256_blocks(bootloader_elf: Path) -> Callable[[bytes, int], tuple[bytes, int]]:
    """The linked compression function on a bare core: (data, offset in RAM) -> (digest, instructions)."""
    from fota_vdev.machine import Machine
    from fota_vdev.parts.elf import segments

    symbols = Machine.symbols(bootloader_elf)
    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M4)
    uc.mem_map(0x08000000, 0x10000)
    uc.mem_map(RAM, 0x80000)
    for address, data in segments(bootloader_elf):
        uc.mem_write(address, data)
    counter = [0]
    uc.hook_add(UC_HOOK_CODE, lambda *_: counter.__setitem__(0, counter[0] + 1))
    initial = struct.pack("<8I", 0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                          0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)  # fmt: skip

    def run(data: bytes, offset: int = 0) -> tuple[bytes, int]:
        padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + struct.pack(">Q", 8 * len(data))
        state, at = RAM + 0x8000, RAM + 0x10000 + offset
        uc.mem_write(state, initial)
        uc.mem_write(at, padded)
        counter[0] = 0
        for register, value in (
            (UC_ARM_REG_R0, state),
            (UC_ARM_REG_R1, at),
            (UC_ARM_REG_R2, len(padded) // 64),
            (UC_ARM_REG_SP, RAM + 0x4000),
            (UC_ARM_REG_LR, 0x08008001),
        ):
            uc.reg_write(register, value)
        uc.emu_start(symbols["fota_sha256_blocks"] | 1, 0x08008000)
        assert uc.reg_read(UC_ARM_REG_PC) & ~1 == 0x08008000
        words = struct.unpack("<8I", uc.mem_read(state, 32))
        return struct.pack(">8I", *words), counter[0]

    return run


def test_sha256_in_assembly_equals_hashlib_at_any_length_and_alignment(sha256_blocks: Any) -> None:
    data = random.Random(5).randbytes(300)
    for n in range(301):
        assert sha256_blocks(data[:n], n % 5)[0] == hashlib.sha256(data[:n]).digest(), n


def test_sha256_instructions_per_byte_within_budget(sha256_blocks: Any) -> None:
    one, two = (sha256_blocks(bytes(64 * n - 9))[1] for n in (1, 101))
    per_byte = (two - one) / 6400
    print(f"SHA-256: {per_byte:.2f} instructions per byte")
    assert per_byte <= 36


def test_boot_of_256_kib_stays_within_instruction_budget(
    device: Any, signed: Callable[..., bytes], sample: Callable[..., bytes]
) -> None:
    device.boot()
    image = signed("1.1.0", sec_cnt=2, pad=262144 - len(sample("1.1.0")))
    assert int.from_bytes(image[12:16], "little") == 262144
    device.install("B", image)
    device.request("B")
    device.restart(until="self-test passed", time_ms=60_000)
    device.confirm("B")
    device.restart()
    device.machine.reset("pin")
    start, said = device.machine.instructions, len(device.machine.uart)
    result = device.machine.run(until=lambda m: b" confirmed" in bytes(m.uart[said:]), time_ms=9000)
    used = device.machine.instructions - start
    print(f"boot of {len(image)} bytes: {used} instructions, {result.time_us} us")
    assert 5_000_000 < used <= 10_000_000


def test_whole_update_erases_at_most_twice_and_writes_little(
    device: Any, signed: Callable[..., bytes]
) -> None:
    """From request to confirmed, application's records included."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    device.flash.log.clear()
    device.request("B")
    device.restart(until="self-test passed")
    device.confirm("B")
    device.restart()
    kinds = [op.kind for op in device.flash.log]
    assert kinds.count("erase") <= 2
    assert kinds.count("program") <= 16


def size_report(bootloader_elf: Path, path: Path) -> dict[str, int]:
    make("recovery")
    command = [sys.executable, str(ROOT / "bootloader/size.py"), str(bootloader_elf.parent), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads(path.read_text())["stm32l4"]


def test_flash_ram_and_stack_within_budget(bootloader_elf: Path, tmp_path: Path) -> None:
    sizes = size_report(bootloader_elf, tmp_path / "size.json")
    assert sizes["flash_bytes"] <= 8192
    assert sizes["ram_bytes"] <= 400
    assert sizes["stack_bytes"] <= STACK_SIZE
    assert sizes["recovery_stack_bytes"] <= STACK_SIZE


def test_stack_high_water_mark_is_below_the_static_bound(
    device: Any, signed: Callable[..., bytes], bootloader_elf: Path, tmp_path: Path
) -> None:
    """Paint the stack, boot an update and raise the floor, look how far down the paint is gone."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    device.request("B")
    deepest = 0
    for until in (" trial", " confirmed"):
        device.machine.reset("pin")
        for at in range(0, STACK_SIZE, 4):
            device.machine.mem32[RAM + at] = 0xA5A5A5A5
        device.boot(until=f"fota-boot: slot B 1.1.0{until}")
        left = device.machine.read(RAM, STACK_SIZE)
        untouched = len(left) - len(left.lstrip(b"\xa5"))
        deepest = max(deepest, STACK_SIZE - untouched)
        device.boot(until="journal: record")
        device.confirm("B")
    bound = size_report(bootloader_elf, tmp_path / "size.json")["stack_bytes"]
    print(f"stack: {deepest} bytes used, {bound} at most")
    assert 500 < deepest <= bound


def test_core_has_no_conditionals_and_includes_no_port() -> None:
    files = sorted((ROOT / "bootloader/core").glob("*.[ch]"))
    assert files
    for path in files:
        text = path.read_text()
        directives = re.findall(r"^\s*#\s*(\w+)\s*(.*)$", text, re.MULTILINE)
        conditionals = [d for d in directives if d[0] in ("if", "ifdef", "elif", "else") or d[0] == "ifndef"]
        guard = [d for d in conditionals if d[0] == "ifndef" and d[1] == f"FOTA_{path.stem.upper()}_H"]
        assert conditionals == guard, path
        assert not [d for d in directives if d[0] == "include" and "port/" in d[1]], path


def test_policy_includes_only_status_journal_and_itself() -> None:
    includes = set()
    for name in ("policy.c", "policy.h"):
        text = (ROOT / "bootloader/core" / name).read_text()
        includes |= set(re.findall(r'#include "(.*)"', text))
    assert includes <= {"policy.h", "status.h", "journal.h"}


def test_same_sources_give_the_same_bytes(bootloader_elf: Path, tmp_path: Path) -> None:
    build = tmp_path / "again"
    command = ["make", "-C", str(ROOT / "bootloader"), f"BUILD={build}", "bootloader"]
    subprocess.run(command, check=True, capture_output=True)
    assert (build / "bootloader/stm32l4/bootloader.elf").read_bytes() == bootloader_elf.read_bytes()
