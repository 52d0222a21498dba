"""A seeded sample of each campaign, the machinery below them, and seeded bugs that they must find."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import campaign_device as device
import campaign_glitch as glitch
import campaign_i2c as i2c
import campaign_power as power
import run as runner
from campaign_cores import is_it
from campaign_device import NONE, A, B
from campaign_faults import SAFE

from fota_vdev.machine import Machine
from fota_vdev.snapshot import Snapshots
from fota_wire import journal

SEED = 5


@pytest.fixture(scope="module")
def staged_machine() -> Machine:
    """A good update in slot B, requested; power off."""
    machine = device.factory_machine(device.bootloader("gcc"), device.make_image(1))
    device.install(machine, B, device.make_image(2, sec_cnt=2))
    device.append(machine, journal.Record(1, A, NONE, journal.NONE))
    device.append(machine, journal.Record(2, A, B, journal.STAGED))
    return machine


def everything(machine: Machine) -> tuple[Any, ...]:
    flash = machine.flash
    return (
        machine.instructions,
        machine.time_us,
        machine.cpu.pc,
        bytes(machine.uart),
        [flash.read_phys(bank, 0, 1 << 19) for bank in (1, 2)],
        flash.ecc_bad,
        flash.operations,
        machine.element.counters,  # type: ignore[union-attr]
        machine.read(0x20000000, 0x18000),
        {k: v for k, v in machine.board.state().items() if k != "RNG"}
        | {"RNG": machine.board.rng.stream.position},
    )


@pytest.mark.parametrize("stop", [1, 40_000, 150_003, "flash1", "flash2", "element3", "element10"])
def test_snapshot_and_restore_make_no_difference_to_a_run(staged_machine: Machine, stop: int | str) -> None:
    if isinstance(stop, str):
        operations = power.rig("gcc", "install").path.operations
        stop = next(op.at for op in operations if f"{op.kind}{op.number}" == stop)
    m, snapshots = staged_machine, Snapshots(staged_machine)
    start = snapshots.take()
    m.power_on()
    m.run(max_instructions=stop)
    middle = snapshots.take()
    m.run(time_ms=600)
    undisturbed = everything(m)
    snapshots.restore(middle)
    m.cut_power_at(flash_op=1, torn=3)
    m.run(time_ms=100)  # something else entirely
    m.power_off()
    m.flash.write_phys(1, 0x4000, b"\x00" * 64)
    snapshots.restore(middle)
    m.run(time_ms=600)
    assert everything(m) == undisturbed
    snapshots.restore(start)


@pytest.mark.parametrize("scenario", ["install", "next-try", "request", "install-turn-over"])
def test_power_cuts_lose_nothing(scenario: str) -> None:
    result = power.campaign("gcc", scenario, seeds=2, second_seeds=1, sample=0.4)
    assert result.failures == []
    assert result.cases > 20


def test_cut_that_does_not_come_fails_the_campaign() -> None:
    rig = power.rig("gcc", "install")
    index = next(i for i, op in enumerate(rig.path.operations) if op.kind == "flash")
    with pytest.raises(power.CampaignError, match="did not come"):
        rig.cut(rig.path, index, power.Cut("flash", 99, None))


def sample(attack: glitch.Attack, campaign: str, n: int) -> list[int]:
    targets = attack.targets(campaign)
    return targets[SEED :: max(1, len(targets) // n)]


@pytest.mark.parametrize("scenario", ["bad-signature", "low-counter", "forged-mac"])
def test_skipped_instruction_boots_no_bad_image(scenario: str) -> None:
    attack = glitch.Attack("gcc", scenario, SEED)
    tally = attack.run("skip", sample(attack, "skip", 20))
    assert tally.failures == []
    assert sum(tally.outcomes.values()) >= 20


def test_flipped_register_bit_boots_no_bad_image() -> None:
    attack = glitch.Attack("gcc", "bad-signature", SEED)
    tally = attack.run("bit_flip", sample(attack, "bit_flip", 8))
    assert tally.failures == []
    assert sum(tally.outcomes.values()) >= 32


@pytest.mark.skipif(not device.has_clang(), reason="clang is not installed: no second compiler to attack")
def test_skipped_instruction_of_clang_build_boots_no_bad_image() -> None:
    attack = glitch.Attack("clang", "low-counter", SEED)
    assert attack.run("skip", sample(attack, "skip", 20)).failures == []


@pytest.mark.parametrize(
    ("situation", "part"), [("good-update", 1), ("bad-signature", 3), ("raise-floor", 5)]
)
def test_adversary_on_the_bus_is_refused(situation: str, part: int) -> None:
    result = i2c.campaign("gcc", situation, part=part, parts=6, sample=0.01)
    assert result.failures == []
    assert result.cases > 3


def test_session_that_fails_while_the_floor_is_raised_does_not_raise_it_too_far() -> None:
    result = i2c.campaign("gcc", "raise-floor", only="raise-floor/replay-0801")
    assert result.failures == []


def test_skip_in_an_it_block_is_injected() -> None:
    w = glitch.walk("gcc", "bad-signature")
    blocks = [i for i, pc in enumerate(w.trace) if is_it(w.core.half(pc))][:2]
    done = 0
    for here, _, pc in w.places(blocks):
        for victim in w.core.block(pc):
            before = bytes(w.uc.mem_read(victim, 4))
            assert w.skip_in_block(pc, victim) in SAFE
            assert bytes(w.uc.mem_read(victim, 4)) == before
            w.back(here)
            done += 1
    assert done


# --- seeded bugs: each makes a campaign fail ---


def test_branch_without_hardening_is_skipped_into_a_bad_boot() -> None:
    attack = glitch.Attack("branch-only", "low-counter", SEED)
    trace = attack.walk.trace
    targets = [i for i in attack.targets("skip") if attack.function_at(trace[i]) == "fota_boot"]
    while targets and not attack.tally.outcomes["bad"]:  # the last instructions decide
        targets, last = targets[:-30], targets[-30:]
        attack.run("skip", last)
    place = next(f for f in attack.tally.failures if f.endswith(":bad")).split(":")[0]
    assert runner.replay(f"skip_gcc:{place.replace('/', ':', 1)}") == 1


def test_page_erased_too_early_loses_an_update() -> None:
    result = power.campaign("journal-order", "install-turn-over", seeds=2, second_seeds=0, sample=0)
    assert {kind for kind, _, _ in result.failures} & {"lost_updates", "bricks", "bad_boots"}


def test_answer_believed_without_mac_boots_a_bad_image() -> None:
    only = "bad-signature/sealed-garbage0@45a0"
    result = i2c.campaign("mac-unchecked", "bad-signature", only=only)
    assert [kind for kind, _, _ in result.failures] == ["bad_boots"]
