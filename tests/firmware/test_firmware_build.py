"""What the linked image is: small enough, nothing that listens, no private key in software, no compiler."""

import re
import subprocess
from pathlib import Path

import chip_world
import pytest

from fota_wire.host_chips import CHIPS

REPO = Path(__file__).parents[2]
TEXT, IMAGE, RAM = 207 * 1024, 256 * 1024, 96 * 1024


def sections(elf):
    command = ["arm-none-eabi-size", "-A", "-d", elf]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in out.splitlines() if line.startswith("."))
    return {row[0]: int(row[1]) for row in rows if int(row[2])}


def test_image_fits_its_budgets(elf):
    size = sections(elf)
    assert size[".text"] + size[".data"] <= TEXT
    assert size[".text"] + size[".data"] + 0x200 + 1024 <= IMAGE
    assert size[".data"] + size[".bss"] <= RAM - 40 * 1024  # stack and Python's heap take the rest


def test_code_of_the_esp32c3_is_rv32imc_and_nothing_else(elf):
    """The emulator executes atomics and floating point; the chip traps."""
    command = ["riscv64-unknown-elf-readelf", "-A", chip_world.firmware("1.0.0", "esp32c3")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = said.split('Tag_RISCV_arch: "')[1].split('"')[0].split("_")
    assert {re.sub(r"\d+p\d+$", "", part) for part in parts} == {"rv32i", "m", "c", "zicsr", "zmmul"}


def test_image_has_nothing_that_listens(symbols):
    words = re.compile(r"(^|_)(listen|accept|bind)(_|$)")
    byte_code = ("children_", "fun_data_", "proto_fun_")  # a method of ours takes an answer: `accept`
    assert [name for name in symbols if words.search(name) and not name.startswith(byte_code)] == []
    assert "socket_connect" in symbols  # the test looks at the right names


def test_image_cannot_sign_with_a_private_key_in_software(symbols):
    signing = {name for name in symbols if "ecdsa_sign" in name or "ecdsa_write_signature" in name}
    ours = {"__wrap_mbedtls_ecdsa_sign", "__wrap_mbedtls_ecdsa_write_signature"}
    assert signing - {"ecdsa_sign_wrap", "micropy_mbedtls_ecdsa_sign_alt"} == ours


def test_image_has_no_compiler_and_no_prompt(symbols):
    assert not {"mp_parse", "mp_compile", "mp_compile_to_raw_code", "readline"} & symbols
    assert not {name for name in symbols if name.startswith(("pyexec_", "mp_lexer_next"))}


@pytest.mark.parametrize("name", CHIPS)
def test_chip_that_the_demo_is_told_is_not_taken_for_a_port(elf, name):
    """`make demo CHIP=...` hands its variable down to every make below it."""
    command = ["make", "-n", "agent-firmware", f"CHIP={name}"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "agent-firmware/obj-tls12" in done.stdout
    assert "/unix" in done.stdout
    assert not re.search(r"agent-firmware/\w+/(obj-tls12|unix)", done.stdout)


@pytest.mark.parametrize("tls12", ["0", "1"])
def test_two_trees_give_the_same_bytes(elf, tmp_path, tls12):
    """Another copy of the repository, other folders, another object directory: the same image."""
    copy = tmp_path / "elsewhere" / "fota"
    for part in ("agent", "wire", "bootloader"):
        subprocess.run(["cp", "-r", "--parents", part, make_folder(copy)], cwd=REPO, check=True)
    sources = make_folder(copy / "build")
    subprocess.run(["cp", "-r", REPO / "build/micropython", sources], check=True)
    done = subprocess.run(
        ["make", "-s", "-C", copy / "agent/firmware", "-j2", f"TLS12={tls12}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name = "firmware-1.0.0-tls12.elf" if tls12 == "1" else elf.name
    other = copy / "build/agent-firmware" / name
    assert flashed(other, tmp_path) == flashed(elf.with_name(name), tmp_path)


def make_folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def flashed(elf, folder):
    out = Path(folder) / "out.bin"
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", elf, out], check=True)
    return out.read_bytes()
