"""What is signed is what would be loaded, byte for byte; whatever is not taken is refused by its name."""

import io
import itertools
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from intelhex import IntelHex

from fota_signer import intel_hex
from fota_signer.factory.flash import bootloader_image
from fota_signer.firmware import Hints, load_firmware
from fota_wire.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))

from elf_world import ALLOC, CODE, NOBITS, PROGBITS, START, Elf, Section

GCC = shutil.which("arm-none-eabi-gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="arm-none-eabi-gcc is not installed")
INITIAL = b"\xbe\xba\xfe\xca"  # the first value of a variable in RAM


def refused(data, says, **hints):
    with pytest.raises(InputError) as caught:
        load_firmware(data, "app", Hints(**hints))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def record(kind, address, content=b""):
    raw = bytes([len(content), address >> 8, address & 0xFF, kind]) + content
    return b":" + (raw + bytes([-sum(raw) & 0xFF])).hex().upper().encode() + b"\n"


UPPER, END = record(4, 0, b"\x08\x00"), record(1, 0)
HEX = [UPPER, record(0, 0x4200, CODE[:16]), record(0, 0x4210, CODE[16:]), END]


# --- ELF


def test_elf_initial_values_at_their_execution_address_are_taken():
    """armlink: one load region is one segment, and a section in it has the address where it runs."""
    sections = [
        Section("ER_IROM1", CODE, segment=0, addr=START),
        Section("RW_IRAM1", INITIAL, segment=0, at=len(CODE), addr=0x20000000),
        Section("ZI", kind=NOBITS, addr=0x20000004, size=4),
    ]
    assert load_firmware(Elf([(START, CODE + INITIAL)], sections).build(), "app") == CODE + INITIAL


def test_elf_bytes_under_no_section_are_taken():
    sections = [Section(".text", CODE, segment=0, addr=START)]
    assert load_firmware(Elf([(START, CODE + b"tail")], sections).build(), "app") == CODE + b"tail"
    assert load_firmware(Elf([(START, CODE + b"tail")]).build(), "app") == CODE + b"tail"


OWN = (
    ".linear_coeffs",
    ".lines",
    ".notes",
    ".debugger",
    ".stability",
    ".gnudata",
    ".ARM.calibration",
    "comment",
)
"""Names that begin as those of compilers do, and are not."""
COMPILERS = (
    *(
        ".debug",
        ".debug_line_str",
        ".zdebug_info",
        ".debug$S",
        ".line",
        ".stab",
        ".stabstr",
        ".stab.indexstr",
    ),
    *(".gnu_debuglink", ".gnu.lto_main", ".iar.debug_frame", ".defmt", ".llvmbc", ".note.gnu.property"),
)


@pytest.mark.parametrize(
    ("section", "taken"),
    [
        (Section(".extra", b"content", addr=START + 0x100), False),
        (Section(".extra", b"content", flags=0), False),
        (Section(".extra", b"content", flags=0, kind=0x80000001), False),
        (Section(".init_array", b"1234", kind=14), False),
        *((Section(name, b"content", flags=0), False) for name in OWN),
        *((Section(name, b"content", flags=0), True) for name in COMPILERS),
        (Section(".partly", bytes(8), segment=0, at=len(CODE) - 4), False),
        (Section(".extra", flags=ALLOC), True),
        (Section(".debug_info", b"content", flags=0), True),
        (Section(".comment", b"GCC", flags=0), True),
        (Section(".ARM.attributes", b"aeabi", kind=0x70000003, flags=0), True),
        (Section(".bss", kind=NOBITS, size=1 << 20, addr=0x20000000), True),
        (Section(".note", b"content", kind=7, flags=0), True),
        (Section(".note", b"content", kind=7, flags=ALLOC), False),
    ],
)
def test_elf_section_in_no_segment(section, taken):
    elf = Elf(sections=[Section(".text", CODE, segment=0, addr=START), section]).build()
    if taken:
        assert load_firmware(elf, "app") == CODE
    else:
        refused(elf, f"section {section.name}")
        with pytest.raises(InputError, match=section.name):
            bootloader_image(elf, "boot")


def test_elf_section_left_out_by_name_only():
    text = Section(".text", CODE, segment=0)
    elf = Elf(sections=[text, Section(".extra", b"content", flags=0)]).build()
    assert load_firmware(elf, "app", Hints(leave_out=(".extra",))) == CODE
    refused(elf, "has no section .other", leave_out=(".other", ".extra"))
    refused(elf, "section .text is part of a segment", leave_out=(".text", ".extra"))


@pytest.mark.parametrize(
    ("segments", "says"),
    [
        ([(START, CODE), (START + 8, b"x")], "overlap at 0x08004208"),
        ([(START, CODE), (START, CODE)], "overlap at 0x08004200"),
        ([(START, CODE), (0x08000000, b"boot")], "4 bytes at 0x08000000 are outside the slot"),
        ([(START, CODE), (0x1FFF7800, b"optionbytes!")], "12 bytes at 0x1fff7800 are outside the slot"),
        ([(START, CODE), (0x90000000, b"qspi")], "4 bytes at 0x90000000 are outside the slot"),
        ([(START, CODE), (0x0807FFFE, b"over")], "4 bytes at 0x0807fffe are outside the slot"),
        ([(START, CODE), (0x20000000, INITIAL)], "4 bytes at 0x20000000 are outside the slot"),
        ([(0x08000000, CODE)], "linked for 0x08000000; link it for 0x08004200"),
        ([(0x20000000, CODE)], "linked for 0x20000000; link it for 0x08004200"),
        ([(START, b"")], "nothing to load"),
    ],
)
def test_elf_segment_out_of_place_refused_by_name(segments, says):
    sections = [Section(f".part{n}", part, segment=n) for n, (_, part) in enumerate(segments) if part]
    refused(Elf(segments, sections).build(), says)
    if "outside" in says:
        refused(Elf(segments, sections).build(), ".part1")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({4: b"\x02"}, "not an ELF for 32-bit little-endian ARM"),
        ({5: b"\x02"}, "not an ELF for 32-bit little-endian ARM"),
        ({18: b"\x03\x00"}, "not an ELF for 32-bit little-endian ARM"),
        ({16: b"\x01\x00"}, "an object file: link it first"),
        ({16: b"\x03\x00"}, "a shared or position-independent program"),
        ({16: b"\x04\x00"}, "of type 4"),
        ({6: b"\x00"}, "another version"),
        ({44: b"\x00\x00"}, "without program headers"),
        ({42: b"\x21\x00"}, "1 program headers of 33 bytes"),
        ({28: b"\xff\xff\xff\x00"}, "program headers are not all there"),
        ({32: b"\xff\xff\xff\x00"}, "section headers are not all there"),
        ({50: b"\x09\x00"}, "its sections have no names"),
        ({52 + 16: b"\xff\xff\x00\x00"}, "segment 0 is not all there"),
        ({52 + 20: b"\x01\x00\x00\x00"}, "segment 0 has more content than room"),
        ({52 + 12: b"\xf0\xff\xff\xff"}, "segment 0 has more content than room"),
    ],
)
def test_elf_damaged_refused(change, says):
    elf = bytearray(Elf(sections=[Section(".text", CODE, segment=0, addr=START)]).build())
    for at, value in change.items():
        elf[at : at + len(value)] = value
    refused(bytes(elf), says)


