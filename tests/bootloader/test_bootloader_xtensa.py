"""Classic ESP32, experimental: core and driver as Xtensa code, in QEMU, from a hash to a boot by the element.

No chip is around them: bus, flash and clock are this test's (docs/adr/0049). Held against hashlib, the same
core on the host, and the model of the element; the form of the file against esptool.
"""

import contextlib
import ctypes
import hashlib
import random
import re
import shutil
import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import pytest
from bootloader_make import BUILD, make
from emulated_factory import provision_element

from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_wire import bootreport, journal, status
from fota_wire.cose import key_hash
from fota_wire.host_crypto import public_xy
from fota_wire.settings import Settings, pack

from .conftest import CLASS_ID
from .xtensa import Trap, Xtensa

pytestmark = pytest.mark.skipif(
    not (shutil.which("xtensa-lx106-elf-gcc") and shutil.which("qemu-system-xtensa")),
    reason="no Xtensa compiler and QEMU: install Debian's packages gcc-xtensa-lx106 and qemu-system-misc",
)
IO_KEY, MAC_KEY = bytes(range(32)), bytes(range(64, 96))
PAGE = 2048
SLOTS, SLOT_SIZE = {"A": 0x61000000, "B": 0x61100000}, 496 * 1024
PROOF = 10 * status.OK  # of core/hardened.h, beside the address
# What both have: Xtensa's core instructions, and the options for 16-bit ones, MUL32's low half, NSA.
LX6 = """abs add addi addmi addx2 addx4 addx8 and ball bany bbc bbci bbs bbsi beq beqi beqz bge bgei bgeu
  bgeui bgez blt blti bltu bltui bltz bnall bne bnei bnez bnone break call0 callx0 extui ill j jx l16si l16ui
  l32i l32r l8ui memw mov moveqz movgez movi movltz movnez mull neg nop nsau or ret s16i s32i s8i sll slli sra
  srai src srl srli ssa8l ssai ssl ssr sub subx2 subx4 subx8 xor"""


@pytest.fixture(scope="module")
def elf():
    make("core", port="esp32")
    return BUILD / "bootloader/esp32/core.elf"


@pytest.fixture(scope="module")
def xtensa(elf):
    core = Xtensa(elf)
    yield core
    core.close()


# --- the file ---


def test_code_has_instructions_of_the_lx6_alone(elf):
    used = set()
    for path in elf.parent.rglob("*.o"):  # the linked file mixes code and literals
        command = ["xtensa-lx106-elf-objdump", "-d", str(path)]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        used |= set(re.findall(r"^ *[0-9a-f]+:\t[0-9a-f]+\s+\t([a-z0-9]+)", listing, re.MULTILINE))
    assert len(used) > 40
    assert used - set(LX6.split()) == set()


def test_file_is_esptools_byte_for_byte_and_for_this_chip(elf, tmp_path):
    out = tmp_path / "core.bin"
    options = ["--flash-mode", "dio", "--flash-freq", "80m", "--flash-size", "4MB", "--output", str(out)]
    esptool = [sys.executable, "-m", "esptool", "--chip", "esp32"]
    subprocess.run([*esptool, "elf2image", *options, str(elf)], check=True, capture_output=True)
    assert out.read_bytes() == elf.with_suffix(".bin").read_bytes()
    told = subprocess.run(
        [*esptool, "image-info", str(elf.with_suffix(".bin"))], check=True, capture_output=True, text=True
    ).stdout
    assert "Chip ID: 0 (ESP32)" in told
    assert told.count("(valid)") == 2, "checksum and hash"


# --- functions ---


def sha256(xtensa, *parts):
    context, out = 0x60800000, 0x60800100
    xtensa.call("fota_sha256_init", context)
    for part in parts:
        xtensa.call("fota_sha256_update", context, part, len(part))
    xtensa.call("fota_sha256_final", context, out)
    return xtensa.read(out, 32)


def test_sha256_is_hashlibs(xtensa):
    data = random.Random(1).randbytes(9000)
    for n in (0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 127, 128, 9000):
        assert sha256(xtensa, data[:n]) == hashlib.sha256(data[:n]).digest(), n
    assert sha256(xtensa, data[:70], b"", data[70:75], data[75:300]) == hashlib.sha256(data[:300]).digest()


