"""Campaign `i2c_adversary`: somebody sits between microcontroller and crypto element, or swaps the
element.

In every situation (a good update requested, one with a bad signature, one below the floor, a confirmed
one whose floor is to be raised) each command of the boot is attacked: at its first occurrence only, or
at every one. Afterwards the adversary leaves and the power is cycled.

Demanded of every case: nothing that does not verify runs; the boot ends within `MOST_MS` of virtual
time, in an application or in a halt that names its reason on the console and in the boot report; a halt
leaves the journal as it was; and without the adversary the device goes on as if nothing had been.

One thing the adversary can do, since no status answer is authenticated: say "bad signature" (01) of a
good image, or have the element say it of something else. Then an update is refused for good, or nothing
boots while he stays: denial of service, which somebody who can cut the bus has anyway. The campaign
demands that nothing but this answer to Verify has this effect.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from campaign_device import (
    NONE,
    A,
    B,
    append,
    bootloader,
    chip_of,
    factory_machine,
    install,
    make_image,
    slot_at,
    where,
)
from campaign_faults import SLOT_RANGES, CampaignError
from campaign_power import Result, journal_pages
from chip_host import ChipHost
from emulated_factory import provision_element
from unicorn.unicorn_const import UC_HOOK_CODE

from fota_vdev.atecc608 import Atecc608
from fota_vdev.atecc608.crc import crc16, group
from fota_vdev.machine import Machine
from fota_vdev.snapshot import Snapshots
from fota_wire import bootreport, host_chips, host_crypto, journal, status
from fota_wire.host_chips import ESPRESSIF
from fota_wire.image import parse_image
from fota_wire.journal import REJECTED, STAGED

MOST_MS = 20_000
STATUSES = (0x00, 0x01, 0x03, 0x05, 0x07, 0x08, 0x0F, 0x11, 0xEE, 0xFF)
SEEDS = 12
VERIFY, COUNTER, NONCE, GENDIG, MAC = 0x45, 0x24, 0x16, 0x15, 0x08


class Wire:
    """The adversary: a proxy between the bus and the element. Subclasses and fields say what it does.

    ``turn`` None attacks every command that `chosen` accepts, a number only the command of that index.
    ``split``: the master asks for a message in pieces, as the ESP32-C3's driver does: 32 bytes, then all but
    the last one, then that. What is heard of a message is made at its first piece.
    """

    split = False

    def __init__(self, turn: int | None = None, kind: bytes | None = None) -> None:
        self.turn, self.kind = turn, kind
        self.index = -1
        self.packet = b""
        self.acted = 0
        self.denied = False  # "bad signature" was heard
        self.rest = b""  # of a message that is read in pieces
        self.chip: Any = None

    def chosen(self) -> bool:
        if self.index < 0 or not self.packet:
            return False
        if self.turn is not None:
            return self.index == self.turn
        return self.kind is None or self.packet[1:3] == self.kind

    # what an attack may override
    def command(self, packet: bytes) -> bytes | None:
        return packet

    def answer(self, data: bytes) -> bytes:
        return data

    def silent(self) -> bool:
        return False

    def after(self) -> None:
        pass

    # the bus
    def wake_pulse(self, low_us: float) -> None:
        self.packet = b""
        self.chip.wake_pulse(low_us)

    def acknowledge(self, address: int, *, read: bool) -> bool:
        if self.chosen() and self.silent():
            self.acted += 1
            return False
        self.rest = b""
        return bool(self.chip.acknowledge(address, read=read))

    def write(self, data: bytes) -> None:
        if data[:1] != b"\x03":
            self.packet = b""
            self.chip.write(data)
            return
        self.index += 1
        self.packet = data[1:]
        if not self.chosen():
            self.chip.write(data)
            return
        changed = self.command(self.packet)
        if changed != self.packet:
            self.acted += 1
        if changed is not None:
            self.chip.write(b"\x03" + changed)
        self.after()

    def read(self, n: int) -> bytes:
        if not self.rest:
            self.rest = self.message((35 if n == 32 else n + 1) if self.split else n)
        piece, self.rest = self.rest[:n], self.rest[n:]
        return piece

    def message(self, n: int) -> bytes:
        """The ``n`` bytes of a message as the host hears them."""
        data = bytes(self.chip.read(n))
        heard = (self.answer(data) + b"\xff" * n)[:n] if self.chosen() else data
        self.acted += heard != data
        if self.packet[1:2] == bytes([VERIFY]) and heard[:4] == group(b"\x01"):
            self.denied = True
        return heard


def sealed(packet: bytes) -> bytes:
    """A command with its CRC made to fit."""
    return packet[:-2] + crc16(packet[:-2])


def attack(**does: Callable[..., Any]) -> Callable[[int | None, bytes | None], Wire]:
    """Make a factory of adversaries from what they do: command, answer, silent or after."""

    def make(turn: int | None, kind: bytes | None) -> Wire:
        wire = Wire(turn, kind)
        for name, call in does.items():
            setattr(wire, name, lambda *a, call=call: call(wire, *a))
        return wire

    return make


def flip_bit(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at // 8 % len(data)] ^= 1 << at % 8
    return bytes(changed)


def power_cycle(wire: Wire) -> None:
    wire.chip.power_off()
    wire.chip.power_on()
    wire.acted += 1


def generic_attacks(seeds: int) -> Iterator[tuple[str, Callable[..., Wire]]]:
    """Attacks on any command."""
    for code in STATUSES:
        yield f"status{code:02x}", attack(answer=lambda w, d, c=code: group(bytes([c])))
    yield "zeros", attack(answer=lambda w, d: bytes(len(d)))
    yield "ones", attack(answer=lambda w, d: b"\xff" * len(d))
    yield "silent", attack(silent=lambda w: True)
    yield "swallowed", attack(command=lambda w, p: None)
    yield "chip-reset", attack(after=power_cycle)
    yield "mode-0", attack(command=lambda w, p: sealed(p[:2] + b"\0" + p[3:]))
    for size in (1, 2, 3, 5, 20):
        yield f"cut{size}", attack(answer=lambda w, d, n=size: d[:n])
        yield f"count{size}", attack(answer=lambda w, d, n=size: bytes([n]) + d[1:])
    for seed in range(seeds):
        dice = random.Random(seed)
        body, at = dice.randbytes(64), dice.randrange(1 << 20)
        yield f"garbage{seed}", attack(answer=lambda w, d, b=body: b[: len(d)])
        yield f"sealed-garbage{seed}", attack(answer=lambda w, d, b=body: group(b[: max(len(d) - 3, 1)]))
        yield f"flip{seed}", attack(answer=lambda w, d, a=at: flip_bit(d, a))
        yield f"sealed-flip{seed}", attack(answer=lambda w, d, a=at: group(flip_bit(d[1:-2], a)))
        yield (
            f"command-flip{seed}",
            attack(command=lambda w, p, a=at: sealed(p[:1] + flip_bit(p[1:-2], a) + p[-2:])),
        )


@dataclass(frozen=True, slots=True)
class Situation:
    """``image`` goes to slot B, ``record`` is the journal's; without adversary ``slot`` boots."""

    image: Callable[[str], bytes]
    records: tuple[tuple[int, ...], ...]
    slot: int
    floor: int = 1


