"""A release that is not in the log is refused on the chip, where ROOT says so (SPEC 5.9, ADR 105): whoever
has the server, the ASSIGN key and the RELEASE keys cannot give it what he shows to nobody else.
"""

import os

import pytest

from fota_wire.host_chips import DEFAULT

ON = [DEFAULT, "stm32u585", "esp32c3"] if os.environ.get("EVERY") else [DEFAULT]  # all: `make campaign`
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("each_chip", ON, indirect=True)]

TRIES = 6  # check-ins within which the chip has a ROOT, or has said what it was asked to take
LIES = """
from cryptography.hazmat.primitives.asymmetric import ec
from fota_server import decide
from fota_wire import cose, host_crypto, merkle, receipt, suit

KEY = ec.generate_private_key(ec.SECP256R1())


def lone(self):
    leaf = receipt.LEAF + self.manifest_digest
    kid = cose.kid_of(host_crypto.public_xy(KEY))
    by = receipt.sign_tree(1, merkle.climb(leaf, 0, 1, b""), kid, host_crypto.signer(KEY))
    return suit.with_receipt(self.envelope, receipt.build_receipt(leaf, 0, 1, b"", by))


decide.Release.logged = property(HOW)
"""
WAYS = {  # what a server is made to send that was taken over; and what the chip says of it
    "without a proof": ("lambda self: self.envelope", "no RECEIPT"),
    "by a log of its own": ("lone", "0 of 1 necessary signatures"),
}


def lie(chip, how):
    """Start the server anew, taken over."""
    folder = chip.folder / "lies"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(LIES.replace("HOW", how))
    chip.environment["PYTHONPATH"] = str(folder)
    try:
        chip.set_interval(1)
    finally:
        del chip.environment["PYTHONPATH"]


def settle(chip, done):
    """Run until ``done``."""
    for _ in range(TRIES):
        chip.run_chip("agent 1.0.0: settled")
        if done():
            return
    raise AssertionError(f"not within {TRIES} check-ins")


def test_chip_takes_a_root_that_asks_for_the_log(each_chip):
    chip = each_chip
    chip.run_chip("agent 1.0.0: settled")
    chip.ask_for_the_log()
    settle(chip, lambda: chip.twin()["root_version"] == 2)
    chip.release_chip("1.1.0", 2)


@pytest.mark.parametrize("what", WAYS)
def test_release_that_is_not_in_the_log_is_refused(each_chip, what):
    chip, (how, word) = each_chip, WAYS[what]
    lie(chip, how)
    before = chip.modem.received
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    settle(chip, lambda: any(word in event["detail"] for event in chip.twin()["events"]))
    assert chip.twin()["running"]["version"] == "1.0.0"
    assert chip.modem.received - before < 60_000, "not a byte of the image"
    assert chip.machine.faults == []
    chip.set_interval(1)  # back in its owner's hands


def test_release_of_the_log_is_installed(each_chip):
    chip = each_chip
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said = chip.run_chip("agent 1.1.0: confirmed") + chip.run_chip("agent 1.1.0: settled")
    assert "MemoryError" not in said
    assert chip.twin()["running"]["version"] == "1.1.0"
    assert chip.twin()["root_version"] == 2
    assert chip.machine.faults == []
