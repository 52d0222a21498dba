"""All exhaustive campaigns on the machine code of bootloader and agent, in two processes; `make campaign`
runs this.

    run.py                     everything; writes build/reports/campaign.json
    run.py --only skip_gcc     one campaign
    run.py --replay ID         one failing case again, verbosely
    run.py --exhaustive        the skips in every helper too: hours

Ends with 1 if anything but `cases` is not 0.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import campaign_agent as agent
import campaign_device as device
import campaign_glitch as glitch
import campaign_i2c as i2c
import campaign_power as power

REPORTS = device.ROOT / "build/reports"
KINDS = ("bad_boots", "bricks", "hangs", "lost_updates")
SEED = 20261123
PART = 1_500  # places of the decision path in one job
FLIP_SCENARIOS = ("bad-signature", "low-counter", "wrong-class", "forged-mac")
# clang's row leaves out what takes the same path as another scenario
CLANG_SCENARIOS = ("bad-signature", "unknown-key", "low-counter", "wrong-class", "forged-mac", "raise-floor",
                   "good-update", "mirrored", "pattern", "pattern-forged")  # fmt: skip
I2C_SAMPLE = 0.2
OUTCOMES = {"bad": "bad_boots", "brick": "bricks"}


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of a campaign for one process."""

    campaign: str
    build: str
    scenario: str
    low: int = 0
    high: int = 0
    only: str = ""


@dataclass(slots=True)
class Done:
    """What a job found; failures are (kind, id, why)."""

    job: Job
    cases: int
    failures: list[tuple[str, str, str]]
    outcomes: dict[str, int]
    seconds: float


def work(job: Job) -> Done:
    """Do one job."""
    start = time.process_time()
    if job.campaign in ("power_cut", "stm32u585_power_cut"):
        r = power.campaign(job.build, job.scenario, job.low, job.high, only=job.only)
        cases, failures, outcomes = r.cases, r.failures, {"boots": r.boots}
    elif job.campaign == "agent_power":
        r = agent.campaign(job.low, job.high, only=job.only)
        cases, failures, outcomes = r.cases, r.failures, {"boots": r.boots}
    elif job.campaign == "i2c_adversary":
        r = i2c.campaign(job.build, job.scenario, job.low, job.high, only=job.only, sample=I2C_SAMPLE)
        cases, failures, outcomes = r.cases, r.failures, {"boots": r.boots}
    else:
        attack = glitch.Attack(job.build, job.scenario, SEED, job.only or None)
        targets = [int(job.only.split(".")[0])] if job.only else attack.targets(job.campaign)
        tally = attack.run(job.campaign, targets[job.low : job.high])
        outcomes = dict(tally.outcomes)
        cases = sum(outcomes.values())
        failures = [
            (OUTCOMES[f.rsplit(":", 1)[1]], f.rsplit(":", 1)[0].split("/", 1)[1], f.rsplit(":", 1)[1])
            for f in tally.failures
        ]
    return Done(job, cases, failures, outcomes, time.process_time() - start)


def glitch_jobs(campaign: str, build: str, scenarios: tuple[str, ...]) -> Iterator[Job]:
    for scenario in scenarios:
        n = len(glitch.Attack(build, scenario, SEED).targets(campaign))
        for low in range(0, n, PART):
            yield Job(campaign, build, scenario, low, low + PART)


def jobs(wanted: tuple[str, ...]) -> Iterator[Job]:
    """All jobs of the campaigns in ``wanted``."""
    if "power_cut" in wanted:
        yield from (Job("power_cut", "gcc", name, 0, 1) for name in power.SCENARIOS)
    if "stm32u585_power_cut" in wanted:
        yield from (Job("stm32u585_power_cut", f"{device.U5}gcc", name, 0, 1) for name in power.SCENARIOS)
    if "agent_power" in wanted:
        yield from (Job("agent_power", "gcc", "update", part, agent.PARTS) for part in range(agent.PARTS))
    if "i2c_adversary" in wanted:
        yield from (Job("i2c_adversary", "gcc", n, part, 6) for n in i2c.SITUATIONS for part in range(6))
    if "bit_flip" in wanted:
        yield from glitch_jobs("bit_flip", "gcc", FLIP_SCENARIOS)
    if "skip_gcc" in wanted:
        yield from glitch_jobs("skip_gcc", "gcc", tuple(glitch.SCENARIOS))
    if "skip_clang" in wanted:
        yield from glitch_jobs("skip_clang", "clang", CLANG_SCENARIOS)


