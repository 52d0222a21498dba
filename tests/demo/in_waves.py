"""A rollout in three waves over six Linux gateways: the lab's board takes the release, the second wave's
boards fail its self-test, the rollout pauses itself, and one command takes back what it gave.
"""

import json
import sys
from pathlib import Path
from typing import Any

from gateways import Gateways, softhsm
from lifeline import until
from stage import chapter, shown, tell
from world import World

GOOD, BAD = "2.0.0", "2.1.0"
DEVICES = 6
WAVES = "group:lab,2,rest"
REVISION = "revision"  # what the board says of itself, beside the gateway's folder
PROGRAM = """\
import os, time
from pathlib import Path
from fota_agent import Agent, Hooks, board

class SelfTest(Hooks):
    def health_check(self):
        revision = Path(os.environ["FOTA_GATEWAY"] + ".{revision}").read_text()
        return revision in {runs_on!r}

agent = Agent(board.detect(), hooks=SelfTest())
agent.start()
time.sleep(1e9)
"""


class Fleet:
    """Six gateways by name, each with the revision of its board: A in the lab, B in the field."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gateways = Gateways(world)
        self.ids: dict[str, str] = {}

    def release(self, version: str, sequence: int, runs_on: str) -> Path:
        """Publish the gateways' program; it knows the boards ``runs_on``."""
        return self.gateways.release(
            version, sequence, PROGRAM.format(revision=REVISION, runs_on=runs_on)
        )  # fmt: skip

    def set_up(self) -> None:
        """Make, launch and group them; wait until each has confirmed its program at the server."""
        image = self.release(GOOD, 21, "AB")
        for number in range(1, DEVICES + 1):
            name, revision = f"gateway-{number}", "A" if number == 1 else "B"
            (self.world.folder / f"{name}.{REVISION}").write_text(revision)
            self.ids[name] = self.gateways.make(name, image)["device"]
            self.gateways.launch(name)
        tell("factory", f"{DEVICES} gateways; the lab's has a board of revision A, the field's have B")
        for group, members in (("field", [*self.ids.values()]), ("lab", [self.ids["gateway-1"]])):
            until(lambda ids=members: all(self.confirmed(device) == GOOD for device in ids))
            self.world.fota("group", "create", group)
            self.world.fota("group", "add", group, *members)
        tell("server", f"{DEVICES} devices have confirmed {GOOD}")

    def confirmed(self, device: str) -> str:
        """The version that a device has confirmed, as the server knows it; empty if it never called."""
        rows = self.world.json("device", "list")["devices"]
        row = next((row for row in rows if row["id"] == device), None)
        return str(row["confirmed"]["version"]) if row and row["confirmed"] else ""

    def said(self, name: str, text: str) -> str:
        """The first line of a gateway's launcher with ``text`` in it, or an empty string."""
        log = (self.world.folder / f"{name}.log").read_text()
        return next((line for line in log.splitlines() if text in line), "")


def plan_and_start(fleet: Fleet) -> int:
    """Print the plan, and start the rollout that keeps it; return its number."""
    world, plan = fleet.world, fleet.world.folder / "plan.json"
    printed = world.fota("rollout", "plan", BAD, "--group", "field", "--waves", WAVES, "-o", plan)
    for line in printed.splitlines():
        tell("server", line)
    promised = json.loads(plan.read_text())["devices"]
    number = int(world.json("rollout", "start", "--plan", plan)["id"])
    tell("server", f"rollout {number} keeps that plan of {len(promised)} devices")
    return number


def story(folder: Path, expect: Any) -> None:
    """Tell it; one line where it cannot be told."""
    chapter("In waves: what the lab's board takes and the field's do not stops by itself")
    if not softhsm():
        tell("demo", "left out: install Debian's package softhsm2")
        shown("rollout in waves", "left out")
        return
    world = World(folder)
    fleet: Fleet | None = None
    try:
        world.make_keys()
        world.start_server()
        fleet = Fleet(world)
        fleet.set_up()
        fleet.release(BAD, 22, "A")
        number = plan_and_start(fleet)
        until(lambda: world.json("rollout", "show", number)["paused"])
        take_back(fleet, number, expect)
    finally:
        if fleet is not None:
            fleet.gateways.stop()
        world.leave()


def take_back(fleet: Fleet, number: int, expect: Any) -> None:
    """The rollout has paused itself: what it says, what devices say, and the one command."""
    world = fleet.world
    until(lambda: all(not wave["on_trial"] for wave in world.json("rollout", "show", number)["waves"]))
    told = world.json("rollout", "show", number)
    for wave in told["waves"]:
        what = f"wave {wave['number']} ({wave['size']}), {wave['phase']}"
        confirmed = f"{wave['confirmed']} of {wave['devices']} confirmed"
        tell("server", f"{what}: {confirmed}, {wave['failed']} failed")
    tell("server", f"the rollout has paused itself: {told['held']}")
    back = {name: line for name in fleet.ids if (line := fleet.said(name, "is reverted"))}
    for name, line in back.items():
        tell(name.replace("gateway", "gate"), line)
    failed = told["waves"][1]["failed"]  # the second of them may have called only after the first had failed
    expect(0 < len(back) == failed, f"what was reverted is known to the server: {failed}, {back}")
    expect(fleet.confirmed(fleet.ids["gateway-1"]) == BAD, "the lab's gateway has confirmed 2.1.0")
    for line in world.fota("rollback", "--rollout", number, "--yes").splitlines():
        tell("server", line)
    until(lambda: all(fleet.confirmed(device) == GOOD for device in fleet.ids.values()))
    untouched = [name for name in fleet.ids if not fleet.said(name, BAD)]
    tell("server", f"all {DEVICES} have confirmed {GOOD}; {len(untouched)} of them never heard of {BAD}")
    expect(len(untouched) == DEVICES - 1 - failed, f"the third wave was never asked: {untouched}")
    shown("bad release in three waves: devices that it reached", f"{DEVICES - len(untouched)} of {DEVICES}")
    shown("went back by themselves; were taken back by one command", f"{len(back)}; 1")


def main() -> None:
    """Run this part alone, for development."""

    def expect(fact: bool, what: str) -> None:
        if not fact:
            raise SystemExit(what)

    story(Path(sys.argv[1]), expect)


if __name__ == "__main__":
    main()
