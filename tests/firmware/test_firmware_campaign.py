"""Whom a release may reach is checked on the chip (SPEC 5.8, ADR 77): a server that was taken over, with the
ASSIGN key, cannot give it what people have not signed for it.
"""

import textwrap

import pytest

from fota_wire.host_chips import DEFAULT

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("each_chip", [DEFAULT], indirect=True)]

KEYS = ("campaign-1", "campaign-2", "campaign-3")
TRIES = 6  # check-ins within which the chip has a ROOT, or has said what it was asked to take
ALWAYS = "2020-01-01 2099-01-01"
LIES = {  # what a server is made to say that was taken over; in its process alone
    "without a document": "campaigns.in_force = lambda *_: None",
    "by one that does not reach it": "campaigns.why_not = lambda *_: None\ncampaigns.reasons = lambda *_: []",
}
SAYS = {"without a document": "no CAMPAIGN came", "by one that does not reach it": "in no wave"}


def root_with_campaign_keys(chip):
    """ROOT 2: two of three people say whom a release may reach."""
    words = []
    for name in KEYS:
        chip.fota("keys", "new", name.replace("-", "/"), "-o", chip.folder / f"{name}.pem")
        chip.fota("keys", "public", chip.folder / f"{name}.pem", "-o", chip.folder / f"{name}.pub")
        words += ["--campaign-key", chip.folder / f"{name}.pub"]
    file = chip.folder / "root-2.cbor"
    signers = [word for n in (1, 2) for word in ("--sign", chip.keys / f"root-{n}.pem")]
    chip.fota("root", "new", "--previous", chip.root, *words, *signers, "-o", file)
    return file


def campaign(chip, wave):
    """Have two people sign for ``wave``, and the server told."""
    file, manifest = chip.folder / "1.1.0.campaign", next(chip.folder.glob("*1.1.0*.suit2"))
    chip.fota("campaign", "new", manifest, "--wave", wave, "-o", file, "--force")
    for name in KEYS[:2]:
        key, root = chip.folder / f"{name}.pem", chip.folder / "root-2.cbor"
        chip.fota("campaign", "sign", file, "--key", key, "--root", root, "-o", file, "--force")
    chip.fota("release", "campaign", "1.1.0", file)


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
    chip.environment["FOTA_KEY_PASSWORD"] = "correct horse battery"
    chip.fota("release", "root", root_with_campaign_keys(chip))
    settle(chip, lambda _: chip.twin()["root_version"] == 2)
    chip.release_chip("1.1.0", 2)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id, ends=1)  # for nobody was signed


@pytest.mark.parametrize("what", LIES)
def test_server_that_was_taken_over_gives_it_nothing(each_chip, what):
    chip = each_chip
    campaign(chip, f"100% {ALWAYS} canary")
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
    campaign(chip, f"100% {ALWAYS}")
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    said = chip.run_chip("agent 1.1.0: confirmed") + chip.run_chip("agent 1.1.0: settled")
    assert "MemoryError" not in said
    assert chip.twin()["running"]["version"] == "1.1.0"
    assert chip.machine.faults == []
