"""``fota log``: the release log, watched by those who do not take the server's word for it."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fota_cli import log_look
from fota_cli.client import OperatorClient
from fota_cli.options import connected, connected_by_anybody
from fota_wire import host_note, host_tree, suit
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import alone_at, name_of, read_input, require_unshared, write_atomic, write_output
from fota_wire.host_note import LOG, WITNESS, PublicKey
from fota_wire.host_options import (
    CHECKPOINT,
    FILE,
    FORCE,
    JSON,
    LAST_CHECKPOINT,
    LOG_KEY,
    MANIFEST,
    WITNESS_KEY,
    Decorator,
    Group,
)
from fota_wire.host_print import date, print_result, table
from fota_wire.host_tree import leaf_hash

LOOKS = 3
_key = click.option(
    "--key", type=LOG_KEY, required=True, help="Public key of the log: what 'fota server log-key' printed."
)


def _last(said: str) -> Decorator:
    return click.option("--last", type=LAST_CHECKPOINT, required=True, help=said)


@click.group(cls=Group)
def log() -> None:
    """Check that no release was hidden, taken back or changed: the release log."""


@log.command("show")
@_key
@connected_by_anybody
def show(client: OperatorClient, key: Path, as_json: bool) -> None:
    """List what is in the log, as it was signed."""
    found = log_look.Log(client, log_look.read_key(key, LOG))
    says = found.head.says
    entries = log_look.entries_of(found.leaves())
    if as_json:
        rows = [
            {
                "version": entry.version,
                "sequence": entry.sequence,
                "class_id": entry.class_id.hex(),
                "manifest_digest": entry.manifest_digest.hex(),
                "published_at": entry.published_at,
            }
            for entry in entries
        ]
        print_result({"log": says.origin, "size": says.size, "root": says.root.hex(), "leaves": rows}, True)
        return
    click.echo(f"log {says.origin}: {says.size} leaf(s), root {says.root.hex()}")
    lines = [
        (
            position,
            entry.version,
            entry.sequence,
            entry.class_id.hex()[:8],
            entry.manifest_digest.hex()[:16],
            date(entry.published_at),
        )
        for position, entry in enumerate(entries)
    ]
    click.echo(table(("LEAF", "VERSION", "SEQUENCE", "CLASS", "MANIFEST", "PUBLISHED"), lines))


@log.command("verify")
@_key
@_last("File that keeps the newest checkpoint from one look to the next; made by the first.")
@click.option(
    "--cosigned", type=CHECKPOINT, multiple=True, help="A checkpoint that a witness has signed; repeat."
)
@click.option("--witness", "witnesses", type=LOG_KEY, multiple=True, help="Public key of a witness; repeat.")
@click.option(
    "--receipt",
    "receipts",
    type=MANIFEST,
    multiple=True,
    help="An envelope that a device was given: what it shows of the log has to be true; repeat.",
)
@connected
def verify(
    client: OperatorClient,
    key: Path,
    last: Path,
    cosigned: tuple[Path, ...],
    witnesses: tuple[Path, ...],
    receipts: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Check that the log has grown, and is the list of releases: all of them, and no other.

    Whoever looked before, or a witness who looked elsewhere, saw the same log. Exit code 1: not so.
    """
    if bool(cosigned) != bool(witnesses):
        raise click.UsageError("--cosigned and --witness go together")
    log_key = log_look.read_key(key, LOG)
    trusted = [log_look.read_key(path, WITNESS) for path in witnesses]
    seen = [(name_of(path), log_look.read_head(path, log_key)) for path in cosigned]
    with alone_at(last):
        before = log_look.last_head(last, log_key)
        listed, found, leaves = _look(client, log_key)
        nodes, says = host_tree.nodes_over([leaf_hash(raw) for raw in leaves]), found.head.says
        if before:
            log_look.require_follows(nodes, says, before.says, "at the last look")
        for name, head in seen:
            log_look.require_witnessed(nodes, says, head, trusted, name)
        for path in receipts:
            log_look.require_shown(nodes, says, path)
        log_look.require_listed(leaves, listed)
        write_atomic(last, found.head.raw)
    grown = says.size - (before.says.size if before else 0)
    told = {"log": says.origin, "size": says.size, "root": says.root.hex(), "new": grown}
    print_result(
        told, as_json, f"log {says.origin}: {says.size} release(s), {grown} new; none hidden, none changed"
    )


