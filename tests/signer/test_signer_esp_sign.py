"""``fota sign`` for the ESP32-C3: ELF or .bin in, mistakes are named; esptool and espsecure judge."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from random import Random

import esp_world
import pytest
from esp_refused import REFUSED, image_of

from fota_signer import esp_pack
from fota_signer.chunk import Chunk
from fota_wire import esp_image, esp_partitions, esp_signature, host_crypto, image, status
from fota_wire.chips import esp32c3

sys.path.insert(0, str(Path(__file__).parent))
from elf_world import Elf, Section

MODEL = ("--vendor-domain", "example.com", "--model", "demo")
GCC = shutil.which("riscv64-unknown-elf-gcc")
C3 = ("--chip", "esp32c3")
PLAIN = esp_world.application()
DESCRIPTOR = Chunk(0x3C030020, esp_world.descriptor())


@pytest.fixture
def application(tmp_path):
    path = tmp_path / "app.bin"
    path.write_bytes(PLAIN)
    return path


@pytest.fixture
def cannot(refused, key_dir, tmp_path):
    """``fota sign`` of these bytes ends with one line that has ``says`` in it, and no file."""

    def run(data, *more, says, code=3, name="given.bin"):
        (tmp_path / name).write_bytes(data)
        words = ("--key", key_dir / "image-a.pem", "--version", "1.1.0", "--security-counter", 3, *MODEL)
        result = refused(code, "sign", tmp_path / name, "-o", tmp_path / "out", *words, *more, says=says)
        assert result.stderr.count(name) <= 1
        return result

    return run


def memory(data: bytes) -> dict[int, bytes]:
    """What lies where once an image is booted, {first address of a run: bytes}."""
    runs: dict[int, bytes] = {}
    for address, content in sorted(part for part in esp_world.parts(data) if part[0]):
        last = max(runs, default=None)
        if last is not None and last + len(runs[last]) == address:
            runs[last] += content
        else:
            runs[address] = content
    return runs


def test_bin_is_signed_and_keeps_all_that_its_build_said(sign, application, tmp_path):
    data = sign(application, tmp_path / "app.img").read_bytes()
    found = image.parse_image(data)
    assert (found.version, found.sec_cnt, found.chip) == ((1, 1, 0, 0), 3, "esp32c3")
    assert data[2:24] == PLAIN[2:24]
    assert esp_world.parts(data)[:-1] == esp_world.parts(PLAIN)
    assert (data[1], len(data) % 4096) == (PLAIN[1] + 1, 0)


def test_sign_twice_gives_the_same_bytes(sign, application, tmp_path):
    assert (
        sign(application, tmp_path / "1").read_bytes() == sign(application, tmp_path / "2", *C3).read_bytes()
    )


def test_espsecure_verifies_ours_and_image_info_reads_all_of_it(sign, application, key_dir, tmp_path):
    signed = sign(application, tmp_path / "app.img")
    public = key_dir / "image-a.pub.pem"
    said = esp_world.tool("espsecure", "verify-signature", "--version", 2, "--keyfile", public, signed)
    assert "Signature block 0 verification successful" in said
    read = esp_world.tool("esptool", "image-info", signed)
    assert read.count("(valid)") == 2
    for wanted in ("ESP32-C3", "world", "1.1.0", "v5.5.1", f"Image size: {signed.stat().st_size} bytes"):
        assert wanted in read
    other = key_dir / "image-b.pub.pem"
    with pytest.raises(AssertionError, match="could not be verified"):
        esp_world.tool("espsecure", "verify-signature", "--version", 2, "--keyfile", other, signed)


def test_what_espsecure_signs_with_our_block_in_it_is_taken(fota, sign, application, key_dir, tmp_path):
    unsigned = tmp_path / "unsigned.bin"
    unsigned.write_bytes(sign(application, tmp_path / "app.img").read_bytes()[:-4096])
    once, theirs = tmp_path / "once.img", tmp_path / "theirs.img"
    words = ("espsecure", "sign-data", "--version", 2, "--keyfile")
    esp_world.tool(*words, key_dir / "image-b.pem", "--output", once, unsigned)
    esp_world.tool(*words, key_dir / "image-a.pem", "--append-signatures", "--output", theirs, once)
    assert len(esp_image.parse(theirs.read_bytes()).signatures) == 2
    done = fota("verify", theirs, "--key", key_dir / "image-a.pub.pem", *MODEL)
    assert done.returncode == 0, done.stderr


def test_verify_refuses_another_key_class_floor_and_a_changed_byte(
    refused, sign, application, key_dir, tmp_path
):
    signed = sign(application, tmp_path / "app.img")
    a, b = key_dir / "image-a.pub.pem", key_dir / "image-b.pub.pem"
    refused(1, "verify", signed, "--key", b, *MODEL, says="IM8 image-key")
    refused(1, "verify", signed, "--key", a, "--class", "00000000-0000-4000-8000-000000000000", says="IM7")
    refused(1, "verify", signed, "--key", a, *MODEL, "--floor", 4, says="PO1 rollback")
    refused(1, "verify", signed, "--key", a, *MODEL, "--chip", "stm32u585", says="IM13 image-chip")
    data = signed.read_bytes()
    digest = image.parse_image(data).image_hash
    ones = (bytes(31) + b"\1") * 2
    of_another = esp_signature.build_block(host_crypto.load_public_key(a), ones, digest)
    signed.write_bytes(data[:-4096] + esp_signature.build_sector([of_another]))
    refused(1, "verify", signed, "--key", a, *MODEL, says="IM10 image-signature")


@pytest.mark.parametrize("name", [name for name, row in REFUSED.items() if row[1] is not None])
def test_verify_names_what_is_wrong_with_an_image_as_the_chip_does(refused, key_dir, tmp_path, name):
    (tmp_path / "bad.img").write_bytes(image_of(name))
    says = f"bad.img: {status.label(REFUSED[name][1])}: "
    refused(1, "verify", tmp_path / "bad.img", "--key", key_dir / "image-a.pub.pem", *MODEL, says=says)


def test_inspect_tells_what_is_in_it(fota, sign, application, tmp_path):
    signed = sign(application, tmp_path / "app.img")
    told = json.loads(fota("inspect", signed, "--json").stdout)
    assert (told["chip"], told["version"], told["security_counter"]) == ("ESP32-C3", "1.1.0", 3)
    assert (told["project"], told["idf"], told["refused_for"]) == ("world", "v5.5.1", [])
    assert told["file_digest"] == image.parse_image(signed.read_bytes()).file_digest.hex()
    assert told["segments"][-1].endswith("FOTA block")


def test_inspect_tells_all_that_is_wrong_with_an_image_of_others(fota, tmp_path):
    changed = bytearray(PLAIN)
    changed[12] = 9
    (tmp_path / "s3.bin").write_bytes(changed)
    told = json.loads(fota("inspect", tmp_path / "s3.bin", "--json").stdout)
    assert told["chip"] == "ESP32-S3"
    words = [line.split()[0] for line in told["refused_for"]]
    assert words == ["IM13", "IM6", "IM4", "IM4"]


def test_blank_bytes_behind_the_image_are_left_off_with_a_word(fota, key_dir, tmp_path, sign, application):
    (tmp_path / "padded.bin").write_bytes(PLAIN + b"\xff" * 1000)
    words = ("--key", key_dir / "image-a.pem", "--version", "1.1.0", "--security-counter", 3, *MODEL)
    done = fota("sign", tmp_path / "padded.bin", "-o", tmp_path / "1", *words)
    assert "1000 blank bytes behind the image left off" in done.stdout
    assert (tmp_path / "1").read_bytes() == sign(application, tmp_path / "2").read_bytes()


# -- what is given by mistake ------------------------------------------------------------------------------

BOOTLOADER = esp_pack.build(
    esp_pack.Head(0x403CC710, 5), [(0x3FCD5710, bytes(2000)), (0x403CC710, bytes(9000))]
)
TABLE = esp_partitions.build(esp_partitions.default_table(esp32c3))
MERGED = BOOTLOADER.ljust(0x8000, b"\xff") + TABLE.ljust(0x8000, b"\xff") + PLAIN
FIRST_ESP32 = b"\xff" * 0x1000 + MERGED[:0x7000] + TABLE
SECTOR = esp_world.signed()[-4096:]
V1 = bytes(4) + Random(1).randbytes(64)
MISTAKES = {
    "bootloader": (BOOTLOADER, "is a second-stage bootloader"),
    "table": (TABLE, "is a partition table"),
    "merged": (MERGED, "is a whole flash image (merged-bin)"),
    "merged-of-the-first-esp32": (FIRST_ESP32, "is a whole flash image (merged-bin)"),
    "two-images": (PLAIN + PLAIN, "bytes follow the image, and would be left out"),
    "signed-by-us": (esp_world.signed(), "is a signed image already (it has a FOTA block)"),
    "signed": (PLAIN + b"\xff" * (-len(PLAIN) % 4096) + SECTOR, "signed already, for Secure Boot v2 (ECDSA"),
    "signed-of-old": (PLAIN + V1, "is signed already, for Secure Boot v1"),
    "cut-off": (PLAIN[:-40], "IM3 image-size: image is truncated"),
    "cut-off-in-its-header": (PLAIN[:12], "IM3 image-size: image is truncated in its header"),
    "changed": (PLAIN[:0x300] + b"\0\0\0\0" + PLAIN[0x304:], "IM6 image-hash: content does not match its"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_file_given_by_mistake_is_named_as_what_it_is(cannot, name):
    data, says = MISTAKES[name]
    cannot(data, says=says)


CHIPS = [
    (0, "ESP32"),
    (2, "ESP32-S2"),
    (9, "ESP32-S3"),
    (0xC, "ESP32-C2"),
    (0xD, "ESP32-C6"),
    (0x10, "ESP32-H2"),
]


@pytest.mark.parametrize(("chip_id", "name"), [*CHIPS, (0x12, "ESP32-P4"), (0x777, "chip id 1911")])
def test_image_of_another_chip_is_named(cannot, chip_id, name):
    cannot(
        esp_world.application(chip_id=chip_id),
        says=f"IM13 image-chip: image is for {name}, which is not booted",
    )


def test_bin_of_an_esp32_for_a_chip_of_another_maker_is_refused(cannot):
    cannot(PLAIN, "--chip", "stm32u585", says="is for an ESP32, not for --chip stm32u585")
    data = esp_world.application(chip_id=9)
    cannot(data, *C3, says="is for ESP32-S3, not for --chip esp32c3")


def test_firmware_of_an_stm32_for_an_esp32_is_refused(cannot, firmware):
    cannot(firmware.read_bytes(), *C3, says="is no application image: that begins with E9")
    cannot(Elf().build(), *C3, says="an ELF for ARM, as for an STM32, not for --chip esp32c3", name="app.elf")


def test_encrypted_image_is_named(cannot):
    cannot(Random(1).randbytes(64 * 1024), *C3, says="looks encrypted")


def test_text_and_hex_are_named(cannot):
    cannot(b"hello\n", *C3, says="is a text")
    cannot(b":020000040800F2\n:00000001FF\n", *C3, says="is an Intel HEX file")
    cannot(b"", *C3, says="is no application image")


def test_options_of_an_stm32_are_refused(cannot):
    cannot(PLAIN, "--linked-for", "0x3c000000", says="an ESP32's image says it all")
    cannot(PLAIN, "--leave-out", ".text", says="--leave-out is for the sections of an ELF file")


def test_revision_that_no_chip_has_is_refused(cannot):
    cannot(esp_world.application(min_rev=200), says="IM14 image-revision: image asks for ESP32-C3 v2.0")


def test_image_with_16_segments_has_no_room_for_our_block(cannot):
    cannot(_with_count(16), says="17 segments, ours included; an image has 16 at most")


def _with_count(count):
    parts = [(0x3FC80000 + 64 * n, bytes(16)) for n in range(count - 1)]
    place = esp_pack.place([DESCRIPTOR, Chunk(0x42000000, bytes(64))], esp32c3)
    return esp_pack.build(esp_pack.Head(0x42000000, 5), place + parts[: count - len(place)])


def test_image_that_fills_a_slot_fits_and_one_sector_more_does_not(sign, cannot, tmp_path):
    def filled(size):
        begin = Chunk(0x3C000020, DESCRIPTOR.content)
        code = Chunk(0x42010020, bytes(size - 0x10020 - 32 - 16 - 76 - 4096 - 256))
        return esp_pack.build(esp_pack.Head(code.address, 5), esp_pack.place([begin, code], esp32c3))

    (tmp_path / "full.bin").write_bytes(filled(0x3F0000))
    assert sign(tmp_path / "full.bin", tmp_path / "full.img").stat().st_size == 0x3F0000
    cannot(filled(0x3F1000), says="does not fit a slot")


# -- ELF ---------------------------------------------------------------------------------------------------

SOURCE = r"""
.section .desc, "a"
.word 0xabcd5432
.zero 252
.section .rodata, "a"
.word entry, 1, 2
.ascii "read-only"
.section .iram, "ax"
.global entry
entry: la a0, word
 lw a1, 0(a0)
 call function
