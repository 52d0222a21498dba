"""Which chip is meant is said once, and a mismatch is refused by name, at every station."""

import json
import struct
import subprocess
from pathlib import Path

import click
import pytest
from cli_factory import fota, genesis_root, one_line
from walk_world import ALL

from fota_vdev.machine import Machine
from fota_wire.host_chips import CHIPS
from fota_wire.host_options import OneOf
from fota_wire.image import parse_image
from fota_wire.settings import unpack_trust_store

BUILD = Path(__file__).resolve().parents[2] / "build"
BOOTLOADERS = {"stm32l476": BUILD / "bootloader/stm32l4/bootloader.elf",
               "stm32u585": BUILD / "bootloader/stm32u5/bootloader.elf"}  # fmt: skip
SAMPLES = {"stm32l476": BUILD / "sample/app-1.0.0.elf", "stm32u585": BUILD / "sample/stm32u5/app-1.0.0.elf"}
BUILT = (*BOOTLOADERS.values(), *SAMPLES.values())
needs_firmware = pytest.mark.skipif(not all(p.exists() for p in BUILT), reason="make firmware first")


def sign(factory, source, output, *more, code=0):
    return fota("sign", source, "-o", output, "--key", factory / "a.pem", "--version", "1.0.0",
                "--security-counter", 1, "--vendor-domain", "example.com", "--model", "demo", *more,
                code=code)  # fmt: skip


@pytest.fixture
def station(factory, roots, options, tmp_path):
    """An image for each chip, and what `provision hex` is told beside chip, bootloader and image."""
    for chip in BOOTLOADERS:
        sign(factory, SAMPLES[chip], tmp_path / f"{chip}.img", "--chip", chip)
    (tmp_path / "root.cbor").write_bytes(genesis_root())
    return (*roots, "--root", tmp_path / "root.cbor", "--server-ca", factory / "ca.crt",
            "--server-url", "https://updates.example:8443")  # fmt: skip


def provisioned(chip, options, tmp_path):
    """A virtual device of this chip whose element is done, and its record."""
    device = tmp_path / f"{chip}.vdev"
    fota("vdev", "create", device, "--chip", chip, "--seed", 5)
    fota("provision", "device", device, *options, "--work", tmp_path / "work")
    return device, next((tmp_path / "work").glob("*.json"))


def test_names_of_all_chips_are_in_the_help():
    for command in ("sign", "vdev create"):
        shown = fota(*command.split(), "--help")[0]
        assert all(name in shown for name in CHIPS), command
    assert all(name in fota("provision", "hex", "--help")[0] for name in BOOTLOADERS)


@needs_firmware
def test_stm32u585_goes_from_blank_to_running_through_the_factory(station, options, tmp_path):
    device, record = provisioned("stm32u585", options, tmp_path)
    made = tmp_path / "board.hex"
    said, _ = fota("provision", "hex", record, *station, "--bootloader", BOOTLOADERS["stm32u585"],
                   "--image", tmp_path / "stm32u585.img", "--rehearse", "-o", made)  # fmt: skip
    for words in ("Rehearsed on a virtual device: slot A boots 1.0.0", "its agent starts", "chip stm32u585",
                  "WRP1A_PSTRT=0x0 WRP1A_PEND=0x1 WRP2A_PSTRT=0x0 WRP2A_PEND=0x1", "stm32u5x.cfg",
                  "option_write 0 0x58 0x80010000", "option_write 0 0x40 0x1feff8bb",
                  "ww 0x40022068 0x80010000", "onfirm on silicon"):  # fmt: skip
        assert words in " ".join(said.replace("\\\n", "").split())
    told = fota("provision", "load", device, made)[0]
    assert "pages 0-1 of bank 1 and 2 protected" in told
    with Machine.load(device) as machine:
        both = [machine.flash.read_phys(bank, 0, 0x4000) for bank in (1, 2)]
    assert both[0][:0x3FE0] == both[1][:0x3FE0]
    words = [struct.unpack("<6I", bank[0x3FE0:0x3FF8]) for bank in both]
    assert words[0] == (0x08004000, 0x08104000, 0xF0000, 0x08004000, 0x20000000, 0x20017F00)
    assert words[1][:2] == (words[0][1], words[0][0])
    assert unpack_trust_store(both[0][0x2000:0x3800]).chip == "stm32u585"
    assert "slot A 1.0.0 confirmed" in fota("vdev", "run", device, "--until", "journal: ")[0]
    status = json.loads(fota("vdev", "status", device, "--json")[0])
    assert (status["chip"], status["slot_a"]["image"]) == ("stm32u585", "1.0.0")


