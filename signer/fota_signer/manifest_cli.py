"""Commands ``fota manifest``: options in, one call, a line or JSON out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_signer.cli import (
    MAX_DOCUMENT,
    about,
    class_option,
    model_option,
    output_option,
    vendor_option,
    with_key,
)
from fota_wire.errors import InputError
from fota_wire.files import STREAM, alone_at, check_output, name_of, read_input, write_output
from fota_wire.host_options import FORCE, IMAGE, JSON, MANIFEST, PUBLIC_KEY, ROOT, Group, Whole
from fota_wire.host_print import lines_of, print_result
from fota_wire.host_print import table as columns
from fota_wire.release import MAX_SEQUENCE

if TYPE_CHECKING:
    from fota_signer.signing import Door


@click.group(cls=Group)
def manifest() -> None:
    """Make, sign and check the manifest of a release."""


known_options = [
    click.option("--root", "root_file", type=ROOT, help="ROOT that names the RELEASE and IMAGE keys."),
    click.option(
        "--image-key",
        "image_keys",
        type=PUBLIC_KEY,
        multiple=True,
        help="Public IMAGE key that devices know, if ROOT does not say; repeat.",
    ),
]


def _knowing(command: Any) -> Any:  # noqa: ANN401  a decorator of click's own types
    for option in reversed(known_options):
        command = option(command)
    return command


def _warn_unchecked(table: dict[str, Any]) -> None:
    from fota_signer.manifests import UNCHECKED

    if table.get("image_signature") == UNCHECKED:
        click.echo(f"fota: warning: the image's signature was {UNCHECKED}", err=True)


@manifest.command("new")
@click.argument("image_file", metavar="IMAGE", type=IMAGE)
@output_option
@click.option("--sequence", type=Whole(0, MAX_SEQUENCE), required=True, help="Higher than any before.")
@vendor_option
@class_option
@model_option
@_knowing
@FORCE
@JSON
def manifest_new(
    image_file: Path,
    output: Path,
    sequence: int,
    vendor_domain: str | None,
    class_uuid: str | None,
    model: str | None,
    root_file: Path | None,
    image_keys: tuple[Path, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Make an unsigned manifest about a signed image, which is checked as devices will."""
    from fota_signer import identity, manifests
    from fota_signer.describe import describe

    device_class = identity.device_class(class_uuid=class_uuid, domain=vendor_domain, model=model)
    known = manifests.load_known(root_file, image_keys)
    with about(image_file):
        content = read_input(image_file)
        raw = manifests.new_envelope(content, sequence=sequence, device_class=device_class, known=known)
        facts = manifests.image_facts(manifests.check_image(content, known), known)
    write_output(output, raw, force=force)
    table = {**describe(output, raw), **facts}
    print_result(table, as_json, output=output)
    _warn_unchecked(table)


