"""Commands ``fota root``: make, sign, show and check the document that names all other keys."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_signer.cli import (
    MAX_DOCUMENT,
    UINT32,
    about,
    example_option,
    output_option,
    password_option,
    with_key,
)
from fota_wire import root as roots
from fota_wire.errors import VerifyError
from fota_wire.files import STREAM, alone_at, check_output, read_input, write_output
from fota_wire.host_options import (
    CERTIFICATE,
    FORCE,
    JSON,
    PUBLIC_KEY,
    ROOT,
    SIGNING_KEY,
    Address,
    Group,
    Whole,
)
from fota_wire.host_print import lines_of, print_result

if TYPE_CHECKING:
    from fota_signer.signing import Door

PREVIOUS = click.option(
    "--previous", type=ROOT, help="ROOT in force, which this one follows: needed from version 2 on."
)
DEVELOPMENT = click.option(
    "--development",
    is_flag=True,
    help="For a desk alone: accept a key that has several roles.",
)


FLOOR = click.option(
    "--device-floor",
    type=Whole(0, 262143),
    help="Floor that every device in the field has, as of `provision --floor`: what the minimum security"
    " counter is held against.  [the minimum before]",
)


@click.group(cls=Group)
def root() -> None:
    """Make and show the ROOT document that names all other keys."""


@root.command("new")
@PREVIOUS
@click.option("--root-key", type=PUBLIC_KEY, multiple=True, help="Public key of role ROOT; repeat.")
@click.option("--release-key", type=PUBLIC_KEY, multiple=True, help="Public key of role RELEASE; repeat.")
@click.option("--assign-key", type=PUBLIC_KEY, multiple=True, help="Public key of role ASSIGN; repeat.")
@click.option(
    "--campaign-key",
    type=PUBLIC_KEY,
    multiple=True,
    help="Public key of role CAMPAIGN; repeat. With it, devices install only what `fota campaign` lets reach"
    " them.",
)
@click.option("--drop-campaigns", is_flag=True, help="Name no CAMPAIGN keys more: the server chooses alone.")
@click.option(
    "--log-key",
    type=PUBLIC_KEY,
    multiple=True,
    help="Public key of role LOG; repeat. With it, devices install only what is in the release log.",
)
@click.option(
    "--drop-log", is_flag=True, help="Name no LOG keys more: devices take what the log does not have."
)
@click.option("--root-threshold", type=Whole(1, 255), help="ROOT keys that have to sign.  [2]")
@click.option("--release-threshold", type=Whole(1, 255), help="RELEASE keys that have to sign.  [2]")
@click.option("--campaign-threshold", type=Whole(1, 255), help="CAMPAIGN keys that have to sign.  [2]")
@click.option(
    "--log-threshold", type=Whole(1, 255), help="LOG keys that have to sign; a server has one.  [1]"
)
@click.option(
    "--root-version", type=Whole(1, 0xFFFFFFFF), help="Version of the ROOT.  [1, or one above --previous]"
)
@click.option("--min-sequence", type=UINT32, help="Lowest manifest sequence.  [0]")
@click.option("--min-security-counter", type=UINT32, help="Lowest SEC_CNT.  [0]")
@FLOOR
@click.option("--revoke", multiple=True, help="Manifest digest (hex) that nobody may install; repeat.")
@click.option("--forget-revoked", is_flag=True, help="Revoke no more what --previous does, but for --revoke.")
@click.option(
    "--key-epoch",
    type=Whole(0, 1),
    help="1: devices that run an image of firmware root B retire root A, for good.  [0]",
)
@click.option(
    "--image-key",
    type=PUBLIC_KEY,
    multiple=True,
    help="Public IMAGE key that devices know; 1 to 4. Signer and server check images by it.",
)
@click.option(
    "--retire-image-key",
    type=PUBLIC_KEY,
    multiple=True,
    help="Public IMAGE key, root A say: servers offer nothing signed by it any more; for good.",
)
@click.option(
    "--server-url",
    type=Address(),
    multiple=True,
    help="https://host[:port] where devices find the server; the first is tried first, those of --previous"
    " behind.",
)
@click.option(
    "--server-ca",
    type=CERTIFICATE,
    multiple=True,
    help="CA that the server's certificate may come from, PEM; repeat.",
)
@click.option(
    "--drop-server", multiple=True, metavar="URL", help="Name this address of --previous no more; repeat."
)
@click.option(
    "--drop-server-ca", type=CERTIFICATE, multiple=True, help="Name this CA of --previous no more; repeat."
)
@click.option(
    "--sign",
    "signing",
    type=SIGNING_KEY,
    multiple=True,
    help="ROOT key to sign with, PEM or where a store has it (docs/signing.md); repeat.",
)
@output_option
@FORCE
@DEVELOPMENT
@password_option
@example_option
@JSON
def root_new(**options: Any) -> None:  # noqa: ANN401  handed on as they are
    """Build a ROOT, and sign it with the keys given.

    With --previous, what is not said stays as it was there: keys, thresholds, minima, revocations, servers.
    """
    from fota_signer import root_command

    raw, previous = root_command.new_root(options)
    write_output(options["output"], raw, force=options["force"])
    _say(options["output"], raw, previous, options["as_json"], output=options["output"])


@root.command("sign")
@click.argument("file", type=ROOT)
@with_key("ROOT key")
@PREVIOUS
@FLOOR
@output_option
@FORCE
@DEVELOPMENT
@JSON
def root_sign(
    file: Path,
    door: "Door",
    previous: Path | None,
    device_floor: int | None,
    output: Path,
    force: bool,
    development: bool,
    as_json: bool,
) -> None:
    """Add one signature to a ROOT, in place or to a copy; with --previous, what it changes is shown first."""
    from fota_signer import root_command

    raw = read_input(file, MAX_DOCUMENT)
    with about(file):
        before = root_command.read_previous(previous)
        root_command.require_livable(raw, before, device_floor, development=development)
        root_command.require_signatures_hold(raw, before)
        shown = lines_of(root_command.summary(file, raw, before))
    check_output(output, force, over=file)
    signed = root_command.sign_root(raw, before, [door], lambda: click.echo(shown, err=True))
    with alone_at(output):
        if file != STREAM:
            signed = roots.FORM.merge(read_input(file, MAX_DOCUMENT), signed)  # others may have signed by now
        write_output(output, signed, force=force, over=file)
    _say(output, signed, before, as_json, output=output)


@root.command("merge")
@click.argument("files", metavar="FILE...", type=ROOT, nargs=-1, required=True)
@PREVIOUS
@output_option
@FORCE
@JSON
def root_merge(
    files: tuple[Path, ...], previous: Path | None, output: Path, force: bool, as_json: bool
) -> None:
    """Put the signatures together that several people gave one ROOT, each to a copy."""
    from fota_signer import root_command

    before = root_command.read_previous(previous)
    merged = read_input(files[0], MAX_DOCUMENT)
    for file in files:
        with about(file):
            one = read_input(file, MAX_DOCUMENT)
            merged = roots.FORM.merge(merged, one)
            root_command.require_signatures_hold(one, before)
    write_output(output, merged, force=force)
    _say(output, merged, before, as_json, output=output)


@root.command("show")
@click.argument("file", type=ROOT)
@PREVIOUS
@JSON
def root_show(file: Path, previous: Path | None, as_json: bool) -> None:
    """Show a ROOT, and check its signatures; with --previous, those of the one before, too."""
    from fota_signer import root_command

    with about(file):
        _say(file, read_input(file, MAX_DOCUMENT), root_command.read_previous(previous), as_json)


@root.command("verify")
@click.argument("file", type=ROOT)
@PREVIOUS
@FLOOR
@DEVELOPMENT
@JSON
def root_verify(
    file: Path, previous: Path | None, device_floor: int | None, development: bool, as_json: bool
) -> None:
    """Check a ROOT as a device does that has the one before, and as people should. Exit code 1: refused."""
    from fota_signer import root_command

    with about(file):
        raw = read_input(file, MAX_DOCUMENT)
        before = root_command.read_previous(previous)
        table = root_command.summary(file, raw, before)
        if not table["verified"]:
            raise VerifyError(table["missing"])
        root_command.require_livable(raw, before, device_floor, development=development)
    print_result(table, as_json)


def _say(
    file: Path,
    raw: bytes,
    previous: roots.Root | None,
    as_json: bool,
    output: Path | None = None,
) -> None:
    """Print a ROOT, and on standard error what has to be known of it."""
    from fota_signer import root_command
    from fota_wire.host_root import remarks

    print_result(root_command.summary(file, raw, previous), as_json, output=output)
    for remark in remarks(roots.unsafe_read_root(raw)):
        click.echo(f"fota: note: {remark}", err=True)
