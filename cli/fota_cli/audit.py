"""``fota audit``: what operators did, taken along and checked, away from the server that wrote it."""

import io
from pathlib import Path

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_wire.errors import InputError
from fota_wire.files import name_of, read_input, write_output
from fota_wire.host_audit import read_head, read_lines, verify_chain
from fota_wire.host_options import FILE, FORCE, JSON, TRAIL, Group
from fota_wire.host_print import print_result

MAX_TRAIL = 1 << 30


@click.group(cls=Group)
def audit() -> None:
    """Export the audit trail, and check one that was exported."""


@audit.command("export")
@click.option("-o", "--output", type=FILE, required=True, help="File to write; '-': standard output.")
@FORCE
@connected
def export(client: OperatorClient, output: Path, force: bool, as_json: bool) -> None:
    """Write the audit trail as JSON lines. Keep the head that this prints somewhere else.

    'fota audit verify' finds by it what nobody finds in a trail alone: that its end was cut off, or all of it
    written anew.
    """
    written = io.BytesIO()
    for item in client.pages("audit", "lines", form="lines"):
        written.write(str(item["line"]).encode() + b"\n")
    lines = written.getvalue()
    head = verify_chain(read_lines(io.BytesIO(lines), client.url), None)
    write_output(output, lines, force=force)
    told = {"rows": int(head.split()[0]), "head": head}
    print_result(told, as_json, f"{told['rows']} row(s); head: {head}", output=output)


def _heads(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for text in given:
        read_head(text)
    return given


@audit.command("verify")
@click.argument("file", type=TRAIL)
@click.option("--head", metavar="'ROW HASH'", help="Where it ends: what 'fota audit export' printed.")
@click.option(
    "--noted", metavar="'ROW HASH'", multiple=True, callback=_heads, help="A head of before; repeat."
)
@JSON
def verify(file: Path, head: str | None, noted: tuple[str, ...], as_json: bool) -> None:
    """Check that of an exported audit trail no row was altered, taken out, put in or moved.

    Without a head, the end of FILE may be missing, or the whole chain made anew: that is not found then.
    """
    if head is not None:
        head = "{} {}".format(*read_head(head))
    stream = io.BytesIO(read_input(file, MAX_TRAIL))
    found = verify_chain(read_lines(stream, name_of(file)), head, noted)
    rows = int(found.split()[0])
    if not rows:
        raise InputError(f"{name_of(file)}: no row of an audit trail is in it: that proves nothing")
    text = f"{name_of(file)}: {rows} row(s), none altered or missing; head: {found}"
    print_result({"rows": rows, "head": found}, as_json, text)
