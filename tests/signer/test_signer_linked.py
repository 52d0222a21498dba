"""A raw binary carries no address: it is signed if it shows that it is linked for ours, or is told."""

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from fota_signer import linked
from fota_signer.firmware import Hints, load_firmware
from fota_wire.errors import InputError

GCC = shutil.which("arm-none-eabi-gcc")
BUILD = Path(__file__).parents[2] / "build"
OURS = 0x08004200
ADDRESSES = (
    0x08000000,
    0x08001000,
    0x08003F00,
    0x08004000,
    OURS,
    0x08004400,
    0x08008000,
    0x08010200,
    0,
    0x20000000,
)
pytestmark = pytest.mark.skipif(GCC is None, reason="arm-none-eabi-gcc is not installed")

START = """
#include <stdint.h>
extern uint32_t _sidata, _sdata, _edata;
int run(int);
volatile int ticks = 7;
void reset(void) {
  uint32_t *s = &_sidata, *d = &_sdata;
  while (d < &_edata) *d++ = *s++;
  for (;;) ticks += run(ticks);
}
void other(void) { for (;;) ; }
void tick(void) { ticks++; }
__attribute__((section(".vectors"), used)) void *const vectors[TABLE] = {
  (void *)0x20010000, (void *)reset,
#if TABLE > 2
  other, other, other, other, other, [11] = other, other, [14] = other, tick, [16 ... TABLE - 1] = other
#endif
};
#if CONSTANTS
__attribute__((section(".first"), used)) const unsigned constants[CONSTANTS] = {1, 2, 3};
#endif
"""
RUN = (
    "#include <stdint.h>\n"
    + "".join(
        f"int f{n}(int x) {{ volatile int y = x * {n + 3}; return y ^ {n * 7919}; }}\n" for n in range(12)
    )
    + """
static int (*const table[])(int) = {f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11};
static const char *const names[] = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta"};
int run(int x) {
  int sum = 0;
  for (const char *c = names[x % 6]; *c; c++) sum += table[(x + *c) % 12](*c);
  return sum;
}
"""
)
LAYOUT = """SECTIONS { . = ORIGIN; .text : { KEEP(*(.vectors)) *(.first) *(.text*) *(.rodata*) } . = ALIGN(4);
_sidata = .; .data 0x20000000 : AT(_sidata) { _sdata = .; *(.data*) . = ALIGN(4); _edata = .; } }"""


class Linker:
    """Objects of an application, linked for any address."""

    def __init__(self, folder, table, constants=0, run=True, optimise="-Os"):
        self.folder = folder
        (folder / "start.c").write_text(START)
        (folder / "run.c").write_text(RUN if run else "int run(int x) { return x; }")
        flags = [
            "-mcpu=cortex-m4",
            "-mthumb",
            optimise,
            "-ffreestanding",
            "-fno-tree-loop-distribute-patterns",
        ]
        flags += [f"-DTABLE={table}", f"-DCONSTANTS={constants}"]
        command = [GCC, *flags, "-c", "start.c", "run.c"]
        subprocess.run(command, check=True, cwd=folder, capture_output=True)

    def binary(self, address):
        layout = self.folder / f"{address:x}.ld"
        layout.write_text(LAYOUT.replace("ORIGIN", hex(address)))
        command = [
            GCC,
            "-nostdlib",
            "-mcpu=cortex-m4",
            "-mthumb",
            "-Wl,-e,reset",
            "-T",
            layout,
            "start.o",
            "run.o",
        ]
        subprocess.run([*command, "-o", "app.elf"], check=True, cwd=self.folder, capture_output=True)
        objcopy = [GCC.replace("gcc", "objcopy"), "-O", "binary", "app.elf", "app.bin"]
        subprocess.run(objcopy, check=True, cwd=self.folder)
        return (self.folder / "app.bin").read_bytes()


@pytest.mark.parametrize(
    ("table", "constants", "run", "optimise"),
    [
        (98, 0, True, "-Os"),
        (98, 0, True, "-O0"),
        (48, 500, True, "-O2"),
        (2, 10000, False, "-Os"),
        (2, 0, False, "-Os"),
    ],
)
def test_binary_is_signed_if_it_is_linked_for_ours_and_else_its_address_is_named(
    tmp_path, table, constants, run, optimise
):
    linker = Linker(tmp_path, table, constants, run, optimise)
    for address in ADDRESSES:
        content = linker.binary(address)
        if address == OURS:
            assert load_firmware(content, "app") == content
            continue
        with pytest.raises(InputError) as caught:
            load_firmware(content, "app")
        assert f"seems to be linked for 0x{address:08x}; link it for 0x08004200" in str(caught.value)