def test_elf_truncated_at_any_byte_refused():
    elf = Elf(sections=[Section(".text", CODE, segment=0, addr=START)]).build()
    for size in range(4, len(elf)):
        refused(elf[:size], "ELF")


def test_elf_whose_debug_data_was_stripped_is_whole():
    """strip leaves the place of what has no content (.bss) where it was: beyond the end of the file."""
    sections = [
        Section(".text", CODE, segment=0, addr=START),
        Section(".bss", kind=NOBITS, size=4, addr=0x20000000, offset=0x2000),
    ]
    assert load_firmware(Elf(sections=sections).build(), "app") == CODE
    sections[1].kind = PROGBITS
    refused(Elf(sections=sections).build(), "section 2 is not all there")


def test_elf_with_bytes_that_nothing_describes_refused():
    sections = [Section(".text", CODE, segment=0, addr=START)]
    refused(
        Elf(sections=sections, behind=b"second file").build(),
        "are in no segment that is loaded and no section",
    )
    assert load_firmware(Elf(sections=sections, behind=bytes(64)).build(), "app") == CODE


@pytest.mark.parametrize("kind", [0, 2, 4, 7, 0x60000000, 0x6474E551, 0x70000001])
def test_elf_bytes_of_a_segment_that_is_not_loaded_are_refused(kind):
    """An ELF without section headers: objcopy --strip-section-headers, llvm-strip --strip-sections."""
    elf = bytearray(Elf([(START, CODE), (START + len(CODE), INITIAL)]).build())
    assert load_firmware(bytes(elf), "app") == CODE + INITIAL
    struct.pack_into("<I", elf, 52 + 32, kind)
    refused(bytes(elf), "in no segment that is loaded")


