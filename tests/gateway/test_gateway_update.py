"""A Linux gateway end to end: launcher, agent, key in SoftHSM2, real server."""

import os
import signal
import time
from pathlib import Path

import pytest
from gateway_world import KEYS, booted, wake_ups
from lifeline import HANG_S, until

pytestmark = pytest.mark.slow
SHORT_S = 2
"""What a program that never says that it is well is given once more."""


def launch(world, path, *args):
    process = world.spawn("gateway", "launch", path, *args)
    until(lambda: booted(path), "the launcher's first boot", process)
    return process


def stop(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG_S) == 0


def lives(path):
    return (path / "lives").read_text().splitlines()


def test_update_rollback_revert_and_floor_on_a_gateway(world, first):
    path = world.gateway("full", first)
    launcher = launch(world, path, "--port", "80")
    device = world.show(path)["device"]

    # 1.0.0 runs, and the server hears of it
    state = world.agent(path, "--until-idle")
    assert (state["slot"], state["version"], state["confirmed"], state["settled"]) == (
        "A",
        "1.0.0",
        "A",
        True,
    )
    assert world.twin(path)["confirmed"]["version"] == "1.0.0"
    assert lives(path) == ["1.0.0 --port 80"]

    # 1.1.0 is downloaded, tried, confirmed
    world.publish("1.1.0")
    world.fota("rollout", "start", "1.1.0", "--device", device)
    state = world.agent(path, "--until-confirmed")
    assert (state["slot"], state["version"], state["confirmed"]) == ("B", "1.1.0", "B")
    assert lives(path)[-1] == "1.1.0 --port 80"

    # back again: the image still lies in slot A
    before = (path / "slot-a").stat().st_mtime_ns, (path / "slot-b").stat().st_mtime_ns
    world.fota("rollback", "--device", device)
    state = world.agent(path, "--until-confirmed")
    assert (state["slot"], state["version"]) == ("A", "1.0.0")
    assert ((path / "slot-a").stat().st_mtime_ns, (path / "slot-b").stat().st_mtime_ns) == before

    # 1.2.0 says that it is not well, and goes; the server shows why
    world.publish("1.2.0", what='(run / "health").write_text("bad")')
    world.fota("rollout", "start", "1.2.0", "--device", device)
    error = world.agent(path, "--until-confirmed", code=1)
    assert "reverted: AP1 self-test" in error
    assert (world.show(path)["version"], world.show(path)["state"]) == ("1.0.0", "reverted")
    assert "AP1 self-test" in str(world.twin(path)["events"])

    # 1.3.0 raises the floor; 1.1.0 is then refused by the gateway itself
    world.publish("1.3.0", counter=2)
    world.fota("rollout", "start", "1.3.0", "--device", device)
    assert world.agent(path, "--until-confirmed")["version"] == "1.3.0"
    stop(launcher)
    launcher = launch(world, path)
    assert world.show(path)["floor"] == 2
    world.fota("rollback", "--device", device, "--to", "1.1.0")
    assert "PO1 rollback" in world.agent(path, "--until-confirmed", code=1)
    assert "PO1 rollback" in str(world.twin(path)["events"])
    assert world.show(path)["version"] == "1.3.0"
    stop(launcher)


def test_program_that_dies_in_its_trial_is_gone_after_its_tries(world, first):
    path = world.gateway("crash", first)
    launcher = launch(world, path)
    device = world.agent(path, "--until-idle")["device"]
    world.publish("1.5.0", what="sys.exit(3)")
    world.fota("rollout", "start", "1.5.0", "--device", device)
    error = world.agent(path, "--until-confirmed", code=1)
    assert "reverted: PO4 tries-exhausted" in error
    assert [line.split()[0] for line in lives(path)] == ["1.0.0", "1.5.0", "1.5.0", "1.5.0", "1.0.0"]
    stop(launcher)


EMBEDDED = """
import threading
sys.path[:0] = {paths!r}
from fota_agent import board, Agent, Hooks

class Mine(Hooks):
    def health_check(self):
        return (run.parent / "sick").exists() is False

    def log(self, line):
        print("program:", line, flush=True)

agent = Agent(board.detect(), hooks=Mine())
agent.start()
agent.publish("climate", {{"t": 21.5, "version": "{version}"}})
"""


def embedded(version):
    repo = Path(__file__).parents[2]
    return EMBEDDED.format(paths=[str(repo / "agent"), str(repo / "wire")], version=version)


def test_program_that_holds_the_agent_updates_itself_with_five_lines(world, first):
    """The README's five lines, in the program itself: no process beside it."""
    path = world.gateway("embedded", world.publish("2.0.0", what=embedded("2.0.0"))[0])
    launcher = launch(world, path)
    device = world.show(path)["device"]

    def twin():
        return world.twin(path)

    until(lambda: device in world.fota("device", "list"), "its first check-in", launcher)
    until(lambda: twin()["confirmed"]["version"] == "2.0.0")
    until(lambda: [item["value"] for item in twin()["telemetry"]] == [{"t": 21.5, "version": "2.0.0"}])
    world.publish("2.1.0", what=embedded("2.1.0"))
    world.fota("rollout", "start", "2.1.0", "--device", device, "--wait", "--timeout", HANG_S)
    assert world.show(path)["version"] == "2.1.0"
    until(lambda: twin()["telemetry"][0]["value"]["version"] == "2.1.0")
    stop(launcher)