GOOD, STAGED_B = (lambda chip: make_image(2, sec_cnt=2, chip=chip)), ((A, NONE, journal.NONE), (A, B, STAGED))
SITUATIONS: dict[str, Situation] = {
    "good-update": Situation(GOOD, STAGED_B, B),
    "bad-signature": Situation(
        lambda chip: make_image(2, sec_cnt=2, bad_signature=True, chip=chip), STAGED_B, A
    ),
    "below-floor": Situation(GOOD, STAGED_B, A, floor=3),
    "raise-floor": Situation(GOOD, ((B, NONE, journal.NONE),), B),
}


@dataclass(slots=True)
class End:
    """How a boot ended: the slot that runs or 0, the halt's reason, virtual time."""

    slot: int
    said: str
    ms: int
    report: Any = field(default=None)


class Bench:
    """One situation, ready for the adversary."""

    def __init__(self, build: str, name: str) -> None:
        self.name, self.situation = name, SITUATIONS[name]
        s, self.row = self.situation, chip_of(build)
        chip = self.row.NAME
        self.machine = m = factory_machine(bootloader(build), make_image(1, sec_cnt=s.floor, chip=chip), chip)
        assert m.element is not None
        self.element = m.element
        install(m, B, s.image(chip))
        for n, fields in enumerate(s.records):
            append(m, journal.Record(n + 1, *fields))
        m.power_on()
        host = ChipHost(m.i2c, m.sleep_us)
        while m.element.counters[0] < 8 * s.floor:
            host.increment(0)
        m.power_off()
        self.entered = 0
        for begin, last in SLOT_RANGES[m.chip.row.NAME]:
            m.cpu.uc.hook_add(UC_HOOK_CODE, self._application, begin=begin, end=last)
        m.cpu.uc.ctl_flush_tb()
        self.snapshots = Snapshots(m)
        self.before = journal.scan(*journal_pages(m))[0]
        self.start = self.snapshots.take()
        self.recovered: dict[Any, str] = {}
        recorder = Recorder()
        end = self.boot(recorder)
        if end.slot != s.slot:
            raise CampaignError(f"{name}: undisturbed, {end} instead of slot {s.slot:#x}")
        self.packets, self.answers = recorder.packets, recorder.answers
        self.after = journal.scan(*journal_pages(m))[0]
        self.snapshots.restore(self.start)

    def _application(self, uc: Any, address: int, size: int, data: Any) -> None:
        self.entered = slot_at(self.machine, address)
        uc.emu_stop()

    def boot(self, wire: Wire | None) -> End:
        """Power up with the adversary on the bus; run to the application, a halt, or the end of patience."""
        m, bus = self.machine, self.machine.board.i2c_bus
        chip = bus.target
        if wire is not None:
            wire.chip, bus.target = chip, wire
            wire.split = self.row.NAME in ESPRESSIF
        self.entered, said = 0, len(m.uart)
        try:
            m.power_on()
            result = m.run(
                time_ms=MOST_MS,
                max_instructions=8_000_000,
                until=lambda m: bool(self.entered) or b"halt: " in m.uart[said:],
            )
        finally:
            bus.target = chip
        if not self.entered and b"halt: " in m.uart[said:]:
            m.run(time_ms=50)  # the rest of the line; the report is complete before it
        text = bytes(m.uart[said:]).decode("latin-1")
        raw = m.read(self.row.BOOT_REPORT_ADDRESS, 128)
        return End(self.entered, text, result.time_us // 1000, raw)


class Recorder(Wire):
    """An eavesdropper."""

    def __init__(self) -> None:
        super().__init__()
        self.packets: list[bytes] = []
        self.answers: list[bytes] = []

    def chosen(self) -> bool:
        return bool(self.packet)

    def command(self, packet: bytes) -> bytes:
        self.packets.append(packet)
        self.answers.append(b"")
        return packet

    def answer(self, data: bytes) -> bytes:
        self.answers[-1] = data
        return data


def special_attacks(bench: Bench) -> Iterator[tuple[str, Callable[[], Wire]]]:
    """Attacks that know the protocol: replay, swapped digest, key and signature, lying and stuck counters."""
    old = earlier_boot(bench)
    digest, signature = signed_by(make_image(1, chip=bench.row.NAME), bench.row.NAME)

    def replay(kinds: set[bytes]) -> Callable[[], Wire]:
        def make() -> Wire:
            seen: dict[bytes, int] = {}

            def answer(w: Wire, data: bytes) -> bytes:
                kind = w.packet[1:5]
                if w.packet[1:3] not in kinds or kind not in old:
                    return data
                n = seen[kind] = seen.get(kind, -1) + 1
                return old[kind][min(n, len(old[kind]) - 1)]

            return attack(answer=answer)(None, None)

        return make

    nonce, mac, count, verify = b"\x16\x00", b"\x08\x01", b"\x24\x00", b"\x45\xa0"
    for kinds in ({nonce}, {mac}, {count}, {verify}, {nonce, mac, count}, {nonce, mac, count, verify}):
        yield "replay-" + "-".join(sorted(k.hex() for k in kinds)), replay(kinds)
    swaps = {
        "digest": lambda p: p[:5] + digest + p[37:] if p[1:3] == b"\x16\x63" else p,
        "digest-and-signature": lambda p: (
            p[:5] + digest + p[37:]
            if p[1:3] == b"\x16\x63"
            else p[:5] + signature + p[69:]
            if p[1] == VERIFY
            else p
        ),
        "nonce": lambda p: p[:37] + bytes(32) + p[69:] if p[1:3] == b"\x16\x63" else p,
        "slot": lambda p: p[:3] + bytes([p[3] ^ 1]) + p[4:] if p[1] == VERIFY else p,
        "no-mac": lambda p: p[:2] + b"\x20" + p[3:] if p[1] == VERIFY else p,
        "other-counter": lambda p: p[:3] + bytes([p[3] ^ 1]) + p[4:] if p[1] in (COUNTER, GENDIG) else p,
        "mac-slot": lambda p: p[:3] + b"\x06" + p[4:] if p[1] == MAC else p,
        "no-increment": lambda p: p[:2] + b"\0" + p[3:] if p[1:3] == b"\x24\x01" else p,
        "num-in": lambda p: p[:5] + bytes(20) + p[25:] if p[1:3] == b"\x16\x00" else p,
    }
    for name, swap in swaps.items():
        yield f"swap-{name}", lambda s=swap: attack(command=lambda w, p: sealed(s(p)))(None, None)
    for value in (0, 1, 8, 16, 24, 255, 2_097_151, 0xFFFF_FFFF):
        lie = group(value.to_bytes(4, "little"))
        yield f"counter-says-{value}", lambda a=lie: attack(answer=lambda w, d: a)(None, count)
    for name in ("mac-key", "io-key", "roots", "blank"):
        yield f"foreign-{name}", lambda n=name: Foreign(foreign_chip(n, bench.machine))
    yield "absent", lambda: Absent()


def signed_by(file: bytes, chip: str) -> tuple[bytes, bytes]:
    """What is signed of an image, and r and s."""
    image = parse_image(file, chip=host_chips.chip(chip))
    return image.image_hash, image.signature


class Foreign(Wire):
    """Another element on the board."""

    def __init__(self, chip: Atecc608) -> None:
        super().__init__()
        self._other = chip
        self.acted = 1

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, self._other if name == "chip" and hasattr(self, "_other") else value)


