"""Commands ``fota release build | check``: a release in one step, by the policy in ``fota.toml``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_signer.cli import with_key
from fota_wire.host_options import CARD, FOLDER, JSON, RELEASE_POLICY, Command
from fota_wire.host_print import print_result
from fota_wire.host_print import table as columns
from fota_wire.host_values import UsageError

if TYPE_CHECKING:
    from fota_signer.signing import Door

policy_option = click.option(
    "--policy",
    "policy_file",
    type=RELEASE_POLICY,
    default="fota.toml",
    help="Release policy (docs/releases.md); its files are named from its folder.  [fota.toml]",
)


@click.command("build", cls=Command)
@policy_option
@click.option("-o", "--output", type=FOLDER, required=True, help="New folder for the release.")
@with_key("IMAGE key, in place of the policy's", required=False)
@JSON
def build(policy_file: Path, door: "Door", output: Path, as_json: bool) -> None:
    """Make a release of this commit: image, manifest, update package and description, by fota.toml.

    All of it or nothing. The same commit, tools and keys give the same bytes; where the same release is
    there already, nothing is done. Exit code 1: a build that the policy refuses.
    """
    from fota_signer import release_build

    place: Any = door.key
    named = release_build.read_policy(policy_file)
    if place is None:
        if named.policy.image_key is None:
            raise UsageError(f"which IMAGE key? pass --key, or write keys.image in {policy_file}")
        door = door._replace(key=named.key(named.policy.image_key, f"{policy_file}: keys.image"))
    release_build.require_free(output)
    built = release_build.build(named, door, door.allow_example_keys)
    is_new = release_build.write(built, output)
    table: dict[str, Any] = {"output": str(output), "created": is_new, **built.description}
    told = built.description
    line = (
        f"{output}: {told['version']}, sequence {told['sequence']}, security counter"
        f" {told['security_counter']}, {told['image']['size']} bytes, file digest"
        f" {told['image']['sha256'][:16]}{'' if is_new else '; was there already'}"
    )
    print_result({**table, "notes": built.notes}, as_json, "\n".join([line, *built.notes]))


@click.command("check", cls=Command)
@click.argument("folder", metavar="RELEASE", type=CARD)
@policy_option
@JSON
def check(folder: Path, policy_file: Path, as_json: bool) -> None:
    """Show what the release in the folder RELEASE lacks of what fota.toml asks for.

    Exit code 0: nothing; 1: something. The sources lie at the commit that it was built of.
    """
    from fota_signer import release_build, release_check

    rows = release_check.check(release_build.read_policy(policy_file), folder)
    lacks = [row.what for row in rows if not row.good]
    lines = [
        columns(("WHAT", "STATE", "DETAIL"), [(row.what, _STATES[row.good], row.detail) for row in rows])
    ]
    lines += ["", f"{folder} lacks {len(lacks)} of {len(rows)}" if lacks else f"{folder} is complete"]
    print_result(
        {"complete": not lacks, "lacks": lacks, "rows": [row._asdict() for row in rows]},
        as_json,
        "\n".join(lines),
    )
    if lacks:
        click.get_current_context().exit(1)


_STATES = {True: "good", False: "lacking"}
