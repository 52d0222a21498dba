"""``fota provision``: what a factory does with a chip, a batch of them, a plan, and a board's flash."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_cli.station import Target, virtual, with_job, with_target
from fota_wire.errors import InputError
from fota_wire.files import STREAM, check_output, check_own_kind, read_input, read_text, write_output
from fota_wire.host_options import FILE, FOLDER, FORCE, JSON, OWN_FILE, UUID, Whole
from fota_wire.host_print import print_result

if TYPE_CHECKING:
    from fota_signer.factory.flash import Firmware
    from fota_signer.factory.ledger import Ledger
    from fota_signer.factory.line import Job

WORK = click.option(
    "--work",
    type=FOLDER,
    default=Path("provisioning"),
    show_default=True,
    help="Folder of the devices' records; they hold pairing keys until their factory HEX is made.",
)
CONFIRM = "confirm on silicon: written from the manuals, not tried on a chip"
LoadJob = Callable[[Path], "Job"]


@click.group()
def provision() -> None:
    """Take blank chips to locked, paired, certified devices, and write what their flash needs."""


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
@click.option("--ledger", type=OWN_FILE, help="SQLite file to note the device in.")
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
@click.option("--ledger", type=OWN_FILE, required=True, help="SQLite file to note the boards in.")
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
    if devices is not None:
        devices.mkdir(parents=True, exist_ok=True)
    book = Ledger(ledger)
    try:
        tally = run_batch(count, job, book, seed=seed, resume=resume, devices=devices)
        if csv_out is not None:
            write_output(csv_out, book.as_csv().encode(), force=True)
    finally:
        book.close()
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
@click.argument("ledger", type=OWN_FILE)
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
@click.option("--root-a", type=FILE, required=True, help="Public key of firmware root A, PEM.")
@click.option("--root-b", type=FILE, required=True, help="Public key of firmware root B, PEM.")
@click.option("--floor", type=Whole(0, 262143), default=0, show_default=True)
@click.option("--latch", is_flag=True, help="As for `device`.")
@click.option("-o", "--output", type=FILE, required=True, help="File to write, JSON.")
@FORCE
def plan(root_a: Path, root_b: Path, floor: int, latch: bool, output: Path, force: bool) -> None:
    """Write every packet of a blank chip's way and its answer, for a line with its own programmer."""
    from fota_signer.factory.plan import make_plan
    from fota_signer.factory.steps import all_steps
    from fota_wire.host_crypto import load_public_key

    steps = all_steps(
        root_a_xy=load_public_key(root_a, "image"),
        root_b_xy=load_public_key(root_b, "image"),
        counters=(8 * floor, 0),
        latched=latch,
    )
    write_output(output, make_plan(steps), force=force)


@provision.command("run-plan")
@click.argument("plan_file", metavar="PLAN", type=FILE)
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


