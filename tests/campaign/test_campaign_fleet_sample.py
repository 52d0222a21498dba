"""A short run of `make campaign`'s faults of a fleet, on each database: real processes that are killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

import databases

PROGRAM = Path(__file__).with_name("campaign_fleet.py")
KILLS = {
    databases.POSTGRESQL: ("kill_server", "kill_signer", "failover"),
    databases.SQLITE: ("kill_server", "kill_worker", "opposite_halts"),
}


@pytest.mark.parametrize("kind", databases.BOTH)
def test_rollout_goes_on_by_itself_while_processes_are_killed(kind: str) -> None:
    if kind == databases.POSTGRESQL and (why := databases.why_no_postgresql()):
        pytest.skip(why)
    options = ["--kind", kind, "--seed", "7", "--devices", "40", "--faults", "3", "--only", *KILLS[kind]]
    done = subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1].removeprefix(kind))
    assert [found["deviations"], found["faults"]] == [0, dict.fromkeys(KILLS[kind], 1)]