class Progress:
    """One line on the terminal: cases, rate, time left. Jobs of one campaign take about the same time."""

    def __init__(self, todo: int) -> None:
        self.todo, self.done, self.cases, self.bad = todo, 0, 0, 0
        self.start = time.monotonic()
        self.shown = 0.0

    def add(self, done: Done) -> None:
        self.done += 1
        self.cases += done.cases
        self.bad += len(done.failures)
        now = time.monotonic()
        if not (sys.stderr.isatty() or now - self.shown >= 30 or self.done == self.todo):
            return
        self.shown = now
        spent = now - self.start
        left = spent / self.done * (self.todo - self.done)
        line = (
            f"{done.job.campaign:13} {self.cases:7} cases {self.cases / spent:6.0f}/s"
            f"  {self.bad} failures  {self.done}/{self.todo} jobs  {left / 60:4.1f} min left"
        )
        print(f"\r{line}" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n",
              file=sys.stderr, flush=True)  # fmt: skip


def run(wanted: tuple[str, ...], processes: int) -> dict[str, Any]:
    """Run campaigns; return {campaign: {"cases": n, ..., "failures": [...], "outcomes": {...}}}."""
    device.bootloader("gcc")
    if "stm32u585_power_cut" in wanted:
        device.bootloader(f"{device.U5}gcc")
    if "skip_clang" in wanted:
        device.bootloader("clang")
    if "agent_power" in wanted:
        agent.prepare()
    todo = list(jobs(wanted))
    found: dict[str, Any] = {
        name: dict.fromkeys(("cases", *KINDS), 0) | {"failures": [], "outcomes": {}, "cpu_s": 0.0}
        for name in wanted
    }
    progress = Progress(len(todo))
    # not by fork: the memory of a machine made before it would be shared
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=device.use_built) as pool:
        for done in pool.imap_unordered(work, todo, chunksize=1):
            row = found[done.job.campaign]
            row["cases"] += done.cases
            row["cpu_s"] = round(row["cpu_s"] + done.seconds, 1)
            for outcome, n in done.outcomes.items():
                row["outcomes"][outcome] = row["outcomes"].get(outcome, 0) + n
            for kind, name, why in done.failures:
                row[kind] += 1
                case = f"{done.job.campaign}:{done.job.build}:{name}"
                row["failures"].append([kind, case, why])
                print(f"\n{kind}: {case}\n    {why}", file=sys.stderr, flush=True)
            progress.add(done)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return found


def write_reports(found: dict[str, Any], name: str = "campaign") -> None:
    """Write the summary, and beside it what became of the cases."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    summary = {row: {k: v for k, v in found[row].items() if k in ("cases", *KINDS)} for row in found}
    (REPORTS / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")
    (REPORTS / f"{name}-details.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'campaign':14}{'cases':>9}" + "".join(f"{kind:>14}" for kind in KINDS))
    for row, values in summary.items():
        print(f"{row:14}{values['cases']:>9}" + "".join(f"{values[kind]:>14}" for kind in KINDS))


def replay(case: str) -> int:
    """Run one case by its id, ``campaign:build:scenario/place``."""
    campaign, build, name = case.split(":", 2)
    scenario, _, place = name.partition("/")
    if device.elf_of(build).exists():
        device.use_built()  # an id is good for the build that it was found on
    if campaign in ("power_cut", "stm32u585_power_cut", "i2c_adversary", "agent_power"):
        high = 1
        done = work(Job(campaign, build, scenario, 0, high, name))
    else:
        done = work(Job(campaign, build, scenario, 0, 1, place))
        attack = glitch.Attack(build, scenario, SEED)
        pc = attack.walk.trace[int(place.split(".")[0])]
        print(f"at 0x{pc:08x} in {attack.function_at(pc)}")
    print(f"{done.cases} case: {done.outcomes}")
    for kind, _, why in done.failures:
        print(f"{kind}: {why}")
    return 1 if done.failures or done.cases != 1 else 0


def main() -> int:
    """Parse the command line."""
    names = ("power_cut", "skip_gcc", "skip_clang", "bit_flip", "i2c_adversary", "agent_power",
             "stm32u585_power_cut")  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=names, action="append", help="run this campaign (may be repeated)")
    parser.add_argument("--replay", metavar="ID", help="run one case again")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--exhaustive", action="store_true", help="skip in every helper too: hours")
    options = parser.parse_args()
    if options.exhaustive:
        glitch.STRIDE = 1
    if options.replay:
        return replay(options.replay)
    wanted = tuple(options.only or names)
    if "skip_clang" in wanted and not device.has_clang():
        print("skip_clang left out: clang is not installed", file=sys.stderr)
        wanted = tuple(name for name in wanted if name != "skip_clang")
    if "agent_power" in wanted and agent.why_not():
        print(f"agent_power left out: {agent.why_not()}", file=sys.stderr)
        wanted = tuple(name for name in wanted if name != "agent_power")
    found = run(wanted, options.processes)
    write_reports(found, "campaign" if not options.only else "campaign-part")
    return 1 if any(row[kind] for row in found.values() for kind in KINDS) else 0


if __name__ == "__main__":
    sys.exit(main())
