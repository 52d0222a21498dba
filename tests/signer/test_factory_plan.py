"""A plan file: what it brings a chip to, and which plans are refused before a chip is touched."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from factory_world import blank, new_root, require_finished

from fota_signer.factory.line import provision_by_plan, provision_chip
from fota_signer.factory.plan import load_plan, make_plan
from fota_signer.factory.steps import all_steps
from fota_wire.errors import DeviceError, FotaError, InputError


def plan_of(job, **changes):
    given = {"root_a_xy": job.root_a_xy, "root_b_xy": job.root_b_xy, "counters": job.counters}
    return load_plan(make_plan(all_steps(**given | changes)), "p")


def test_plan_file_read_back_is_the_same_commands(job):
    steps = all_steps(root_a_xy=job.root_a_xy, root_b_xy=job.root_b_xy, counters=job.counters)
    commands = [(name, command) for name, command in plan_of(job) if name != "recognise"]
    assert [command for _, command in commands] == [command for step in steps for command in step.commands]


def test_plan_brings_a_blank_chip_to_the_end(job):
    plan = plan_of(job)
    chip = blank()
    report = provision_by_plan(chip.bus, job, plan)
    require_finished(chip, job, report)
    assert report.changed == ("certificate",)


@pytest.mark.parametrize(
    "changes",
    [{"root_a_xy": new_root()}, {"root_b_xy": new_root()}, {"counters": (0, 0)}, {"latched": True}],
    ids=lambda changes: next(iter(changes)),
)
def test_plan_made_for_something_else_is_refused_before_the_chip_is_touched(job, changes):
    chip = blank()
    with pytest.raises(InputError, match="other roots, --floor or --latch"):
        provision_by_plan(chip.bus, job, plan_of(job, **changes))
    assert not chip.nvm.config_locked
    assert not job.work.exists()


def test_plan_that_somebody_put_a_command_into_is_refused(job):
    """This one would leave the IO protection key in slot 8, for everybody to read."""
    raw = json.loads(make_plan(all_steps(root_a_xy=job.root_a_xy, root_b_xy=job.root_b_xy,
                                         counters=job.counters)))  # fmt: skip
    at = next(i for i, item in enumerate(raw["commands"]) if item["data"] == ["${io_key}"])
    raw["commands"].insert(at, raw["commands"][at] | {"p2": "4000"})
    chip = blank()
    with pytest.raises(InputError, match="plan"):
        provision_by_plan(chip.bus, job, load_plan(json.dumps(raw).encode(), "p"))
    assert not chip.nvm.config_locked


def test_plan_cut_half_way_is_completed_by_the_steps(job):
    plan = plan_of(job)
    chip = blank()
    bus = chip.bus
    chip.machine.cut_power_at(element_command=40, torn=1)
    with pytest.raises(DeviceError, match=r"command \d+ of 56.*go on with: fota provision device"):
        provision_by_plan(bus, job, plan)
    require_finished(chip, job, provision_chip(chip.bus, job))


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.pop("format"),
        lambda plan: plan["commands"][0].pop("opcode"),
        lambda plan: plan["commands"][0].update(p2="zz"),
        lambda plan: plan["commands"][0].update(answer={"keep": "io_key", "length": 4}),
        lambda plan: plan["commands"][0].update(answer={}),
    ],
)
def test_damaged_plan_is_refused(job, change):
    plan = json.loads(make_plan(all_steps(root_a_xy=job.root_a_xy, root_b_xy=job.root_b_xy)))
    change(plan)
    with pytest.raises(FotaError):
        load_plan(json.dumps(plan).encode(), "p")