@pytest.mark.parametrize("sections", [[Section(".text", CODE, segment=0, addr=START)], []])
def test_elf_headers_at_the_begin_of_a_segment_are_no_firmware(sections):
    """GNU ld begins the first segment with the headers of the file if page sizes allow it; without sections
    they are what is left to tell by (llvm-objcopy --strip-sections).
    """
    elf = bytearray(Elf(sections=sections).build())
    offset = struct.unpack_from("<I", elf, 52 + 4)[0]
    fields = (0, START - offset, START - offset, offset + len(CODE), offset + len(CODE))
    struct.pack_into("<5I", elf, 52 + 4, *fields)
    assert load_firmware(bytes(elf), "app") == CODE


def test_elf_for_debuggers_alone_is_told_what_it_is():
    """objcopy --only-keep-debug leaves the sections of a program where they were, without their content."""
    sections = [
        Section(".text", kind=NOBITS, size=len(CODE), addr=START),
        Section(".debug_info", b"names", flags=0),
    ]
    refused(Elf(segments=[], sections=sections).build(), "without program headers")
    refused(Elf(segments=[(START, b"")], sections=sections).build(), "--only-keep-debug")
    sections.append(Section(".rodata", CODE, segment=0, addr=START))
    assert load_firmware(Elf(sections=sections).build(), "app") == CODE


def link(tmp_path, layout, *, source="", objcopy=()):
    """Compile and link a small application by a linker script of its own; return the ELF file's bytes."""
    (tmp_path / "app.s").write_text(
        f""".syntax unified
.thumb
.section .vectors, "a"
.word 0x20010000
.word reset
.text
.thumb_func
.global reset
reset: b reset
.data
.word 0xcafebabe
{source}"""
    )
    (tmp_path / "app.ld").write_text(layout)
    command = [GCC, "-nostdlib", "-mcpu=cortex-m4", "-mthumb", "-Wl,--build-id=none", "-Wl,-e,reset", "-T"]
    command += [tmp_path / "app.ld", tmp_path / "app.s", "-o", tmp_path / "app.elf"]
    subprocess.run(command, check=True, capture_output=True)
    if objcopy:
        tool = GCC.replace("gcc", "objcopy")
        subprocess.run([tool, *objcopy, tmp_path / "app.elf"], check=True, capture_output=True, cwd=tmp_path)
    return (tmp_path / "app.elf").read_bytes()


LAYOUT = """MEMORY {{ FLASH (rx) : ORIGIN = {start}, LENGTH = 0x7be00
  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 0x17f00 }}
SECTIONS {{ .text : {{ KEEP(*(.vectors)) *(.text*) }} >FLASH
  .data : {{ *(.data*) }} >RAM AT>FLASH
  .extra {extra} : {{ KEEP(*(.extra*)) }} {where} }}"""
EXTRA = '.section .extra, "a"\n.word 0x11223344\n'


@needs_gcc
@pytest.mark.parametrize(
    ("extra", "where", "says"),
    [
        ("", ">FLASH :NONE", "section .extra"),
        ("0x1fff7800", "", ".extra): 4 bytes at 0x1fff7800 are outside the slot"),
        ("0x08003800", "", ".extra): 4 bytes at 0x08003800 are outside the slot"),
    ],
)
def test_linked_section_that_would_not_be_loaded_refused(tmp_path, extra, where, says):
    phdrs = "PHDRS { app PT_LOAD; }\n" if "NONE" in where else ""
    layout = phdrs + LAYOUT.format(start="0x08004200", extra=extra, where=where)
    if phdrs:
        layout = layout.replace(">FLASH\n", ">FLASH :app\n", 1)
    refused(link(tmp_path, layout, source=EXTRA), says)


