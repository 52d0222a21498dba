"""Commands ``fota release provenance``: what is said of an image, by whoever says it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_signer.cli import output_option, with_key
from fota_signer.release_cli import policy_option
from fota_wire.files import check_output, read_input, write_output
from fota_wire.host_options import FORCE, IMAGE, JSON, Command
from fota_wire.host_print import print_result

if TYPE_CHECKING:
    from fota_signer.signing import Door


@click.command("provenance", cls=Command)
@click.argument("image_file", metavar="IMAGE", type=IMAGE)
@policy_option
@output_option
@with_key("EVIDENCE key")
@click.option("--builder", metavar="URI", help="Who has built it.  [the key]")
@FORCE
@JSON
def provenance(
    image_file: Path,
    policy_file: Path,
    output: Path,
    door: "Door",
    builder: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Sign that this IMAGE is what the sources here come to: SLSA provenance in an in-toto statement.

    The first builder says so of what he made, the second one agrees. Exit code 1: they come to another.
    """
    from fota_signer import provenance as provenances
    from fota_signer import release_image, release_named, release_rules

    if builder is not None:
        provenances.require_uri(builder)
    named = release_named.read_policy(policy_file)
    rules = release_rules.ruled(named.policy, named.folder)
    data = read_input(image_file)
    made = release_image.held_against_sources(named, rules, named.known(), data, str(image_file))
    check_output(output, force)
    key = door.open("evidence")
    raw = provenances.sign(named, policy_file.name, rules, made, key, builder)
    write_output(output, raw, force=force)
    table = {"output": str(output), "subject": made.image.file_digest.hex(), "signed_by": key.kid.hex()}
    table |= {"commit": rules.sources.commit or ""}
    line = f"{output}: {image_file} is what commit {table['commit'][:12]} comes to, signed by {key.kid.hex()}"
    print_result(table, as_json, line, output=output)
