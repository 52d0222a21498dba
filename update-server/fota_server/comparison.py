"""Did the release do harm? Devices that were given it against those that were held back, in numbers. Pure.

Each question has two counts in two arms. Fisher's exact test (two-sided: all tables with these margins that
are no likelier than the one that was found) says how often chance alone would part the arms so far; Wilson's
interval says within which share each arm's devices are, to 95 %. Three questions are asked at once, so each
has to be a third as unlikely (Bonferroni) before a difference is called one.

| Word | When |
|---|---|
| worse | the release's arm has more cases than chance explains |
| better | it has fewer, and each arm has `FEW` devices or more |
| no difference seen | neither; had all cases been in the release's arm, that would have been called worse |
| too few to tell | all else: harm could not have shown in so many devices and so few cases |

It says what differs, not why. Devices are held back by a hash of their ids, so the arms are alike; who looks
every hour until a word changes will see one change by chance.
"""

from dataclasses import dataclass
from math import exp, lgamma, sqrt
from typing import Any

QUESTIONS = ("failed", "silent", "watchdog")
ALPHA = 0.05 / len(QUESTIONS)
FEW = 20
_Z = 1.959963984540054  # of 95 %, two-sided


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """``cases`` of ``devices``."""

    cases: int
    devices: int

    def interval(self) -> tuple[float, float]:
        """Return Wilson's interval of the share of cases, to 95 %; of no device: anything."""
        if not self.devices:
            return 0.0, 1.0
        n, share = self.devices, self.cases / self.devices
        middle, spread = share + _Z * _Z / (2 * n), _Z * sqrt((share * (1 - share) + _Z * _Z / (4 * n)) / n)
        low, high = ((middle + sign * spread) / (1 + _Z * _Z / n) for sign in (-1, 1))
        return (low if self.cases else 0.0), (high if self.cases < n else 1.0)


def fisher(one: Arm, other: Arm) -> tuple[float, float]:
    """Return p of the two arms, and p if as many of all cases as can be had been in the first one."""
    cases, devices = one.cases + other.cases, one.devices + other.devices
    lowest, highest = max(0, cases - other.devices), min(cases, one.devices)

    def log_choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    whole = log_choose(devices, cases)
    chances = [
        exp(log_choose(one.devices, k) + log_choose(other.devices, cases - k) - whole)
        for k in range(lowest, highest + 1)
    ]

    def no_likelier(chance: float) -> float:
        return min(1.0, sum(each for each in chances if each <= chance * (1 + 1e-7)))

    return no_likelier(chances[one.cases - lowest]), no_likelier(chances[-1])


def word(updated: Arm, held_back: Arm) -> str:
    """Return the word of the table above."""
    p, at_worst = fisher(updated, held_back)
    if p > ALPHA:
        return "no difference seen" if at_worst <= ALPHA else "too few to tell"
    if updated.cases * held_back.devices > held_back.cases * updated.devices:
        return "worse"
    return "better" if min(updated.devices, held_back.devices) >= FEW else "too few to tell"


def row(question: str, updated: Arm, held_back: Arm) -> dict[str, Any]:
    """Return one question with its numbers, as the operator plane says them."""
    arms = {
        name: {"cases": arm.cases, "devices": arm.devices, "interval": [round(x, 4) for x in arm.interval()]}
        for name, arm in (("updated", updated), ("held_back", held_back))
    }
    p, _ = fisher(updated, held_back)
    return {"question": question, **arms, "p": float(f"{p:.3g}"), "word": word(updated, held_back)}
