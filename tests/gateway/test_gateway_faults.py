"""Processes of a gateway killed at random through updates: what power cuts are to a chip."""

import itertools
import json
import random
import subprocess
import time

import pytest
from gateway_world import FOTA, booted
from lifeline import HANG_S, until

from fota_wire import image

pytestmark = pytest.mark.slow


def spawn(world, *args):
    command = [*FOTA, *map(str, args)]
    return subprocess.Popen(
        command, env=world.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


KILLS = 8


def test_kill_anywhere_leaves_the_old_program_or_the_new_one(world, first):
    generator = random.Random(2)
    path, version = world.gateway("kill", first), "5.0.0"
    device = world.show(path)["device"]
    launcher = spawn(world, "gateway", "launch", path)
    until(lambda: booted(path), "the first boot", launcher)
    world.agent(path, "--until-idle")
    # 700 KB: a dozen pages, so that kills fall into downloads too
    world.publish(version, what=f"filler = {'x' * 700_000!r}\n(run / 'health').write_text('good')")
    world.fota("rollout", "start", version, "--device", device)
    seen = set()
    for round_ in itertools.count():
        assert round_ < 60
        agent = spawn(world, "agent", "run", "--gateway", path, "--interval", "1")
        time.sleep(generator.uniform(0.2, 1.6) if round_ < KILLS else 4 * (round_ - KILLS + 1))
        victims = generator.choice([[agent], [agent, launcher], [launcher]])
        for victim in victims:
            victim.kill()
            victim.wait()
        agent.kill()
        agent.wait()
        if launcher.poll() is not None:
            launcher = spawn(world, "gateway", "launch", path)
            until(lambda: world.show(path)["launcher"] is not None and booted(path), "a boot", launcher)
        state = world.show(path)
        seen.add(state["version"])
        assert state["version"] in ("1.0.0", version)
        slot = path / f"slot-{state['slot'].lower()}"
        image.parse_image(slot.read_bytes(), in_flash=True, programs=True)
        if round_ >= KILLS and (state["version"], state["state"]) == (version, "none"):
            break
        told = json.loads(world.fota("device", "show", device, "--json"))["status"]
        if told in ("reverted", "rejected", "failed"):  # three kills within one trial: a new order
            world.fota("rollout", "start", version, "--device", device)
    assert version in seen
    launcher.terminate()
    launcher.wait(HANG_S)
