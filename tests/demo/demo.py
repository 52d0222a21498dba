"""make demo: one release from `fota sign` to a confirmed boot and back, attacks and power cuts on the way;
then two devices that need nothing beside them. On each chip the same; what differs is in `kits`.

Every line printed is read from the device or the server. The story stops with exit code 1 at the first
thing that is not as it has to be.
"""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import click
import in_waves
import two_devices
from attacks import MADE_TO_FIT, Between, ForgedOk, OtherEnvelope, Replay
from kits import KITS, why_no_story
from stage import chapter, never_silent, shown, table, tell
from world import BUILD, HANG_S, StepFailed, World

from fota_wire.errors import FotaError
from fota_wire.host_chips import DEFAULT
from fota_wire.layout import SLOT_NAMES
from fota_wire.status import describe

RELEASES = ("release-1", "release-2")
ATTACKS = 9
CUT_IN_DOWNLOAD = (5, 3)  # flash operation, from the first byte on; seed of what is left in the cells
CUT_IN_BOOTLOADER = (1, 7)  # from power-on: its record that the trial begins
REFUSED: list[str] = []


def expect(fact: bool, what: str) -> None:
    """Stop the story unless ``fact`` holds."""
    if not fact:
        raise StepFailed(f"not as it has to be: {what}")


def run_device(world: World, until: str = "--until-confirmed") -> None:
    """Run the device and its agent; print what they say."""
    for line in world.fota("agent", "run", "--vdev", world.device, until, "--duration", HANG_S).splitlines():
        who, _, text = line.partition("| " if line.startswith("device|") else ": ")
        tell(who, text)


def show_server(world: World) -> Any:
    """Print what the server knows of the device; return it."""
    row = world.json("device", "show", world.device_id)
    tell("server", f"installed {name(row['installed'])}, running {name(row['running'])}, "
                   f"confirmed {name(row['confirmed'])}, status {row['status']}")  # fmt: skip
    return row


def name(value: Any) -> str:
    """Return the version in a row's field."""
    return str(value.get("version") if isinstance(value, dict) else value)


def prologue(world: World) -> None:
    """Keys, server, factory."""
    chapter("Keys: 2 of 3 for ROOT, 2 of 3 for releases, one for images (throw-away keys, for this demo)")
    root = world.make_keys()
    shown("ROOT signed by", f"{len(root['signed_by'])} of 3")
    tell("signer", f"ROOT version {root['version']}, signed by {len(root['signed_by'])} of 3")
    chapter("Server: device plane with mutual TLS, operator plane with tokens")
    world.start_server()
    tell("server", f"devices come to {world.device_url}")
    chapter("Factory: the element is configured and locked, its TLS key is born inside it")
    made = world.provision(world.sign("1.0.0", 2))
    tell(
        "factory",
        f"device {made['device_id']}, image {made['image_version']}, key {made['identity_key'][:16]}...",
    )


def release(world: World, version: str, sequence: int, app: str = "") -> None:
    """Sign and publish one release."""
    image = world.sign(version, 2, app=app)
    envelope = world.manifest(image, sequence, RELEASES)
    tell("server", world.fota("release", "publish", image, envelope).strip())


def first_boot(world: World) -> None:
    """The device reports for the first time."""
    chapter("First boot: the bootloader asks the element, the agent checks in")
    release(world, "1.0.0", 1)
    run_device(world, "--until-idle")
    row = show_server(world)
    expect(name(row["running"]) == name(row["confirmed"]) == "1.0.0", "1.0.0 runs, confirmed")


def update(world: World) -> bytes:
    """1.1.0 comes; return the answer that the server gave when it assigned it."""
    chapter("Update: 1.1.0 is published and rolled out; the device takes it by itself")
    release(world, "1.1.0", 2)
    tell("server", world.fota("rollout", "start", "1.1.0", "--device", world.device_id).splitlines()[0])
    began = time.monotonic()
    taps: list[Between] = []

    def tap(transport: Any) -> Between:
        taps.append(Between(transport))
        return taps[0]

    world.check_in_through(tap)  # an attacker listens in; see "replayed" below
    run_device(world)
    row = show_server(world)
    expect(name(row["confirmed"]) == "1.1.0" and row["status"] == "confirmed", "1.1.0 is confirmed")
    shown("update: from the order to the confirmed boot", f"{time.monotonic() - began:.0f} s")
    return taps[0].answers[0]


