"""SBOMs of releases on the way to the server, and which releases and devices hold a component."""

from pathlib import Path
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_wire import host_evidence
from fota_wire.errors import InputError
from fota_wire.files import read_input
from fota_wire.host_print import print_result, table

MAX_SBOM = 1 << 20
INDEX = "SHA256SUMS"


def read_sbom(folder: Path) -> dict[str, object]:
    """Return what the server takes of a folder of evidence: its index, and the first SBOM that is in JSON.

    Raises:
        InputError: there is no index, no SBOM, or one that is too long or no text.
    """
    index = read_input(folder / INDEX, host_evidence.LIMIT)
    pieces = [piece for piece in host_evidence.read_index(index) if piece.kind == "sbom"]
    if not pieces:
        raise InputError(f"{folder}: its index names no SBOM")
    path = folder / pieces[0].path
    try:
        return {"index": index.decode(), "sbom": read_input(path, MAX_SBOM).decode()}
    except ValueError as exc:
        raise InputError(f"{path}: no SBOM in JSON") from exc


def list_holding(client: OperatorClient, name: str, below: str | None, as_json: bool) -> None:
    """Print which releases hold a component, how many devices run each, and what nobody knows."""
    listed = list(client.pages("components", "releases", component=name, below=below))
    unknown: dict[str, Any] = client.get("components", component=name, below=below, limit="1")["unknown"]
    devices = sum(one["devices"] for one in listed)
    if as_json:
        print_result({"releases": listed, "devices": devices, "unknown": unknown}, True)
        return
    rows = [
        (
            one["version"],
            one["class_id"][:8],
            one["manifest_digest"][:16],
            ", ".join(version or "not said" for version in one["components"]),
            one["devices"],
        )
        for one in listed
    ]
    click.echo(table(("VERSION", "CLASS", "MANIFEST", name.upper(), "DEVICES"), rows))
    click.echo(f"\n{len(listed)} releases, run by {devices} devices")
    if any(unknown.values()):
        click.echo(
            f"not known: {unknown['releases']} releases have no SBOM here, {unknown['devices']} devices run"
            " one of these, or what is no release, or have not said what"
        )
