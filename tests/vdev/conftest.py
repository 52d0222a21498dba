"""Fixtures: bare machines, and tiny Thumb programs that run on them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_vdev.parts.elf import segments

HEAD = """
.syntax unified
.cpu cortex-m4
.thumb
.section .text
.word 0x20010000, reset+1, nmi+1, hardfault+1
.word 0, 0, 0, 0, 0, 0, 0, svcall+1, 0, 0, 0, systick+1
.weak nmi, hardfault, svcall, systick
.thumb_func
nmi:
.thumb_func
hardfault:
.thumb_func
svcall:
.thumb_func
systick:
  b .
.thumb_func
reset:
"""


@pytest.fixture(scope="session")
def assemble_elf(tmp_path_factory):
    """assemble_elf(text) -> ELF of a program for 0x08000000 whose code starts at the label ``reset``."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc: install gcc-arm-none-eabi")
    folder = tmp_path_factory.mktemp("thumb")

    def build(text: str) -> Path:
        for name in ("nmi", "hardfault", "svcall", "systick"):
            if f"\n{name}:" in text:
                text = text.replace(f"\n{name}:", f"\n.thumb_func\n{name}_:")
        head = HEAD
        for name in ("nmi", "hardfault", "svcall", "systick"):
            if f"{name}_:" in text:
                head = head.replace(f"{name}+1", f"{name}_+1")
        source, elf = folder / "p.s", folder / "p.elf"
        source.write_text(head + text + "\n.pool\n")
        subprocess.run(
            [
                *("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-nostdlib", "-Wl,-Ttext=0x08000000"),
                *("-Wl,--build-id=none", "-Wl,-e,0x08000041", "-o", elf, source),
            ],
            check=True,
            capture_output=True,
        )
        return elf

    return build


@pytest.fixture(scope="session")
def assemble(assemble_elf):
    """assemble(text) -> the program's bytes."""

    def build(text: str) -> bytes:
        ((address, data),) = segments(assemble_elf(text))
        return data[0x0800_0000 - address :]

    return build


@pytest.fixture
def boot(assemble):
    """boot(text) -> powered machine with the program in bank 1."""

    def start(text: str, **how) -> Machine:
        machine = Machine(**how)
        machine.flash.write_phys(1, 0, assemble(text))
        machine.power_on()
        return machine

    return start


@pytest.fixture
def machine() -> Machine:
    """A powered machine with a blank element; nothing runs on it, tests drive its buses."""
    made = Machine(element=Atecc608(seed=1), seed=1)
    made.power_on()
    return made


@pytest.fixture
def registers():
    """Read a register of the emulated core by its number in Unicorn's list."""
    from unicorn.arm_const import UC_ARM_REG_R0

    return lambda machine, number: machine.cpu.uc.reg_read(UC_ARM_REG_R0 + number)


@pytest.fixture
def oracle_script() -> Path:
    return Path(__file__).with_name("vdev_oracle.py")