def test_card_updates_a_gateway_without_network_and_an_old_one_does_not(world, first):
    path = world.gateway("card", first)
    launcher = launch(world, path)
    image = world.program("3.0.0")
    envelope = world.manifest(image)
    card = world.folder / "stick"
    world.fota("agent", "card", image, envelope, "-o", card)
    state = world.agent(path, "--from", card, "--once", "--server", "https://localhost:1")
    assert (state["version"], state["slot"], state["confirmed"]) == ("3.0.0", "B", "B"), "no trial is left"
    world.agent(path, "--once", "--server", "https://localhost:1", code=4)
    error = world.agent(path, "--from", card, "--once", code=1)
    assert "not above" in error

    # one that is not well is gone when the command ends, and the command says so
    image = world.program("3.1.0", what='(run / "health").write_text("bad")')
    world.fota("agent", "card", image, world.manifest(image), "-o", world.folder / "bad-stick")
    nowhere = ("--server", "https://localhost:1")
    error = world.agent(path, "--from", world.folder / "bad-stick", "--once", *nowhere, code=1)
    assert "did not take the update: reverted: AP1 self-test" in error
    assert (world.show(path)["version"], world.show(path)["confirmed"]) == ("3.0.0", "B")

    # one that says nothing yet is still on trial when the time is up: said, with what to do
    image = world.program("3.2.0", what="")
    world.fota("agent", "card", image, world.manifest(image), "-o", world.folder / "shy-stick")
    agent = world.spawn("agent", "run", "--gateway", path, "--from", world.folder / "shy-stick", *nowhere)
    until(lambda: world.show(path)["state"] == "trial", "the trial", agent)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(HANG_S) == 0
    error = world.agent(path, "--once", *nowhere, duration=SHORT_S, code=1)
    assert "a trial is under way: run the agent again soon" in error
    assert world.show(path)["state"] == "trial"
    (path / "run/health").write_text("good")
    world.agent(path, "--once", *nowhere, code=4)
    assert world.show(path)["confirmed"] == "A"
    stop(launcher)


def test_idle_agent_beside_a_program_sleeps_until_a_boot_report_is_written(world, first):
    path = world.gateway("idle", first)
    launcher = launch(world, path)
    agent = world.spawn("agent", "run", "--gateway", path, "--server", "https://localhost:1")
    until((path / "run/agent.lock").exists, "the agent", agent)
    before, steady = wake_ups(agent.pid), 0
    while steady < 2:  # its back-off grows: two seconds in a row without a try
        time.sleep(2)
        now = wake_ups(agent.pid)
        steady = steady + 1 if now - before <= 2 else 0
        before = now
    (path / "run/boot-report").write_bytes((path / "run/boot-report").read_bytes())
    until(lambda: wake_ups(agent.pid) > before, "the agent's look at the new report", agent)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(HANG_S) == 0
    stop(launcher)


def test_damaged_confirmed_image_is_not_run_but_the_other_one(world, first):
    path = world.gateway("damage", first)
    image = bytearray(first.read_bytes())
    (path / "slot-b").write_bytes(image)
    image[0x300] ^= 1
    (path / "slot-a").write_bytes(image)
    launcher = launch(world, path)
    assert world.show(path)["slot"] == "B"
    stop(launcher)
    (path / "slot-b").write_bytes(image)
    os.truncate(path / "journal", 0)
    assert "PO3 no-image" in world.fota("gateway", "launch", path, code=6)


def test_second_launcher_is_refused_and_agent_without_launcher_is_told(world, first):
    path = world.gateway("alone", first)
    launcher = launch(world, path)
    assert "a launcher is running already" in world.fota("gateway", "launch", path, code=5)
    stop(launcher)
    assert not booted(path)


def test_mode_notify_waits_for_consent_and_takes_what_was_agreed_to(world, first):
    path = world.gateway("notify", first)
    with (path / "gateway.toml").open("a") as settings:
        settings.write('[updates]\nmode = "notify"\n')
    launcher = launch(world, path)
    device = world.agent(path, "--until-idle")["device"]
    assert "no update waits" in world.fota("gateway", "approve", path, code=3)
    world.publish("6.0.0")
    world.fota("rollout", "start", "6.0.0", "--device", device)
    state = world.agent(path, "--until-idle")
    assert (state["version"], state["installed"]) == ("1.0.0", None)
    assert "agreed to 6.0.0" in world.fota("gateway", "approve", path)
    assert world.agent(path, "--until-confirmed")["version"] == "6.0.0"
    stop(launcher)


def test_second_agent_is_refused(world, first):
    path = world.gateway("twice", first)
    launcher = launch(world, path)
    agent = world.spawn("agent", "run", "--gateway", path)
    until((path / "run/agent.lock").exists, "the agent", agent)
    assert "another agent is running" in world.fota("agent", "run", "--gateway", path, "--once", code=5)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(HANG_S) == 0
    assert (path / "store").exists(), "a service that is told to end saves what it knows"
    stop(launcher)


def test_key_in_the_token_is_rotated_over_the_air(world, first):
    """SPEC 5.6 on a gateway: a second pair in the token, a certificate for it, and check-ins by it."""
    path = world.gateway("rotate", first)
    launcher = launch(world, path)
    device = world.agent(path, "--until-idle")["device"]
    assert world.twin(path)["key"]["in_use"] == "factory"
    world.fota("device", "rotate", device)
    world.agent(path, "--once")
    world.fota("device", "certify", "--ca-key", KEYS / "device-ca.pem", "--ca-cert", KEYS / "device-ca.crt",
               "--allow-example-keys")  # fmt: skip
    while world.twin(path)["key"]["in_use"] != "rotated":
        world.agent(path, "--once")
    assert world.agent(path, "--until-idle")["settled"]
    stop(launcher)