@manifest.command("sign")
@click.argument("file", metavar="ENVELOPE", type=MANIFEST)
@with_key("RELEASE key")
@output_option
@click.option("--image", "image_file", type=IMAGE, help="Image file that it must be about.")
@_knowing
@FORCE
@JSON
def manifest_sign(
    file: Path,
    door: "Door",
    output: Path,
    image_file: Path | None,
    root_file: Path | None,
    image_keys: tuple[Path, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Add one signature, in place or to a copy; everybody signs apart, on their own machine.

    With --image, what is signed is checked against the image; with --root, against what devices will accept.
    """
    from fota_signer import manifests
    from fota_signer.describe import describe
    from fota_wire import suit

    raw = read_input(file, MAX_DOCUMENT)
    known = manifests.load_known(root_file, image_keys)
    image = read_input(image_file) if image_file else None
    with about(file):  # refuse before asking for a password
        facts = manifests.image_facts(manifests.check_before_signing(raw, image, known), known)
        shown = {**describe(file, raw), **facts}
    check_output(output, force, over=file)
    key = door.open("release", lambda: click.echo(lines_of(shown), err=True))
    manifests.require_release_key(key.kid, known)
    signed = suit.add_signature(raw, key.kid, key.sign)
    with alone_at(output):
        if file != STREAM:
            signed = suit.merge(read_input(file, MAX_DOCUMENT), signed)  # others may have signed by now
        write_output(output, signed, force=force, over=file)
    table = {**describe(output, signed), **facts}
    print_result(table, as_json, output=output)
    _warn_unchecked(table)


@manifest.command("merge")
@click.argument("files", metavar="ENVELOPE...", type=MANIFEST, nargs=-1, required=True)
@output_option
@FORCE
@JSON
def manifest_merge(files: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> None:
    """Put the signatures together that several people gave one manifest, each to a copy."""
    from fota_signer.describe import describe
    from fota_wire import suit

    merged = read_input(files[0], MAX_DOCUMENT)
    for file in files:
        with about(file):
            merged = suit.merge(merged, read_input(file, MAX_DOCUMENT))
    write_output(output, merged, force=force)
    print_result(describe(output, merged), as_json, output=output)


@manifest.command("status")
@click.argument("file", metavar="ENVELOPE", type=MANIFEST)
@click.option("--root", "root_file", type=ROOT, required=True, help="ROOT that names the keys.")
@click.option(
    "--release-key", "people", type=PUBLIC_KEY, multiple=True, help="Public key to call by its file; repeat."
)
@JSON
def manifest_status(file: Path, root_file: Path, people: tuple[Path, ...], as_json: bool) -> None:
    """Show who has signed, who may, and what is missing; `manifest verify` says by exit code 1 that it is."""
    from fota_signer import manifests
    from fota_wire import cose, host_crypto

    root = manifests.load_root(root_file)
    names = {cose.kid_of(host_crypto.load_public_key(path, "release")).hex(): path.name for path in people}
    with about(file):
        found = manifests.standing(read_input(file, MAX_DOCUMENT), root)
    for key in found["keys"]:
        key["file"] = names.get(key["kid"])
    print_result(found, as_json, _standing(found))


def _standing(found: dict[str, Any]) -> str:
    rows = [(key["kid"], key["state"], key["file"]) for key in found["keys"]]
    lines = [columns(("KEY", "STATE", "FILE"), rows), ""]
    lines.append(f"{found['good']} of {found['threshold']} signatures by ROOT {found['root_version']}")
    if found["evidence"]:
        lines.append(f"signed with it: evidence, SHA-256 of its index {found['evidence']}")
    if found["refused"]:
        lines.append(f"refused, however many sign: {found['refused']}")
    elif found["complete"]:
        lines.append("complete: devices take it")
    else:
        wrong = any(key["state"] == "wrong" for key in found["keys"])
        lines.append("refused: a signature is wrong" if wrong else f"{found['missing']} more needed")
    return "\n".join(lines)


@manifest.command("verify")
@click.argument("file", metavar="ENVELOPE", type=MANIFEST)
@click.option("--root", "root_file", type=ROOT, required=True, help="ROOT that names the keys.")
@click.option("--image", "image_file", type=IMAGE, help="Image file that it must be about.")
@known_options[1]
@JSON
def manifest_verify(
    file: Path, root_file: Path, image_file: Path | None, image_keys: tuple[Path, ...], as_json: bool
) -> None:
    """Check signatures (as many as ROOT asks for), revocation, minima and the image. Exit code 1: refused."""
    from fota_signer import manifests
    from fota_signer.describe import describe

    known = manifests.load_known(root_file, image_keys)
    raw = read_input(file, MAX_DOCUMENT)
    image = read_input(image_file) if image_file else None
    if not raw:
        raise InputError(f"{name_of(file)}: empty")
    with about(file):
        facts = manifests.image_facts(manifests.verify_envelope(raw, known, image), known)
    table = {**describe(file, raw), **facts, "verified": True}
    print_result(table, as_json)
    _warn_unchecked(table)
