"""``fota sign`` and ``fota verify``: formats in, checks before signing, bad input, imgtool as an oracle."""

import contextlib
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from intelhex import IntelHex

from fota_signer import cli, firmware, identity, sign_command
from fota_signer.chunk import Chunk
from fota_wire import files, image
from fota_wire.errors import InputError, StorageError

MODEL = ("--vendor-domain", "example.com", "--model", "demo")
CLASS = "a811ee0d-5553-5b3e-b13c-41922315f230"
GCC = shutil.which("arm-none-eabi-gcc")
START = 0x08004200
VECTORS = struct.pack("<II", 0x20010000, START | 1)


def options(key_dir, *, key="image-a", version="1.1.0", counter=3):
    return ("--key", key_dir / f"{key}.pem", "--version", version, "--security-counter", counter, *MODEL)


def write_hex(path, start, data, extra=()):
    reader = IntelHex()
    reader.puts(start, data)
    for address, content in extra:
        reader.puts(address, content)
    reader.write_hex_file(str(path))


def build_elf(path, start, *, source=None):
    path.with_suffix(".s").write_text(
        source
        or """.syntax unified
.thumb
.section .vectors, "a"
.word 0x20010000
.word reset
.text
.thumb_func
.global reset
reset: b reset
.section .late, "a"
.word 0x11223344
.data
.word 0xcafe
"""
    )
    path.with_suffix(".ld").write_text(
        f"""SECTIONS {{ . = {start:#x}; .vectors : {{ *(.vectors) }} .text : {{ *(.text) }}
        . = {start + 0x100:#x}; .late : {{ *(.late) }}
        .data 0x20000000 : AT({start + 0x110:#x}) {{ *(.data) }} }}"""
    )
    command = [GCC, "-nostdlib", "-mcpu=cortex-m4", "-mthumb", "-Wl,--build-id=none", "-Wl,-e,reset"]
    command += ["-T", path.with_suffix(".ld"), path.with_suffix(".s"), "-o", path]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_sign_twice_gives_the_same_bytes(sign, firmware, tmp_path):
    one, two = sign(firmware, tmp_path / "1"), sign(firmware, tmp_path / "2")
    assert one.read_bytes() == two.read_bytes()
    assert image.parse_image(one.read_bytes()).sec_cnt == 3


def test_sign_hex_gives_what_the_binary_gives(sign, firmware, tmp_path):
    write_hex(tmp_path / "app.hex", START, firmware.read_bytes())
    assert (
        sign(tmp_path / "app.hex", tmp_path / "1").read_bytes() == sign(firmware, tmp_path / "2").read_bytes()
    )


def test_sign_hex_with_a_gap_fills_it_with_ff(sign, tmp_path):
    write_hex(tmp_path / "app.hex", START, VECTORS, [(START + 16, b"tail")])
    data = sign(tmp_path / "app.hex", tmp_path / "out").read_bytes()
    assert data[0x200:0x214] == VECTORS + b"\xff" * 8 + b"tail"


@pytest.mark.skipif(GCC is None, reason="arm-none-eabi-gcc is not installed")
def test_sign_elf_takes_load_addresses_and_fills_gaps(sign, tmp_path):
    elf = build_elf(tmp_path / "app.elf", START)
    parsed = sign(elf, tmp_path / "out").read_bytes()
    payload = parsed[0x200 : 0x200 + image.parse_image(parsed).img_size]
    objcopy = [GCC.replace("gcc", "objcopy"), "-O", "binary"]
    filled = {}
    for fill in (0x00, 0xFF):
        subprocess.run([*objcopy, "--gap-fill", str(fill), elf, tmp_path / "ref.bin"], check=True)
        filled[fill] = (tmp_path / "ref.bin").read_bytes()
    assert len(payload) == len(filled[0]) == 0x114
    for ours, zeros, ones in zip(payload, filled[0x00], filled[0xFF], strict=True):
        assert ours in (zeros, ones)  # they differ in the gaps alone: there a segment's own bytes count