1: j 1b
.section .text, "ax"
function: addi a1, a1, 1
 ret
.zero 200
.section .data, "aw"
word: .word 0x12345678
.byte 1
.section .rtc, "aw"
.word 9
.section .bss, "aw", @nobits
.zero 64
"""
SCRIPT = """ENTRY(entry) SECTIONS {
 .iram 0x40380000 : { *(.iram) }
 .dram 0x3FC88000 : { *(.data) }
 .bss (NOLOAD) : { *(.bss) }
 .drom 0x3C010020 : { *(.desc) *(.rodata) }
 .irom 0x42000020 : { *(.text) }
 .rtc 0x50000000 : { *(.rtc) } }"""


def linked(folder, source=SOURCE, script=SCRIPT):
    """An ELF as ESP-IDF's linker script lays it out."""
    (folder / "app.s").write_text(source)
    (folder / "app.ld").write_text(script)
    flags = [
        "-march=rv32imc",
        "-mabi=ilp32",
        "-nostdlib",
        "-Wl,--build-id=none",
        "-Wl,--no-warn-rwx-segments",
    ]
    command = [GCC, *flags, "-T", "app.ld", "app.s", "-o", "app.elf"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=os.environ)
    return folder / "app.elf"


@pytest.mark.skipif(not GCC, reason="riscv64-unknown-elf-gcc is not installed (make toolchain)")
def test_elf_gives_the_memory_that_esptool_gives(sign, tmp_path):
    elf = linked(tmp_path)
    ours = sign(elf, tmp_path / "app.img", *C3).read_bytes()
    digest_at = ("--elf-sha256-offset", "0xb0")
    options = ("--chip", "esp32c3", "elf2image", "--flash-mode", "dio", "--flash-freq", "80m")
    esp_world.tool("esptool", *options, "--flash-size", "4MB", *digest_at, "-o", tmp_path / "theirs.bin", elf)
    theirs = (tmp_path / "theirs.bin").read_bytes()
    assert memory(ours) == memory(theirs)
    assert ours[:1] + ours[2:12] == theirs[:1] + theirs[2:12]  # all but the count of segments
    assert esp_image.Header(ours).chip_id == esp_image.Header(theirs).chip_id
    assert esp_image.descriptor(ours, esp_image.parse(ours).segments)[144:176] == theirs[0xB0:0xD0]
    assert sign(tmp_path / "theirs.bin", tmp_path / "2.img").stat().st_size == len(ours)