class Absent(Wire):
    """No element at all."""

    def acknowledge(self, address: int, *, read: bool) -> bool:
        self.acted += 1
        return False


def foreign_chip(what: str, machine: Machine) -> Atecc608:
    """An element provisioned with other secrets."""
    from campaign_device import IO_KEY, MAC_KEY, key

    chip = Atecc608(seed=99)
    other = Machine(element=chip, seed=99)
    other.power_on()
    if what != "blank":
        thief = host_crypto.public_xy(key("thief"))
        roots = [host_crypto.public_xy(key(n)) for n in "ab"] if what != "roots" else [thief, thief]
        provision_element(
            other,
            io_key=bytes(32) if what == "io-key" else IO_KEY,
            mac_key=bytes(32) if what == "mac-key" else MAC_KEY,
            root_a_xy=roots[0],
            root_b_xy=roots[1],
            counters=(8, 0),
        )
    other.power_off()
    chip.attach_clock(lambda: machine.clock.ps)
    chip.power_on()
    return chip


def earlier_boot(bench: Bench) -> dict[bytes, list[bytes]]:
    """Answers recorded while the confirmed image 1 booted at floor 1: what an eavesdropper has to replay."""
    other = rig_of_an_ordinary_boot(bench)
    found: dict[bytes, list[bytes]] = {}
    for packet, data in zip(other.packets, other.answers, strict=True):
        found.setdefault(packet[1:5], []).append(data)
    return found


