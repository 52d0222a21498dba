"""Judges that nobody here wrote: a stock second stage of ESP-IDF and the chip's mask ROM run on the model."""

import os
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import vdev_esp32c3 as c3

from fota_vdev.machine import Machine
from fota_vdev.models import MODELS, with_rom
from fota_wire import esp_partitions

VECTORS = Path(os.environ.get("FOTA_ESP32_VECTORS", ""))
BOOT, ROM = VECTORS / "boot/c3_idf4.3dev_esptool.bin", VECTORS / "rom/esp32c3-rom.bin"
pytestmark = pytest.mark.skipif(
    "FOTA_ESP32_VECTORS" not in os.environ or not BOOT.exists(),
    reason="no stock second stage and no mask ROM: set FOTA_ESP32_VECTORS",
)


def application(folder: Path) -> bytes:
    """An application of one mapped, one loaded and one mapped segment: says a word from flash and RAM."""
    text, ram = 0x4201_0020, 0x4038_0000
    say = "  la a0, words\n  li t0, 0x40000040\n  jalr t0\n"
    routine = "  addi sp, sp, -16\n  sw ra, 12(sp)\n" + say + "  lw ra, 12(sp)\n  addi sp, sp, 16\n  ret\n"
    loaded = c3.assemble(routine + 'words: .asciz "from RAM\\n"\n', folder, ram)
    main = say + f"  li t0, {ram}\n  jalr t0\n1: wfi\n  j 1b\n"
    mapped = c3.assemble(main + 'words: .asciz "from flash\\n"\n', folder, text)
    descriptor = struct.pack("<I", 0xABCD5432) + bytes(252)
    head = 24 + 8
    between = 8 + len(loaded)
    padding = 0x1_0020 - (head + len(descriptor) + between + 8) - 8
    return c3.stage((0x3C00_0020, descriptor), (ram, loaded), (0, bytes(padding)), (text, mapped), entry=text)


@pytest.fixture
def device(tmp_path) -> Machine:
    return prepared(Machine(seed=1, chip=MODELS["esp32c3"]), tmp_path)


def prepared(m: Machine, folder: Path) -> Machine:
    part = esp_partitions.Partition
    table = [part("nvs", 1, 2, 0x9000, 0x6000), part("factory", 0, 0, 0x10000, 0x100000)]
    m.flash.write_phys(1, 0, BOOT.read_bytes())
    m.flash.write_phys(1, 0x8000, esp_partitions.build(table))
    m.flash.write_phys(1, 0x10000, application(folder))
    return m


def started(m: Machine) -> str:
    m.power_on()
    result = m.run(time_ms=1300, until=lambda m: b"from RAM" in m.uart)
    assert result.reason.value == "until", (result, m.uart[-400:])
    return m.uart.decode(errors="replace")


def test_stock_second_stage_logs_the_partitions_and_jumps(device):
    said = started(device)
    assert "ESP-IDF v4.3-dev-334-g16e95d0-dirty 2nd stage bootloader" in said
    assert "factory          factory app      00 00 00010000 00100000" in said
    assert "start: 0x42010020" in said
    assert said.index("start:") < said.index("from flash") < said.index("from RAM")
    assert device.faults == []


@pytest.mark.skipif(not ROM.exists(), reason="no mask ROM in FOTA_ESP32_VECTORS")
def test_mask_rom_runs_from_reset_and_loads_the_same(tmp_path):
    m = prepared(Machine(seed=1, chip=with_rom("esp32c3", ROM.read_bytes())), tmp_path)
    said = started(m)
    assert "rst:0x1 (POWERON),boot:0x8 (SPI_FAST_FLASH_BOOT)" in said
    assert "load:0x403c2000" in said
    assert "start: 0x42010020" in said
    record = m.load32(0x3FCD_FFF0)
    assert struct.unpack("<6I", m.read(record, 24)) == (0xC84016, 2 << 20, 64 << 10, 4096, 256, 0xFFFF)
    assert m.faults == []


@pytest.mark.skipif(not ROM.exists(), reason="no mask ROM in FOTA_ESP32_VECTORS")
def test_model_s_own_rom_says_of_the_second_stage_what_the_mask_rom_says(device, tmp_path):
    real = prepared(Machine(seed=1, chip=with_rom("esp32c3", ROM.read_bytes())), tmp_path)
    keys = ("rst:", "load:", "entry ", "mode:")
    ours, theirs = (
        [line for line in started(m).splitlines() if line.startswith(keys)] for m in (device, real)
    )
    assert ours == theirs


def changed(image: bytes, *flips: tuple[int, int]) -> bytes:
    """The image with bits flipped: (offset, mask) each."""
    out = bytearray(image)
    for at, mask in flips:
        out[at] ^= mask
    return bytes(out)


OURS = Path(__file__).parents[2] / "build/bootloader/esp32c3/bootloader.bin"
WORDS = b"fota-boot: "
DAMAGED = {  # what is changed, what the mask ROM says, what of us is seen then
    "nothing": (lambda image: image, b"entry 0x", b"fota-boot: "),
    "hash": (lambda image: changed(image, (len(image) - 1, 1)), b"Attempting to boot anyway", b"fota-boot: "),
    "two-flips-in-a-column": (
        lambda image: changed(image, (image.index(WORDS), 0x20), (image.index(WORDS) + 1, 0x20)),
        b"Attempting to boot anyway", b"FOta-boot: ",
    ),
    "one-flip": (lambda image: changed(image, (image.index(WORDS), 0x20)), b"hecksum", b""),
    "chip": (lambda image: changed(image, (12, 5)), b"Invalid chip id. Expected 5 read 0", b""),
    "segments": (lambda image: changed(image, (1, 0x10)), b"Invalid image block count", b""),
    "magic": (lambda image: changed(image, (0, 1)), b"invalid header: 0x", b""),
}  # fmt: skip


@pytest.mark.skipif(not ROM.exists(), reason="no mask ROM in FOTA_ESP32_VECTORS")
@pytest.mark.skipif(not OURS.exists(), reason="no bootloader: make firmware")
@pytest.mark.parametrize("name", DAMAGED)
def test_mask_rom_checks_of_our_bootloader_what_docs_say_and_no_more(name):
    """docs/esp32.md, section 6: one byte by exclusive or. It boots a bootloader with two bytes changed."""
    change, says, seen = DAMAGED[name]
    m = Machine(seed=1, chip=with_rom("esp32c3", ROM.read_bytes()))
    m.flash.write_phys(1, 0, change(OURS.read_bytes()))
    m.power_on()
    m.run(time_ms=400 if seen else 10, until=lambda m: bool(seen) and seen in m.uart)
    assert says in m.uart
    assert (seen in m.uart) if seen else (b"ota-boot" not in m.uart)