@needs_firmware
def test_image_bootloader_and_hex_of_another_chip_are_refused_by_name(station, options, tmp_path):
    _, record = provisioned("stm32u585", options, tmp_path)
    before, made = record.read_bytes(), tmp_path / "board.hex"

    def refused(chip, bootloader, image, code):
        words = (
            "--chip",
            chip,
            "--bootloader",
            BOOTLOADERS[bootloader],
            "--image",
            tmp_path / f"{image}.img",
        )
        return one_line(fota("provision", "hex", record, *station, *words, "-o", made, code=code)[1])

    assert "image is for chip stm32l476, not stm32u585" in refused("stm32u585", "stm32u585", "stm32l476", 1)
    for chip, other in (("stm32l476", "stm32u585"), ("stm32u585", "stm32l476")):
        words = f"is the bootloader of chip {other}, and not the bootloader of chip {chip}"
        assert words in refused(chip, other, chip, 3)
    assert record.read_bytes() == before
    assert not made.exists()

    fota("provision", "hex", record, *station, "--bootloader", BOOTLOADERS["stm32u585"],
         "--image", tmp_path / "stm32u585.img", "-o", made)  # fmt: skip
    for chip in ("stm32l476", "esp32c3"):
        other = tmp_path / f"{chip}-other.vdev"
        fota("vdev", "create", other, "--chip", chip)
        blank = other.read_bytes()
        said = one_line(fota("provision", "load", other, made, code=3)[1])
        assert f"is for chip stm32u585, and the virtual device is of {chip}" in said
        assert other.read_bytes() == blank


@needs_firmware
def test_image_says_its_chip_when_it_is_signed_for_one_and_has_its_room(factory, tmp_path):
    out = tmp_path / "out.img"
    sign(factory, SAMPLES["stm32u585"], out, "--chip", "stm32u585")
    assert parse_image(out.read_bytes()).chip == "stm32u585"
    assert "0xa0 chip: 73746d333275353835" in fota("inspect", out)[0]
    check = "verify", out, "--key", factory / "a.pub", "--chip"
    fota(*check, "stm32u585")
    assert "image is for chip stm32u585, not stm32l476" in one_line(fota(*check, "stm32l476", code=1)[1])
    sign(factory, SAMPLES["stm32l476"], out, "--force")
    assert parse_image(out.read_bytes()).chip == ""
    large = tmp_path / "large.elf"
    padding = tmp_path / "padding"
    padding.write_bytes(bytes(600 << 10))
    subprocess.run(["arm-none-eabi-objcopy", "--add-section", f".more={padding}", "--set-section-flags",
                    ".more=alloc,load,readonly,contents", "--change-section-address", ".more=0x08020000",
                    "-O", "ihex", SAMPLES["stm32u585"], large], check=True)  # fmt: skip
    said = one_line(sign(factory, large, out, "--force", code=3)[1])
    assert "outside the slot of chip stm32l476" in said
    sign(factory, large, out, "--force", "--chip", "stm32u585")
    assert parse_image(out.read_bytes()).size > 600 << 10


NO_CHIP = "is none of stm32l476, stm32u585, esp32c3"
SIGN = ("sign app.bin -o new --key image-a.pem --version 1.2.3 --security-counter 3 --linked-for 0x08004200"
        " --vendor-domain example.com --model m")  # fmt: skip
ELSEWHERE = (
    "vdev create new.vdev",
    "verify image.img --key image-a.pub.pem",
    "provision hex record.json -o new --bootloader app.elf --image image.img --image-key-a image-a.pub.pem"
    " --image-key-b image-b.pub.pem --root root.cbor --server-ca server-ca.crt --server-url https://h",
    SIGN,
    f"{SIGN} --leave-out=",  # not the quick way
)


@pytest.mark.parametrize("line", ELSEWHERE)
@pytest.mark.parametrize(
    ("typed", "meant"),
    [("stm32l467", ". Did you mean 'stm32l476'?"), ("stm32u5", ". Did you mean 'stm32u585'?"),
     ("ESP32", ". Did you mean 'esp32c3'?"), ("none", "")],
)  # fmt: skip
def test_mistyped_chip_is_a_usage_error_with_what_was_meant_everywhere(world, line, typed, meant):
    done = world.run([*line.split(), "--chip", typed])
    assert (done["code"], done["err"].count("\n")) == (2, 1), done
    assert done["err"].startswith(f"fota: error: --chip: '{typed}' {NO_CHIP}{meant}")
    assert world.snapshot() == world.files


@pytest.mark.parametrize("typed", ["STM32U585", "Esp32C3", "ESP32-C3", " stm32l476 "])
def test_chip_is_taken_in_capitals_and_as_its_maker_writes_it(world, typed):
    name = typed.strip().lower().replace("-", "")
    done = world.run(["vdev", "create", "new.vdev", "--chip", typed, "--json"])
    (world.folder / "new.vdev").unlink()
    assert json.loads(done["out"])["chip"] == name
    signed = world.run([*SIGN.split(), f"--chip={typed}"])
    (world.folder / "new").unlink(missing_ok=True)
    assert signed["code"] == (3 if name == "esp32c3" else 0), signed  # app.bin is an STM32's


def test_other_words_to_choose_from_are_taken_in_capitals_too(world):
    done = world.run(["vdev", "flash-image", "blank.vdev", "image.img", "--slot", "b"])
    assert (done["code"], done["out"].split(":")[0]) == (0, "slot B"), done
    said = world.run(["vdev", "flash-image", "blank.vdev", "image.img", "--slot", "c"])
    assert (said["code"], said["err"].split(" (")[0].strip()) == (
        2,
        "fota: error: --slot: 'c' is none of A, B",
    )
    said = world.run(["server", "token", "create", "ci", "--data", "data", "--role", "publishr"])
    assert "is none of viewer, publisher, operator, admin. Did you mean 'publisher'?" in said["err"]


def test_every_choice_of_every_command_is_of_the_one_type():
    found = [(path, param.name) for path, command in ALL.items() for param in command.params
             if isinstance(param.type, click.Choice) and not isinstance(param.type, OneOf)]  # fmt: skip
    assert not found