@pytest.mark.skipif(not GCC, reason="riscv64-unknown-elf-gcc is not installed (make toolchain)")
def test_elf_that_reaches_into_the_loader_is_refused(cannot, tmp_path):
    data = linked(tmp_path, script=SCRIPT.replace("0x3FC88000", "0x3FCD0000")).read_bytes()
    cannot(data, *C3, says="0x3fcd0000 is in no memory that an application may have", name="app2.elf")


def elf(*segments, entry=0x42000020, machine=243, **more):
    data = bytearray(Elf(segments=list(segments), machine=machine, **more).build())
    struct.pack_into("<I", data, 24, entry)
    for number, (address, _) in enumerate(segments):
        struct.pack_into("<I", data, 52 + 32 * number + 8, address)
    return bytes(data)


CODE = (0x42000020, bytes(64))
BEGIN = (DESCRIPTOR.address, DESCRIPTOR.content)


def test_elf_without_chip_is_asked_for_it(cannot):
    says = "does not say for which ESP32 it is: say --chip esp32c3"
    cannot(elf(CODE), says=says, code=2, name="app.elf")  # an option is missing


def test_elf_for_xtensa_is_named(cannot):
    cannot(elf(CODE, machine=94), says="an ELF for Xtensa (ESP32, ESP32-S2, ESP32-S3)", name="app.elf")


