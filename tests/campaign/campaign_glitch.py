"""Campaigns `skip_gcc`, `skip_clang` and `bit_flip`: single faults while a bad image asks to be booted.

Slot A holds a good image, confirmed; slot B a bad one, requested. In two scenarios it is the floor that
is at stake: `raise-floor`, where A's counter is ahead of the element's, and `good-update`, where B is good
but on trial, so that nobody may count to its counter yet. Every executed instruction is skipped once, with
these exceptions, and no others:

* the helpers in `HELPERS` move, sum or wait for bytes and decide nothing. Of them every `STRIDE`-th
  executed instruction is skipped, in the scenarios `WHOLE`, beginning at a seeded one.
* `WHOLE` are attacked from the first instruction of fota_boot() to the jump. The other scenarios are
  attacked from there to the end of what is done about slot B (its refusal is in the journal), or to the
  end of the first session with the element where the boot ends in a halt: what follows is the same code
  on the same data.

A bad boot is any instruction executed inside the slot of the bad image. A brick is a device that, after
the fault and a power cycle, does not run a good image, or whose floor is above the confirmed image. A
fault may well stop the chip until the watchdog, or who made the fault, resets it ("lockup", "stuck" in the
details): no bootloader can prevent that.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from campaign_device import (
    NONE,
    A,
    B,
    append,
    bootloader,
    factory_machine,
    install,
    journal,
    journal_pages,
    make_image,
)
from campaign_faults import REGISTERS, CampaignError, Tally, Walk, is_it
from unicorn.arm_const import UC_ARM_REG_XPSR

from fota_vdev.atecc608.crc import group
from fota_vdev.host import ChipHost
from fota_vdev.machine import Machine
from fota_vdev.snapshot import Snapshot

HELPERS = {
    "fota_sha256_blocks", "fota_sha256_update", "fota_sha256_final", "atecc_crc", "fota_crc32", "memcpy",
    "memset", "memcmp", "strlen", "read", "scan_page", "transfer", "wait_for", "fota_port_wait_us",
    "fota_port_bus_wake", "fota_port_put", "fota_flash_ecc_fault", "fota_port_random", "free_bus",
    "fota_port_bus_read", "fota_port_bus_write", "__aeabi_memclr", "__aeabi_memclr4", "__aeabi_memclr8",
    "__aeabi_memcpy", "__aeabi_memcpy4",
}  # fmt: skip
STRIDE = 48
WHOLE = ("bad-signature", "raise-floor")
NO_SESSION = ("unknown-key", "wrong-class")  # refused before the element is asked
FLIPS = 4  # bit flips tried at one place


class Forger:
    """On the bus: answers every Verify of the element with ``payload``. Holds no state of its own."""

    def __init__(self, machine: Machine, payload: bytes) -> None:
        self._machine, self._payload = machine, payload

    def on_write(self, address: int, data: bytes) -> bytes:
        return data

    def on_read(self, address: int, data: bytes) -> bytes:
        commands = self._machine.element.commands  # type: ignore[union-attr]
        if commands and commands[-1][0] == "Verify" and data[:1] == b"\x04" and data[1] != 0x11:
            return (group(self._payload) + b"\xff" * len(data))[: len(data)]
        return data


@dataclass(frozen=True, slots=True)
class Scenario:
    """What slot B holds (``image``), the ``floor`` it meets, and what the bus says instead of the element.

    ``counter`` is the security counter of the confirmed image in slot A; ``bad`` tells whether slot B may
    never run. Without an image nothing is requested.
    """

    image: Callable[[], bytes] | None
    floor: int = 1
    counter: int | None = None
    bad: bool = True
    forged: bytes | None = None


SCENARIOS: dict[str, Scenario] = {
    "bad-signature": Scenario(lambda: make_image(2, sec_cnt=2, bad_signature=True)),
    "wrong-key": Scenario(lambda: make_image(2, sec_cnt=2, signer="thief", claim="a")),
    "unknown-key": Scenario(lambda: make_image(2, sec_cnt=2, signer="thief")),
    "low-counter": Scenario(lambda: make_image(2, sec_cnt=2), floor=3),
    "wrong-class": Scenario(lambda: make_image(2, sec_cnt=2, class_id=bytes(16))),
    "forged-ok": Scenario(lambda: make_image(2, sec_cnt=2, bad_signature=True), forged=b"\x00"),
    "raise-floor": Scenario(None, counter=2),
    "good-update": Scenario(lambda: make_image(2, sec_cnt=3), bad=False),
    "forged-mac": Scenario(lambda: make_image(2, sec_cnt=2, bad_signature=True), forged=bytes(32)),
}


@cache
def walk(build: str, name: str) -> Walk:
    """The path of a scenario on one build; made once in a process."""
    scenario = SCENARIOS[name]
    elf = bootloader(build)
    machine = factory_machine(elf, make_image(1, sec_cnt=scenario.counter or scenario.floor))
    append(machine, journal.Record(1, A, NONE, journal.NONE))
    if scenario.image is not None:
        install(machine, B, scenario.image())
        append(machine, journal.Record(2, A, B, journal.STAGED))
    machine.power_on()
    host = ChipHost(machine.i2c, machine.sleep_us)
    while machine.element.counters[0] < 8 * scenario.floor:  # type: ignore[union-attr]
        host.increment(0)
    machine.power_off()
    if scenario.forged is not None:
        machine.i2c_tamper = Forger(machine, scenario.forged)
    made = Walk(machine, elf, bad=(B,) if scenario.bad else ())
    expected = "good" if scenario.forged is None else "halt"
    outcome = made.golden()
    if outcome != expected:
        raise CampaignError(
            f"{build} {name}: the undisturbed boot ends in {outcome}: {bytes(machine.uart)!r}"
        )
    return made


class Attack:
    """The attacks of one scenario on one build. ``only`` replays one case."""

    def __init__(self, build: str, name: str, seed: int, only: str | None = None) -> None:
        self.build, self.name, self.seed, self.only = build, name, seed, only
        self.walk = walk(build, name)
        self.tally = Tally()
        scenario = SCENARIOS[name]
        self.highest = scenario.counter or scenario.floor
        self.counters = tuple(self.walk.machine.element.counters)  # type: ignore[union-attr]
        self._spans = sorted((f.begin, f.end, f.name) for f in self.walk.functions)
        self._names: dict[int, str] = {}

    def function_at(self, pc: int) -> str:
        """Name of the function that holds an instruction."""
        if pc not in self._names:
            self._names[pc] = next((n for begin, end, n in self._spans if begin <= pc < end), "?")
        return self._names[pc]

    def end(self) -> int:
        """Number of instructions of the path that are attacked (see the head of this file)."""
        trace = self.walk.trace
        if self.name in WHOLE:
            return len(trace)
        opened = self.walk.by_name["fota_element_open"].begin
        opens = [index for index, pc in enumerate(trace) if pc == opened]
        own = 0 if self.name in NO_SESSION else 1
        return opens[own] if len(opens) > own else len(trace)

    def targets(self, campaign: str) -> list[int]:
        """Numbers of the instructions to attack, in order."""
        trace = self.walk.trace[: self.end()]
        if campaign == "bit_flip":
            return [i for i, pc in enumerate(trace) if not self._helps(pc) and decides(self.walk, pc)]
        turn = random.Random(f"{self.seed}|{self.name}").randrange(STRIDE)
        helpers = self.name in WHOLE
        return [
            i
            for i, pc in enumerate(trace)
            if not self._helps(pc) or (helpers and i % STRIDE == turn)
        ]  # fmt: skip

    def _helps(self, pc: int) -> bool:
        return self.function_at(pc) in HELPERS

    def run(self, campaign: str, targets: Sequence[int]) -> Tally:
        """Attack at ``targets`` in turn."""
        one = self._flips if campaign == "bit_flip" else self._skips
        for here, index, pc in self.walk.places(targets):
            one(here, index, pc)
        return self.tally

    def _skips(self, here: Snapshot, index: int, pc: int) -> None:
        w = self.walk
        touched = w.accesses
        victims = w.block(pc) if is_it(w.opcode(pc)[0]) else []
        self._case(f"{index}", w.skip, pc)
        for victim in victims:
            w.restore_light(here, touched)
            touched = w.accesses
            self._case(f"{index}.{victim:x}", w.skip_in_block, pc, victim)

    def _flips(self, here: Snapshot, index: int, pc: int) -> None:
        w = self.walk
        dice = random.Random(f"{self.seed}|{self.name}|{index}")
        touched = w.accesses
        for register, bit in dice.sample(CANDIDATES, FLIPS):
            self._case(f"{index}.{register}.{bit}", w.flip, register, bit)
            w.restore_light(here, touched)
            touched = w.accesses

    def _case(self, place: str, fault: Callable[..., str], *arguments: Any) -> None:
        if self.only is not None and self.only != place:
            return
        outcome = fault(*arguments)
        if outcome != "bad":
            outcome = self._after(outcome)
        self.tally.add(outcome, f"{self.build}/{self.name}/{place}")

    def _after(self, outcome: str) -> str:
        """Power the device off and on: it runs the good image again, unless the fault did lasting harm."""
        w, m = self.walk, self.walk.machine
        counters = tuple(m.element.counters)  # type: ignore[union-attr]
        if counters[0] // 8 > self.highest:
            return "brick"
        if w.snapshots._version == w._home_version and counters == self.counters:
            return outcome
        state = (b"".join(journal_pages(m)), counters)
        if state not in w.recovered:
            w.recovered[state] = self._recovers()
        return outcome if w.recovered[state] else "brick"

    def _recovers(self) -> bool:
        """True if, after a power cycle and without forger, the good image runs and the bad one never does."""
        w, m = self.walk, self.walk.machine
        tamper, m.i2c_tamper = m.i2c_tamper, None
        attacked = w.known
        w.known = attacked if tamper is None else w.known_free
        try:
            m.power_off()
            m.power_on()
            return w.finish() == "good"
        finally:
            w.known, m.i2c_tamper = attacked, tamper


CANDIDATES = [(r, bit) for r in REGISTERS for bit in (0, 1, 7, 16, 31)] + [(UC_ARM_REG_XPSR, b) for b in
              (28, 29, 30, 31)]  # fmt: skip


def decides(w: Walk, pc: int) -> bool:
    """True if the instruction at ``pc`` is a conditional branch or an IT: right after a compare."""
    half, size = w.opcode(pc)
    if size == 2:
        return is_it(half) or (half >> 12 == 0xD and half >> 8 & 15 < 14) or half & 0xF500 == 0xB100
    second = int.from_bytes(w.uc.mem_read(pc + 2, 2), "little")
    return half >> 11 == 0x1E and second >> 12 & 0xD == 8 and half >> 6 & 15 < 14
