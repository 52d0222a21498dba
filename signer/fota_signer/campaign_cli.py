"""Commands ``fota campaign``: make, sign, merge and show the document that says whom a release may reach."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_signer.cli import MAX_DOCUMENT, about, output_option, with_key
from fota_wire.campaign import FORM
from fota_wire.files import STREAM, alone_at, check_output, read_input, write_output
from fota_wire.host_options import CAMPAIGN, FORCE, JSON, MANIFEST, ROOT, Group
from fota_wire.host_print import lines_of, print_result

if TYPE_CHECKING:
    from fota_signer.signing import Door

ROOT_OPTION = click.option(
    "--root", "root_file", type=ROOT, help="ROOT that names the CAMPAIGN keys: signatures are checked by it."
)


@click.group(cls=Group)
def campaign() -> None:
    """Make and sign the CAMPAIGN of a release: which devices it may reach, and when."""


@campaign.command("new")
@click.argument("manifest_file", metavar="MANIFEST", type=MANIFEST)
@click.option(
    "--wave",
    "waves",
    multiple=True,
    required=True,
    metavar="'SHARE FROM UNTIL [GROUP]'",
    help="Who may be given it when, '5% 2026-12-01T08:00 2026-12-08'; UTC if no offset is said; with GROUP"
    " only of those whose factory said so (`provision --campaign-group`); repeat, up to 8.",
)
@output_option
@FORCE
@JSON
def campaign_new(
    manifest_file: Path, waves: tuple[str, ...], output: Path, force: bool, as_json: bool
) -> None:
    """Make the unsigned CAMPAIGN of a release."""
    from fota_signer import campaign_command

    read = [campaign_command.read_wave(wave) for wave in waves]
    with about(manifest_file):
        raw = campaign_command.new_campaign(read_input(manifest_file, MAX_DOCUMENT), read)
    write_output(output, raw, force=force)
    print_result(campaign_command.summary(output, raw, None), as_json, output=output)


@campaign.command("sign")
@click.argument("file", type=CAMPAIGN)
@with_key("CAMPAIGN key")
@ROOT_OPTION
@output_option
@FORCE
@JSON
def campaign_sign(
    file: Path,
    door: "Door",
    root_file: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Add one signature to a CAMPAIGN, in place or to a copy; what it says is shown first."""
    from fota_signer import campaign_command

    root = campaign_command.read_root(root_file)
    raw = read_input(file, MAX_DOCUMENT)
    with about(file):
        shown = lines_of(campaign_command.summary(file, raw, root))
        campaign_command.require_signatures_hold(raw, root)
        campaign_command.require_ahead(raw)
    check_output(output, force, over=file)
    signed = campaign_command.sign_campaign(raw, root, door, lambda: click.echo(shown, err=True))
    with alone_at(output):
        if file != STREAM:
            signed = FORM.merge(read_input(file, MAX_DOCUMENT), signed)  # others may have signed by now
        write_output(output, signed, force=force, over=file)
    print_result(campaign_command.summary(output, signed, root), as_json, output=output)


@campaign.command("merge")
@click.argument("files", metavar="FILE...", type=CAMPAIGN, nargs=-1, required=True)
@ROOT_OPTION
@output_option
@FORCE
@JSON
def campaign_merge(
    files: tuple[Path, ...], root_file: Path | None, output: Path, force: bool, as_json: bool
) -> None:
    """Put the signatures together that several people gave one CAMPAIGN, each to a copy."""
    from fota_signer import campaign_command

    root = campaign_command.read_root(root_file)
    merged = read_input(files[0], MAX_DOCUMENT)
    for file in files:
        with about(file):
            one = read_input(file, MAX_DOCUMENT)
            merged = FORM.merge(merged, one)
            campaign_command.require_signatures_hold(one, root)
    write_output(output, merged, force=force)
    print_result(campaign_command.summary(output, merged, root), as_json, output=output)


@campaign.command("show")
@click.argument("file", type=CAMPAIGN)
@ROOT_OPTION
@JSON
def campaign_show(file: Path, root_file: Path | None, as_json: bool) -> None:
    """Show a CAMPAIGN; with --root, check it as a device does."""
    from fota_signer import campaign_command

    root = campaign_command.read_root(root_file)
    with about(file):
        print_result(campaign_command.summary(file, read_input(file, MAX_DOCUMENT), root), as_json)
