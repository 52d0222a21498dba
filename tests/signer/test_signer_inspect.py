"""``fota inspect`` explains images of any profile: what is in them, and all that speaks against them."""

import contextlib
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fota_signer import mcuboot
from fota_wire import image, status
from fota_wire.errors import FotaError

SAMPLES = Path(__file__).parents[2] / "build/sample"
OBJCOPY = shutil.which("arm-none-eabi-objcopy")
needs_samples = pytest.mark.skipif(
    OBJCOPY is None or not SAMPLES.exists(), reason="no arm-none-eabi-objcopy, or no sample: make firmware"
)


@pytest.fixture(scope="session")
def imgtool(tmp_path_factory):
    """Run imgtool in a folder with keys of all its kinds: ``imgtool("sign", ...) -> folder``."""
    folder = tmp_path_factory.mktemp("imgtool")
    (folder / "app.bin").write_bytes(struct.pack("<II", 0x20010000, 0x08000101) + bytes(1000))

    def run(*words):
        command = [sys.executable, "-m", "imgtool.main", *map(str, words)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folder

    for kind in ("ecdsa-p256", "ed25519", "rsa-2048", "ecdsa-p384"):
        run("keygen", "-k", f"{kind}.pem", "-t", kind)
    return run


def explained(fota, path):
    result = fota("inspect", path, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("key", "more", "expected"),
    [
        (
            "ed25519",
            ("--header-size", "0x400", "--pad-header"),
            [
                "IM2 image-header: header of 0x400 bytes, not 0x200",
                "IM4 image-tlv: no protected area: no SEC_CNT and no class UUID under the signature",
                "IM5 image-tlv-not-allowed: unprotected entry 0x24 ED25519 is not allowed: nobody signed it",
                "IM4 image-tlv: no protected entries SEC_CNT, not 1",
                "IM4 image-tlv: no unprotected entries ECDSA_SIG, not 1 (there is ED25519)",
                "IM12 image-vector: reset vector 0x08000101 is outside the image",
            ],
        ),
        (
            "rsa-2048",
            (
                "--header-size",
                "0x200",
                "--pad-header",
                "--security-counter",
                "5",
                "--public-key-format",
                "full",
            ),
            [
                "IM5 image-tlv-not-allowed: unprotected entry 0x02 PUBKEY is not allowed: nobody signed it",
                "IM4 image-tlv: no protected entries class UUID, not 1",
                "IM4 image-tlv: no unprotected entries KEYHASH, not 1 (there is PUBKEY)",
                "IM4 image-tlv: no unprotected entries ECDSA_SIG, not 1 (there is RSA2048_PSS)",
            ],
        ),
        (
            "ecdsa-p384",
            ("--header-size", "0x200", "--pad-header"),
            [
                "IM4 image-tlv: no unprotected entries SHA256, not 1 (there is SHA384)",
                "IM11 image-der: image signature is not strict DER of P-256",
            ],
        ),
        (
            "ecdsa-p256",
            (
                "--header-size",
                "0x200",
                "--pad-header",
                "--pad",
                "--rom-fixed",
                "0x08020000",
                "--security-counter",
                "0",
            ),
            [
                "IM2 image-header: linked for a slot at 0x08020000, not 0x08004000",
                "IM4 image-tlv: SEC_CNT 0 is not in 1..262143",
                "MCUboot's trailer of a padded slot",
            ],
        ),
        (
            "ecdsa-p256",
            ("--header-size", "0x200", "--pad-header", "--encrypt", "other.pem"),
            ["ENCRYPTED_AES128", "unprotected entry 0x32 ENC_EC256 is not allowed"],
        ),
    ],
)
def test_image_of_another_profile_is_explained_whole(imgtool, fota, key, more, expected):
    if "other.pem" in more:
        folder = imgtool("keygen", "-k", "priv.pem", "-t", "ecdsa-p256")
        imgtool("getpub", "-k", "priv.pem", "-e", "pem", "-o", "other.pem")
    words = ("--key", f"{key}.pem", "--version", "1.2.3+4", "--slot-size", "0x20000", "--align", "8")
    folder = imgtool("sign", *words, *more, "app.bin", "out.img")
    shown = explained(fota, folder / "out.img")
    assert (shown["kind"], shown["version"]) == ("image", "1.2.3+4")
    text = "\n".join(shown["refused_for"])
    for sentence in expected:
        assert sentence in text
    names = " ".join(shown["tlvs"])
    assert "unknown" not in names


def test_image_of_ours_is_refused_for_nothing(fota, sign, firmware, tmp_path):
    sign(firmware, tmp_path / "out")
    assert explained(fota, "out")["refused_for"] == []


@pytest.mark.parametrize("size", [32, 100, 0x200, 0x300])
def test_truncated_image_is_explained(fota, sign, firmware, tmp_path, size):
    sign(firmware, tmp_path / "out")
    (tmp_path / "cut").write_bytes((tmp_path / "out").read_bytes()[:size])
    assert "IM3 image-size: truncated" in explained(fota, "cut")["refused_for"][0]


def test_file_of_another_kind_is_named(refused, tmp_path):
    (tmp_path / "x").write_bytes(b"PK\x03\x04" + bytes(99))
    refused(3, "inspect", "x", says="it is a zip archive")
    (tmp_path / "x").write_bytes(b"\x96\xf3\xb8\x3d" + bytes(99))
    refused(3, "inspect", "x", says="an MCUboot image of a big-endian device")


@settings(max_examples=300)
@given(st.data())
def test_explanation_agrees_with_the_parser(data):
    payload = struct.pack("<II", 0x20010000, 0x08004209) + bytes(56)
    protected = image.build_protected(3, bytes(16))
    signed = image.build_header(len(payload), len(protected), (1, 2, 3, 4)) + payload + protected
    whole = bytearray(signed + image.build_unprotected(bytes(32), bytes(32), b"\x01" * 64))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.one_of(st.integers(4, 31), st.integers(0x200, len(whole) - 1)))
        whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(32, len(whole))))])
    codes = [line.split(" ")[0] for line in mcuboot.explain(cut)["refused_for"]]
    code = None
    with contextlib.suppress(FotaError):
        try:
            image.parse_image(cut, programs=True)
        except FotaError as exc:
            code = status.label(exc.code).split(" ")[0]
            raise
    assert (code is None) == (codes == [])
    assert code is None or code in codes