@pytest.mark.skipif(GCC is None, reason="arm-none-eabi-gcc is not installed")
def test_elf_linked_elsewhere_refused(refused, key_dir, tmp_path):
    elf = build_elf(tmp_path / "app.elf", 0x08000000)
    refused(
        3, "sign", elf, "-o", "out", *options(key_dir), says="linked for 0x08000000; link it for 0x08004200"
    )


@pytest.mark.skipif(GCC is None, reason="arm-none-eabi-gcc is not installed")
@pytest.mark.parametrize("keep", [5, 52, 200, 0.5, 0.9])
def test_elf_truncated_refused(refused, key_dir, tmp_path, keep):
    elf = build_elf(tmp_path / "app.elf", START)
    data = elf.read_bytes()
    elf.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    refused(3, "sign", elf, "-o", "out", *options(key_dir), says="ELF file")


@pytest.mark.skipif(GCC is None, reason="arm-none-eabi-gcc is not installed")
def test_elf_of_another_machine_refused(refused, key_dir, tmp_path):
    executable = Path(sys.executable).resolve()
    refused(3, "sign", executable, "-o", "out", *options(key_dir), says="not an ELF for")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not firmware"),
        (b"hello, world", "a text"),
        (b"\xff" * 4096, "not firmware"),
        (struct.pack("<II", 0x20010000, 0x08000101) + bytes(99), "reset vector 0x08000101"),
        (VECTORS + bytes(firmware.max_payload() - 7), "do not fit a slot"),
        (VECTORS + b"\xb5" * (firmware.max_payload() - 8), "there is no code where its reset vector points"),
        (b":020000040800F2\n", "truncated Intel HEX"),
        (b":020000040800F3\n:00000001FF\n", "damaged Intel HEX"),
        (b":00000001FF\n", "nothing to load"),
        (b"\x7fELF" + bytes(100), "ELF"),
    ],
)
def test_not_firmware_refused(refused, key_dir, tmp_path, content, says):
    (tmp_path / "in").write_bytes(content)
    refused(3, "sign", "in", "-o", "out", *options(key_dir), says=says)


def test_image_larger_than_a_slot_refused(refused, key_dir, tmp_path):
    (tmp_path / "in").write_bytes(VECTORS + bytes(firmware.max_payload() - 8))
    words = ("sign", "in", "-o", "out", *options(key_dir), "--linked-for", "0x08004200")
    refused(3, *words, says="does not fit a slot")


def test_signed_image_as_input_refused(refused, sign, firmware, key_dir, tmp_path):
    sign(firmware, tmp_path / "out")
    refused(
        3,
        "sign",
        "out",
        "-o",
        "again",
        *options(key_dir),
        says="out is a signed image, expected firmware as the linker made it",
    )


def test_hex_at_another_address_refused(refused, key_dir, tmp_path):
    write_hex(tmp_path / "app.hex", 0x08000000, VECTORS)
    refused(3, "sign", "app.hex", "-o", "out", *options(key_dir), says="linked for 0x08000000")


@pytest.mark.parametrize(("end", "accepted"), [(0, True), (1, False)])
def test_segment_at_the_end_of_the_slot(end, accepted):
    chunks = [Chunk(START, VECTORS), Chunk(START + firmware.max_payload() - 4 + end, bytes(4), "segment 1")]
    if accepted:
        assert len(firmware.flatten(chunks, "app")) == firmware.max_payload()
    else:
        with pytest.raises(InputError, match="segment 1: 4 bytes at 0x0807fffd are outside the slot"):
            firmware.flatten(chunks, "app")


def test_output_exists_refused_unless_forced(refused, sign, firmware, key_dir, tmp_path):
    (tmp_path / "out").write_bytes(b"precious")
    refused(3, "sign", firmware, "-o", "out", *options(key_dir), says="out exists")
    sign(firmware, tmp_path / "out", "--force")
    assert (tmp_path / "out").read_bytes() != b"precious"


def test_missing_input_refused(refused, key_dir):
    refused(3, "sign", "nowhere.bin", "-o", "out", *options(key_dir), says="nowhere.bin: No such file")