def rollback(world: World) -> None:
    """Back to 1.0.0, with nothing copied."""
    chapter("Rollback: one command, the other slot, not a byte of firmware moved")
    before = world.slot_writes()
    tell("server", world.fota("rollback", "--device", world.device_id).splitlines()[0])
    run_device(world)
    row = show_server(world)
    after = world.slot_writes()
    kit, words = KITS[world.row.NAME], after[1] - before[1]
    tell("device", f"page erases in slots: {after[0] - before[0]}; {kit.words} written in the whole flash: "
                   f"{words} (journal and agent store)")  # fmt: skip
    expect(name(row["confirmed"]) == "1.0.0", "1.0.0 is confirmed")
    expect(after[0] == before[0], "no page of a slot was erased")
    expect(words < kit.most_words, "no image was copied")
    shown("rollback: pages of firmware erased or copied", after[0] - before[0])
    shown(f"rollback: {kit.words} written (journal, agent's store)", words)


def broken_release(world: World) -> None:
    """1.2.0 fails its self-test and reverts."""
    chapter("A bad release: 1.2.0 fails its self-test, and the device goes back by itself")
    release(world, "1.2.0", 3, app="1.2.0-fail")
    tell("server", world.fota("rollout", "start", "1.2.0", "--device", world.device_id).splitlines()[0])
    run_device(world, "--until-idle")
    row = show_server(world)
    for event in row["events"][-1:]:
        tell("server", f"why: {event['code']} {event['detail']}")
    expect(row["status"] == "reverted" and name(row["running"]) == "1.0.0", "1.2.0 was reverted")
    expect(any("AP1" in event["detail"] for event in row["events"]), "the server knows why")
    shown("bad release: devices that went back by themselves", "1 of 1")


def refused(title: str, why: str) -> None:
    """Print one attack and how it ended."""
    REFUSED.append(title)
    tell("attack", f"{title}: refused, {why}")


def local_attack(world: World, title: str, image: bytes, reason: str) -> None:
    """Force an image into the inactive slot; the bootloader must refuse it with ``reason``."""
    lines, report = world.stage_by_force(image)
    refused(title, describe(report.reason))
    expect(describe(report.reason).startswith(reason + " "), f"{title} is refused with {reason}: {lines}")
    expect(report.version_text == "1.0.0" and SLOT_NAMES[report.running] == "A", f"{title}: 1.0.0 still runs")


def forged_ok(world: World, image: bytes) -> None:
    """The element says no, the wire says yes: nothing may boot on that word."""
    bus = ForgedOk()
    lines, report = world.stage_by_force(image, bus)
    refused(f"forged OK on the I2C bus, {bus.forged} times", describe(report.reason))
    expect(bus.forged > 0 and describe(report.reason).startswith("CE4 "), f"the forgery is noticed: {lines}")
    expect(SLOT_NAMES[report.running] == "none", "nothing boots on a forged word")
    for line in world.boot_lines():
        tell("device", f"{line}   [the wire is clean again]")


def attacks_on_the_bootloader(world: World) -> None:
    """Somebody with the flash and the I2C bus in his hands."""
    chapter("Attacks with the flash and the bus in hand: every image is forced into the slot and requested")
    good = world.sign("1.1.0", 3).read_bytes()
    forged = MADE_TO_FIT[world.row.FORM](good)
    flipped = bytearray(good)
    flipped[0x900] ^= 0x01
    local_attack(world, "one bit flipped in the image", bytes(flipped), "IM6")
    local_attack(
        world,
        "signed with a key of somebody else",
        world.sign("1.1.0", 3, key="release-1").read_bytes(),
        "IM8",
    )
    local_attack(
        world, "made for another device class", world.sign("1.1.0", 3, model="toaster").read_bytes(), "IM7"
    )
    local_attack(world, "security counter 1, floor 2", world.sign("1.0.0", 1).read_bytes(), "PO1")
    local_attack(world, "content changed, hash made to fit", forged, "IM10")
    forged_ok(world, forged)