def test_every_sample_binary_of_ours_is_signed_without_being_told_its_address():
    samples = [*BUILD.glob("sample/*.elf"), *BUILD.glob("agent-firmware/*.elf")]
    if not samples:
        pytest.skip("nothing was built")
    for sample in samples:
        content = load_firmware(sample.read_bytes(), sample.name)
        assert load_firmware(content, sample.name) == content
        first, second, *_ = linked.guesses(content, min(len(content), linked.LOOK))
        assert first.address == OURS
        assert first.score >= second.score + 3 * linked.LEAD


def test_binary_that_shows_nothing_is_signed_only_if_its_address_is_told():
    content = struct.pack("<II", 0x20010000, OURS + 0x101) + bytes(range(256)) * 11
    with pytest.raises(InputError, match="does not show for which address it is linked"):
        load_firmware(content, "app")
    assert load_firmware(content, "app", Hints(linked_for=OURS)) == content
    with pytest.raises(InputError, match="linked for 0x08000000"):
        load_firmware(content, "app", Hints(linked_for=0x08000000))


def test_address_that_is_told_is_of_the_first_byte_room_for_the_header_too(tmp_path):
    content = Linker(tmp_path, 98).binary(OURS)
    with_room = bytes(0x200) + content
    assert load_firmware(with_room, "app") == content
    assert load_firmware(with_room, "app", Hints(linked_for=OURS - 0x200)) == content
    with pytest.raises(InputError, match="with 0x200 bytes of room for the header link it for 0x08004000"):
        load_firmware(with_room, "app", Hints(linked_for=OURS))


def test_binary_whose_reset_vector_points_to_nothing_is_not_signed():
    content = struct.pack("<II", 0x20010000, OURS + 0x101) + bytes(0x400) + b"\x80\xb5\x80\xbd" * 40
    with pytest.raises(InputError, match="linked for"):
        load_firmware(content, "app")


@pytest.mark.parametrize("seed", range(4))
def test_what_is_behind_the_first_bytes_is_not_looked_at_where_these_leave_no_doubt(
    tmp_path, monkeypatch, seed
):
    """Bytes that change nothing of the points, whatever they are, cost nothing."""
    chance = random.Random(seed)
    begin = Linker(tmp_path, 98).binary(OURS)
    begin += bytes(chance.choices(range(1, 0xFF), k=linked.LOOK - len(begin)))
    points, looks = [], []
    guesses = linked.guesses

    def watched(payload, look):
        looks.append(look)
        points.append(guesses(payload, look))
        return points[-1]

    monkeypatch.setattr(linked, "guesses", watched)
    for rest in rests(chance):
        assert linked.address_of(begin + rest) == OURS
    assert looks == [linked.LOOK] * 4
    assert all(each == points[0] for each in points)


def test_pointers_that_lead_out_of_the_file_speak_against_an_address():
    """Seven words lead to functions from the other address, six from ours: which lead nowhere from there."""
    content, other = bytearray(b"\x01\x22" * 0xC00), OURS - 0x800
    functions = [0x1080 + 0x10 * number for number in range(7)]
    for at in (0x400, 0xC00, *functions):  # the reset vector leads to code from both
        content[at : at + 2] = b"\x80\xb5"
    words = [0x20010000, OURS + 0x401, *(OURS + at + 1 for at in functions[:6])]
    words += [other + at + 1 for at in functions]
    content[: 4 * len(words)] = struct.pack(f"<{len(words)}I", *words)
    assert linked.address_of(bytes(content)) == OURS


def test_file_whose_first_bytes_show_nothing_is_looked_at_to_its_end(tmp_path):
    content = Linker(tmp_path, 2, constants=linked.LOOK // 4 + 100).binary(OURS)
    assert load_firmware(content, "app") == content


def rests(chance):
    """Return what costs most where it is looked at: functions, texts, pointers, and noise."""
    yield b"\x80\xb5\x01\x43" * 0x10000
    yield b"abc\0" * 0x10000
    yield struct.pack("<I", OURS + 0x100 * chance.randrange(2, 0x400)) * 0x10000
    yield bytes(chance.choices(range(1, 0xFF), k=0x40000))
