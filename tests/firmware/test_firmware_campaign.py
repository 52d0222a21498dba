"""Whom a release may reach is checked on the chip (SPEC 5.8, ADR 77): a server that was taken over, with the
ASSIGN key, cannot give it what people have not signed for it.
"""

import os
import textwrap

import pytest
from chip_world import ALWAYS

from fota_wire.host_chips import DEFAULT

ON = [DEFAULT, "stm32u585", "esp32c3"] if os.environ.get("EVERY") else [DEFAULT]  # all: `make campaign`
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("each_chip", ON, indirect=True)]

TRIES = 6  # check-ins within which the chip has a ROOT, or has said what it was asked to take
LIES = {  # what a server is made to say that was taken over; in its process alone
    "without a document": "campaigns.in_force = lambda *_: None",
    "by one that does not reach it": "campaigns.why_not = lambda *_: None\ncampaigns.reasons = lambda *_: []",
}
SAYS = {"without a document": "no CAMPAIGN came", "by one that does not reach it": "in no wave"}


def lie(chip, what):
    """Start the server anew, taken over."""
    folder = chip.folder / "lies"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"from fota_server import campaigns\n{LIES[what]}\n")
    chip.environment["PYTHONPATH"] = str(folder)
    try:
        chip.set_interval(1)
    finally:
        del chip.environment["PYTHONPATH"]


def settle(chip, done):
    """Run until ``done(what the chip has said)``."""
    said = ""
    for _ in range(TRIES):
        said += chip.run_chip("agent 1.0.0: settled")
        if done(said):
            return said
    raise AssertionError(f"not within {TRIES} check-ins:\n{textwrap.indent(said, '  ')}")


def test_chip_takes_a_root_with_campaign_keys(each_chip):
    chip = each_chip
    chip.run_chip("agent 1.0.0: settled")
    chip.ask_for_campaigns()
    settle(chip, lambda _: chip.twin()["root_version"] == 2)
    chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id, ends=1)  # for nobody was signed


@pytest.mark.parametrize("what", LIES)
def test_server_that_was_taken_over_gives_it_nothing(each_chip, what):
    chip = each_chip
    chip.let_reach("1.1.0", f"100% {ALWAYS} canary")
    lie(chip, what)
    before = chip.modem.received
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    settle(chip, lambda _: any(SAYS[what] in event["detail"] for event in chip.twin()["events"]))
    assert chip.twin()["running"]["version"] == "1.0.0"
    assert chip.modem.received - before < 60_000, "not a byte of the image"
    assert chip.machine.faults == []
    chip.set_interval(1)  # back in its owner's hands


def test_chip_updates_when_people_have_signed_for_it(each_chip):
    chip = each_chip
    chip.let_reach("1.1.0", f"100% {ALWAYS}")
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said = chip.run_chip("agent 1.1.0: confirmed") + chip.run_chip("agent 1.1.0: settled")
    assert "MemoryError" not in said
    assert chip.twin()["running"]["version"] == "1.1.0"
    assert chip.machine.faults == []
