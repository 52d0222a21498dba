"""Commands ``fota release provenance | sbom | evidence``: what is known of a release."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_signer.cli import output_option, with_key
from fota_signer.release_cli import policy_option
from fota_wire.files import check_output, read_input, write_output
from fota_wire.host_options import (
    CARD,
    COMPONENTS,
    FORCE,
    IMAGE,
    JSON,
    LINKER_MAP,
    ROOT,
    Command,
    OneOf,
)
from fota_wire.host_print import print_result
from fota_wire.host_print import table as columns

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


@click.command("sbom", cls=Command)
@click.option("--map", "map_file", type=LINKER_MAP, required=True, help="Map of GNU ld: -Wl,-Map=FILE.")
@click.option(
    "--components",
    "components_file",
    type=COMPONENTS,
    required=True,
    help="What the firmware may be made of, in TOML; lock files are named from its folder.",
)
@click.option("--format", "form", type=OneOf("cyclonedx", "spdx"), default="cyclonedx", help="[cyclonedx]")
@click.option("--version", metavar="VERSION", help="Version of the product.  [by the policy's rule]")
@policy_option
@output_option
@FORCE
@JSON
def sbom(
    map_file: Path,
    components_file: Path,
    form: str,
    version: str | None,
    policy_file: Path,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Make an SBOM of what the linker put into the firmware: CycloneDX 1.6 or SPDX 3.0.1, as JSON.

    The same map and files give the same bytes. Exit code 1: a file is linked that no component claims, or a
    version is not that of its lock file.
    """
    from fota_signer import sbom as sboms
    from fota_signer import sbom_command

    check_output(output, force)
    bom = sbom_command.read(map_file, components_file, version, policy_file)
    write_output(output, {"cyclonedx": sboms.cyclonedx, "spdx": sboms.spdx}[form](bom), force=force)
    listed = [
        {"name": one.name, "version": one.version, "bytes": one.size, "files": one.files}
        for one in (bom.product, *bom.components)
    ]
    rows = [tuple(one.values()) for one in listed]
    lines = [columns(("COMPONENT", "VERSION", "BYTES", "FILES"), rows)]
    if bom.merged:
        said = "came of files that were optimised together: no component has them alone"
        lines += ["", f"{bom.merged} bytes {said}"]
    table = {"output": str(output), "merged_bytes": bom.merged, "components": listed}
    print_result(table, as_json, "\n".join(lines), output=output)


@click.command("evidence", cls=Command)
@click.argument("folder", metavar="RELEASE", type=CARD)
@click.option("--root", "root_file", type=ROOT, required=True, help="ROOT by whose keys it is signed.")
@click.option("--cra", is_flag=True, help="Write the technical file's table in place of it.")
@output_option
@FORCE
@JSON
def evidence(folder: Path, root_file: Path, cra: bool, output: Path, force: bool, as_json: bool) -> None:
    """Put the evidence of RELEASE into one archive (tar), with manifest and ROOT, for who audits it.

    It is held against the manifest first, and that against ROOT: exit code 1 if anything is another. The same
    release gives the same bytes.
    """
    from fota_signer import cra as technical_file
    from fota_signer import release_bundle

    check_output(output, force)
    found = release_bundle.audit(folder, root_file)
    rows = release_bundle.table(found)
    title = f"Release with manifest {found.manifest_digest}"
    content = technical_file.markdown(rows, title).encode() if cra else release_bundle.archive(found)
    write_output(output, content, force=force)
    table: dict[str, Any] = {
        "output": str(output),
        "manifest": found.manifest_digest,
        "files": sorted(found.files),
    }
    line = f"{output}: {len(found.files)} files of manifest {found.manifest_digest[:16]}"
    if cra:
        counted = {state: sum(row.state == state for row in rows) for state in technical_file.STATES}
        table |= {"rows": [row._asdict() for row in rows], "answered": counted}
        line = f"{output}: {len(rows)} rows, {counted['not answered']} of them not answered"
    print_result(table, as_json, line, output=output)