def test_elf_with_a_section_that_would_be_left_out_is_refused(cannot, sign, tmp_path):
    data = elf(BEGIN, CODE, sections=[Section(".extra", b"1234", addr=0x42001000)])
    cannot(data, *C3, says="section .extra (4 bytes) is in no segment", name="app.elf")
    (tmp_path / "app.elf").write_bytes(data)
    sign(tmp_path / "app.elf", tmp_path / "out.img", *C3, "--leave-out", ".extra")


def test_elf_at_an_odd_address_or_without_entry_is_refused(cannot):
    odd = elf(BEGIN, (0x3FC80002, bytes(8)), CODE)
    cannot(odd, *C3, says="0x3fc80002 is no multiple of 4", name="app.elf")
    cannot(elf(BEGIN, CODE, entry=0), *C3, says="IM15 image-segment: entry 0x00000000", name="app.elf")
    cannot(elf(CODE, kind=1), *C3, says="an object file: link it first", name="app.elf")
    cannot(elf(CODE), *C3, says="IM2 image-header: image does not begin with an application", name="app.elf")
    cannot(elf((0x42000020, b"")), *C3, says="nothing to load in it", name="app.elf")


@pytest.mark.parametrize("gap", range(0, 48, 4))
def test_what_is_loaded_fills_the_room_in_front_of_what_is_seen_to_the_byte(gap):
    begin = 0x42000128 + gap  # the descriptor's segment ends at 0x120
    for size in range(4, 36, 4):
        loaded = bytes(range(1, size + 1))
        chunks = [DESCRIPTOR, Chunk(begin, bytes(40)), Chunk(0x3FC80000, loaded)]
        data = esp_pack.build(esp_pack.Head(begin, 5), esp_pack.place(chunks, esp32c3))
        esp_image.parse_plain(data)
        seen = {0x3FC80000: loaded, begin: bytes(40), DESCRIPTOR.address: DESCRIPTOR.content}
        assert memory(data) == seen


def test_status_names_of_the_espressif_way_are_in_the_registry():
    assert [status.label(code) for code in (status.IM13, status.IM14, status.IM15, status.PT1)] == [
        "IM13 image-chip",
        "IM14 image-revision",
        "IM15 image-segment",
        "PT1 partition-table",
    ]
