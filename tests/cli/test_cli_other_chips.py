"""What was made for another chip, or is no application, is told by its name: at the signer, the factory, the
virtual device, whichever way it comes.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from bootloader_make import BUILD, make
from cli_factory import PASSWORD, fota, genesis_root, one_line

from fota_signer import clocks, elf
from fota_signer.factory.bootloaders import bootloader_image
from fota_signer.identity import device_class
from fota_signer.images import sign_payload
from fota_wire.errors import InputError
from fota_wire.host_chips import CHIPS, STM32
from fota_wire.host_crypto import load_private_key

L4, U5, C3 = "stm32l476", "stm32u585", "esp32c3"
BOOT = {L4: BUILD / "bootloader/stm32l4/bootloader.elf", U5: BUILD / "bootloader/stm32u5/bootloader.elf",
        C3: BUILD / "bootloader/esp32c3/bootloader.elf"}  # fmt: skip
APP = {L4: BUILD / "sample/app-1.0.0.elf", U5: BUILD / "sample/stm32u5/app-1.0.0.elf",
       C3: BUILD / "sample/esp32c3/app-1.0.0.elf"}  # fmt: skip
PORTS = {L4: "stm32l4", U5: "stm32u5", C3: "esp32c3"}
DRIVES = {L4: f"made for chip {L4} (it drives the clocks at 0x40021000), not for {U5}",
          U5: f"made for chip {U5} (it drives the clocks at 0x46020c00), not for {L4}"}  # fmt: skip
OTHER = {L4: U5, U5: L4}


@pytest.fixture(scope="module", autouse=True)
def _built():
    for port in PORTS.values():
        make("bootloader", "sample", "VERSION=1.0.0", port=port)


def sign(factory, source, output, *more, code=0):
    return fota("sign", source, "-o", output, "--key", factory / "a.pem", "--version", "1.0.0",
                "--security-counter", 1, "--vendor-domain", "example.com", "--model", "demo", *more,
                code=code)  # fmt: skip


def copied(source, output, form):
    """The same firmware as ELF, HEX or raw binary."""
    if form == "elf":
        return source
    made = output / f"app.{form}"
    subprocess.run(
        ["arm-none-eabi-objcopy", "-O", "ihex" if form == "hex" else "binary", source, made], check=True
    )
    if form == "bin":
        made.write_bytes(made.read_bytes().removeprefix(bytes(0x200)))
    return made


@pytest.mark.parametrize("form", ["elf", "hex", "bin"])
@pytest.mark.parametrize("made", [L4, U5])
def test_firmware_of_the_other_stm32_is_not_signed(factory, tmp_path, made, form):
    source, out = copied(APP[made], tmp_path, form), tmp_path / "out.img"
    for said in ([], [L4]) if made == U5 else ([U5], ["STM32U585"]):
        chosen = [word for name in said for word in ("--chip", name)]
        words = one_line(sign(factory, source, out, *chosen, code=3)[1])
        assert f"{DRIVES[made]}: --chip says for which it is signed" in words
        assert not out.exists()
    sign(factory, source, out, "--chip", made.upper())


@pytest.fixture
def station(factory, roots, tmp_path):
    (tmp_path / "root.cbor").write_bytes(genesis_root())
    return (*roots, "--root", tmp_path / "root.cbor", "--server-ca", factory / "ca.crt",
            "--server-url", "https://updates.example:8443")  # fmt: skip


@pytest.fixture(scope="module")
def provisioned(factory, tmp_path_factory):
    """The record of a chip that is done."""
    folder = tmp_path_factory.mktemp("provisioned")
    keys = "--image-key-a", factory / "a.pub", "--image-key-b", factory / "b.pub"
    fota("vdev", "create", folder / "d.vdev", "--seed", 5)
    fota("provision", "device", folder / "d.vdev", *keys, "--ca-key", factory / "ca.pem",
         "--ca-cert", factory / "ca.crt", "--work", folder / "work")  # fmt: skip
    return next((folder / "work").glob("*.json"))


@pytest.fixture
def record(provisioned, tmp_path):
    return shutil.copy(provisioned, tmp_path / "record.json")


def unmarked(factory, chip, folder):
    """A signed image that says nothing of its chip, as imgtool makes it unless it is told."""
    content = elf.read(APP[chip].read_bytes(), "app")[0].content
    raw = sign_payload(
        content, key=load_private_key(factory / "a.pem", PASSWORD.encode()), version=(1, 0, 0, 0), sec_cnt=1,
        device_class=device_class(class_uuid=None, domain="example.com", model="demo"),
    )  # fmt: skip
    (folder / f"{chip}-unmarked.img").write_bytes(raw)
    return folder / f"{chip}-unmarked.img"


@pytest.mark.parametrize(
    ("station_of", "made", "said"),
    [
        (U5, U5, f"image names no chip, so it is for {L4}, not for {U5}: sign it with --chip {U5}"),
        (U5, L4, DRIVES[L4]),
        (L4, U5, DRIVES[U5]),
    ],
)
def test_image_that_names_no_chip_is_the_l476s_and_is_looked_into(
    factory, station, record, tmp_path, station_of, made, said
):
    image, before = unmarked(factory, made, tmp_path), record.read_bytes()
    words = "--chip", station_of, "--bootloader", BOOT[station_of], "--image", image, "-o", tmp_path / "d.hex"
    assert said in one_line(fota("provision", "hex", record, *station, *words, code=1)[1])
    assert not (tmp_path / "d.hex").exists()
    assert record.read_bytes() == before
    checked = fota("verify", image, "--key", factory / "a.pub", "--chip", station_of, code=1)[1]
    assert "IM13 image-chip: image " in one_line(checked)
    assert said in checked


def test_image_that_names_no_chip_is_taken_for_the_l476(factory, station, record, tmp_path):
    image = unmarked(factory, L4, tmp_path)
    fota("verify", image, "--key", factory / "a.pub", "--chip", L4)
    fota(
        "provision",
        "hex",
        record,
        *station,
        "--bootloader",
        BOOT[L4],
        "--image",
        image,
        "-o",
        tmp_path / "d.hex",
    )
    fota("vdev", "create", tmp_path / "other.vdev", "--seed", 6)
    blank = (tmp_path / "other.vdev").read_bytes()
    said = one_line(fota("provision", "load", tmp_path / "other.vdev", tmp_path / "d.hex", code=3)[1])
    assert "d.hex: is the HEX of device 0123387d804b3300ee, and the element of this virtual device is" in said
    assert (tmp_path / "other.vdev").read_bytes() == blank
    for chip in ([], ["--chip", L4], ["--chip", C3]):
        said = one_line(sign(factory, tmp_path / "d.hex", tmp_path / "out.img", *chip, code=3)[1])
        assert f"d.hex: is the factory HEX of a device of chip {L4}, with its bootloader and keys" in said


@pytest.mark.parametrize("chip", CHIPS)
def test_firmware_is_not_verified_for_a_gateway(factory, tmp_path, chip):
    sign(factory, APP[chip], tmp_path / "app.img", "--chip", chip)
    words = "verify", tmp_path / "app.img", "--key", factory / "a.pub"
    fota(*words, "--chip", chip)
    said = one_line(fota(*words, "--program", code=1)[1])
    assert "firmware of a microcontroller, and the device is a Linux gateway" in said


@pytest.mark.parametrize("wanted", CHIPS)
def test_bootloader_of_another_chip_and_an_application_are_named(wanted):
    for chip, path in BOOT.items():
        files = [path, path.with_name("bootloader.bin")] if chip == C3 else [path]
        for file in files:
            if chip == wanted:
                assert bootloader_image(file.read_bytes(), "boot", CHIPS[wanted])
                continue
            with pytest.raises(InputError) as refused:
                bootloader_image(file.read_bytes(), "boot", CHIPS[wanted])
            said = f"boot: is the bootloader of chip {chip}, and not the bootloader of chip {wanted}"
            assert str(refused.value) == said
    for chip, path in APP.items():
        with pytest.raises(InputError) as refused:
            bootloader_image(path.read_bytes(), "boot", CHIPS[wanted])
        what = f"an application of chip {C3}" if chip == C3 else "an application, linked for 0x08004200"
        assert str(refused.value) == f"boot: is {what}, and not the bootloader of chip {wanted}"


@pytest.mark.parametrize(
    ("source", "chip", "said"),
    [
        (BOOT[C3], C3, "is a second-stage bootloader (nothing in it runs from flash)"),
        (BOOT[C3].with_name("bootloader.bin"), C3, "is a second-stage bootloader"),
        (BOOT[L4], L4, "linked for 0x08000000; link it for 0x08004200: at 0x08000000 is the bootloader"),
        (BOOT[U5], U5, "linked for 0x08000000; link it for 0x08004200: at 0x08000000 is the bootloader"),
        (APP[L4], C3, "an ELF for ARM, as for an STM32, not for --chip esp32c3"),
        (APP[C3], L4, "is for an ESP32, not for --chip stm32l476"),
        (Path("/proc/self/exe"), L4, "an ELF for "),
    ],
)  # fmt: skip
def test_what_is_no_application_of_the_chip_is_named(factory, tmp_path, source, chip, said):
    assert said in one_line(sign(factory, source, tmp_path / "out.img", "--chip", chip, code=3)[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("chip", [L4, U5])
def test_clocks_are_seen_in_code_of_both_compilers(chip, compiler):
    """GCC has the address in a literal pool, clang in two instructions."""
    path = BOOT[chip]
    if compiler == "clang":
        make("COMPILER=clang", "bootloader", port=PORTS[chip])
        path = BUILD / f"bootloader/{PORTS[chip]}-clang/bootloader.elf"
    code = b"".join(chunk.content for chunk in elf.read(path.read_bytes(), "app"))
    assert clocks.drives(code, chip)
    assert not clocks.drives(code, OTHER[chip])
    assert clocks.fault_of(code, STM32[chip]) == ""
    assert DRIVES[chip] in clocks.fault_of(code, STM32[OTHER[chip]])


def test_code_that_shows_both_chips_or_none_is_for_whoever_says_so():
    both = struct.pack("<II", 0x40021000, 0x46020C00)
    assert {
        clocks.fault_of(code, row) for code in (both, bytes(64), b"\0\0" + both) for row in STM32.values()
    } == {""}
    assert set(clocks.CONTROLLERS) == set(STM32)
