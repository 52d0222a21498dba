"""A seeded sample of single-instruction skips: no skip may start an image that must not run."""

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from unicorn import UC_HOOK_CODE
from unicorn.arm_const import UC_ARM_REG_CPSR, UC_ARM_REG_PC

SAMPLE = 40  # skips in each case
VTOR, APPLICATION = 0xE000ED08, 0x08004200
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


class ForgedMac:
    """Answers Verify with a MAC of the adversary's choice."""

    last = b""

    def on_write(self, _address: int, data: bytes) -> bytes:
        self.last = data[1:] if data[:1] == b"\x03" else b""
        return data

    def on_read(self, _address: int, data: bytes) -> bytes:
        from fota_vdev.atecc608.crc import crc16

        if len(data) < 35 or self.last[1:2] != b"\x45":
            return data
        body = b"\x23" + bytes(32)
        return body + crc16(body)


@pytest.fixture
def lonely(device: Any) -> Callable[..., Any]:
    """lonely(image) -> a device on which that image, in slot B and requested, is all there is."""

    def prepare(image: bytes) -> Any:
        device.boot()
        device.install("B", image)
        device.request("B")
        device.flash.write_phys(1, 0x4000, bytes(2048))
        device.machine.power_off()
        device.machine.power_on()
        return device

    return prepare


def trace(machine: Any, until: Callable[[Any], bool]) -> list[tuple[int, int]]:
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


def places(steps: list[tuple[int, int]], elf: Any, seed: int) -> Iterator[int]:
    """Positions to skip: each address once, at a random one of its executions, dull loops left out."""
    from fota_vdev.machine import Machine

    symbols = sorted((address & ~1, name) for name, address in Machine.symbols(elf).items())
    ends = {name: following for (_, name), (following, _) in pairwise(symbols)}
    ranges = [(address, ends[name]) for address, name in symbols if name in DULL]
    executions: dict[int, list[int]] = {}
    for position, (address, _) in enumerate(steps):
        executions.setdefault(address, []).append(position)
    dice = random.Random(seed)
    keep = [e for a, e in executions.items() if not any(low <= a < high for low, high in ranges)]
    return iter(sorted(dice.choice(e) for e in dice.sample(keep, SAMPLE)))


@pytest.mark.parametrize("case", ["signature", "key", "counter", "forged"])
def test_skipped_instruction_never_boots_a_bad_image(
    lonely: Any, signed: Callable[..., bytes], keys: Any, bootloader_elf: Any, case: str
) -> None:
    from fota_wire.cose import key_hash
    from fota_wire.host_crypto import public_xy

    stolen = signed("1.1.0", sec_cnt=2, key=keys.thief)
    dressed_up = stolen.replace(key_hash(public_xy(keys.thief)), key_hash(public_xy(keys.root_a)))
    images = {
        "signature": dressed_up,
        "key": stolen,
        "counter": signed("1.1.0", sec_cnt=1),
        "forged": dressed_up,
    }
    device = lonely(images[case])
    machine = device.machine
    if case == "counter":
        machine.element.nvm.counters[0] = 16
    adversary = ForgedMac()
    machine.i2c_tamper = adversary if case == "forged" else None
    said, resets = len(machine.uart), len(machine.resets)

    def over(m: Any) -> bool:
        text = bytes(m.uart[said:])
        return b"halt: " in text or b"app " in text or len(m.resets) > resets

    steps = trace(machine, over)
    adversary.last = b""
    first, skipped = machine.instructions, 0
    for position in places(steps, bootloader_elf, seed=len(case)):
        machine.run(max_instructions=first + position - machine.instructions)
        address, size = steps[position]
        flags = machine.cpu.uc.reg_read(UC_ARM_REG_CPSR)
        in_it_block = flags >> 25 & 3 or flags >> 8 & 0xFC
        if machine.instructions != first + position or machine.cpu.pc != address or in_it_block:
            continue
        before, heard = machine.snapshot(), adversary.last
        machine.cpu.uc.reg_write(UC_ARM_REG_PC, (address + size) | 1)
        machine.run(time_ms=4000, max_instructions=2_000_000, until=over)
        text = bytes(machine.uart[said:])
        assert b"app " not in text, hex(address)
        assert machine.mem32[VTOR] != APPLICATION or machine.cpu.pc < APPLICATION, hex(address)
        machine.restore(before)
        adversary.last = heard
        skipped += 1
    assert skipped > SAMPLE * 3 // 4  # the rest lies in IT blocks


# --- nothing but the bootloader executes before the jump ---


@pytest.mark.parametrize(
    "address", [0x08004240, 0x08084240, 0x00004240, 0x20002000], ids=["slot-A", "slot-B", "alias", "ram"]
)
def test_stray_jump_before_the_decision_restarts_the_chip(
    device: Any, signed: Callable[..., bytes], address: int
) -> None:
    """A skipped prologue returns to a stale address: wherever that is, it is no way into a slot."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    machine = device.machine
    machine.power_off()
    machine.power_on()
    machine.run(time_ms=100)  # in the middle of the first session with the element
    if address >= 0x20000000:
        machine.mem32[address] = 0xE7FEE7FE  # b . ; b .
    resets = len(machine.resets)
    machine.cpu.uc.reg_write(UC_ARM_REG_PC, address | 1)
    machine.run(time_ms=50, until=lambda m: len(m.resets) > resets)
    assert [cause for _, cause in machine.resets[resets:]] == ["software"]
    assert f"MPU forbids to execute 0x{address:08x}" in machine.faults[-1][1]


def test_application_finds_the_memory_protection_off(device: Any) -> None:
    device.boot()
    assert device.machine.mem32[0xE000ED94] == 0
    device.machine.mem32[0xE000ED98] = 5
    assert device.machine.mem32[0xE000EDA0] == 0  # the region that forbids everything


def test_bootloader_executes_in_its_flash_and_its_function_in_ram_and_nowhere_else(device: Any) -> None:
    """To the byte, which the emulated core is not held to; and whatever an application's regions permit."""
    machine = device.machine
    machine.power_on()
    for region in range(8):
        machine.mem32[0xE000ED9C] = 0x10 | region
        machine.mem32[0xE000EDA0] = 0x0302_003F  # 4 GiB, executable
    machine.run(time_ms=100)
    assert machine.mem32[0xE000ED94] == 7
    edges = {0: False, 0x07FF_FFFE: False, 0x0800_0000: True, 0x0800_3FFE: True, 0x0800_4000: False,
             0x0808_4200: False, 0x2000_03FE: False, 0x2000_0400: True, 0x2000_049E: True,
             0x2000_04A0: False, 0x3FFF_FFFE: False}  # fmt: skip
    assert {address: machine.board.scs.mpu.executes(address) for address in edges} == edges