def rig_of_an_ordinary_boot(bench: Bench) -> Recorder:
    """The same device, earlier: slot A confirmed, nothing requested."""
    recorder = Recorder()
    m = bench.machine
    bench.snapshots.restore(bench.start)
    for page in where(m).journal:
        m.flash.write_phys(page.bank, page.offset, b"\xff" * page.size)
    bench.boot(recorder)
    bench.snapshots.restore(bench.start)
    return recorder


@cache
def bench(build: str, name: str) -> Bench:
    return Bench(build, name)


def cases(b: Bench, seeds: int) -> Iterator[tuple[str, Callable[[], Wire]]]:
    """All attacks in one situation, by name."""
    kinds = sorted({p[1:3] for p in b.packets})
    for name, make in special_attacks(b):
        yield name, make
    for name, generic in generic_attacks(seeds):
        for turn in range(len(b.packets)):
            yield f"{name}@{turn}", lambda make=generic, turn=turn: make(turn, None)
        for kind in kinds:
            yield f"{name}@{kind.hex()}", lambda make=generic, kind=kind: make(None, kind)


def campaign(build: str, name: str, part: int = 0, parts: int = 1, seeds: int = SEEDS, only: str = "",
             sample: float = 1.0) -> Result:  # fmt: skip
    """Attack one situation; ``part`` of ``parts`` splits the work.

    ``sample`` is the part of the attacks on single commands that is taken, by seed; those that know the
    protocol are all taken.
    """
    b = bench(build, name)
    result = Result()
    dice = random.Random(name)
    for number, (case, make) in enumerate(cases(b, seeds)):
        taken = dice.random() < sample or "@" not in case
        if number % parts != part or only not in ("", f"{name}/{case}") or not (taken or only):
            continue
        b.snapshots.restore(b.start)
        wire = make()
        end = b.boot(wire)
        result.boots += 1
        if not wire.acted:
            continue  # this command does not come, or the attack changes nothing: no case
        result.cases += 1
        kind, why = judge(b, wire, end)
        if kind:
            result.failures.append((kind, f"{name}/{case}", why))
    return result