def _look(client: OperatorClient, key: PublicKey) -> tuple[list[dict[str, Any]], log_look.Log, list[bytes]]:
    """Return the list of releases and the log of one moment."""
    for _ in range(LOOKS):
        listed = list(client.pages("releases", "releases"))
        found = log_look.Log(client, key)
        leaves = found.leaves()
        if not log_look.unlisted(leaves, listed):
            break  # else one was published in between, or is hidden: it will be at each look
    return listed, found, leaves


@log.command("witness")
@_key
@_last("File that keeps the newest checkpoint that was signed, for everybody; made by the first look.")
@click.option("--witness-key", type=WITNESS_KEY, required=True, help="Of 'fota log new-witness'.")
@connected_by_anybody
def witness(client: OperatorClient, key: Path, last: Path, witness_key: Path, as_json: bool) -> None:
    """Sign the log's checkpoint if the log goes on from the one that was signed before.

    Run it by a timer, away from the server, and hand out the file: 'fota log verify --cosigned'.
    """
    log_key = log_look.read_key(key, LOG)
    require_unshared(witness_key, "key of a witness")
    signer = host_note.read_signer(read_input(witness_key, 4096), WITNESS, name_of(witness_key))
    with alone_at(last):
        before = log_look.last_head(last, log_key)
        found = log_look.Log(client, log_key)
        nodes, says = found.by_tiles(), found.head.says
        if before:
            if before.note.of(signer.public) is None:
                raise InputError(f"{last}: not signed by {signer.name}: name a file of its own")
            log_look.require_follows(nodes, says, before.says, "at the last look")
        write_atomic(last, host_note.cosign(found.head.raw, signer, int(time.time())))
    told = {"log": says.origin, "size": says.size, "root": says.root.hex(), "witness": signer.name}
    print_result(told, as_json, f"{signer.name} signed {says.origin}: {says.size} leaf(s), in {last}")


@log.command("receipt")
@click.argument("version")
@click.argument("manifest", type=MANIFEST)
@click.option("-o", "--output", type=FILE, required=True, help="File for the envelope with its RECEIPT.")
@FORCE
@connected
def receipt(
    client: OperatorClient, version: str, manifest: Path, output: Path, force: bool, as_json: bool
) -> None:
    """Put the proof that release VERSION is in the log into its envelope MANIFEST, for a card or folder.

    Devices whose ROOT names LOG keys take no other, on the spot neither; from the server it comes to them so.
    """
    item = client.get(f"releases/{quote(version, safe='')}")
    envelope = suit.without_receipt(read_input(manifest, suit.MAX_ENVELOPE))
    if suit.unsafe_read_manifest(envelope).manifest_digest.hex() != item["manifest_digest"]:
        raise VerifyError(f"{name_of(manifest)}: not the manifest of release {version}", "log-release")
    if item["receipt"] is None:
        raise VerifyError(
            f"release {version} has no RECEIPT: its server has no LOG key (receipt_key)", "receipt-key"
        )
    write_output(output, suit.with_receipt(envelope, bytes.fromhex(item["receipt"])), force=force)
    told = {"version": item["version"], "manifest_digest": item["manifest_digest"]}
    print_result(told, as_json, f"envelope of {version} with its RECEIPT: {output}", output=output)


@log.command("new-witness")
@click.argument("name")
@click.option("-o", "--output", type=FILE, required=True, help="File for the private key, mode 0600.")
@FORCE
@JSON
def new_witness(name: str, output: Path, force: bool, as_json: bool) -> None:
    """Make the key of a witness called NAME, like witness.example.com/fota, and print its public half."""
    signer = host_note.new_signer(name, WITNESS)
    write_output(output, signer.to_text(), force=force, secret=True)
    print_result({"key": str(signer.public)}, as_json, str(signer.public), output=output)
