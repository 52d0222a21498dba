"""10^5 device-days of rollouts in waves, in virtual time, against their plans; `make campaign` runs this.

    campaign_rollouts.py              ten scenarios; writes build/reports/rollouts.json
    campaign_rollouts.py --replay 7   one of them again, with every deviation

Four of them have a lab, five a budget of devices on trial, six are halted now and then. About seven minutes
of processor time.

Ends with 1 if anything did not go as planned.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from rollout_sim import Simulation
from rollout_witness import Scenario
from server_world import Keys

ROOT = Path(__file__).resolve().parents[2]
SEEDS, DEVICES, DAYS = range(230, 240), 1000, 10


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--replay", type=int, metavar="SEED")
    only = parser.parse_args().replay
    found: dict[str, int] = {"device_days": 0, "check_ins": 0, "kills": 0, "given": 0, "deviations": 0}
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder))
        for seed in SEEDS if only is None else [only]:
            scenario = Scenario.of(seed, DEVICES, DAYS)
            simulation = Simulation(Path(folder) / f"{seed}.db", keys, scenario, seed)
            witness = asyncio.run(simulation.run())
            found["device_days"] += DEVICES * DAYS
            found["check_ins"] += simulation.calls
            found["kills"] += simulation.kills
            found["given"] += len(witness.given)
            found["deviations"] += len(witness.found)
            for line in witness.found[: 5 if only is None else None]:
                print(f"seed {seed}: {line}")
            print(f"seed {seed}: {simulation.calls} check-ins, {len(witness.given)} given, {scenario}")
    if only is None:
        report = ROOT / "build/reports/rollouts.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(found | {"cpu_s": round(time.process_time() - began)}, indent=1) + "\n")
        print(f"{report}: {found}")
    return 1 if found["deviations"] else 0


if __name__ == "__main__":
    sys.exit(main())
