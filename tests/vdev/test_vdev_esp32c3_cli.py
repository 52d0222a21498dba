"""`fota vdev` and a blank ESP32-C3: created, run, looked at, cut; a mask ROM that is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from fota_cli.main import main; main()"


def fota(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout or result.stderr


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "c3.vdev"
    code, said = fota("vdev", "create", path, "--chip", "esp32c3", "--seed", 1)
    assert (code, "ESP32-C3" in said) == (0, True), said
    return path


def test_blank_device_says_that_its_header_is_invalid_and_waits_for_its_watchdog(device):
    code, said = fota("vdev", "run", device, "--time-ms", 1500, "--json")
    assert code == 0
    answer = json.loads(said)
    assert answer["resets"] == ["power", "timg0 watchdog"]
    assert answer["uart"].count("invalid header: 0xffffffff") == 2


def test_status_of_a_device_without_partition_table_says_so(device):
    code, said = fota("vdev", "status", device, "--json")
    assert code == 0
    view = json.loads(said)
    assert view["chip"] == "esp32c3"
    assert "blank" in view["journal"]["reason"]


def test_mask_rom_that_is_none_is_refused_before_anything_runs(device, tmp_path):
    rom = tmp_path / "rom.bin"
    rom.write_bytes(b"short")
    before = device.read_bytes()
    code, said = fota("vdev", "run", device, "--rom", rom)
    assert code == 3
    assert "393216 bytes" in said
    assert device.read_bytes() == before


def test_limits_tell_of_the_chip_what_is_not_there_and_what_is_assumed():
    code, said = fota("vdev", "limits", "--json")
    assert code == 0
    view = json.loads(said)
    assert any("Interrupts" in line for line in view["esp32c3"])
    assert any("super watchdog" in line for line in view["assumed_of_chips"]["esp32c3"])
