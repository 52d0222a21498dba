"""The ESP32-C3's bootloader, measured: instructions of a boot with and without the SHA engine, and the flash
work of an update that an application asks for and confirms through OTA data. A write is one to one page."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "campaign"))

import campaign_esp32c3 as c3
import espressif_forms as forms
from unicorn.unicorn_const import UC_HOOK_CODE

from fota_signer.esp_firmware import load_application
from fota_signer.examples import example_key
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_application
from fota_vdev.machine import Machine
from fota_vdev.places import places
from fota_wire import esp_otadata
from fota_wire.chips import esp32c3
from fota_wire.esp_otadata import NEW, VALID
from fota_wire.layout import SLOT_B

ROOT = Path(__file__).resolve().parents[2]
PAD = (256 << 10) - 8192  # with the rest of the sample 256 KiB, give or take a page
BUDGETS = {
    "esp32c3.boot_instructions_256k": 2_000_000,
    "esp32c3.boot_instructions_256k_software": 21_000_000,
    "esp32c3.update_page_erases": 1,
    "esp32c3.update_writes": 2,
}


def make(*what: str) -> None:
    command = [
        "make",
        "-s",
        "-C",
        str(ROOT / "bootloader"),
        "PORT=esp32c3",
        f"PYTHON={sys.executable}",
        *what,
    ]
    subprocess.run(command, check=True, capture_output=True)


def image(version: str, device_class: DeviceClass) -> bytes:
    """A signed sample application of 256 KiB."""
    make("sample", f"VERSION={version}", f"PAD={PAD}")
    elf = ROOT / f"build/sample/esp32c3/app-{version}-pad{PAD}.elf"
    return sign_application(
        load_application(elf.read_bytes(), elf.name, esp32c3),
        key=example_key("image-a"),
        version=tuple(map(int, f"{version}.0".split("."))),  # type: ignore[arg-type]
        sec_cnt=1,
        device_class=device_class,
    )


def boot(machine: Machine) -> int:
    """Reset; return the exact number of instructions until the first one of an application in flash."""
    found: list[int] = []

    def entered(uc: Any, address: int, size: int, data: Any) -> None:
        found.append(machine.instructions)
        uc.emu_stop()

    uc = machine.cpu.uc
    hook = uc.hook_add(UC_HOOK_CODE, entered, begin=esp32c3.IROM[0], end=esp32c3.IROM[1] - 1)
    machine.cpu.forget_code()
    start = machine.instructions
    if machine.powered:
        machine.reset("pin")
    else:
        machine.power_on()
    machine.run(until=lambda m: bool(found), time_ms=20_000)
    uc.hook_del(hook)
    machine.cpu.forget_code()
    return found[0] - start - 1


def ask(machine: Machine, state: int) -> None:
    """What ``esp_ota_set_boot_partition`` (NEW) and the confirmation (VALID) leave of slot B."""
    c3.write_ota(machine, 1, esp_otadata.Record(2, state))


def measure(factory: Any, device_class: DeviceClass) -> dict[str, float]:
    """``factory(first image, folder, row, bootloader, table)`` makes the device."""
    out: dict[str, float] = {}
    first = image("1.0.0", device_class)
    for build, name in (("esp32c3-software", "_software"), ("esp32c3", "")):
        make("bootloader", *(["SHA=software"] if name else []))
        with tempfile.TemporaryDirectory() as folder:
            loader = ROOT / f"build/bootloader/{build}/bootloader.bin"
            machine = factory(first, Path(folder), esp32c3, loader, forms.table())
        boot(machine)
        out[f"esp32c3.boot_instructions_256k{name}"] = boot(machine)
    work = []
    region = places(machine).slots[SLOT_B]
    machine.flash.write_phys(region.bank, region.offset, image("1.1.0", device_class))
    for state in (NEW, VALID):
        ask(machine, state)
        before = len(machine.flash.log)
        boot(machine)
        work.append([op.kind for op in machine.flash.log[before:]])
    return out | {
        "esp32c3.update_page_erases": work[0].count("erase"),
        "esp32c3.update_writes": work[0].count("program"),
        "esp32c3.confirm_page_erases": work[1].count("erase"),
        "esp32c3.confirm_writes": work[1].count("program"),
    }
