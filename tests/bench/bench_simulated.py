"""How long a fleet in virtual time takes through a rollout in five waves.

    python tests/bench/bench_simulated.py [--devices 100000]

One process: the server's own planner and check-ins over SQLite, in memory where there is /dev/shm (a disk
keeps no virtual time), and devices that sign what they report (tests/server/rollout_sim.py); no network, no
TLS. A device reports when it has news or is to be told
again what to take, and else once a day (ADR 88). The server is killed now and then. Seconds by the clock and
of the processor, from the plan to the end of the rollout; what did not go as planned ends it with 1.
"""

import argparse
import asyncio
import gc
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

SEED = 10
MEMORY = Path("/dev/shm")
WAVES = {
    "waves": ["1%", "5%", "20%", "50%", "rest"],
    "confirmed": "90%",
    "errors": "5%",
    "soak_s": 3600,
    "silence_s": 2 * 86400,
}


def measure(devices: int) -> dict[str, float]:
    """Return ``simulated_100k_s``, and what was done in that time.

    Raises:
        SystemExit: it did not go as planned.
    """
    scenario = Scenario(policy=WAVES, devices=devices, days=7, bad=1, silent=0, before=0)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        keys = Keys(Path(folder) / "keys")
        simulation = Simulation(Path(folder) / "fota.db", keys, scenario, SEED)
        simulation.until_over = True
        simulation.ready = gc.freeze  # what there is by then lives as long as we do
        began, spent = time.perf_counter(), time.process_time()
        witness = asyncio.run(simulation.run())
        took, cpu = time.perf_counter() - began, time.process_time() - spent
    unlike = len(witness.found) + (len(witness.opened) != len(WAVES["waves"]))
    if unlike:
        raise SystemExit("\n".join([f"waves that opened: {sorted(witness.opened)}", *witness.found[:5]]))
    return {
        "simulated_100k_s": round(took, 1),
        "simulated_cpu_s": round(cpu, 1),
        "check_ins": simulation.calls,
        "given": len(witness.given),
        "kills": simulation.kills,
        "days": round((simulation.now - 1_795_000_000) / 86400, 1),
    }


def row(devices: int) -> dict[str, float]:
    """Return of `measure` what `make bench-server` keeps: the seconds by the clock and of the processor."""
    found = measure(devices)
    return {name: found[name] for name in ("simulated_100k_s", "simulated_cpu_s")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=100_000)
    print(json.dumps(measure(parser.parse_args().devices)))


if __name__ == "__main__":
    main()
