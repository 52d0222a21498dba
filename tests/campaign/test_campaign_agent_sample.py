"""A sample of the campaign `agent_power`, and that it finds what it looks for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import campaign_agent

pytestmark = pytest.mark.slow
STRIDE = 1_999


@pytest.fixture(scope="module")
def update():
    """The recorded update of the agent on the chip."""
    if campaign_agent.why_not():
        pytest.skip(campaign_agent.why_not())
    campaign_agent.prepare()


def test_power_cuts_all_over_an_update_lose_nothing(update):
    result = campaign_agent.campaign(7, STRIDE)
    assert result.cases > 20
    assert result.failures == []


def test_power_cuts_while_the_rom_writes_page_after_page_lose_nothing(update):
    """One call of the ESP32-C3's ROM is many flash operations: each of them is cut."""
    campaign_agent.prepare("esp32c3")
    result = campaign_agent.campaign(0, 1, limit=20, chip="esp32c3")
    assert result.failures == []
    assert result.cases >= 20


def test_power_cuts_all_over_an_update_of_the_second_chip_lose_nothing(update):
    """Its units are quad-words, its banks change places by an option byte."""
    campaign_agent.prepare("stm32u585")
    result = campaign_agent.campaign(7, STRIDE, chip="stm32u585")
    assert result.cases > 10
    assert result.failures == []


def test_cut_around_the_request_boots_the_old_image_or_the_new(update):
    """The last flash operations: the store, and the journal record that asks for the trial."""
    walk = campaign_agent.Walk()
    asked = False
    while walk.step():
        if walk.operations < 25_000:
            continue
        start = walk.snapshots.take()
        for torn in (None, 1, 2):
            try:
                walk.cut(torn)
            except campaign_agent.CampaignError:  # nothing left to cut before the reset
                break
            assert walk.judge(recheck=False) == ("", "")
            asked = asked or walk.record() != walk.first
            walk.snapshots.restore(start)
    walk.machine.close()
    assert asked


def test_damage_outside_the_agents_own_flash_is_found(update, monkeypatch):
    cut = campaign_agent.Walk.cut

    def cut_and_damage(walk, torn, ahead):
        cut(walk, torn, ahead)
        walk.machine.flash.write_phys(1, 0x4000 + 0x800, b"\0" * 8)

    monkeypatch.setattr(campaign_agent.Walk, "cut", cut_and_damage)
    result = campaign_agent.campaign(7, STRIDE, limit=2)
    assert [kind for kind, _, _ in result.failures] == ["bricks", "bricks"]