def test_crc32_is_zlibs_and_compare_tells_any_bit(xtensa):
    data = random.Random(2).randbytes(32)
    for n in range(33):
        assert xtensa.call("fota_crc32", data[:n], n) == zlib.crc32(data[:n])
    assert xtensa.call("fota_compare", data, data, 32) == status.OK
    for bit in range(256):
        other = (int.from_bytes(data, "little") ^ 1 << bit).to_bytes(32, "little")
        assert xtensa.call("fota_compare", data, other, 32) != status.OK


def test_division_is_pythons(xtensa):
    dice = random.Random(3)
    pairs = [(dice.getrandbits(32), dice.getrandbits(dice.randrange(1, 33)) | 1) for _ in range(40)]
    for n, d in [
        *pairs,
        (0, 1),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFE, 0xFFFFFFFF),
        (0xFFFFFFFF, 1),
        (9, 10),
    ]:
        assert (xtensa.call("__udivsi3", n, d), xtensa.call("__umodsi3", n, d)) == (n // d, n % d)


def test_signatures_are_parsed_as_on_the_host(xtensa, core):
    core.fota_der_signature.restype = ctypes.c_uint32
    dice = random.Random(4)
    good = b"\x30\x44\x02\x20" + bytes(range(1, 33)) + b"\x02\x20" + bytes(range(64, 96))
    verdicts = set()
    for at in range(len(good)):
        mutant = bytearray(good)
        mutant[at] ^= 1 << dice.randrange(8)
        data = bytes(mutant[: dice.choice((len(good), len(good), at))])
        out, there = ctypes.create_string_buffer(64), 0x60800000
        verdict = core.fota_der_signature(data, len(data), out)
        assert xtensa.call("fota_der_signature", data or b"\0", len(data), there) == verdict
        assert verdict != status.OK or xtensa.read(there, 64) == out.raw
        verdicts.add(verdict)
    assert len(verdicts) == 2, "some are good"


def test_trap_is_told(xtensa, monkeypatch):
    monkeypatch.setattr(xtensa, "serve", {})
    with pytest.raises(Trap, match="exception"):
        xtensa.call("fota_crc32", 0x10000000, 4)  # no memory there
    with pytest.raises(Trap, match="outside_read"):
        xtensa.call("fota_boot", 0)  # nobody serves the journal


# --- a whole boot, through the element ---


class World:
    """What a chip would be: a bus to the model of the element, the journal's flash, slots, clock, console."""

    def __init__(self, xtensa, machine, page):
        self.xtensa, self.machine = xtensa, machine
        self.journal = bytearray(b"\xff" * 2 * PAGE)
        self.said, self.ended, self.fed = "", "", 0
        self.dice = random.Random(5)
        xtensa.write("fota_port_settings", page)
        layout = struct.pack("<6I", *SLOTS.values(), SLOT_SIZE, 0x08004000, 0x20000000, 0x20017F00)
        xtensa.write("fota_layout", layout)
        xtensa.serve = {
            "fota_port_ecc_fault": lambda *_: 0,
            "fota_port_time_us": lambda *_: machine.time_us,
            "fota_port_wait_us": lambda us, *_: machine.sleep_us(us),
            "fota_port_random": lambda at, *_: self.put(at, self.dice.randbytes(32)),
            "fota_port_bus_write": self.bus_write,
            "fota_port_bus_read": self.bus_read,
            "fota_port_bus_wake": self.wake,
            "fota_port_put": self.say,
            "fota_port_watchdog": lambda *_: None,
            "fota_port_feed": lambda *_: None,
            "outside_read": lambda _c, at, to, n, *_: self.put(to, bytes(self.journal[at : at + n])),
            "outside_program": self.program,
            "outside_erase": self.erase,
        }

    def put(self, address, data):
        self.xtensa.write(address, data)
        return status.OK

    def bus_write(self, address, data, length, *_):
        with contextlib.suppress(OSError):
            self.machine.i2c.writeto(address, self.xtensa.read(data, length))
            return status.OK
        return status.CE1

    def bus_read(self, address, data, length, *_):
        with contextlib.suppress(OSError):
            return self.put(data, self.machine.i2c.readfrom(address, length)[:length].ljust(length, b"\xff"))
        return status.CE1

    def wake(self, *_):
        with contextlib.suppress(OSError):
            self.machine.i2c.writeto(0, b"")

    def say(self, text, *_):
        self.said += self.xtensa.read(text, 200).split(b"\0")[0].decode()

    def program(self, _context, at, data, length, *_):
        assert self.journal[at : at + length] == b"\xff" * length
        self.journal[at : at + length] = self.xtensa.read(data, length)
        return status.OK

    def erase(self, _context, at, *_):
        self.journal[at : at + PAGE] = b"\xff" * PAGE
        return status.OK

    def install(self, slot, image):
        self.xtensa.write(SLOTS[slot], image.ljust(len(image) + 64, b"\xff"))

    def append(self, record):
        _, page, cell = journal.scan(bytes(self.journal[:PAGE]), bytes(self.journal[PAGE:]))
        at = page * PAGE + 16 * cell
        self.journal[at : at + 16] = journal.pack(record)

    @property
    def state(self):
        return journal.scan(bytes(self.journal[:PAGE]), bytes(self.journal[PAGE:]))[0]

    def boot(self):
        """From reset to the jump, or the halt: returns the slot that runs, or nothing, and the report."""
        self.said = ""
        self.xtensa.write("fota_port_report", bytes(128))
        with pytest.raises(Trap, match=r"fota_port_(boot|halt)") as ended:
            self.xtensa.call("fota_boot", 4)
        report = bootreport.unpack(self.xtensa.read(self.xtensa.symbols["fota_port_report"], 128))
        if "fota_port_halt" in str(ended.value):
            return "", report
        base, proof = self.xtensa.registers[2:4]
        assert proof == (base + PROOF) & 0xFFFFFFFF, "what the port compares before it jumps"
        return {at: slot for slot, at in SLOTS.items()}[base], report


@pytest.fixture(scope="module")
def paired(keys):
    machine = Machine(element=Atecc608(seed=6), seed=6)
    machine.power_on()
    roots = {"root_a_xy": public_xy(keys.root_a), "root_b_xy": public_xy(keys.root_b)}
    provision_element(machine, io_key=IO_KEY, mac_key=MAC_KEY, **roots)
    settings = Settings(
        class_id=CLASS_ID, serial=machine.element.serial, io_key=IO_KEY, mac_key=MAC_KEY,
        root_a=key_hash(roots["root_a_xy"]), root_b=key_hash(roots["root_b_xy"]),
    )  # fmt: skip
    return SimpleNamespace(machine=machine, page=pack(settings), fresh=machine.snapshot())


@pytest.fixture
def world(xtensa, paired):
    paired.machine.restore(paired.fresh)
    for at in SLOTS.values():
        xtensa.write(at, bytes(0x600))
    return World(xtensa, paired.machine, paired.page)


def test_signed_image_boots_and_the_element_verified_it(world, signed):
    world.install("A", signed("1.0.0"))
    slot, report = world.boot()
    assert (slot, report.trial) == ("A", False), world.said
    assert "slot A 1.0.0 confirmed" in world.said
    assert world.machine.element.status == "asleep"


def test_trial_runs_its_tries_and_is_reverted(world, signed):
    world.install("A", signed("1.0.0"))
    world.install("B", signed("1.1.0"))
    assert world.boot()[0] == "A"
    world.append(journal.request(world.state, 0x5A, 0xA5))
    slots = [world.boot()[0] for _ in range(4)]
    assert slots == ["B", "B", "B", "A"]
    assert world.state.state == journal.REVERTED


def test_confirmed_image_raises_the_floor_and_what_is_below_is_refused(world, signed):
    world.install("A", signed("1.0.0", sec_cnt=2))
    world.boot()
    assert world.machine.element.counters[0] == 16, "eight counts a step"
    world.install("B", signed("1.1.0", sec_cnt=1))
    world.append(journal.request(world.state, 0x5A, 0xA5))
    slot, report = world.boot()
    assert (slot, report.reason) == ("A", status.PO1)
    assert "slot B refused: PO1" in world.said


def test_what_is_not_signed_by_root_boots_nowhere(world, signed, keys):
    image = signed("1.0.0")
    tampered = image[:0x300] + bytes([image[0x300] ^ 1]) + image[0x301:]
    forged = image[:-1] + bytes([image[-1] ^ 1])  # the signature's last byte: the element's verdict
    for bad, why in ((tampered, "IM6"), (signed("1.0.0", key=keys.thief), "IM8"), (forged, "IM10")):
        world.install("A", bad)
        slot, _ = world.boot()
        assert slot == "", world.said
        assert why in world.said, world.said


def test_dead_element_boots_nothing(world, signed):
    world.install("A", signed("1.0.0"))
    world.xtensa.serve["fota_port_bus_write"] = lambda *_: status.CE1
    assert world.boot()[0] == ""
    assert "CE" in world.said