def judge(b: Bench, wire: Wire, end: End) -> tuple[str, str]:
    """Judge what an attack achieved: ("", "") or (kind, why)."""
    s = b.situation
    after = journal.scan(*journal_pages(b.machine))[0]
    refused = wire.denied and (after.state, after.reason) == (REJECTED, status.IM10)
    if end.slot == B and s.slot != B:
        return "bad_boots", "the bad image runs"
    if not end.slot and "halt: " not in end.said:
        return "hangs", f"neither application nor halt after {end.ms} ms: {end.said!r}"
    if after not in (b.before, b.after) and not refused:
        return "lost_updates", f"the journal said {b.before}, now {after}: {end.said!r}"
    if not end.slot:
        return _judge_halt(wire, end) or _judge_recovery(b, refused)
    if end.slot != s.slot and not wire.denied:
        return "lost_updates", f"slot {end.slot:#x} runs: {end.said!r}"
    if b.name == "raise-floor" and end.slot == B and b.element.counters[0] < 16:
        return "bad_boots", f"confirmed above its floor: {b.element.counters}"
    return _judge_recovery(b, refused)


def _judge_halt(wire: Wire, end: End) -> tuple[str, str] | None:
    """A halt says why, the same on the console and in the report."""
    reason = end.said.split("halt: ")[1].split("\r")[0]
    report = bootreport.unpack(end.report)
    if report.running != NONE or status.describe(report.reason).split(" ")[0] != reason:
        return "hangs", f"halt {reason}, but the report says {report.reason:#x}"
    if not reason.startswith(("CE", "RN")) and not (wire.denied and reason == "PO3"):
        return "lost_updates", f"halt {reason}"
    return None


def _judge_recovery(b: Bench, refused: bool) -> tuple[str, str]:
    """The adversary is gone, the power is cycled: the device goes on."""
    m = b.machine
    slot = A if refused else b.situation.slot
    key = b"".join(journal_pages(m)), tuple(b.element.counters)
    if key not in b.recovered:
        m.power_off()
        end = b.boot(None)
        b.recovered[key] = "" if end.slot == slot else f"then slot {end.slot:#x}: {end.said!r}"
    why = b.recovered[key]
    return ("bricks" if why else "", why)