@needs_gcc
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--set-section-flags", ".crc=alloc,load,readonly", "--change-section-address", ".crc=0x08004300"),
        ("--set-section-flags", ".crc=alloc,load,readonly"),
    ],
)
def test_section_added_behind_the_linkers_back_refused(tmp_path, more):
    (tmp_path / "crc").write_bytes(b"1234")
    layout = LAYOUT.format(start="0x08004200", extra="", where=">FLASH")
    elf = link(tmp_path, layout, objcopy=("--add-section", ".crc=crc", *more))
    refused(elf, "section .crc (4 bytes)")
    assert load_firmware(elf, "app", Hints(leave_out=(".crc",))).endswith(b"\xbe\xba\xfe\xca")


@needs_gcc
def test_linked_elf_is_what_an_independent_reader_of_segments_finds(tmp_path):
    elf = link(tmp_path, LAYOUT.format(start="0x08004200", extra="", where=">FLASH"), source=EXTRA)
    loads = [s for s in ELFFile(io.BytesIO(elf)).iter_segments() if s["p_type"] == "PT_LOAD"]
    expected = IntelHex()
    for segment in loads:
        expected.puts(segment["p_paddr"], segment.data())
    assert load_firmware(elf, "app") == expected.tobinstr(start=START, end=expected.maxaddr())


# --- Intel HEX


def test_hex_of_any_line_ends_and_a_byte_order_mark_is_taken_whole():
    for end, before in itertools.product(
        (b"\n", b"\r\n", b"\r", b" \n", b"\n\n"), (b"", b"\xef\xbb\xbf", b"\n ")
    ):
        data = before + b"".join(HEX).replace(b"\n", end)
        assert load_firmware(data, "app") == CODE
        assert load_firmware(data.lower(), "app") == CODE


@pytest.mark.parametrize("start", [record(5, 0, b"\x08\x00\x42\x09"), record(3, 0, b"\x08\x00\x42\x09")])
def test_hex_start_address_is_no_content(start):
    assert load_firmware(b"".join([*HEX[:-1], start, END]), "app") == CODE
    refused(b"".join([start, *HEX[:-1], start, END]), "line 5: a second start address")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([*HEX, UPPER, record(0, 0x4220, INITIAL), END], "line 5: behind the end record of line 4"),
        ([*HEX, END], "line 5: behind the end record of line 4"),
        ([*HEX, b"garbage\n"], "line 5: behind the end record of line 4"),
        ([*HEX[:2], END, *HEX[2:]], "line 4: behind the end record of line 3"),
        (HEX[:-1], "no end record up to line 3"),
        ([UPPER, HEX[1], record(0, 0x420F, b"x"), END], "line 3: records overlap at 0x0800420f"),
        ([UPPER, HEX[1], HEX[1], END], "line 3: records overlap at 0x08004200"),
        ([UPPER, HEX[1][:-2] + b"0\n", END], "line 2: damaged Intel HEX file: wrong checksum"),
        ([UPPER, HEX[1][:-3] + b"\n", END], "line 2: damaged Intel HEX file: 15 bytes of content, not 16"),
        ([UPPER, HEX[1][:-2] + b"\n", END], "line 2: damaged Intel HEX file: not a record"),
        ([UPPER, b"; comment\n", *HEX[1:]], "line 2: damaged Intel HEX file: not a record"),
        ([UPPER, b":1 0\n", *HEX[1:]], "line 2: damaged Intel HEX file: not a record"),
        ([UPPER, HEX[1].replace(b"\n", b" "), *HEX[2:]], "line 2: damaged Intel HEX file: not a record"),
        ([record(6, 0), *HEX], "line 1: damaged Intel HEX file: no record of type 6"),
        ([record(4, 0, b"\x08"), *HEX], "line 1: damaged Intel HEX file: no record of type 4 has 1 bytes"),
        ([record(1, 0, b"\x08"), *HEX], "line 1: damaged Intel HEX file: no record of type 1 has 1 bytes"),
        ([*HEX[:-1], record(0, 0xFFF8, bytes(9)), END], "line 4: a record across a boundary of 64 KiB"),
        ([END], "nothing to load"),
    ],
)  # fmt: skip
def test_hex_that_cannot_be_taken_whole_refused_by_line(lines, says):
    refused(b"".join(lines), says)


