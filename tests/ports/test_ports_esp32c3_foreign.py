"""Applications that nobody here built, on the virtual ESP32-C3 with its own mask ROM, behind our bootloader.

``FOTA_ESP32_VECTORS/apps/NAME.bin`` is an application as ESP-IDF, Arduino or MicroPython link it, unsigned;
``NAME.says``, if there, a text that its log comes to. Both are other people's: none is part of the project.
"""

import os
from pathlib import Path
from typing import Any

import esp_world
import pytest
from esp32c3_world import SLOTS
from espressif_forms import OTA_0, OTA_1, OTADATA, STORE, table

from fota_signer.esp_firmware import load_application
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_application
from fota_vdev.machine import Machine
from fota_vdev.models import with_rom
from fota_wire.esp_image import Header

from .conftest import CLASS_ID, VENDOR_ID

VECTORS = Path(os.environ.get("FOTA_ESP32_VECTORS", ""))
ROM = VECTORS / "rom/esp32c3-rom.bin"
APPS = sorted((VECTORS / "apps").glob("*.bin")) if "FOTA_ESP32_VECTORS" in os.environ else []
pytestmark = pytest.mark.skipif(
    not APPS or not ROM.exists(), reason="no foreign applications and mask ROM: set FOTA_ESP32_VECTORS"
)
LOADER = (0x403D8000, 0x403DC000)
ROOMY = ((OTADATA, 0xE000, 0x2000, "otadata"), (OTA_0, 0x10000, 0x1F0000, "ota_0"),
         (OTA_1, 0x200000, 0x1F0000, "ota_1"), (STORE, 0x3F0000, 0x8000, "fota"))  # fmt: skip


@pytest.fixture(params=APPS, ids=lambda path: path.stem)
def app(request: Any, keys: Any) -> Any:
    """(path, signed image) of one application."""
    data = request.param.read_bytes()
    image = sign_application(
        load_application(data, request.param.name, None), key=keys.root_a, version=(1, 0, 0, 0), sec_cnt=1,
        device_class=DeviceClass(vendor_id=VENDOR_ID, class_id=CLASS_ID),
    )  # fmt: skip
    return request.param, image


def test_foreign_build_is_signed_and_esptool_reads_all_of_it(app: Any, tmp_path: Path) -> None:
    path, image = app
    (tmp_path / "app.img").write_bytes(image)
    told = esp_world.tool("esptool", "image-info", tmp_path / "app.img")
    assert told.count("(valid)") == 2, "checksum and hash"
    before, after = (esp_world.parts(data) for data in (path.read_bytes(), image))
    assert after[:-1] == before, "not a byte of its segments is another"
    assert Header(image).entry == Header(path.read_bytes()).entry


def test_foreign_build_boots_behind_our_bootloader(app: Any, c3_factory: Any) -> None:
    path, image = app
    c3_factory.machine.restore(c3_factory.fresh)
    flash = bytearray(c3_factory.machine.flash.read_phys(1, 0, 0x400000))
    flash[0x8000:0x9000] = table(*ROOMY)
    flash[SLOTS["A"] : SLOTS["A"] + len(image)] = image
    machine = Machine(element=c3_factory.machine.element, chip=with_rom("esp32c3", ROM.read_bytes()))
    machine.flash.write_phys(1, 0, bytes(flash))
    machine.power_on()
    machine.run(time_ms=1500, until=lambda m: b"slot A 1.0.0 confirmed" in m.uart)
    says = path.with_suffix(".says")
    if says.exists():
        words = says.read_bytes().strip()
        machine.run(time_ms=3000, until=lambda m: words in m.uart)
        assert words in machine.uart, bytes(machine.uart[-600:])
    else:
        machine.run(time_ms=50)
    assert machine.faults == []
    assert not LOADER[0] <= machine.cpu.pc < LOADER[1], "it is the application that runs"
