"""What makes the bootloader portable, held by looking at its sources."""

import re
from pathlib import Path

import pytest

BOOTLOADER = Path(__file__).resolve().parents[2] / "bootloader"
PORTS = ("stm32l4", "stm32u5", "esp32c3")
CHIP = re.compile(
    r"stm32|esp32|riscv|\b[lgh][0-9]{1,2}\b|\bu5\w*|cortex|FB_MODE|SWAP_BANK|BKER|\bOPTR\b", re.IGNORECASE
)
GENERIC = ("core", "crypto_element", "client")


@pytest.mark.parametrize("folder", GENERIC)
def test_generic_code_names_no_chip(folder: str) -> None:
    files = sorted((BOOTLOADER / folder).glob("*.[ch]"))
    assert files
    found = {
        f"{path.name}:{number}": line
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if CHIP.search(line)
    }
    assert found == {}


@pytest.mark.parametrize("folder", [*GENERIC, "sample", "port/stm32", "recovery"])
def test_shared_code_includes_no_port_by_name(folder: str) -> None:
    for path in (BOOTLOADER / folder).glob("*.[ch]"):
        for port in PORTS:
            assert f"port/{port}" not in path.read_text(), path


@pytest.mark.parametrize("port", PORTS)
def test_port_includes_no_other_port(port: str) -> None:
    for path in (BOOTLOADER / "port" / port).glob("*.[ch]"):
        included = set(re.findall(r'#include "port/(\w+)/', path.read_text()))
        assert included <= ({port} if port.startswith("esp32") else {port, "stm32"}), path


def test_ports_of_the_makefile_are_the_folders_with_a_linker_script() -> None:
    listed = re.search(r"^PORTS := (.*)$", (BOOTLOADER / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    folders = {path.parent.name for path in (BOOTLOADER / "port").glob("*/bootloader.ld")}
    assert set(listed[1].split()) == folders == set(PORTS)


def test_size_report_names_all_ports_with_the_same_keys(tmp_path: Path) -> None:
    import json
    import subprocess
    import sys

    for port in PORTS:
        command = [
            "make",
            "-C",
            str(BOOTLOADER),
            f"PORT={port}",
            f"BUILD={tmp_path}",
            f"PYTHON={sys.executable}",
        ]
        command += ["bootloader", "recovery"]
        subprocess.run(command, check=True, capture_output=True)
    report = tmp_path / "size.json"
    objects = [str(tmp_path / "bootloader" / port) for port in PORTS]
    command = [sys.executable, str(BOOTLOADER / "size.py"), *objects, str(report)]
    subprocess.run(command, check=True, capture_output=True)
    sizes = json.loads(report.read_text())
    assert list(sizes) == list(PORTS)
    assert {tuple(numbers)[:3] for numbers in sizes.values()} == {("flash_bytes", "ram_bytes", "stack_bytes")}
    for port in PORTS:
        if port.startswith("stm32"):
            assert sizes[port]["stack_bytes"] <= 1024
            assert sizes[port]["recovery_bytes"] <= 0xF00  # behind what is left of the trust store
            assert sizes[port]["recovery_stack_bytes"] <= 1024
    assert (
        sizes["esp32c3"]["flash_bytes"] <= 0x7000
    )  # in front of the settings, in the stock bootloader's room
    assert sizes["esp32c3"]["ram_bytes"] <= 16384  # code, data and stack
    assert sizes["esp32c3"]["stack_bytes"] <= 1280
