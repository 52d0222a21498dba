"""Which devices may be given a release now, and how many of them: the last word before an ASSIGNMENT. Pure.

An `Allowance` is what is left at one moment: of the budget of devices on trial, of each rollout's rate and
bytes. It is made from what a transaction has read, used up as that transaction hands out, and what was used
is stored by the same transaction; so no replica, and no kill, hands out more. On trial is a device that was
given a release and of which no verdict is known yet (OFFERED, INSTALLED, TRIAL of an open rollout).
"""

from dataclasses import dataclass, field, replace

from fota_server.wave_policy import Policy

MINUTE, DAY = 60, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a rollout has handed out in a minute and in a day, both counted since 1970."""

    minute: int = 0
    devices: int = 0
    day: int = 0
    size: int = 0

    def at(self, now: int) -> "Spent":
        """Return the same as seen at ``now``: a new minute and a new day begin with nothing."""
        minute, day = now // MINUTE, now // DAY
        devices = self.devices if minute == self.minute else 0
        size = self.size if day == self.day else 0
        return Spent(minute=minute, devices=devices, day=day, size=size)

    def plus(self, size: int) -> "Spent":
        """Return the same after one device more, of ``size`` bytes."""
        return replace(self, devices=self.devices + 1, size=self.size + size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How far a rollout in waves is open. ``open_rank``: the bound of its newest wave; -1: none is open."""

    policy: Policy
    open_rank: int
    spent: Spent


@dataclass(slots=True, kw_only=True)
class Allowance:
    """What may still be handed out at ``now``. ``trials_left``: None: no budget is set. ``gates``: of the
    rollouts in waves by their numbers; others are limited by budget, lab and ``halted`` alone. ``lab``: why
    a device does not get a release yet, None: it does; None as a whole: there is no lab. ``zones``: of
    devices, where a window asks for it. ``stopped``: rollouts that paused themselves in this transaction.
    """

    now: int
    halted: bool
    trials_left: int | None
    gates: dict[int, Gate] = field(default_factory=dict)
    lab: dict[tuple[str, int], str | None] | None = None
    zones: dict[str, str] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)

    def why_not(
        self, who: tuple[str, int], rollout_id: int, rank: int | None, size: int, zone: str | None = None
    ) -> str | None:
        """Return why a device of this rank is not given ``size`` bytes now, or None: it may be.

        ``who``: the device, and the release that is wanted of it. ``zone``: its own time zone, if known.
        """
        if self.halted:
            return "all rollouts are halted"
        if rollout_id in self.stopped:
            return "its rollout has just paused itself"
        if self.lab is not None and (waits := self.lab.get(who, "the lab was not asked")):
            return waits
        gate = self.gates.get(rollout_id)
        reason = self._why_gate(gate, rank, size, zone) if gate else None
        if reason is None and self.trials_left is not None and self.trials_left <= 0:
            reason = "the budget of devices on trial is used up"
        return reason

    def _why_gate(self, gate: Gate, rank: int | None, size: int, zone: str | None) -> str | None:
        policy, spent = gate.policy, gate.spent.at(self.now)
        if rank is None or rank > gate.open_rank:
            return "its wave is not open yet"
        if policy.expedited(self.now):
            return None
        if policy.window and not policy.window.is_open(self.now, zone):
            return "its window is closed"
        if policy.per_minute is not None and spent.devices >= policy.per_minute:
            return f"{policy.per_minute} device(s) were given it in this minute already"
        if policy.bytes_per_day is not None and spent.size + size > policy.bytes_per_day:
            return f"the {policy.bytes_per_day} bytes of this day are used up"
        return None

    def take(self, rollout_id: int, size: int) -> None:
        """Count one device that was just given ``size`` bytes: `why_not` had said None."""
        if self.trials_left is not None:
            self.trials_left -= 1
        if rollout_id in self.gates:
            gate = self.gates[rollout_id]
            self.gates[rollout_id] = replace(gate, spent=gate.spent.at(self.now).plus(size))
            self.changed.add(rollout_id)