def test_every_fault_is_told_and_not_the_first_alone():
    payload = struct.pack("<II", 0x20010000, 0x08004209) + bytes(56)
    protected = image.build_protected(3, bytes(16))
    header = bytearray(image.build_header(len(payload), len(protected), (1, 2, 3, 4)))
    header[28] = 1  # the last word
    unprotected = image.build_unprotected(bytes(32), bytes(32), b"\x01" * 64)
    told = mcuboot.explain(bytes(header) + payload + protected + unprotected + b"more")["refused_for"]
    assert [line.split(" ")[0] for line in told] == ["IM2", "IM4", "IM6"]


# --- What a linker made


def files_of(folder, elf):
    """The same firmware in each form that `fota sign` takes, as objcopy makes it."""
    found = {"ELF for ARM": elf}
    for form, kind in (("Intel HEX", "ihex"), ("Motorola S-records", "srec"), ("raw binary", "binary")):
        found[form] = folder / f"app.{kind}"
        subprocess.run([OBJCOPY, "-O", kind, elf, found[form]], check=True)
    return found


@needs_samples
def test_firmware_is_shown_in_any_form_with_the_chips_that_it_could_be_signed_for(fota, sign, tmp_path):
    for form, path in files_of(tmp_path, SAMPLES / "app-1.0.0.elf").items():
        found = explained(fota, path)
        assert (found["kind"], found["form"]) == ("firmware", form)
        assert [line.split(": ")[:2] for line in found["chips"]] == [
            ["stm32l476", f"taken, {found['size']} bytes"],
            ["stm32u585", "refused"],
            ["esp32c3", "refused"],
        ]
        wanted = None if form == "raw binary" else [f"0x08004200: {found['size']} bytes"]
        assert found.get("loads") == wanted
        sign(path, tmp_path / f"{form}.img")
    assert len({file.read_bytes() for file in tmp_path.glob("*.img")}) == 1


@needs_samples
def test_firmware_for_another_processor_is_refused_for_each_chip_but_its_own(fota):
    found = explained(fota, SAMPLES / "esp32c3/app-1.0.0.elf")
    assert (found["form"], len(found["loads"])) == ("ELF for RISC-V", 4)
    said = [line.partition(": ")[2].partition(" ")[0].strip(":,") for line in found["chips"]]
    assert said == ["refused", "refused", "taken"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b":020000040800F2\n", "truncated Intel HEX file: no end record up to line 1"),
        (b"S0030000FC\nS30508004200B1\n", "line 2: damaged S-record file"),
        (b"\x7fELF" + bytes(20), "truncated ELF file"),
        (bytes(range(1, 200)), "not firmware, an image, manifest"),
    ],
)
def test_what_is_no_firmware_or_damaged_is_one_line(fota, tmp_path, content, says):
    path = tmp_path / "x"
    path.write_bytes(content)
    done = fota("inspect", path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert says in done.stderr
