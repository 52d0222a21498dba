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
# rows of a second compiler, and of other chips, leave out what takes the same path as another scenario
FEWER = ("bad-signature", "unknown-key", "low-counter", "wrong-class", "forged-mac", "raise-floor",
         "good-update", "mirrored", "pattern", "pattern-forged")  # fmt: skip
I2C_SAMPLE = 0.2


@dataclass(frozen=True, slots=True)
class Campaign:
    """``attack`` is what is done to the ``build``. ``scenarios``: of the glitches, and which.

    ``stride`` takes one place of the decision path in so many, ``among`` one of those where a pattern lies;
    ``effort`` is (seeds, seeds of the second cut,
    part of the second cuts) of power cuts.
    """

    attack: str
    build: str = "gcc"
    scenarios: tuple[str, ...] = ()
    stride: int = 1
    among: int = 1
    effort: tuple[int, int, float] = (power.SEEDS, power.SECOND_SEEDS, 1.0)


CAMPAIGNS = {
    "power_cut": Campaign("power"),
    "skip_gcc": Campaign("skip", scenarios=tuple(glitch.SCENARIOS)),
    "skip_clang": Campaign("skip", "clang", FEWER),
    "bit_flip": Campaign("bit_flip", scenarios=FLIP_SCENARIOS),
    "i2c_adversary": Campaign("i2c"),
    "agent_power": Campaign("agent"),
    "stm32u585_power_cut": Campaign("power", f"{device.U5}gcc"),
    "stm32u585_skip_gcc": Campaign("skip", f"{device.U5}gcc", FEWER, stride=7),
    "stm32u585_skip_clang": Campaign("skip", f"{device.U5}clang", FEWER, stride=19),
    "stm32u585_bit_flip": Campaign("bit_flip", f"{device.U5}gcc", FLIP_SCENARIOS, stride=5),
    "stm32u585_i2c": Campaign("i2c", f"{device.U5}gcc"),
    "stm32u585_agent_power": Campaign("agent", f"{device.U5}gcc"),
    "esp32c3_power_cut": Campaign("power", f"{device.C3}gcc", effort=(12, 4, 0.3)),
    "esp32c3_skip_gcc": Campaign("skip", f"{device.C3}gcc", tuple(glitch.SCENARIOS), stride=29, among=3),
    "esp32c3_skip_clang": Campaign("skip", f"{device.C3}clang", FEWER, stride=29, among=3),
    "esp32c3_i2c": Campaign("i2c", f"{device.C3}gcc"),
    "esp32c3_agent_power": Campaign("agent", f"{device.C3}gcc"),
}
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
    attack = CAMPAIGNS[job.campaign].attack
    if attack == "power":
        seeds, second, part = CAMPAIGNS[job.campaign].effort
        r: Any = power.campaign(job.build, job.scenario, job.low, job.high, seeds, second, job.only, part)
    elif attack == "agent":
        r = agent.campaign(job.low, job.high, only=job.only, chip=device.chip_of(job.build).NAME)
    elif attack == "i2c":
        r = i2c.campaign(job.build, job.scenario, job.low, job.high, only=job.only, sample=I2C_SAMPLE)
    else:
        return glitched(job, start)
    return Done(job, r.cases, r.failures, {"boots": r.boots}, time.process_time() - start)


def glitched(job: Job, start: float) -> Done:
    """Do one job of skips or bit flips."""
    campaign = CAMPAIGNS[job.campaign]
    attack = glitch.Attack(job.build, job.scenario, SEED, job.only or None)
    targets = [int(job.only.split(".")[0])] if job.only else places(attack, campaign)
    tally = attack.run(campaign.attack, targets[job.low : job.high])
    outcomes = dict(tally.outcomes)
    failures = [
        (OUTCOMES[f.rsplit(":", 1)[1]], f.rsplit(":", 1)[0].split("/", 1)[1], f.rsplit(":", 1)[1])
        for f in tally.failures
    ]
    return Done(job, sum(outcomes.values()), failures, outcomes, time.process_time() - start)


