"""ELF files of linkers that are not GNU's: LLVM's, made here by clang and lld; armlink's and IAR's, put
together by what their manuals say, for neither can be had here. What is signed is what each would load.
"""

import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from intelhex import IntelHex

from fota_signer.firmware import load_firmware
from fota_wire.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))

from elf_world import CODE, START, Elf, Section

needs_lld = pytest.mark.skipif(
    not all(map(shutil.which, ("clang", "ld.lld", "llvm-objcopy"))), reason="no clang, ld.lld or llvm-objcopy"
)
SOURCE = """
#include <stdint.h>
extern uint32_t initial, begin, end;
int counter = 0x1234, zero;
const char text[] = "some text of ours";
__attribute__((noinline)) int work(int x) { counter += x; zero ^= text[x & 7]; return counter + zero; }
void reset(void) {
  const uint32_t *from = &initial;
  for (uint32_t *to = &begin; to < &end;) *to++ = *from++;
  for (;;) work(3);
}
__attribute__((section(".vectors"), used)) const void *const vectors[] = {(void *)0x20010000, (void *)reset};
"""
LAYOUT = """ENTRY(reset)
MEMORY { FLASH (rx) : ORIGIN = 0x08004200, LENGTH = 0x7be00
  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 0x17f00 }
SECTIONS {
  .vectors : { KEEP(*(.vectors)) } >FLASH
  .text : { *(.text*) *(.rodata*) } >FLASH
  .ARM.exidx : { *(.ARM.exidx*) } >FLASH
  initial = LOADADDR(.data);
  .data : { begin = .; *(.data*) end = .; } >RAM AT>FLASH
  .bss (NOLOAD) : { *(.bss*) *(COMMON) } >RAM
}"""


def run(*command, cwd):
    subprocess.run(command, check=True, capture_output=True, cwd=cwd)


@needs_lld
@pytest.mark.parametrize("compiled", [("-Os", "-g"), ("-O0",), ("-Os", "-flto")], ids=" ".join)
@pytest.mark.parametrize(
    "linked",
    [(), ("--nmagic",), ("--omagic",), ("--no-rosegment",), ("-z", "separate-code"), ("--strip-all",),
     ("--emit-relocs",), ("--build-id",)],
    ids=lambda words: " ".join(words) or "plain",
)  # fmt: skip
def test_elf_of_lld_is_what_llvms_objcopy_finds_in_it(tmp_path, compiled, linked):
    (tmp_path / "app.c").write_text(SOURCE)
    (tmp_path / "app.ld").write_text(LAYOUT)
    target = ("--target=thumbv7em-none-eabi", "-mcpu=cortex-m4", "-ffreestanding")
    run("clang", *target, *compiled, "-c", "app.c", "-o", "app.o", cwd=tmp_path)
    run("ld.lld", "-T", "app.ld", *linked, "app.o", "-o", "app.elf", cwd=tmp_path)
    run("llvm-objcopy", "-O", "ihex", "app.elf", "app.hex", cwd=tmp_path)
    elf = (tmp_path / "app.elf").read_bytes()
    expected = IntelHex(io.StringIO((tmp_path / "app.hex").read_text()))
    payload = load_firmware(elf, "app")
    assert len(payload) == expected.maxaddr() + 1 - START
    assert [payload[at - START] for at in expected.addresses()] == [
        expected[at] for at in expected.addresses()
    ]
    assert struct.pack("<I", 0x1234) in payload[-16:], (
        "initial values lie behind the code, where they are loaded"
    )


# --- armlink and IAR's ilink


def scatter_loaded(data, *, at=START, zeros=64):
    """Return what armlink makes of a scatter file with one load region: one segment, both whose addresses are
    where it is loaded, with a flag of ARM's own (PF_ARM_ENTRY), and zeros behind it that are in no file. The
    sections are execution regions, at the addresses where they run; the segment's header lies behind them.
    """
    sections = [
        Section("ER_IROM1", CODE, addr=at, segment=0, flags=6),
        Section("RW_IRAM1", data, addr=0x20000000, segment=0, at=len(CODE), flags=3),
        Section("ZI_IRAM1", kind=8, size=zeros, addr=0x20000000 + len(data), flags=3),
        Section(".debug_frame", b"of debuggers", flags=0),
        Section(".note", b"Compiler", flags=0),
    ]
    raw = bytearray(Elf(segments=[(at, CODE + data)], sections=sections).build())
    entry = bytearray(raw[52:84])
    struct.pack_into("<5I", entry, 8, at, at, len(CODE + data), len(CODE + data) + zeros, 0x80000007)
    raw += bytes(-len(raw) % 4)
    struct.pack_into("<I", raw, 28, len(raw))
    raw[52:84] = bytes(32)
    return bytes(raw + entry)


def test_elf_of_armlink_is_its_load_region_with_initial_values_where_they_are_loaded():
    data = struct.pack("<II", 0xCAFEBABE, 7)
    assert load_firmware(scatter_loaded(data), "app.axf") == CODE + data
    assert load_firmware(scatter_loaded(b""), "app.axf") == CODE


def test_load_region_of_armlink_elsewhere_is_refused():
    with pytest.raises(InputError, match="linked for 0x08000000; link it for"):
        load_firmware(scatter_loaded(b"data", at=0x08000000), "app.axf")


@pytest.mark.parametrize("zeros", [0, 64])
def test_elf_of_ilink_is_its_blocks_in_order_with_the_packed_initial_values(zeros):
    """IAR's linker names sections by place and kind, packs initial values into one of read-only memory, and
    has sections of RAM without content.
    """
    packed = b"\3\1packed" * 3
    second = START + len(CODE)
    raw = Elf(
        segments=[(START, CODE[:8]), (START + 8, CODE[8:]), (second, packed)],
        sections=[
            Section("A0 rw", CODE[:8], addr=START, segment=0),
            Section("P1 ro", CODE[8:], addr=START + 8, segment=1, flags=6),
            Section("Initializer bytes", packed, addr=second, segment=2),
            Section("P2-P3 rw", kind=8, size=16 + zeros, addr=0x20000000, flags=3),
            Section("CSTACK", kind=8, size=0x400, addr=0x20001000, flags=3),
            Section(".iar.debug_frame", b"of debuggers", flags=0),
            Section(".iar.rtmodel", b"__CPP_Runtime", flags=0),
            Section(".comment", b"IAR ELF Linker", flags=0),
        ],
    ).build()
    assert load_firmware(raw, "app.out") == CODE + packed