def attacks_on_the_agent(world: World, old_answer: bytes) -> None:
    """Somebody with the server in his hands."""
    chapter("Attacks with the server in hand: replay, and a release that lacks a signature")
    why = world.check_in_through(lambda transport: Replay(transport, old_answer))
    refused("replayed assignment of 1.1.0", why)
    expect("nonce" in why, "a replayed assignment is refused for its nonce")
    image = world.sign("1.3.0", 2)
    one = world.manifest(image, 4, RELEASES[:1])
    why = world.fota("release", "publish", image, one, ends=1).strip()
    refused("publishing with one signature of two", why)
    tell("server", world.fota("release", "publish", image, world.countersign(one, RELEASES[1])).strip())
    tell("server", world.fota("rollout", "start", "1.3.0", "--device", world.device_id).splitlines()[0])
    why = world.check_in_through(lambda transport: OtherEnvelope(transport, one.read_bytes()))
    refused("server hands out one signature of two", why)
    expect("signature" in why, "an envelope with one signature is refused by the device")


def epilogue(world: World) -> None:
    """The order stands: a lie on the way does not end it, nor a power cut. The server hears of the lies."""
    chapter("The genuine 1.3.0 goes through, though the power fails twice on the way")
    world.power_fails_in_download(*CUT_IN_DOWNLOAD)
    tell("device", f"power cut in the middle of write {CUT_IN_DOWNLOAD[0]} of the download")
    world.power_fails_at_reset()
    tell("agent", "took up the download, and asked for the trial of 1.3.0")
    cut, *lines = world.cut_in_bootloader(*CUT_IN_BOOTLOADER)
    tell("device", f"{cut}, as the trial begins")
    for line in lines:
        tell("device", line)
    run_device(world)
    row = show_server(world)
    for event in row["events"]:
        tell("server", f"heard: {event['code']} {event['detail']}")
    expect(any("signatures" in event["detail"] for event in row["events"]), "the refusal was reported")
    expect(name(row["confirmed"]) == "1.3.0", "1.3.0 is confirmed")
    shown("attacks refused", f"{len(REFUSED)} of {ATTACKS}")
    shown("power cuts in the middle of a write, survived", "2 of 2")


def story(world: World) -> None:
    """Tell it all."""
    prologue(world)
    first_boot(world)
    old_answer = update(world)
    rollback(world)
    broken_release(world)
    attacks_on_the_bootloader(world)
    attacks_on_the_agent(world, old_answer)
    epilogue(world)


def _end(*_: object) -> None:
    """Be told to end: by the same way out as Ctrl-C, so that nothing stays behind."""
    raise KeyboardInterrupt


def main(folder: Path, chip: str = DEFAULT) -> int:
    """Run the demo of a chip in ``folder``; return the exit code."""
    if why := why_no_story(chip):
        click.echo(f"demo: {why}", err=True)
        return 2
    started = time.monotonic()
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, _end)
    try:
        world = World(folder, chip)
    except FotaError as exc:
        click.echo(f"demo: {exc}", err=True)
        return exc.exit_code
    try:
        with never_silent():
            story(world)
            two_devices.story(folder / "two", expect, chip)
            if chip == DEFAULT:  # gateways are the same beside every chip
                in_waves.story(folder / "waves", expect)
    except FotaError as exc:
        click.echo(f"demo: {exc}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("demo: stopped", err=True)
        return 130
    finally:
        world.leave()
    table()
    click.echo(
        f"\nAll as it has to be, in {time.monotonic() - started:.0f} s. What was made lies in\n{folder}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD / "demo", *sys.argv[2:3]))
