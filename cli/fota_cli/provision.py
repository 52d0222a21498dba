"""``fota provision``: what a factory does with a chip, a batch of them, a plan, and a board's flash."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_cli.factory_hex import factory_hex, load
from fota_cli.station import Target, firmware_roots, with_job, with_target
from fota_wire.errors import InputError
from fota_wire.files import STREAM, check_own_kind, making_folder, read_input, write_output
from fota_wire.host_options import (
    FILE,
    FOLDER,
    FORCE,
    IMAGE_KEY_A,
    IMAGE_KEY_B,
    JSON,
    LEDGER,
    PLAN,
    Group,
    Whole,
)
from fota_wire.host_print import print_result

if TYPE_CHECKING:
    from fota_signer.factory.ledger import Ledger
    from fota_signer.factory.line import Job

WORK = click.option(
    "--work",
    type=FOLDER,
    default=Path("provisioning"),
    show_default=True,
    help="Folder of the devices' records; they hold pairing keys until their factory HEX is made.",
)
LoadJob = Callable[[Path], "Job"]


@click.group(cls=Group)
def provision() -> None:
    """Take blank chips to locked, paired, certified devices, and write what their flash needs."""


provision.add_command(factory_hex)
provision.add_command(load)


@provision.command()
@with_target
@JSON
def look(target: Target, as_json: bool) -> None:
    """Say what kind of chip is there, and what can be done with it. Nothing is changed."""
    from fota_signer.factory.line import look as look_at

    with target.open() as transport:
        table = look_at(transport)[0].as_dict()
    print_result(table, as_json)


@provision.command()
@with_target
@with_job
@WORK
@click.option("--ledger", type=LEDGER, help="SQLite file to note the device in.")
@click.option("--certificate-out", type=FILE, help="Write the device certificate here, PEM.")
@click.option("--request-out", type=FILE, help="Write the certificate request here, DER.")
@JSON
def device(
    target: Target,
    load_job: LoadJob,
    work: Path,
    ledger: Path | None,
    certificate_out: Path | None,
    request_out: Path | None,
    as_json: bool,
) -> None:
    """Bring one chip from wherever it is to the end: run it again after any failure or power cut."""
    from fota_signer.factory.ca import pem
    from fota_signer.factory.ledger import provision_noted

    check_own_kind(certificate_out, b"-----BEGIN CERTIFICATE-----")
    check_own_kind(request_out, b"\x30")
    job = load_job(work)
    book = _open_ledger(ledger)
    try:
        with target.open() as transport:
            report = provision_noted(transport, job, book, _teller(target, as_json))
    finally:
        if book is not None:
            book.close()
    if certificate_out is not None:
        write_output(certificate_out, pem(report.certificate).encode(), force=True)
    if request_out is not None and report.record.request is not None:
        write_output(request_out, report.record.request, force=True)
    done = "provisioned" if report.changed else "was provisioned before; checked, nothing changed"
    print_result(report.as_dict(), as_json, f"{report.device_id}: {done}; record {report.record.path}")


@provision.command()
@click.option("--count", type=Whole(1, 1_000_000), required=True, help="Number of virtual boards.")
@click.option("--ledger", type=LEDGER, required=True, help="SQLite file to note the boards in.")
@click.option("--seed", type=Whole(), help="Make boards that repeat; without it, unique ones.")
@click.option("--resume", is_flag=True, help="Skip boards that the ledger has as finished; needs --seed.")
@click.option("--devices", type=FOLDER, help="Keep the boards here, one file each; their records too.")
@click.option("--csv", "csv_out", type=FILE, help="Write the whole ledger here as CSV at the end.")
@with_job
@click.option("--work", type=FOLDER, help="Folder of the boards' records; default: beside the ledger.")
@JSON
def batch(
    count: int,
    ledger: Path,
    seed: int | None,
    resume: bool,
    devices: Path | None,
    csv_out: Path | None,
    load_job: LoadJob,
    work: Path | None,
    as_json: bool,
) -> None:
    """Rehearse a line on virtual boards. Exit code 1 if any of them failed."""
    from fota_cli.batch import run_batch
    from fota_signer.factory.ledger import Ledger

    if resume and seed is None:
        raise click.UsageError("--resume needs --seed: without it every board is a new one")
    check_own_kind(csv_out, b"serial,")
    job = load_job(work or ledger.with_name(f"{ledger.name}.work"))
    with closing(Ledger(ledger)) as book, making_folder(devices or Path()):
        tally = run_batch(count, job, book, seed=seed, resume=resume, devices=devices)
        if csv_out is not None:
            write_output(csv_out, book.as_csv().encode(), force=True)
    result = tally.as_dict()
    lines = [
        f"{tally.ok} provisioned, {tally.skipped} skipped, {len(tally.failed)} failed",
        f"{result['seconds']:.1f} s, {result['seconds_per_board']:.3f} s per board",
        *tally.failed[:5],
    ]
    print_result(result, as_json, "\n".join(lines))
    if tally.failed:
        click.get_current_context().exit(1)


@provision.command()
@click.argument("ledger", type=LEDGER)
@click.option("-o", "--output", type=FILE, help="File to write; else standard output.")
@FORCE
def export(ledger: Path, output: Path | None, force: bool) -> None:
    """Write a ledger as CSV: serial, keys, certificate, times, result."""
    from fota_signer.factory.ledger import Ledger

    if not ledger.is_file():
        raise InputError(f"{ledger}: no such ledger")
    book = Ledger(ledger)
    try:
        text = book.as_csv()
    finally:
        book.close()
    write_output(output or STREAM, text.encode(), force=force)


@provision.command()
@IMAGE_KEY_A
@IMAGE_KEY_B
@click.option(
    "--floor",
    type=Whole(0, 262143),
    default=0,
    show_default=True,
    help="Lowest security counter that may ever boot.",
)
@click.option("--latch", is_flag=True, help="As for `device`.")
@click.option("-o", "--output", type=FILE, required=True, help="File to write, JSON.")
@FORCE
@click.option("--allow-example-keys", is_flag=True, help="Accept the published throw-away keys.")
def plan(
    root_a: Path,
    root_b: Path,
    floor: int,
    latch: bool,
    output: Path,
    force: bool,
    allow_example_keys: bool,
) -> None:
    """Write every packet of a blank chip's way and its answer, for a line with its own programmer."""
    from fota_signer.factory.plan import make_plan
    from fota_signer.factory.steps import all_steps

    root_a_xy, root_b_xy = firmware_roots(root_a, root_b, allow_example_keys)
    steps = all_steps(
        root_a_xy=root_a_xy,
        root_b_xy=root_b_xy,
        counters=(8 * floor, 0),
        latched=latch,
    )
    write_output(output, make_plan(steps), force=force)


