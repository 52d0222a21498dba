"""Campaigns `skip_gcc`, `skip_clang` and `bit_flip`: single faults while a bad image asks to be booted.

Slot A holds a good image, confirmed; slot B a bad one, requested. The bad one is the confirmed one in
`fallback`, and in slot A of a device that was never booted in `first-boot`. In two scenarios it is the
floor that is at stake: `raise-floor`, where A's counter is ahead of the element's, and `good-update`, where
B is good but on trial, so that nobody may count to its counter yet. Every executed instruction is skipped
once, with these exceptions, and no others:

* the helpers in `HELPERS` move, sum or wait for bytes and decide nothing. Of them every `STRIDE`-th
  executed instruction is skipped, in the scenarios `WHOLE`, beginning at a seeded one.
* The scenarios `pattern` begin with the reset, and there the first, a middle and the last execution of
  every instruction is skipped, helpers included: what is at stake is where a function returns to when its
  stack is not as it should be.
* `WHOLE` and `TO_THE_JUMP` are attacked from the first instruction of fota_boot() to the jump. The other
  scenarios are attacked from there to the end of what is done about slot B (its refusal is in the
  journal), or to the end of the first session with the element where the boot ends in a halt: what
  follows is the same code on the same data.
* On the ESP32-C3 the attack begins with fota_start(), which reads the partition table. A function of its
  mask ROM is one instruction here, and is not attacked; what saves and restores registers counts to its
  caller. `pattern` finds the stack full of that address, too: nothing clears it. Instructions are skipped
  at one place in `stride` of a path (`run.py`), as they are on the STM32U585, and at one in `among` of
  those of `pattern`.

A bad boot is any instruction executed inside the slot of the bad image. A brick is a device that, after
the fault and a power cycle, does not run a good image, or whose floor was counted on by more than one. A
fault may well stop the chip until the watchdog, or who made the fault, resets it ("lockup", "stuck" in the
details): no bootloader can prevent that.
"""

import hashlib
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import campaign_esp32c3
from campaign_cores import behind_the_check
from campaign_device import (
    CLASS_ID,
    NONE,
    A,
    B,
    append,
    bootloader,
    chip_of,
    factory_machine,
    host_crypto,
    image,
    install,
    journal,
    journal_pages,
    key,
    key_hash,
    make_image,
    payload,
)
from campaign_faults import CampaignError, Tally, Walk
from chip_host import ChipHost

from fota_vdev.atecc608.crc import group
from fota_vdev.machine import Machine
from fota_vdev.snapshot import Snapshot
from fota_wire.host_chips import ESPRESSIF

HELPERS = {
    "fota_sha256_blocks", "fota_sha256_update", "fota_sha256_final", "atecc_crc", "fota_crc32", "memcpy",
    "memset", "memcmp", "strlen", "read", "scan_page", "transfer", "wait_for", "fota_port_wait_us",
    "fota_port_bus_wake", "fota_port_put", "fota_flash_ecc_fault", "fota_port_random", "free_bus",
    "fota_port_bus_read", "fota_port_bus_write", "__aeabi_memclr", "__aeabi_memclr4", "__aeabi_memclr8",
    "__aeabi_memcpy", "__aeabi_memcpy4", "run", "begin", "update", "set_speed", "sar_bits", "read_timer",
    "set_field", "fota_spi_read", "fota_port_time_us", "crc_of", "fota_md5", "finish", "reverse32",
}  # fmt: skip
STRIDE = 97
WHOLE = ("bad-signature", "raise-floor")
TO_THE_JUMP = ("mirrored",)  # to its end, but without helpers
NO_SESSION = ("unknown-key", "wrong-class")  # refused before the element is asked
HASH_ANSWER = 35  # bytes of an answer that carries 32: count, CRC
FLIPS = 4  # bit flips tried at one place


class Forger:
    """On the bus: answers these ``commands`` with ``payload`` in the element's place. Holds no state."""

    def __init__(self, machine: Machine, payload: bytes, commands: tuple[str, ...]) -> None:
        self._machine, self._payload, self._commands = machine, payload, commands

    def on_write(self, address: int, data: bytes) -> bytes:
        return data

    def on_read(self, address: int, data: bytes) -> bytes:
        commands = self._machine.element.commands  # type: ignore[union-attr]
        last = commands[-1][0] if commands else ""
        long = last == "Verify" or len(self._machine.element._output) == HASH_ANSWER  # type: ignore[union-attr]
        if last in self._commands and long:
            at = getattr(self._machine.board.i2c, "got", 0)
            return (group(self._payload) + b"\xff" * HASH_ANSWER)[at : at + len(data)]
        return data


Records = tuple[journal.Record, ...]


def confirmed(good: int, other: int) -> Records:
    """Nothing is requested."""
    return (journal.Record(1, good, NONE, journal.NONE),)


