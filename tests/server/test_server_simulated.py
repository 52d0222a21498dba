"""The rollout that was planned is what happens: a sample of what `make campaign` does at length."""

import asyncio
from pathlib import Path

import pytest
from rollout_sim import Simulation
from rollout_witness import Scenario
from server_world import Keys

from fota_server import hand_out, orders, rollouts


@pytest.mark.parametrize("seed", [1, 5, 9])
def test_rollout_does_what_its_plan_promised(tmp_path: Path, keys: Keys, seed: int) -> None:
    scenario = Scenario.of(seed, devices=40, days=3)
    witness = asyncio.run(Simulation(tmp_path / "fota.db", keys, scenario, seed).run())
    assert witness.found == [], f"seed {seed}: {scenario}"
    assert witness.given, "something happened"


class OneFails(Simulation):
    """One device went back and says so: in the moment in which all others ask for the release, or (``stop``)
    while its rollout is stopped by hand; then they ask as soon as that is lifted.
    """

    stop: str | None = None

    async def live(self, number: int) -> None:
        devices, database, checkins = list(self.devices.values()), self.fleet.database, self.new_life()
        await self.go_on()
        await database.write(hand_out.halt, "each shall be known, and given nothing yet", "test")
        await asyncio.gather(*(self.call(checkins, one) for one in devices))
        await database.write(hand_out.unhalt, "test")
        bad = devices[10]
        while not bad.events:
            await self.call(checkins, bad)
        if self.stop == "halt":
            await database.write(hand_out.halt, "drill", "test")
            await self.call(checkins, bad)
            await database.write(hand_out.unhalt, "test")
        elif self.stop == "pause":
            await database.write(rollouts.set_paused, number, True, "test")
            await self.call(checkins, bad)
            await database.write(orders.resume, number, "test")
        await asyncio.gather(*(self.call(checkins, one) for one in devices))
        await checkins.stop()
        self.given = [one.id for one in devices if one.given_at is not None]
        self.shown = await self.fleet.show(number)


@pytest.mark.parametrize("stop", [None, "halt", "pause"])
@pytest.mark.parametrize(("on_failure", "state"), [("pause", "running"), ("rollback", "cancelling")])
def test_nobody_is_given_what_has_failed(
    tmp_path: Path, keys: Keys, on_failure: str, state: str, stop: str | None
) -> None:
    policy = {"waves": ["rest"], "errors": "0%", "on_failure": on_failure}
    simulation = OneFails(tmp_path / "fota.db", keys, Scenario(policy, devices=21, days=0, bad=100), 0)
    simulation.stop = stop
    asyncio.run(simulation.run())
    assert len(simulation.given) == 1
    assert simulation.shown["held"] == "wave 1: 1 of 21 device(s) in error (1 failed); at most 0% may"
    assert simulation.shown["state"] == state
