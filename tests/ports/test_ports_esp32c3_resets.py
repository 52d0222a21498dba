"""Every reset of the ESP32-C3, however far it reaches, is a boot whose report names it; `fota vdev reset` and
`cut` on a device that the factory made.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from esp32c3_world import A, B

from fota_vdev.chips.esp32c3.board import RESETS
from fota_wire import bootreport, journal

PIN_OR_POWER, BROWN_OUT, SOFTWARE, WATCHDOG, OTHER_WATCHDOG = 0x04 | 0x08, 0x08, 0x10, 0x20, 0x40
TOLD = {
    "power": PIN_OR_POWER, "pin": PIN_OR_POWER, "brown-out": BROWN_OUT,
    "software": SOFTWARE, "software cpu": SOFTWARE,
    "rtc watchdog": WATCHDOG, "rtc watchdog core": WATCHDOG, "rtc watchdog cpu": WATCHDOG,
    "timg0 watchdog": OTHER_WATCHDOG, "timg0 watchdog cpu": OTHER_WATCHDOG,
    "timg1 watchdog": OTHER_WATCHDOG, "timg1 watchdog cpu": OTHER_WATCHDOG,
    "super watchdog": OTHER_WATCHDOG,
}  # fmt: skip
STARTED = ", image "  # the application's first line
PROGRAM = "from fota_cli.main import main; main()"


def test_each_reset_boots_the_confirmed_image_and_is_named_in_the_report(c3: Any) -> None:
    c3.boot(STARTED)
    for cause in RESETS:
        c3.machine.reset(cause)
        report = c3.boot(STARTED)
        assert report.reset_cause == TOLD[cause], cause
        assert (report.running, report.confirmed, report.version) == (A, A, (1, 0, 0, 0)), cause
        assert c3.machine.resets[-1][1] == cause  # the boot needed no second one


@pytest.mark.parametrize("cause", ["timg1 watchdog cpu", "rtc watchdog core", "brown-out"])
def test_each_reset_in_a_trial_costs_one_try_and_the_last_one_reverts(
    c3: Any, c3_signed: Callable[..., bytes], cause: str
) -> None:
    c3.boot(STARTED)
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    c3.append(journal.request(c3.state(), A, B))
    tries = []
    for _ in range(3):
        c3.machine.reset(cause)
        tries.append(c3.boot(STARTED).tries)
    assert tries == [2, 1, 0]
    c3.machine.reset(cause)
    report = c3.boot(STARTED)
    assert (report.running, report.state) == (A, journal.REVERTED)


@pytest.fixture
def kept(c3: Any, c3_signed: Callable[..., bytes], tmp_path: Path) -> Path:
    """File of a device that runs 1.0.0; 1.1.0 is requested, nothing of it has begun."""
    c3.boot(STARTED)
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    c3.append(journal.request(c3.state(), A, B))
    c3.machine.power_off()
    path = tmp_path / "c3.vdev"
    c3.machine.save(path)
    return path


def vdev(*arguments: object, code: int = 0) -> Any:
    command = [sys.executable, "-c", PROGRAM, "vdev", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_reset_button_is_a_second_boot_which_goes_on_with_the_trial(kept: Path) -> None:
    said = vdev("reset", kept, "--time-ms", 600)
    assert said["resets"][-2:] == ["power", "pin"]
    assert said["uart"].count("slot B 1.1.0 trial") == 2
    view = vdev("status", kept)
    assert (view["journal"]["state"], view["journal"]["tries"]) == ("trial", 1)
    report = vdev("report", kept)
    assert (report["running"], report["reset_cause"]) == ("B", PIN_OR_POWER)


@pytest.mark.parametrize("torn", [(), ("--torn", 5)])
def test_cut_in_the_middle_of_what_a_boot_writes_loses_no_request(kept: Path, torn: tuple[Any, ...]) -> None:
    said = vdev("cut", kept, "--at", 1, *torn, "--time-ms", 600)
    assert said["cut"].startswith("power cut while programming" if torn else "power cut before program")
    assert "slot B 1.1.0 trial" in said["uart"]
    assert vdev("status", kept)["journal"]["state"] == "trial"


def test_cut_at_an_operation_that_does_not_come_is_refused_and_the_device_goes_on(kept: Path) -> None:
    said = vdev("cut", kept, "--at", 500, "--time-ms", 600, code=1)
    assert said["cut"] is None
    assert said["reason"] == "time"
    assert vdev("status", kept)["journal"]["state"] == "trial"


def test_report_in_rtc_ram_survives_each_reset_but_those_that_take_its_supply(c3: Any) -> None:
    c3.boot(STARTED)
    address = c3.machine.chip.row.BOOT_REPORT_ADDRESS
    before = c3.machine.read(address, bootreport.SIZE)
    for cause in (c for c in RESETS if c not in ("power", "pin")):
        c3.machine.reset(cause)
        assert c3.machine.read(address, bootreport.SIZE) == before, cause
    c3.machine.reset("pin")
    assert c3.machine.read(address, bootreport.SIZE) != before
