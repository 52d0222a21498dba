"""Programs of Linux gateways: signed if Linux could start them, all of them."""

import contextlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fota_signer.program import check_program
from fota_wire.errors import InputError

CC = shutil.which("cc")
SH = Path("/bin/sh").resolve()


def refused(data, says):
    with pytest.raises(InputError) as caught:
        check_program(data, "app")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def compile_c(folder, *flags, source="int main(void) { return 0; }"):
    (folder / "a.c").write_text(source)
    subprocess.run([CC, *flags, "a.c", "-o", "a.out"], check=True, cwd=folder, capture_output=True)
    return (folder / "a.out").read_bytes()


def test_program_of_this_machine_is_told_with_its_interpreter():
    assert "program, started by /lib" in check_program(SH.read_bytes(), "app")


@pytest.mark.skipif(CC is None, reason="no C compiler is installed")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "started by /lib"),
        (("-no-pie",), "started by /lib"),
        (("-static",), "program, static"),
        (("-static-pie",), "program, static"),
    ],
)
def test_program_of_any_kind_is_taken(tmp_path, flags, says):
    assert says in check_program(compile_c(tmp_path, *flags), "app")


@pytest.mark.skipif(CC is None, reason="no C compiler is installed")
def test_object_file_and_library_refused(tmp_path):
    refused(compile_c(tmp_path, "-c"), "an object file: link it first")
    refused(compile_c(tmp_path, "-shared", "-fPIC", source="int f(void) { return 1; }"), "a library")


@pytest.mark.parametrize("part", [0.999, 0.9, 0.5, 0.1])
def test_truncated_program_refused(part):
    data = SH.read_bytes()
    refused(data[: int(len(data) * part)], "truncated ELF file")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({4: b"\x03"}, "damaged ELF file"),
        ({5: b"\x03"}, "damaged ELF file"),
        ({7: b"\x09"}, "not for Linux"),
        ({18: b"\xff\x7f"}, "not for Linux on a machine that we know"),
        ({16: b"\x04\x00"}, "a core dump"),
    ],
)
def test_elf_that_linux_cannot_start_refused(change, says):
    data = bytearray(SH.read_bytes())
    for at, value in change.items():
        data[at : at + len(value)] = value
    refused(bytes(data), says)


def test_firmware_for_a_bare_chip_is_no_program():
    code, data = bytes(64), b"\xbe\xba\xfe\xca"
    head = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 40, 1, 0x08004209, 52, 0, 0, 52, 32, 2, 40, 0, 0
    )
    text = (1, 116, 0x08004200, 0x08004200, 64, 64, 5, 4)
    for where in (0x08004240, 0x20000000):  # an STM32's; as an ESP32's, whose loader puts it there
        loads = [text, (1, 180, 0x20000000, where, 4, 4, 6, 4)]
        elf = head + b"".join(struct.pack("<8I", *load) for load in loads) + code + data
        refused(elf, "firmware for a bare microcontroller")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#!/bin/sh\r\necho\r\n", "line ends of Windows"),
        (b"#!\necho\n", "first line is not #! and the path of an interpreter"),
        (b"#!python3\nprint()\n", "first line is not #! and the path of an interpreter"),
        (b"#!/bin/sh -c exit", "first line is not #! and the path of an interpreter"),
        (b"#!/bin/" + b"x" * 300 + b"\necho\n", "first line is not #! and the path of an interpreter"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
        (b"echo hello\n", "a text"),
        (b"", "neither an ELF program nor a script"),
        (bytes(99), "neither an ELF program nor a script"),
    ],
)
def test_script_that_linux_cannot_start_refused(content, says):
    refused(content, says)


def test_script_is_told_with_its_interpreter():
    assert check_program(b"#! /usr/bin/env python3\nprint()\n", "app") == "script for /usr/bin/env"


@given(st.sampled_from([b"", b"#!", b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x02\x01"]), st.binary(max_size=300))
def test_any_bytes_are_a_program_or_one_clear_error(start, rest):
    with contextlib.suppress(InputError):
        check_program(start + rest, "app")
