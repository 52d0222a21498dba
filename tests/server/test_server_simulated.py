"""The rollout that was planned is what happens: a sample of what `make campaign` does at length."""

import asyncio
from pathlib import Path

import pytest
from rollout_sim import Scenario, Simulation
from server_world import Keys


@pytest.mark.parametrize("seed", range(3))
def test_rollout_does_what_its_plan_promised(tmp_path: Path, keys: Keys, seed: int) -> None:
    scenario = Scenario.of(seed, devices=40, days=3)
    witness = asyncio.run(Simulation(tmp_path / "fota.db", keys, scenario, seed).run())
    assert witness.found == [], f"seed {seed}: {scenario}"
    assert witness.given, "something happened"