def test_folder_that_is_not_there_is_named(refused, firmware, key_dir):
    says = "error: no/such/dir: no such folder: make it first"
    refused(3, "sign", firmware, "-o", "no/such/dir/out", *options(key_dir), says=says)


def test_full_disk_leaves_nothing_behind(monkeypatch, key_dir, firmware, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("FOTA_ALLOW_EXAMPLE_KEYS", "1")
    monkeypatch.setattr(files.os, "fsync", full)
    words = [firmware, "-o", tmp_path / "out", *options(key_dir)]
    with pytest.raises(StorageError, match="No space left on device") as caught:
        sign_command.run(sign_command.parse([str(word) for word in words]))
    assert caught.value.exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["app.bin"]


@pytest.mark.parametrize("counter", [0, 262144])
def test_counter_out_of_range_refused(refused, firmware, key_dir, counter):
    refused(
        3,
        "sign",
        firmware,
        "-o",
        "out",
        *options(key_dir, counter=counter),
        says="is not a whole number of 1 to 262143",
    )


def test_malformed_version_refused(refused, firmware, key_dir):
    refused(
        3, "sign", firmware, "-o", "out", *options(key_dir, version="1.2"), says="'1.2' is not like 1.2.3"
    )


def test_no_class_refused(refused, firmware, key_dir):
    words = options(key_dir)[:6]
    refused(2, "sign", firmware, "-o", "out", *words, says="say which device class")


def test_example_key_refused_outside_rehearsals(refused, firmware, key_dir):
    words = ("sign", firmware, "-o", "out", *options(key_dir))
    refused(1, *words, says="published example key", allow=False)


def test_example_key_accepted_when_asked_for(fota, firmware, key_dir, tmp_path):
    words = ("sign", firmware, "-o", "out", *options(key_dir), "--allow-example-keys")
    assert fota(*words, allow=False).returncode == 0
    assert (tmp_path / "out").exists()


def test_class_is_the_name_based_uuid():
    import uuid

    vendor = uuid.uuid5(uuid.NAMESPACE_DNS, "example.com")
    found = identity.device_class(class_uuid=None, domain="example.com", model="demo")
    assert found.vendor_id == vendor.bytes
    assert found.class_id == uuid.uuid5(vendor, "demo").bytes == uuid.UUID(CLASS).bytes
    with pytest.raises(InputError, match="is not the class of"):
        identity.device_class(class_uuid=str(vendor), domain="example.com", model="demo")


def test_quick_parser_and_click_know_the_same_options():
    known = {flag: param.name for param in cli.sign.params for flag in param.opts if flag.startswith("-")}
    assert known == sign_command.VALUES | sign_command.FLAGS | sign_command.REPEATED
    required = {param.name for param in cli.sign.params if param.required}
    assert required == {"source", *sign_command.REQUIRED}


@pytest.mark.parametrize("words", [[], ["--help"], ["a", "-o"], ["a", "b"], ["a", "--kay", "k"]])
def test_quick_parser_leaves_unusual_lines_to_click(words):
    assert sign_command.main(words) is None


def test_quick_start_signs_as_the_command_does(sign, firmware, key_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOTA_ALLOW_EXAMPLE_KEYS", "1")
    words = [firmware, "-o", tmp_path / "quick", *options(key_dir), "--json"]
    assert sign_command.main([str(word) for word in words]) == 0
    printed = json.loads(capsys.readouterr().out)
    data = sign(firmware, tmp_path / "slow").read_bytes()
    assert (tmp_path / "quick").read_bytes() == data
    assert printed["file_digest"] == image.parse_image(data).file_digest.hex()


@given(st.sampled_from([b"", b":", b":020000040800F2\n:", b"\x7fELF\x01\x01\x01"]), st.binary(max_size=200))
def test_any_bytes_are_firmware_or_one_clear_error(start, rest):
    with contextlib.suppress(InputError):
        firmware.load_firmware(start + rest, "app")


# --- fota verify


def test_verify_accepts_ours(fota, sign, firmware, key_dir, tmp_path):
    sign(firmware, tmp_path / "out")
    result = fota("verify", "out", "--key", key_dir / "image-a.pub.pem", *MODEL, "--floor", 3, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["security_counter"] == 3


@pytest.mark.parametrize(
    ("key", "more", "says"),
    [
        ("image-b", (), "IM8 image-key"),
        ("image-a", ("--class", "00000000-0000-4000-8000-000000000000"), "IM7 image-class"),
        ("image-a", ("--floor", "4"), "PO1 rollback"),
        ("image-a", ("--max-step", "2"), "PO2 counter-step"),
    ],
)
def test_verify_refuses_by_policy(refused, sign, firmware, key_dir, tmp_path, key, more, says):
    sign(firmware, tmp_path / "out")
    refused(1, "verify", "out", "--key", key_dir / f"{key}.pub.pem", *more, says=says)


@pytest.mark.parametrize(("position", "says"), [(0, "IM1"), (0x300, "IM6"), (-1, "IM10")])
def test_verify_refuses_a_flipped_byte(refused, sign, firmware, key_dir, tmp_path, position, says):
    data = bytearray(sign(firmware, tmp_path / "out").read_bytes())
    data[position] ^= 1
    (tmp_path / "out").write_bytes(data)
    code = 3 if says == "IM1" else 1
    refused(code, "verify", "out", "--key", key_dir / "image-a.pub.pem", says=says)


def test_verify_refuses_a_truncated_image(refused, sign, firmware, key_dir, tmp_path):
    data = sign(firmware, tmp_path / "out").read_bytes()
    (tmp_path / "out").write_bytes(data[:-1])
    refused(1, "verify", "out", "--key", key_dir / "image-a.pub.pem", says="IM3")


# --- imgtool


def imgtool(*words):
    script = "import sys; from imgtool.main import imgtool; sys.exit(imgtool())"
    command = [sys.executable, "-c", script, *[str(word) for word in words]]
    return subprocess.run(command, capture_output=True, text=True)


def imgtool_sign(firmware, output, key_dir, *more):
    words = ("sign", "-k", key_dir / "image-a.pem", "--header-size", "0x200", "--pad-header", "--align", 8)
    words += ("--slot-size", "0x7C000", "-v", "1.1.0", *more, firmware, output)
    result = imgtool(*words)
    assert result.returncode == 0, result.stderr
    return output


def test_imgtool_verifies_ours(sign, firmware, key_dir, tmp_path):
    sign(firmware, tmp_path / "out")
    good = imgtool("verify", "-k", key_dir / "image-a.pub.pem", tmp_path / "out")
    assert good.returncode == 0
    assert "correctly validated" in good.stdout
    assert imgtool("verify", "-k", key_dir / "image-b.pub.pem", tmp_path / "out").returncode != 0


def test_image_of_imgtool_passes_our_verify(fota, firmware, key_dir, tmp_path):
    imgtool_sign(firmware, tmp_path / "out", key_dir, "--security-counter", 3, "--cid", CLASS)
    result = fota("verify", "out", "--key", key_dir / "image-a.pub.pem", "--class", CLASS)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("more", [("--security-counter", 3), ("--cid", CLASS)])
def test_image_of_imgtool_without_counter_or_class_refused(refused, firmware, key_dir, tmp_path, more):
    imgtool_sign(firmware, tmp_path / "out", key_dir, *more)
    refused(1, "verify", "out", "--key", key_dir / "image-a.pub.pem", says="IM4")


def test_signed_part_equals_that_of_imgtool(sign, firmware, key_dir, tmp_path):
    ours = sign(firmware, tmp_path / "ours").read_bytes()
    more = ("--security-counter", 3, "--vid", "example.com", "--cid", CLASS, "--rom-fixed", "0x08004000")
    theirs = imgtool_sign(firmware, tmp_path / "theirs", key_dir, *more).read_bytes()
    a, b = image.parse_image(ours), image.parse_image(theirs)
    end = 0x200 + a.img_size + 4 + sum(4 + len(value) for _, value in a.protected)
    assert ours[:end] == theirs[:end]
    assert a.image_hash == b.image_hash
    assert a.unprotected[:2] == b.unprotected[:2]  # then the signature, which imgtool makes by chance