def staged(good: int, other: int) -> Records:
    """The other slot is requested."""
    return (*confirmed(good, other), journal.Record(2, good, other, journal.STAGED))


def on_trial(good: int, other: int) -> Records:
    """The other slot has a boot of its trial left."""
    return (*staged(good, other), journal.Record(3, good, other, journal.TRIAL, 1))


def page_full(good: int, other: int) -> Records:
    """The other slot is requested, and the next record needs a new page."""
    return tuple(journal.Record(n, good, other, journal.STAGED) for n in range(1, 129))


@dataclass(frozen=True, slots=True)
class Scenario:
    """What slot B holds (``image``), the ``floor`` it meets, and what the bus says instead of the element.

    ``counter`` is the security counter of the confirmed image in slot A; ``bad`` tells whether slot B may
    never run. ``counted`` of the eight counts of the next step are there already, as a cut leaves them.
    ``mirrored`` has the slots change places. With ``pattern`` every word that an attacker is free to choose
    is an address behind the last check. ``records`` gives what the journal holds.
    """

    image: Callable[[str], bytes] | None
    floor: int = 1
    counter: int | None = None
    counted: int = 0
    bad: bool = True
    forged: bytes | None = None
    forges: tuple[str, ...] = ("Verify",)
    mirrored: bool = False
    pattern: bool = False
    records: Callable[[int, int], Records] = staged


def forged_image(chip: str) -> bytes:
    """A newer image, whole, of this class, with one wrong bit in its signature."""
    return make_image(2, sec_cnt=2, bad_signature=True, chip=chip)


SCENARIOS: dict[str, Scenario] = {
    "bad-signature": Scenario(forged_image),
    "wrong-key": Scenario(lambda chip: make_image(2, sec_cnt=2, signer="thief", claim="a", chip=chip)),
    "unknown-key": Scenario(lambda chip: make_image(2, sec_cnt=2, signer="thief", chip=chip)),
    "low-counter": Scenario(lambda chip: make_image(2, sec_cnt=2, chip=chip), floor=3),
    "wrong-class": Scenario(lambda chip: make_image(2, sec_cnt=2, class_id=bytes(16), chip=chip)),
    "forged-ok": Scenario(forged_image, forged=b"\x00"),
    "raise-floor": Scenario(None, counter=2, counted=5, records=confirmed),
    "good-update": Scenario(lambda chip: make_image(2, sec_cnt=3, chip=chip), bad=False),
    "forged-mac": Scenario(forged_image, forged=bytes(32)),
    "mirrored": Scenario(forged_image, mirrored=True),
    "mirrored-update": Scenario(lambda chip: make_image(2, sec_cnt=3, chip=chip), bad=False, mirrored=True),
    "first-boot": Scenario(forged_image, mirrored=True, records=lambda good, other: ()),
    "fallback": Scenario(forged_image, records=lambda good, other: confirmed(other, good)),
    "on-trial": Scenario(forged_image, records=on_trial),
    "page-full": Scenario(forged_image, records=page_full),
    "pattern": Scenario(lambda chip: b"", mirrored=True, pattern=True),
    "pattern-forged": Scenario(lambda chip: b"", mirrored=True, pattern=True, forged=b"*"),
    "pattern-counter": Scenario(
        lambda chip: b"", mirrored=True, pattern=True, forged=b"*", forges=("Nonce", "MAC")
    ),
}


def pattern_image(target: int, chip: str) -> bytes:
    """An image that no key signed, full of ``target``: as SHA-256 reads it, as it is copied, in r and s."""
    as_hashed, as_copied = struct.pack(">I", target), struct.pack("<I", target)
    rs = bytearray((as_copied * 17)[2:66])  # a packet has r at 6: aligned words there
    rs[0], rs[32] = 0x11, 0x22
    if chip in ESPRESSIF:
        extra = (as_hashed + as_copied) * 32
        return campaign_esp32c3.make_image(
            2, sec_cnt=2, signer=key("a"), claim=key("a"), class_id=CLASS_ID, extra=extra, rs=bytes(rs)
        )
    body = payload(2)
    body += bytes(-len(body) % 64) + as_hashed * 32
    protected = image.build_protected(2, CLASS_ID)
    entry = struct.pack("<HH", 0xA0, 60) + as_copied * 15  # behind the last whole block of 64 bytes
    protected = protected[:2] + struct.pack("<H", len(protected) + len(entry)) + protected[4:] + entry
    signed = image.build_header(len(body), len(protected), (1, 2, 0, 0)) + body + protected
    names = key_hash(host_crypto.public_xy(key("a")))
    return signed + image.build_unprotected(hashlib.sha256(signed).digest(), names, bytes(rs))


