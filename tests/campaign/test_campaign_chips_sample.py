"""A seeded sample of the campaigns on the other chips, and seeded bugs that they must find there."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import campaign_device as device
import campaign_glitch as glitch
import campaign_i2c as i2c
import campaign_power as power
import run as runner

from fota_wire import host_chips

SEED = 5
U5, C3 = f"{device.U5}gcc", f"{device.C3}gcc"


@pytest.mark.parametrize("scenario", ["install", "request"])
def test_power_cuts_lose_nothing_on_the_stm32u585(scenario: str) -> None:
    """Option bytes are among what is cut: the banks change places by them."""
    result = power.campaign(U5, scenario, seeds=2, second_seeds=1, sample=0.4)
    assert result.failures == []
    assert result.cases >= 10
    path = power.rig(U5, scenario).path
    operations = {op.what.split()[0] for op in path.operations if op.kind == "flash"}
    assert operations == ({"options", "program"} if scenario == "install" else {"program"})


@pytest.mark.parametrize("chip", host_chips.CHIPS)
def test_application_that_fails_its_self_test_is_there_for_every_chip(chip: str) -> None:
    assert len(device.sample_image("1.2.0", fail=True, chip=chip)) > 1000


# --- ESP32-C3: whatever is asked for by OTA data is in the journal before the OTA data are touched ---


@pytest.mark.parametrize("scenario", ["ota-request", "ota-confirm-turn-over"])
def test_power_cuts_lose_no_request_by_ota_data(scenario: str) -> None:
    result = power.campaign(C3, scenario, seeds=2, second_seeds=1, sample=0.05)
    assert result.failures == []
    assert result.cases > 20
    work = [op.what.split()[0] for op in power.rig(C3, scenario).path.operations if op.kind == "flash"]
    assert work == (["program", "erase", "program"] if scenario == "ota-request" else ["erase", "program"])


def test_ota_data_touched_before_the_journal_lose_a_request() -> None:
    result = power.campaign(f"{device.C3}message-first", "ota-request", seeds=2, second_seeds=0, sample=0)
    assert {kind for kind, _, _ in result.failures} == {"lost_updates"}


def writing(attack: glitch.Attack) -> list[int]:
    """Places in what writes and erases flash."""
    functions = ("fota_spi_write", "fota_spi_erase")
    return [i for i, pc in enumerate(attack.walk.trace) if attack.function_at(pc) in functions]


@pytest.mark.parametrize("scenario", ["bad-signature", "page-full"])
def test_skip_where_flash_is_written_bricks_nothing(scenario: str) -> None:
    attack = glitch.Attack(C3, scenario, SEED)
    tally = attack.run("skip", writing(attack))
    assert tally.failures == []
    assert sum(tally.outcomes.values()) > 30


def test_flash_written_wherever_a_register_says_is_a_brick() -> None:
    attack = glitch.Attack(f"{device.C3}write-anywhere", "bad-signature", SEED)
    failures = attack.run("skip", writing(attack)).failures
    assert {name.rsplit(":", 1)[1] for name in failures} == {"brick"}
    place = failures[0].split(":")[0]
    assert runner.replay(f"esp32c3_skip_gcc:{place.replace('/', ':', 1)}") == 1


# --- ESP32-C3: what runs is what was hashed, whatever the MMU was told ---


def mapping(attack: glitch.Attack, function: str) -> list[int]:
    """The last instructions of what maps the slots to be hashed, or the image to be run."""
    names, trace = (function, "show"), attack.walk.trace
    end = (
        trace.index(attack.walk.by_name["fota_boot"].begin) if function == "fota_places_find" else len(trace)
    )
    return [i for i in range(end) if attack.function_at(trace[i]) in names][-LAST[function] :]


LAST = {"fota_places_find": 14, "fota_port_boot": 260}


@pytest.mark.parametrize("function", LAST)
def test_skip_where_an_image_is_mapped_boots_no_other(function: str) -> None:
    attack = glitch.Attack(C3, "mirrored", SEED)
    tally = attack.run("skip", mapping(attack, function))
    assert tally.failures == []
    assert sum(tally.outcomes.values()) == LAST[function]


def test_window_that_is_believed_runs_what_was_not_hashed() -> None:
    """The other slot's image under this slot's proof."""
    attack = glitch.Attack(f"{device.C3}window-believed", "mirrored", SEED)
    failures = attack.run("skip", mapping(attack, "fota_places_find")).failures
    assert {name.rsplit(":", 1)[1] for name in failures} == {"bad"}


def test_recovery_that_has_the_banks_change_places_again_is_waited_for() -> None:
    """A fault may have them exchanged, with the update still to be looked at: two boots, three sessions."""
    attack = glitch.Attack(U5, "forged-mac", SEED)
    w = attack.walk
    w.machine.flash.options["optr"] ^= 1 << 20  # SWAP_BANK
    assert attack._recovers()


@pytest.mark.parametrize("build", [U5, C3])
@pytest.mark.parametrize("scenario", ["low-counter", "forged-mac", "pattern-forged"])
def test_skipped_instruction_boots_no_bad_image(build: str, scenario: str) -> None:
    attack = glitch.Attack(build, scenario, SEED)
    targets = attack.targets("skip")
    step = len(targets) // 24
    tally = attack.run("skip", targets[SEED % step :: step])
    assert tally.failures == []
    assert sum(tally.outcomes.values()) >= 16  # some lie inside an IT block, which is one place


def test_boot_that_has_the_banks_change_places_is_followed_through_its_reset() -> None:
    attack = glitch.Attack(U5, "good-update", SEED)
    w = attack.walk
    begun = [i for i, pc in enumerate(w.trace) if pc == w.by_name["fota_boot"].begin]
    assert len(begun) == 2
    targets = [i for i in attack.targets("skip") if i > begun[1]]
    tally = attack.run("skip", targets[SEED :: len(targets) // 10])
    assert tally.failures == []
    assert tally.outcomes["good"] > 0


@pytest.mark.parametrize("build", [U5, C3])
def test_adversary_on_the_bus_is_refused(build: str) -> None:
    result = i2c.campaign(build, "bad-signature", part=3, parts=6, sample=0.01)
    assert result.failures == []
    assert result.cases > 3
