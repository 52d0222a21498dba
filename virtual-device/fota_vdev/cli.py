"""``fota vdev``: create, run, reset and cut the power of a virtual device (`provision`: fota_cli.vdev)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_wire.errors import VerifyError
from fota_wire.files import check_output, read_input
from fota_wire.host_chips import DEFAULT
from fota_wire.host_options import BUS_LOG, CHIP, FILE, FORCE, JSON, OWN_FILE, VDEV, Group, OneOf, Whole
from fota_wire.host_options import ROM as MASK_ROM
from fota_wire.host_print import print_result
from fota_wire.host_values import UsageError

if TYPE_CHECKING:
    from fota_vdev.machine import Machine, RunResult

ROM = click.option("--rom", type=MASK_ROM, help="Mask ROM of an ESP32-C3 to run from reset, 393216 bytes.")
TIME = click.option("--time-ms", type=Whole(1), default=3000, show_default=True, help="Virtual time.")


@click.group(cls=Group)
def vdev() -> None:
    """Create, provision and run virtual devices: a microcontroller with an ATECC608 in one file."""


@vdev.command()
@click.argument("file", type=OWN_FILE)
@click.option("--chip", type=CHIP, default=DEFAULT, show_default=True, help="Which microcontroller.")
@click.option("--seed", type=Whole(), help="Make a device that repeats; without it, a unique one.")
@FORCE
@JSON
def create(file: Path, chip: str, seed: int | None, force: bool, as_json: bool) -> None:
    """Make a blank device: erased flash, a crypto element as it leaves its factory."""
    import secrets

    from fota_vdev.atecc608 import Atecc608
    from fota_vdev.machine import Machine
    from fota_vdev.models import MODELS

    check_output(file, force)
    chosen = secrets.randbits(63) if seed is None else seed
    machine = Machine(element=Atecc608(seed=chosen), seed=chosen, chip=MODELS[chip])
    machine.save(file)
    serial = machine.element.serial.hex() if machine.element else ""
    text = f"{file}: blank device, {machine.chip.row.TITLE}, element {serial}"
    print_result({"file": str(file), "chip": chip, "serial": serial}, as_json, text)


@vdev.command()
@click.argument("file", type=VDEV)
@TIME
@ROM
@click.option("--until", "text", help="Stop when the UART has printed this text; else 1.")
@click.option("--input", "typed", help="Type this into the UART at --input-at-ms.")
@click.option("--input-at-ms", type=Whole(1), default=1000, show_default=True, help="Virtual time of it.")
@click.option("--bus-log", type=FILE, help="Capture the element's bus here, for `fota vdev trace`.")
@click.option("--network", is_flag=True, help="Give it a modem: outbound TCP, to this machine only.")
@JSON
def run(
    file: Path,
    time_ms: int,
    text: str | None,
    typed: str | None,
    input_at_ms: int,
    bus_log: Path | None,
    network: bool,
    rom: Path | None,
    as_json: bool,
) -> None:
    """Power on, run, print the UART as it comes, power off.

    Exit code 1 if the text of --until never came, 6 if the run ended in a fault.
    """
    from fota_vdev.wires.bus_log import listening

    if text == "":
        raise UsageError("--until: which text? An empty one is printed at once")
    with _powered(file, rom, live=not as_json) as machine, listening(machine, bus_log):
        if network:
            from fota_vdev.modem import peripheral as modem
            from fota_vdev.modem.network import HostNetwork

            modem.attach(machine, HostNetwork(), pace=True)
        if typed is not None:
            machine.run(time_ms=input_at_ms)
            machine.uart_input(typed.encode())
        wanted = text.encode() if text is not None else None
        result = machine.run(time_ms=time_ms, until=(lambda m: wanted in m.uart) if wanted else None)
        _finish(machine, file, result, as_json)
        if wanted is not None and wanted not in machine.uart:
            raise VerifyError(
                f"--until: the UART did not print {text!r} in {time_ms} ms (--time-ms)", "until"
            )


@vdev.command()
@click.argument("file", type=VDEV)
@TIME
@ROM
@JSON
def reset(file: Path, time_ms: int, rom: Path | None, as_json: bool) -> None:
    """Power on, run for a while, press the reset button, run again; RAM keeps its content in between."""
    with _powered(file, rom, live=not as_json) as machine:
        machine.run(time_ms=time_ms)
        if machine.powered:
            machine.reset("pin")
        _finish(machine, file, machine.run(time_ms=time_ms), as_json)


@vdev.command()
@click.argument("file", type=VDEV)
@click.option("--at", type=Whole(1), required=True, help="Cut at this flash operation, from power-on.")
@click.option(
    "--torn", type=Whole(), help="Seed: cut in the middle of the operation. Without: right before it."
)
@TIME
@ROM
@JSON
def cut(file: Path, at: int, torn: int | None, time_ms: int, rom: Path | None, as_json: bool) -> None:
    """Run with a power cut at a flash operation, power on again, run. Exit code 1 if nothing was cut."""
    from fota_vdev.machine import StopReason

    with _powered(file, rom, live=not as_json) as machine:
        machine.cut_power_at(flash_op=at, torn=torn)
        first = machine.run(time_ms=time_ms)
        happened = first.reason is StopReason.POWER_CUT
        if not as_json:
            click.echo(
                f"-- {first.detail}" if happened else "-- no such flash operation: nothing was cut", err=True
            )
        if happened:
            machine.power_on()
            _finish(machine, file, machine.run(time_ms=time_ms), as_json, cut=first.detail)
        else:
            _finish(machine, file, first, as_json, cut=None)
            click.get_current_context().exit(1)


@vdev.command()
@click.argument("log", type=BUS_LOG)
@click.option("--brief", is_flag=True, help="Commands and results only: no bytes, no waking and idling.")
@click.option(
    "--show-secrets", is_flag=True, help="Show what a log captured with --bus-log-secrets holds in clear."
)
@JSON
def trace(log: Path, brief: bool, show_secrets: bool, as_json: bool) -> None:
    """Print a captured bus log: commands, slots, results, virtual times, bytes. ## is a masked byte.

    Logs are written by `fota vdev run --bus-log` and `fota provision device --bus-log`.
    """
    from fota_vdev.wires.bus_log import load_log
    from fota_vdev.wires.trace import as_lines, read_log, totals

    messages, clear = load_log(log, secrets=show_secrets)
    entries = read_log(messages)
    total = totals(entries)
    if as_json:
        shown = "shown" if clear else "masked"
        click.echo(json.dumps({"secrets": shown, "total": total, "entries": [e.as_dict() for e in entries]}))
        return
    if clear:
        click.echo("-- this log holds secrets in clear", err=True)
    for line in as_lines(entries, brief=brief):
        click.echo(line)
    click.echo(
        f"{total['commands']} commands, {total['bus_bytes']} bytes on the bus, {total['polls']} polls, "
        f"{total['us'] / 1000:.3f} ms"
    )


@vdev.command()
@click.argument("file", type=VDEV)
@JSON
def status(file: Path, as_json: bool) -> None:
    """Show journal, slots, last boot report, element and flash wear of a device."""
    from fota_vdev.machine import Machine
    from fota_vdev.view import as_lines, status_view

    with Machine.load(file) as machine:
        view = status_view(machine)
    print_result(view, as_json, "\n".join(as_lines(view)))


@vdev.command()
@click.argument("file", type=VDEV)
@JSON
def report(file: Path, as_json: bool) -> None:
    """Show the boot report of the last run. Exit code 1 if there is none."""
    from fota_vdev.machine import Machine
    from fota_vdev.view import as_lines, report_view

    with Machine.load(file) as machine:
        view = report_view(machine.last_report)
    if view is None:
        print_result({}, as_json, "no boot report: the bootloader has not run yet")
        click.get_current_context().exit(1)
    else:
        print_result(view, as_json, "\n".join(as_lines(view)))


@vdev.command()
@JSON
def limits(as_json: bool) -> None:
    """Say what the virtual device does not model, and what it assumes about silicon."""
    from fota_vdev import limits as texts

    print_result(texts.as_dict(), as_json, texts.as_text())


@vdev.command("flash-image")
@click.argument("file", type=VDEV)
@click.argument("image", type=FILE)
@click.option("--slot", type=OneOf("A", "B"), required=True, help="Where to.")
@JSON
def flash_image(file: Path, image: Path, slot: str, as_json: bool) -> None:
    """Write a file into a slot as a programmer would: nothing is checked, the journal is left alone."""
    from fota_vdev.machine import Machine
    from fota_vdev.places import places
    from fota_wire.layout import SLOT_A, SLOT_B

    with Machine.load(file) as machine:
        where = places(machine).slots[SLOT_A if slot == "A" else SLOT_B]
        data = read_input(image, where.size)
        machine.flash.write_phys(where.bank, where.offset, data.ljust(where.size, b"\xff"))
        machine.save(file)
    print_result({"slot": slot, "bytes": len(data)}, as_json, f"slot {slot}: {len(data)} bytes written")


@vdev.command()
@click.argument("file", type=VDEV)
@click.option("--bank", type=Whole(1, 2), required=True, help="Physical bank.")
@click.option(
    "--offset",
    type=Whole(0, (4 << 20) - 1),
    default=0,
    show_default=True,
    help="In the bank; 0x for hexadecimal.",
)
@click.option("--length", type=Whole(1, 65536), default=256, show_default=True, help="Bytes.")
@JSON
def hexdump(file: Path, bank: int, offset: int, length: int, as_json: bool) -> None:
    """Show flash cells; what is programmed at once and ECC cannot correct is marked with !."""
    from fota_vdev.machine import Machine

    with Machine.load(file) as machine:
        data = machine.flash.read_phys(bank, offset, length)
        word = machine.flash.geometry.word
        bad = (o for b, o in machine.flash.ecc_bad if b == bank)
        torn = sorted(o for o in bad if offset - word < o < offset + length)
    lines = []
    for at in range(0, length, 16):
        mark = "!" if any(offset + at - word < o < offset + at + 16 for o in torn) else " "
        lines.append(f"{offset + at:06x}{mark} {data[at : at + 16].hex(' ')}")
    print_result(
        {"bank": bank, "offset": offset, "data": data.hex(), "torn": torn}, as_json, "\n".join(lines)
    )


# -- shared ----------------------------------------------------------------------------------------------


def _powered(file: Path, rom: Path | None, *, live: bool) -> "Machine":
    """Load a device and switch it on; with ``live`` its UART goes to standard output as it comes."""
    from fota_vdev.machine import Machine

    machine = Machine.load(file, None if rom is None else read_input(rom, 1 << 20))
    if live:
        machine.on_uart = lambda byte: click.echo(bytes([byte]), nl=False)
    machine.power_on()
    return machine


def _finish(machine: "Machine", file: Path, result: "RunResult", as_json: bool, **extra: object) -> None:
    from fota_vdev.machine import StopReason
    from fota_wire.errors import DeviceError

    machine.power_off()
    machine.save(file)
    answer = {
        "reason": result.reason.value,
        "detail": result.detail,
        "instructions": result.instructions,
        "time_us": result.time_us,
        "resets": [cause for _, cause in machine.resets],
        "faults": [text for _, text in machine.faults],
        "warnings": machine.warnings,
        "uart": machine.uart.decode(errors="replace"),
        **extra,
    }
    summary = f"-- {result.reason.value}, {result.time_us / 1e6:.3f} s, {result.instructions} instructions"
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(summary, err=True)
        for warning in machine.warnings:
            click.echo(f"-- warning: {warning}", err=True)
    if result.reason is StopReason.FAULT:
        raise DeviceError(f"the run ended in a fault: {result.detail}")