@cache
def walk(build: str, name: str) -> Walk:
    """The path of a scenario on one build; made once in a process."""
    scenario = SCENARIOS[name]
    elf, chip = bootloader(build), chip_of(build).NAME
    good, other = (B, A) if scenario.mirrored else (A, B)
    machine = factory_machine(elf, chip=chip)
    install(machine, good, make_image(1, sec_cnt=scenario.counter or scenario.floor, chip=chip))
    for record in scenario.records(good, other):
        append(machine, record)
    target = behind_the_check(elf)
    if scenario.image is not None:
        bad = pattern_image(target, chip) if scenario.pattern else scenario.image(chip)
        install(machine, other, bad)
    machine.power_on()
    host = ChipHost(machine.i2c, machine.sleep_us)
    while machine.element.counters[0] < 8 * scenario.floor + scenario.counted:  # type: ignore[union-attr]
        host.increment(0)
    machine.power_off()
    if scenario.forged is not None:
        words = struct.pack("<I", target) * 9
        forged = words[3:35] if scenario.pattern else scenario.forged
        machine.i2c_tamper = Forger(machine, forged, scenario.forges)
    first = "fota_start" if chip in ESPRESSIF else "fota_boot"
    start, planted = ("fota_reset", target) if scenario.pattern else (first, 0)
    made = Walk(machine, elf, bad=(other,) if scenario.bad else (), start=start, planted=planted)
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
        if self.name in (*WHOLE, *TO_THE_JUMP):
            return len(trace)
        opened = self.walk.by_name["fota_element_open"].begin
        opens = [index for index, pc in enumerate(trace) if pc == opened]
        own = 0 if self.name in NO_SESSION else 1
        return opens[own] if len(opens) > own else len(trace)

    def targets(self, campaign: str) -> list[int]:
        """Numbers of the instructions to attack, in order."""
        if SCENARIOS[self.name].pattern:
            return self.ends()
        trace = self.walk.trace[: self.end()]
        core, owners = self.walk.core, self.owners(trace)
        owned = [(i, pc, owner in HELPERS) for i, (pc, owner) in enumerate(zip(trace, owners, strict=True))]
        owned = [place for place in owned if core.is_ours(place[1])]
        if campaign == "bit_flip":
            return [i for i, pc, helps in owned if not helps and core.decides(pc)]
        turn = random.Random(f"{self.seed}|{self.name}").randrange(STRIDE)
        helpers = self.name in WHOLE
        return [i for i, _, helps in owned if not helps or (helpers and i % STRIDE == turn)]

    def owners(self, trace: Sequence[int]) -> Iterator[str]:
        """The function that each instruction belongs to; what saves and restores registers, to its caller."""
        owner = "?"
        for pc in trace:
            name = self.function_at(pc)
            owner = owner if name.startswith("__riscv_") else name
            yield owner

    def ends(self) -> list[int]:
        """The first, a middle and the last execution of every instruction on the path, helpers too."""
        executions: dict[int, list[int]] = {}
        for index, pc in enumerate(self.walk.trace):
            if not self.walk.core.is_ours(pc):
                continue
            executions.setdefault(pc, []).append(index)
        return sorted({e[n] for e in executions.values() for n in (0, len(e) // 2, -1)})

    def run(self, campaign: str, targets: Sequence[int]) -> Tally:
        """Attack at ``targets`` in turn."""
        one = self._flips if campaign == "bit_flip" else self._skips
        for here, index, pc in self.walk.places(targets):
            one(here, index, pc)
        return self.tally

    def _skips(self, here: Snapshot, index: int, pc: int) -> None:
        w = self.walk
        touched = w.accesses
        victims = w.core.block(pc)
        self._case(f"{index}", w.skip, pc)
        for victim in victims:
            w.restore_light(here, touched)
            touched = w.accesses
            self._case(f"{index}.{victim:x}", w.skip_in_block, pc, victim)

    def _flips(self, here: Snapshot, index: int, pc: int) -> None:
        w = self.walk
        dice = random.Random(f"{self.seed}|{self.name}|{index}")
        touched = w.accesses
        for register, bit in dice.sample(w.core.FLIPS, FLIPS):
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
        if counters[0] > 8 * self.highest + 1:  # one count too many is harmless, eight are a step
            return "brick"
        if w.snapshots._version == w._home_version and counters == self.counters:
            return outcome
        state = (b"".join(journal_pages(m)), counters, *m.flash.options.items())
        if state not in w.recovered:
            w.recovered[state] = self._recovers()
        return outcome if w.recovered[state] else "brick"

    def _recovers(self) -> bool:
        """True if, after a power cycle and without forger, the good image runs and the bad one never does."""
        w, m = self.walk, self.walk.machine
        tamper, m.i2c_tamper = m.i2c_tamper, None
        known, w.known = w.known, {}  # to its end: how often it may start anew is in no key
        try:
            m.power_off()
            m.power_on()
            return w.finish(anew=True) == "good"
        finally:
            w.known, m.i2c_tamper = known, tamper
