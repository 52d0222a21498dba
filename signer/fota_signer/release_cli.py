"""Commands ``fota release image | build | check``: a release by the policy in ``fota.toml``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_signer.cli import with_key
from fota_wire.files import check_output, write_output
from fota_wire.host_options import CARD, FILE, FOLDER, FORCE, IMAGE, JSON, RELEASE_POLICY, Command
from fota_wire.host_print import print_result
from fota_wire.host_print import table as columns
from fota_wire.host_values import UsageError
from fota_wire.version import format_version

if TYPE_CHECKING:
    from fota_signer.release_named import Named
    from fota_signer.signing import Door

policy_option = click.option(
    "--policy",
    "policy_file",
    type=RELEASE_POLICY,
    default="fota.toml",
    help="Release policy (docs/releases.md); its files are named from its folder.  [fota.toml]",
)


@click.command("image", cls=Command)
@policy_option
@click.option("-o", "--output", type=FILE, required=True, help="File for the signed image.")
@with_key("IMAGE key, in place of the policy's", required=False)
@FORCE
@JSON
def image(policy_file: Path, door: "Door", output: Path, force: bool, as_json: bool) -> None:
    """Make the signed image of this commit alone, for evidence about it; `build --image` goes on with it.

    Exit code 1: a build that the policy refuses.
    """
    from fota_signer import release_image, release_named, release_rules

    named = release_named.read_policy(policy_file)
    rules = release_rules.ruled(named.policy, named.folder)
    check_output(output, force)
    made = release_image.sign(named, rules, _door(door, named, policy_file))
    write_output(output, made.data, force=force)
    table = {"output": str(output), "version": format_version(made.image.version), "size": made.image.size}
    table |= {"sha256": made.image.file_digest.hex(), "notes": made.notes}
    line = f"{output}: {table['version']}, {table['size']} bytes, file digest {table['sha256']}"
    print_result(table, as_json, "\n".join([line, *made.notes]), output=output)


@click.command("build", cls=Command)
@policy_option
@click.option("-o", "--output", type=FOLDER, required=True, help="New folder for the release.")
@click.option("--image", "image_file", type=IMAGE, help="Take this image, if these sources come to it.")
@with_key("IMAGE key, in place of the policy's", required=False)
@JSON
def build(policy_file: Path, door: "Door", output: Path, image_file: Path | None, as_json: bool) -> None:
    """Make a release of this commit: image, manifest, update package and description, by fota.toml.

    All of it or nothing. The same commit, tools and keys give the same bytes; where the same release is
    there already, nothing is done. Exit code 1: a build that the policy refuses.
    """
    from fota_signer import release_build, release_named

    named, typed = release_named.read_policy(policy_file), [door.key, door.prepare, door.attach]
    if image_file is None:
        door = _door(door, named, policy_file)
    elif any(word is not None for word in typed):
        raise UsageError("--image is signed already: leave --key, --prepare and --attach out")
    release_build.require_free(output)
    built = release_build.build(named, door, door.allow_example_keys, image_file)
    is_new = release_build.write(built, output)
    table: dict[str, Any] = {"output": str(output), "created": is_new, **built.description}
    told = built.description
    line = (
        f"{output}: {told['version']}, sequence {told['sequence']}, security counter"
        f" {told['security_counter']}, {told['image']['size']} bytes, file digest"
        f" {told['image']['sha256'][:16]}{'' if is_new else '; was there already'}"
    )
    print_result({**table, "notes": built.notes}, as_json, "\n".join([line, *built.notes]))


def _door(door: "Door", named: "Named", policy_file: Path) -> "Door":
    """Return the way to the IMAGE key: what was typed, else the policy's."""
    place: Any = door.key
    if place is not None:
        return door
    if named.policy.image_key is None:
        raise UsageError(f"which IMAGE key? pass --key, or write keys.image in {policy_file}")
    return door._replace(key=named.key(named.policy.image_key, f"{policy_file}: keys.image"))


@click.command("check", cls=Command)
@click.argument("folder", metavar="RELEASE", type=CARD)
@policy_option
@JSON
def check(folder: Path, policy_file: Path, as_json: bool) -> None:
    """Show what the release in the folder RELEASE lacks of what fota.toml asks for.

    Exit code 0: nothing; 1: something. The sources lie at the commit that it was built of.
    """
    from fota_signer import release_check, release_named

    rows = release_check.check(release_named.read_policy(policy_file), folder)
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