@provision.command("hex")
@click.argument("record", type=OWN_FILE)
@click.option("--bootloader", type=FILE, required=True, help="bootloader.elf.")
@click.option("--image", type=FILE, required=True, help="First signed image, for slot A.")
@click.option("--class-id", type=UUID, required=True)
@click.option("--vendor-id", type=UUID, required=True)
@click.option("--root-a", type=FILE, required=True, help="Public key of firmware root A, PEM.")
@click.option("--root-b", type=FILE, required=True, help="Public key of firmware root B, PEM.")
@click.option("--genesis-root", type=FILE, required=True, help="First ROOT document.")
@click.option("--server-ca", type=FILE, required=True, help="Certificate of the server's CA, PEM.")
@click.option("--server-url", required=True, help="Like https://updates.example:8443.")
@click.option("--tries", type=Whole(1, 15), default=3, show_default=True)
@click.option("--watchdog-s", type=Whole(1, 30), default=16, show_default=True)
@click.option("--max-step", type=Whole(1), default=255, show_default=True)
@click.option("--watchdog-in-trials-only", is_flag=True, help="Else it is armed in every boot.")
@click.option(
    "--keep-keys", is_flag=True, help="Leave the pairing keys in the record, to make this HEX again."
)
@click.option("-o", "--output", type=FILE, required=True, help="Intel HEX to write, mode 0600.")
@FORCE
@JSON
def factory_hex(
    record: Path,
    output: Path,
    force: bool,
    keep_keys: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write bootloader, trust store, settings and first image of one device; print its option bytes."""
    from fota_signer.factory.flash import check_image, option_commands
    from fota_signer.factory.flash import factory_hex as build
    from fota_signer.factory.record import load_record

    check_output(output, force)
    if output.resolve() == record.resolve():
        raise InputError(f"{output} is the record itself, and holds the only keys: choose another name")
    made_of = load_record(record)
    firmware = _firmware(**given)
    text = build(firmware, made_of)
    write_output(output, text.encode(), force=force, secret=True)
    if not keep_keys:
        made_of.without_secrets().save()
    commands = option_commands(output.name)
    table = {
        "file": str(output),
        "device_id": made_of.serial.hex(),
        "image_version": check_image(firmware),
        "secret": "holds the device's pairing keys: mode 0600; delete it once it is in the chip",
        "option_bytes": {"RDP": "level 1", "WRP1A": "pages 0-7", "BFB2": 0, "IWDG_SW": 1},
        "programmers": commands,
        "note": CONFIRM,
    }
    shown = [f"{output}: factory HEX of {made_of.serial.hex()} (pairing keys inside, mode 0600)", ""]
    shown.append(f"Option bytes: RDP level 1, WRP1A pages 0-7, BFB2=0, IWDG_SW=1. {CONFIRM.capitalize()}.")
    for tool, lines in commands.items():
        shown += ["", f"{tool}:", *(f"  {line}" for line in lines)]
    print_result(table, as_json, "\n".join(shown))


@provision.command()
@click.argument("file", type=OWN_FILE)
@click.argument("hex_file", metavar="HEX", type=FILE)
@JSON
def load(file: Path, hex_file: Path, as_json: bool) -> None:
    """Write a factory HEX into a virtual device and protect its pages, as a programmer does."""
    from fota_signer.factory.flash import load_hex
    from fota_wire.layout import BANK_SIZE, FLASH_BASE, PAGE_SIZE, SLOT_OFFSET

    machine_class, _ = virtual()
    parts = load_hex(read_text(hex_file, 4 << 20), str(hex_file))
    for address, data in parts:
        if not FLASH_BASE <= address <= address + len(data) <= FLASH_BASE + BANK_SIZE:
            raise InputError(f"{hex_file}: 0x{address:08x} + {len(data)} bytes is outside bank 1")
    with machine_class.load(file) as machine:
        for address, data in parts:
            machine.flash.write_phys(1, address - FLASH_BASE, data)
        machine.flash.protect(1, 0, SLOT_OFFSET // PAGE_SIZE - 1)
        machine.save(file)
    size = sum(len(data) for _, data in parts)
    print_result(
        {"file": str(file), "bytes": size}, as_json, f"{file}: {size} bytes written, pages 0-7 protected"
    )


# -- shared ------------------------------------------------------------------------------------------------


def _firmware(**given: Any) -> "Firmware":  # noqa: ANN401
    from cryptography.hazmat.primitives.serialization import Encoding

    from fota_signer.factory.ca import load_certificate
    from fota_signer.factory.flash import Firmware, bootloader_image
    from fota_wire.host_crypto import load_public_key

    return Firmware(
        bootloader=bootloader_image(read_input(given["bootloader"], 4 << 20), str(given["bootloader"])),
        image=read_input(given["image"], 1 << 20),
        class_id=given["class_id"],
        vendor_id=given["vendor_id"],
        root_a_xy=load_public_key(given["root_a"], "image"),
        root_b_xy=load_public_key(given["root_b"], "image"),
        genesis_root=read_input(given["genesis_root"], 4096),
        server_ca_der=load_certificate(given["server_ca"]).public_bytes(Encoding.DER),
        server_url=given["server_url"],
        tries=given["tries"],
        watchdog_s=given["watchdog_s"],
        max_step=given["max_step"],
        watchdog_always=not given["watchdog_in_trials_only"],
    )


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