@provision.command("run-plan")
@click.argument("plan_file", metavar="PLAN", type=PLAN)
@with_target
@with_job
@WORK
@JSON
def run_plan(plan_file: Path, target: Target, load_job: LoadJob, work: Path, as_json: bool) -> None:
    """Send a plan to a blank chip, then check and certify it as `device` does."""
    from fota_signer.factory.line import provision_by_plan
    from fota_signer.factory.plan import load_plan

    commands = load_plan(read_input(plan_file, 1 << 20), str(plan_file))
    job = load_job(work)
    with target.open() as transport:
        report = provision_by_plan(transport, job, commands, _teller(target, as_json))
    text = f"{report.device_id}: provisioned by the plan; record {report.record.path}"
    print_result(report.as_dict(), as_json, text)


# -- shared ------------------------------------------------------------------------------------------------


def _open_ledger(path: Path | None) -> "Ledger | None":
    from fota_signer.factory.ledger import Ledger

    return None if path is None else Ledger(path)


def _teller(target: Target, quiet: bool) -> Callable[[str, bool], None]:
    """Return what tells of a step: on stderr unless JSON speaks for itself, and in the bus log."""

    def tell(step: str, did: bool) -> None:
        text = f"{'done   ' if did else 'checked'}  {step}"
        target.mark(text)
        if not quiet:
            click.echo(f"  {text}", err=True)

    return tell
