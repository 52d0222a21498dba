"""Tiny RISC-V programs for the virtual ESP32-C3: assembled, packed as a second stage, run from its entry."""

import hashlib
import struct
import subprocess
from functools import reduce
from operator import xor
from pathlib import Path

from fota_vdev.atecc608 import Atecc608
from fota_vdev.chips.esp32c3 import Chip
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS

ENTRY = 0x403D_8000
# the watchdogs stand still: what most programs here begin with
QUIET = """
  li t0, 0x60008000
  li t1, 0x50d83aa1
  sw t1, 0xa8(t0)
  sw zero, 0x90(t0)
  li t1, 0x8f1d312a
  sw t1, 0xb0(t0)
  li t1, 0x80000000
  sw t1, 0xac(t0)
  li t0, 0x6001f000
  li t1, 0x00400000
  sw t1, 0x48(t0)
"""


def call(address: int, *arguments: int) -> str:
    """Call a ROM function."""
    loads = "".join(f"  li a{n}, {value}\n" for n, value in enumerate(arguments))
    return f"{loads}  li t0, 0x{address:08x}\n  jalr t0\n"


def assemble(text: str, folder: Path, entry: int = ENTRY) -> bytes:
    source, elf, raw = folder / "p.s", folder / "p.elf", folder / "p.bin"
    source.write_text(f".option arch, +zicsr\n.globl _start\n_start:\n{text}\n")
    tool = "riscv64-unknown-elf-"
    flags = ("-march=rv32imc", "-mabi=ilp32", "-nostdlib", "-Wl,--build-id=none", f"-Wl,-Ttext=0x{entry:x}")
    subprocess.run([f"{tool}gcc", *flags, "-o", elf, source], check=True, capture_output=True)
    subprocess.run([f"{tool}objcopy", "-O", "binary", elf, raw], check=True, capture_output=True)
    code = raw.read_bytes()
    return code + bytes(-len(code) % 4)


def stage(*segments: tuple[int, bytes], entry: int = ENTRY, chip_id: int = 5) -> bytes:
    """An image in Espressif's form."""
    head = struct.pack("<4BIB3sHBHH4sB", 0xE9, len(segments), 2, 0x2F, entry, 0xEE, bytes(3), chip_id, 0, 0,
                       0xFFFF, bytes(4), 1)  # fmt: skip
    body = head + b"".join(struct.pack("<2I", address, len(data)) + data for address, data in segments)
    body += bytes(-(len(body) + 1) % 16)
    body += bytes([reduce(xor, b"".join(data for _, data in segments), 0xEF)])
    return body + hashlib.sha256(body).digest()


def machine(boot: bytes, chip: Chip | None = None, element: Atecc608 | None = None) -> Machine:
    made = Machine(element=element or Atecc608(seed=1), seed=1, chip=chip or MODELS["esp32c3"])
    made.flash.write_phys(1, 0, boot)
    return made
