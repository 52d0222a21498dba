"""A seeded sample of single-instruction skips: no skip may start an image that must not run."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from skips import places, skip_each, stray_jump, trace

SAMPLE = 40  # skips in each case
VTOR, APPLICATION = 0xE000ED08, 0x08004200


class ForgedMac:
    """Answers Verify with a MAC of the adversary's choice."""

    last = b""

    def on_write(self, _address: int, data: bytes) -> bytes:
        self.last = data[1:] if data[:1] == b"\x03" else b""
        return data

    def on_read(self, _address: int, data: bytes) -> bytes:
        from fota_vdev.atecc608.crc import group

        return group(bytes(32)) if len(data) == 35 and self.last[1:2] == b"\x45" else data


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
    machine.i2c_tamper = ForgedMac() if case == "forged" else None
    said, resets = len(machine.uart), len(machine.resets)

    def over(m: Any) -> bool:
        text = bytes(m.uart[said:])
        return b"halt: " in text or b"app " in text or len(m.resets) > resets

    steps = trace(machine, over)
    skipped = 0
    for address in skip_each(machine, steps, places(steps, bootloader_elf, SAMPLE, len(case)), over):
        assert b"app " not in bytes(machine.uart[said:]), hex(address)
        assert machine.mem32[VTOR] != APPLICATION or machine.cpu.pc < APPLICATION, hex(address)
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
    causes, fault = stray_jump(machine, address)
    assert causes == ["software"]
    assert f"MPU forbids to execute 0x{address:08x}" in fault


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
             0x0808_4200: False, 0x2000_03FE: False, 0x2000_0400: True, 0x2000_047E: True,
             0x2000_0480: False, 0x3FFF_FFFE: False}  # fmt: skip
    assert {address: machine.board.scs.mpu.executes(address) for address in edges} == edges