def places(attack: glitch.Attack, campaign: Campaign) -> list[int]:
    """What is attacked of a path: all of it, or one place in so many."""
    stride = campaign.among if glitch.SCENARIOS[attack.name].pattern else campaign.stride
    return attack.targets(campaign.attack)[SEED % stride :: stride]


def jobs(wanted: tuple[str, ...]) -> Iterator[Job]:
    """All jobs of the campaigns in ``wanted``."""
    for name in wanted:
        c = CAMPAIGNS[name]
        if c.attack == "power":
            yield from (Job(name, c.build, scenario, 0, 1) for scenario in power.scenarios(c.build))
        elif c.attack == "agent":
            yield from (Job(name, c.build, "update", part, agent.PARTS) for part in range(agent.PARTS))
        elif c.attack == "i2c":
            yield from (Job(name, c.build, n, part, 6) for n in i2c.SITUATIONS for part in range(6))
        else:
            for scenario in c.scenarios:
                n = len(places(glitch.Attack(c.build, scenario, SEED), c))
                yield from (Job(name, c.build, scenario, low, low + PART) for low in range(0, n, PART))


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
            f"{done.job.campaign:20} {self.cases:7} cases {self.cases / spent:6.0f}/s"
            f"  {self.bad} failures  {self.done}/{self.todo} jobs  {left / 60:4.1f} min left"
        )
        print(f"\r{line}" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n",
              file=sys.stderr, flush=True)  # fmt: skip


def run(wanted: tuple[str, ...], processes: int) -> dict[str, Any]:
    """Run campaigns; return {campaign: {"cases": n, ..., "failures": [...], "outcomes": {...}}}."""
    for build in {CAMPAIGNS[name].build for name in wanted}:
        device.bootloader(build)
    for name in wanted:
        if CAMPAIGNS[name].attack == "agent":
            agent.prepare(device.chip_of(CAMPAIGNS[name].build).NAME)
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
    print(f"{'campaign':21}{'cases':>9}" + "".join(f"{kind:>14}" for kind in KINDS))
    for row, values in summary.items():
        print(f"{row:21}{values['cases']:>9}" + "".join(f"{values[kind]:>14}" for kind in KINDS))


def replay(case: str) -> int:
    """Run one case by its id, ``campaign:build:scenario/place``."""
    campaign, build, name = case.split(":", 2)
    scenario, _, place = name.partition("/")
    if device.elf_of(build).exists():
        device.use_built()  # an id is good for the build that it was found on
    if CAMPAIGNS[campaign].attack in ("power", "i2c", "agent"):
        done = work(Job(campaign, build, scenario, 0, 1, name))
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--only", choices=tuple(CAMPAIGNS), action="append", help="run this campaign (may be repeated)"
    )
    parser.add_argument("--replay", metavar="ID", help="run one case again")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--exhaustive", action="store_true", help="skip in every helper too: hours")
    options = parser.parse_args()
    if options.exhaustive:
        glitch.STRIDE = 1
    if options.replay:
        return replay(options.replay)
    wanted = tuple(options.only or CAMPAIGNS)
    by_clang = {name for name in wanted if device.kind_of(CAMPAIGNS[name].build) == "clang"}
    if by_clang and not device.has_clang():
        print(f"{', '.join(sorted(by_clang))} left out: clang is not installed", file=sys.stderr)
        wanted = tuple(name for name in wanted if name not in by_clang)
    by_agent = {name for name in wanted if CAMPAIGNS[name].attack == "agent"}
    if by_agent and agent.why_not():
        print(f"{', '.join(sorted(by_agent))} left out: {agent.why_not()}", file=sys.stderr)
        wanted = tuple(name for name in wanted if name not in by_agent)
    found = run(wanted, options.processes)
    write_reports(found, "campaign" if not options.only else "campaign-part")
    return 1 if any(row[kind] for row in found.values() for kind in KINDS) else 0


if __name__ == "__main__":
    sys.exit(main())
