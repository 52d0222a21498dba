"""docs/esp32.md, typed in: its ```sh blocks in order, from a sample application to a first update."""

import os
import re
import subprocess
import sys
from pathlib import Path

import esp_world
import pytest
from esp_idf_defs.partitions import PartitionTable
from lifeline import HANG_S

from fota_signer.factory import esp_flash
from fota_wire import esp_image
from fota_wire.chips import esp32c3

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs/esp32.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BOOTLOADER = REPO / "build/bootloader/esp32c3/bootloader.bin"
SAMPLE = REPO / "build/sample/esp32c3/app-1.0.0.elf"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """(what the blocks said, the folder that they were typed in)."""
    if not (BOOTLOADER.exists() and SAMPLE.exists()):
        pytest.skip("no bootloader and sample of the ESP32-C3: make firmware")
    folder = tmp_path_factory.mktemp("esp32")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = []
    script = "set -euo pipefail\n" + "\necho NEXT-BLOCK\n".join(BLOCKS)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**clean, "PATH": path, "BUILD": str(REPO / "build"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.split("NEXT-BLOCK\n")
    assert len(said) == len(BLOCKS)
    return said, folder


def test_signed_images_are_ours_and_espsecures(typed):
    assert "refused for       -" in typed[0][0]
    assert "Signature block 0 verification successful" in typed[0][0]


def test_factory_flash_boots_the_first_image(typed):
    assert "fota-boot: slot A 1.0.0 confirmed" in typed[0][1]
    assert "Rehearsed on a virtual device: slot A boots 1.0.0, and its agent starts" in typed[0][1]
    flash = (typed[1] / "flash.bin").read_bytes()
    assert flash[: BOOTLOADER.stat().st_size] == BOOTLOADER.read_bytes()


def test_update_is_tried_confirmed_and_raises_the_floor(typed):
    said = typed[0][2]
    trial, confirmed = (
        said.index("fota-boot: slot B 1.1.0 trial"),
        said.index("fota-boot: slot B 1.1.0 confirmed"),
    )
    assert trial < confirmed
    assert re.search(r"^ +floor +2$", said[confirmed:], re.MULTILINE)


def test_secure_boot_of_the_bootloader_leaves_it_within_its_room(typed):
    said, folder = typed
    assert re.search(r"SECURE_BOOT_EN .* = True", said[3])
    signed = (folder / "bootloader-signed.bin").read_bytes()
    esp_flash.bootloader_image(signed, "bootloader-signed.bin", esp32c3)
    assert len(signed) == 20_480
    assert "20 KiB of 28" in PAGE


def test_signed_bootloader_with_a_changed_byte_is_refused(typed):
    signed = bytearray((typed[1] / "bootloader-signed.bin").read_bytes())
    end = esp_image.read_segments(bytes(signed), esp_image.Header(bytes(signed)))[1]
    for at, says in ((end, "blank"), (-4096 + 5, "CRC"), (-4096 + 1300, "belong to none")):
        changed = signed.copy()
        changed[at] ^= 1
        with pytest.raises(esp_flash.InputError, match=says):
            esp_flash.bootloader_image(bytes(changed), "b.bin", esp32c3)


def test_table_of_the_page_is_one_that_we_take():
    (csv,) = [
        text for text in re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "ota_0" in text
    ]
    binary = PartitionTable.from_csv(csv).to_binary()
    where = esp_flash.places(esp_flash.table_image(binary, esp32c3), esp32c3)
    assert (where.fota.offset, where.slot_b.offset) == (0x3F8000, 0x190000)


def test_page_says_of_the_rom_and_espressifs_secure_boot_what_is_true():
    for words in (
        "RSA-3072 alone",
        "Attempting to boot anyway",
        "ECDSA_INSECURE",
        "Nothing of this page has run on",
    ):
        assert words in PAGE


def test_arduinos_table_of_our_vectors_lacks_only_the_partition():
    path = esp_world.VECTORS / "tables" / "ota2_NO_md5_arduino.bin"
    if not path.exists():
        pytest.skip(f"no ESP32 vectors at {esp_world.VECTORS}")
    with pytest.raises(esp_flash.VerifyError, match="it has no partitions fota"):
        esp_flash.table_image(path.read_bytes(), esp32c3, path.name)