def test_hex_of_records_in_any_order_with_a_gap():
    notes = []
    data = b"".join([UPPER, record(0, 0x4300, b"late"), *HEX[1:]])
    payload = load_firmware(data, "app", say=notes.append)
    assert payload == CODE + b"\xff" * (0x100 - len(CODE)) + b"late"
    assert notes == [f"1 gap, {0x100 - len(CODE)} bytes in all, filled with 0xff"]


@given(st.dictionaries(st.integers(0, 0xFFFFFFF), st.binary(min_size=1, max_size=40), max_size=8))
def test_hex_as_intelhex_writes_and_reads_it(parts):
    writer = IntelHex()
    for address, content in parts.items():
        writer.puts(address, content)
    text = io.StringIO()
    writer.write_hex_file(text)
    found = intel_hex.read(text.getvalue().encode(), "app")
    assert [(c.address, c.end) for c in found] == writer.segments()
    assert all(c.content == writer.gets(c.address, len(c.content)) for c in found)


@given(st.binary(max_size=60), st.integers(0, 59))
def test_hex_with_a_changed_byte_is_refused_or_the_same(noise, at):
    data = bytearray(b"".join(HEX))
    data[at : at + len(noise)] = noise
    try:
        payload = load_firmware(bytes(data), "app")
    except InputError:
        return
    assert payload == CODE or bytes(data).lstrip()[:1] != b":"


# --- Room for the header, and files of other kinds


@pytest.mark.parametrize("fill", [b"\x00", b"\xff"])
@pytest.mark.parametrize("kind", ["elf", "hex", "bin"])
def test_header_room_that_a_linker_left_is_used(kind, fill):
    content = fill * 0x200 + CODE
    if kind == "elf":
        data = Elf([(START - 0x200, content)], [Section(".rom", content, segment=0)]).build()
    elif kind == "hex":
        data = b"".join(
            [UPPER, *(record(0, 0x4000 + n, content[n : n + 16]) for n in range(0, len(content), 16)), END]
        )
    else:
        data = content
    notes = []
    assert load_firmware(data, "app", say=notes.append) == CODE
    assert len(notes) == 1
    assert "512 empty bytes" in notes[0]
    assert load_firmware(data, "app", Hints(linked_for=START - 0x200, header_size=0x200)) == CODE


def test_header_room_of_another_size_is_used_if_told():
    content = bytes(0x400) + CODE
    refused(content, "not firmware")
    assert load_firmware(content, "app", Hints(header_size=0x400)) == CODE
    refused(content[1:], "not empty", header_size=0x401 + 8)
    elf = Elf([(START - 0x200, content)]).build()
    refused(elf, "with 0x400 bytes of room for the header link it for 0x08003e00", header_size=0x400)


def test_header_room_with_content_refused():
    content = bytes(0x100) + b"content" + bytes(0x200 - 0x107) + CODE
    refused(Elf([(START - 0x200, content)]).build(), "0x08004000 is the header's place, and is not empty")
    signed = b"\x3d\xb8\xf3\x96" + bytes(0x1FC) + CODE
    refused(Elf([(START - 0x200, signed)]).build(), "is a signed image already")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"UF2\n\x57\x51\x5d\x9e" + bytes(504), "a UF2 file"),
        (b"PK\x03\x04" + bytes(99), "a zip archive: unpack it"),
        (b"\x1f\x8b\x08" + bytes(99), "compressed by gzip: unpack it first"),
        (b"\xcf\xfa\xed\xfe" + bytes(99), "a Mach-O file"),
        (b"MZ" + bytes(99), "a program of Windows"),
        (b"!<arch>\n" + bytes(99), "a library of object files: link it first"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "a key or certificate in PEM"),
        (b"# fota image/a 0011\n-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "a key or certificate in PEM"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><title>404</title>", "a text in HTML"),
        (b"@08004200\n00 00 01 20\nq\n", "a TI-TXT or Verilog hex file"),
        ("\ufeff:020000040800F2\r\n".encode("utf-16-le"), "a text in UTF-16"),
        (b"hello, world\n", "a text"),
        (b"\x3d\xb8\xf3\x96" + bytes(600), "is a signed image already"),
        (b"\xd8\x6b\xa2", "a manifest"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
    ],
)  # fmt: skip
def test_file_of_another_kind_is_named(content, says):
    refused(content, says)
