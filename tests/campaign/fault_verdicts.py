"""What two operators were answered, and what is so afterwards: what of it cannot be. Pure; [] is all well.

An answer is a status, or None: none came, so nobody knows. ``told``: of each device the versions that it was
told since the quarrel began, one after the other, with what it ran before in front.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

NOT_NOW = 503
Told = Mapping[str, Sequence[str]]


def answered(said: Mapping[str, int | None], may: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Each order was answered by one of these, by nobody, or not now."""
    return [
        f"{name} was answered {status}"
        for name, status in said.items()
        if status not in (*may[name], NOT_NOW, None)
    ]


def halts(halt: int | None, unhalt: int | None, halted: set[bool]) -> list[str]:
    """ "Stop everything" and "go on": 409 is to whom nothing was halted. ``halted``: as each server says."""
    if halt == 200 and unhalt in (200, 409) and halted - {unhalt == 409}:
        return [f"halt was answered {halt}, unhalt {unhalt}, and halted is {halted}"]
    return []


def pauses(pause: int | None, resume: int | None, paused: set[bool], trail: Sequence[str]) -> list[str]:
    """A pause and a resume of what goes on. ``trail``: which of them changed anything, in order."""
    orders = list(trail) in ([], ["pause"], ["pause", "resume"])
    if orders and paused <= {list(trail) == ["pause"]} and (trail or pause != 200):
        return []
    return [f"pause was answered {pause}, resume {resume}; paused is {paused}, after {list(trail)}"]


def taken_back(rollback: int | None, orders: Sequence[int]) -> list[str]:
    """A rollout is taken back once if that was acknowledged, and never twice. ``orders``: rollbacks of it."""
    most, least = 1, int(rollback == 202)
    if least <= len(orders) <= most:
        return []
    return [f"rollback was answered {rollback}, and {list(orders)} take it back"]


def ended(new: str, before: str, had: set[str], told: Told) -> list[str]:
    """Once a rollout has ended, nobody is given it who was not (``had``), and nobody twice or another one."""
    return [
        f"{one} was told {list(versions)} after {new} had ended"
        for one, versions in told.items()
        if versions.count(new) > (one in had) or not set(versions) <= {before, new}
    ]


def opened(approve: int | None, phase: str) -> list[str]:
    """``phase``: of the first wave; the next one is open if it has passed."""
    if approve is None or (phase == "passed") == (approve == 200):
        return []
    return [f"approve was answered {approve}, and the wave before is {phase}"]


def of_two(states: Mapping[int, Sequence[str]], devices: int, told: Told) -> list[str]:
    """Two rollouts for one group: the younger has the last word on each device.

    ``states``: by number, those of its devices; they called when both were planned.
    """
    found = [f"two orders made the rollouts {sorted(states)}"] if len(states) > 2 else []
    for number, state in zip(sorted(states, reverse=True), ("confirmed", "superseded"), strict=False):
        if Counter(states[number]) != {state: devices}:
            found.append(f"rollout {number} of {sorted(states)}: {Counter(states[number])}, not {state}")
    for one, versions in told.items():
        if len(versions) > 2 or len(set(versions)) != len(versions):
            found.append(f"{one} was told {list(versions)} by two rollouts")
    return found


def back_once(
    statuses: Sequence[int | None], orders: Sequence[int], new: str, before: str, told: Told
) -> list[str]:
    """Two rollbacks of one group: one is taken, and each device goes back once."""
    found, done = [], sum(status in (201, 202) for status in statuses)
    unknown = sum(status in (None, NOT_NOW) for status in statuses)
    if len(orders) > 1 or not done <= len(orders) <= done + unknown:
        found.append(f"two rollbacks were answered {list(statuses)}, and {list(orders)} are there")
    found += [
        f"{one} was to go back once, and was told {list(versions)}"
        for one, versions in told.items()
        if list(versions) != [before, new, before]
    ]
    return found
