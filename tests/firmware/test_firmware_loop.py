"""The whole loop on the chip: the bootloader verifies the agent's firmware and boots it, the agent brings its
own successor over TLS, the bootloader tries it, it confirms; and back by the operator's word."""

import shutil
from datetime import UTC, datetime

import pytest

from fota_vdev.machine import Machine
from fota_vdev.places import places
from fota_wire.host_chips import DEFAULT
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NAMES, other_slot

pytestmark = pytest.mark.slow


# of 8, 16 and 16 KiB, 1 KiB of which is MicroPython's reserve
STACK = {DEFAULT: 7 * 1024, "stm32u585": 8 * 1024, "esp32c3": 8 * 1024}
MOST_INSTRUCTIONS = 600_000_000  # four times what it takes; who waits without sleeping needs 160 M a second


def version(value):
    return value.get("version") if isinstance(value, dict) else value


def test_chip_updates_itself(each_chip):
    chip = each_chip
    # 1.0.0 boots, checks in over TLS 1.3 with the key in the element, and the server hears of it
    said = chip.run_chip("agent 1.0.0: settled")
    assert "fota-boot: slot A 1.0.0 confirmed" in said
    assert "agent 1.0.0: slot A runs 1.0.0, confirmed" in said
    row = chip.twin()
    assert version(row["running"]) == version(row["confirmed"]) == "1.0.0"
    first = len(chip.net.events)

    # 1.1.0, its successor: into the other slot, tried, confirmed, reported
    image = chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said = chip.run_chip("agent 1.1.0: settled")
    assert "fota-boot: slot B 1.1.0 trial" in said
    assert "agent 1.1.0: slot B runs 1.1.0, trial" in said
    assert "agent 1.1.0: confirmed" in said
    assert chip.boot_report().running == SLOT_B
    row = chip.twin()
    assert (version(row["confirmed"]), row["status"]) == ("1.1.0", "confirmed")
    size = image.stat().st_size
    assert places(chip.machine).slots[SLOT_B].read(chip.machine)[:size] == image.read_bytes()
    assert sum(size for what, _, size in chip.net.events[first:] if what == "receive") > size
    assert chip.machine.faults == []
    # what the stack was painted with before the first boot is still there, but for what README says it takes
    assert 4096 < chip.stack_used() <= STACK[chip.row.NAME]


@pytest.mark.parametrize("each_chip", [DEFAULT], indirect=True)  # the agent does the same on all
def test_operator_takes_back_all_since_a_time_and_nothing_is_downloaded(each_chip):
    chip = each_chip
    before = chip.modem.received
    ordered = datetime.fromtimestamp(chip.json("rollout", "show", 1)["created_at"], UTC)
    chip.fota("rollback", "--since", ordered.isoformat())
    said = chip.run_chip("agent 1.0.0: settled")
    assert "fota-boot: slot A 1.0.0 trial" in said
    assert chip.boot_report().running == SLOT_A
    assert version(chip.twin()["confirmed"]) == "1.0.0"
    assert chip.modem.received - before < 40_000
    assert chip.machine.faults == []


def test_release_that_fails_its_self_test_on_the_chip_is_reverted_and_reported(each_chip):
    chip = each_chip
    report = chip.boot_report()
    chip.release_chip("1.2.0", 3, app="1.2.0-fail")
    chip.fota("rollout", "start", "1.2.0", "--device", chip.device_id)
    said = chip.run_chip(f"agent {report.version_text}: settled")
    assert f"fota-boot: slot {SLOT_NAMES[other_slot(report.running)]} reverted: AP1" in said
    row = chip.twin()
    assert (version(row["running"]), row["status"]) == (report.version_text, "reverted")
    assert any("AP1" in event["detail"] for event in row["events"])


@pytest.mark.parametrize("each_chip", ["esp32c3"], indirect=True)  # the other's modem lies at an address
def test_modem_that_does_not_answer_is_said_and_the_watchdog_stays_fed(each_chip, tmp_path):
    device = tmp_path / "without.vdev"
    shutil.copyfile(each_chip.device, device)
    with Machine.load(device) as machine:
        machine.cpu.check_alignment(on=False)
        machine.power_on()
        machine.run(
            until=lambda m: m.uart.count(b"checkin") > 1, time_ms=300_000, max_instructions=MOST_INSTRUCTIONS
        )
        assert machine.uart.count(b"checkin") > 1, bytes(machine.uart)
        assert len(machine.resets) == 1
