"""``fota release`` and ``fota device``: what can be rolled out, and to whom."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fota_cli import net
from fota_cli.attributes import attributes_text, list_attributes, set_attributes
from fota_cli.bulk import export_devices, import_devices
from fota_cli.client import OperatorClient
from fota_cli.components import list_holding, read_sbom
from fota_cli.device_keys import attested_text, certify, key_text, renew, retire, rotate
from fota_cli.options import connected, filter_option, yes_option
from fota_cli.refused import refusal_text, refused
from fota_signer import release_cli, release_evidence_cli
from fota_wire.checkin import MAX_CAMPAIGN
from fota_wire.errors import VerifyError
from fota_wire.files import read_input
from fota_wire.host_options import ATTESTATION, CAMPAIGN, FOLDER, IMAGE, MANIFEST, ROOT, DeviceId, Group
from fota_wire.host_print import ago, date, lines_of, print_result, table

PROGRESS_FROM = 128 << 10
MAX_ATTESTATION = 65536
CLOSED = ("superseded", "cancelled", "withdrawn", "gone")


# Releases


@click.group(cls=Group)
def release() -> None:
    """Build, check, publish, list and withdraw releases."""


for _of_release in (
    release_cli.image,
    release_cli.build,
    release_cli.check,
    release_evidence_cli.provenance,
    release_evidence_cli.sbom,
    release_evidence_cli.evidence,
):
    release.add_command(_of_release)


@release.command("publish")
@click.argument("image", type=IMAGE)
@click.argument("envelope", type=MANIFEST)
@click.option("--fits", metavar="REVISION", multiple=True, help="Hardware that it fits; repeat [all].")
@click.option("--evidence", type=FOLDER, help="The release's folder of evidence: its SBOM comes along.")
@click.option("--rehearsal", type=ATTESTATION, help="Attestation of 'fota rehearse', to hand in as well.")
@connected
def publish(
    client: OperatorClient,
    image: Path,
    envelope: Path,
    fits: tuple[str, ...],
    evidence: Path | None,
    rehearsal: Path | None,
    as_json: bool,
) -> None:
    """Upload a signed IMAGE and the signed ENVELOPE of its manifest; the server checks both.

    With --evidence the server can say later which releases, and devices, hold a component.
    """
    sbom = None if evidence is None else read_sbom(evidence)
    data, manifest = read_input(image), read_input(envelope, 65536)
    attestation = None if rehearsal is None else read_input(rehearsal, MAX_ATTESTATION)
    digest = hashlib.sha256(data).hexdigest()
    # Its uri names the file digest in hex; the server checks all the rest.
    if b"payload/" in manifest and digest.encode() not in manifest:
        raise VerifyError(f"{envelope} is not about {image}: it names another file digest")
    if len(data) > PROGRESS_FROM and net.live():
        with click.progressbar(length=len(data), label=f"uploading {image.name}", file=sys.stderr) as bar:
            client.upload(f"artifacts/{digest}", data, bar.update)
    else:
        client.upload(f"artifacts/{digest}", data, lambda _count: None)
    query = "&".join(f"hardware={quote(one, safe='')}" for one in fits)
    answer = client.post(f"releases?{query}" if fits else "releases", manifest)
    if sbom is not None:
        path = f"releases/{answer['manifest_digest']}/sbom"
        answer |= {"components": client.post(path, sbom, shown_by="fota release list")["components"]}
    if attestation is not None:
        _hand_in(client, answer["manifest_digest"], attestation)
    if as_json:
        print_result(answer, True)
        return
    said = "published" if answer["created"] else "is published already:"
    click.echo(
        f"{said} {answer['version']} (sequence {answer['sequence']}, security counter {answer['sec_cnt']})"
    )
    if sbom is not None:
        click.echo(f"its SBOM lists {answer['components']} components")
    if answer.get("image_signature") == "unchecked":
        click.echo(
            "fota: warning: the server knows no IMAGE key, and has not checked the image's signature:"
            " name the keys in ROOT (fota root new --image-key)",
            err=True,
        )
    for warning in answer.get("warnings", ()):
        click.echo(f"fota: warning: {warning}", err=True)


@release.command("fits")
@click.argument("version")
@click.argument("revisions", metavar="REVISION...", nargs=-1)
@click.option("--all", "fits_all", is_flag=True, help="It fits all revisions.")
@connected
def set_fits(
    client: OperatorClient, version: str, revisions: tuple[str, ...], fits_all: bool, as_json: bool
) -> None:
    """Have release VERSION be for devices of these hardware REVISIONs alone (attribute 'hardware').

    Plans and rollouts leave the others out, and those of which it is not known. What is planned stays.
    """
    if fits_all == bool(revisions):
        raise click.UsageError("name the revisions that it fits, or say --all")
    path = f"releases/{quote(version, safe='')}/hardware"
    answer = client.post(path, {"hardware": list(revisions)}, shown_by="fota release list")
    fits = ", ".join(answer["hardware"]) or "all"
    print_result(answer, as_json, f"release {answer['version']} fits hardware {fits}")


@release.command("campaign")
@click.argument("version")
@click.argument("file", type=CAMPAIGN)
@connected
def set_campaign(client: OperatorClient, version: str, file: Path, as_json: bool) -> None:
    """Hand out FILE, of 'fota campaign', with release VERSION, in place of the one before.

    Plans leave out whom it does not reach; devices whose ROOT names CAMPAIGN keys take nothing without one.
    """
    path = f"releases/{quote(version, safe='')}/campaign"
    answer = client.post(path, read_input(file, MAX_CAMPAIGN), shown_by="fota release list")
    print_result(
        answer, as_json, f"release {answer['version']} has a CAMPAIGN of {len(answer['waves'])} wave(s)"
    )


@release.command("rehearsal")
@click.argument("version")
@click.argument("file", type=ATTESTATION)
@connected
def set_rehearsal(client: OperatorClient, version: str, file: Path, as_json: bool) -> None:
    """Hand in FILE, the attestation of 'fota rehearse', for release VERSION, in place of the one before.

    While 'fota policy rehearsal' names keys, no release is ordered without one of them.
    """
    answer = _hand_in(client, version, read_input(file, MAX_ATTESTATION))
    said = "verified" if answer["verified"] else "kept; no policy says whose word counts"
    print_result(answer, as_json, f"release {answer['version']}: attestation {said}")


def _hand_in(client: OperatorClient, version: str, raw: bytes) -> Any:  # noqa: ANN401  JSON
    return client.post(f"releases/{quote(version, safe='')}/rehearsal", raw, shown_by="fota release list")


@release.command("list")
@click.option("--component", metavar="NAME", help="Those that hold this component, by their SBOMs.")
@click.option("--below", metavar="VERSION", help="With --component: of a version below this one.")
@connected
def list_releases(client: OperatorClient, component: str | None, below: str | None, as_json: bool) -> None:
    """List the releases that devices can be given, or those that hold a component, and who runs them."""
    if component is not None:
        list_holding(client, component, below, as_json)
        return
    if below is not None:
        raise click.UsageError("--below goes with --component")
    listed = list(client.pages("releases", "releases"))
    if as_json:
        print_result({"releases": listed}, True)
        return
    rows = [
        (
            item["version"],
            item["sequence"],
            item["sec_cnt"],
            item["file_size"],
            item["class_id"][:8],
            item["manifest_digest"][:16],
            date(item["published_at"]),
            item["published_by"],
            ", ".join(item["hardware"]) or None,
            _campaign_of(item),
            item["barred"],
        )
        for item in listed
    ]
    headings = (
        "VERSION",
        "SEQUENCE",
        "SEC_CNT",
        "BYTES",
        "CLASS",
        "MANIFEST",
        "PUBLISHED",
        "BY",
        "FITS",
        "CAMPAIGN",
        "BARRED",
    )
    click.echo(table(headings, rows))


def _campaign_of(item: dict[str, Any]) -> str | None:
    """Return what the table says of a release's CAMPAIGN; None: ROOT asks for none."""
    waves = item["campaign"]
    return None if waves is None else f"{len(waves)} wave(s)" if waves else "missing"


@release.command("withdraw")
@click.argument("version")
@yes_option
@connected
def withdraw(client: OperatorClient, version: str, yes: bool, as_json: bool) -> None:
    """Offer release VERSION to no device any more; what runs it stays, and rollouts of it end.

    'fota release restore VERSION' takes it back. VERSION may be the start of a manifest digest.
    """
    if not yes and sys.stdin.isatty():
        click.confirm(f"withdraw release {version}? Rollouts of it end", abort=True, err=True)
    answer = client.post(f"releases/{quote(version, safe='')}/withdraw", shown_by="fota release list")
    print_result(
        answer, as_json, f"release {answer['version']} is withdrawn: no device is offered it any more"
    )


@release.command("restore")
@click.argument("version")
@connected
def restore(client: OperatorClient, version: str, as_json: bool) -> None:
    """Take the withdrawal of release VERSION back. Rollouts that it ended stay ended."""
    answer = client.post(f"releases/{quote(version, safe='')}/restore", shown_by="fota release list")
    print_result(answer, as_json, f"release {answer['version']} can be rolled out again")


@release.command("root")
@click.argument("document", type=ROOT)
@click.option("--force", is_flag=True, help="Publish it though the server names what would be lost.")
@connected
def add_root(client: OperatorClient, document: Path, force: bool, as_json: bool) -> None:
    """Hand the next ROOT DOCUMENT to the server, for all devices; no step is ever taken back.

    The server refuses one that would lose devices: a counter out of their reach, no release left that they
    may install, servers or CAs under which they would not find this server. Exit code 1: refused.
    """
    answer = client.post("roots?force=1" if force else "roots", read_input(document, 65536))
    print_result(
        answer, as_json, f"ROOT {answer['version']} is in force; devices take it at their next check-in"
    )


# Devices


@click.group(cls=Group)
def device() -> None:
    """List, show, admit, revoke and retire devices; renew their keys and certificates."""


@device.command("list")
@click.option("--group", "-g", metavar="NAME", help="Only devices of this group.")
@filter_option
@connected
def list_devices(client: OperatorClient, group: str | None, text: str | None, as_json: bool) -> None:
    """List devices: installed, running and confirmed apart."""
    devices = list(client.pages("devices", "devices", group=group, filter=text))
    if as_json:
        print_result({"devices": devices}, True)
        return
    rows = [
        (
            item["id"],
            _version(item["installed"]),
            _version(item["running"]),
            _version(item["confirmed"]),
            _wanted_version(item["wanted"]),
            item["status"],
            ago(item["last_seen"]),
            ", ".join(item["groups"]) or None,
        )
        for item in devices
    ]
    headings = ("DEVICE", "INSTALLED", "RUNNING", "CONFIRMED", "WANTED", "STATUS", "SEEN", "GROUPS")
    click.echo(table(headings, rows))


@device.command("show")
@click.argument("device_id", metavar="ID", type=DeviceId())
@connected
def show_device(client: OperatorClient, device_id: str, as_json: bool) -> None:
    """Show what is known of device ID, and what it told."""
    answer = client.get(f"devices/{quote(device_id, safe='')}")
    print_result(answer, as_json, lines_of(_facts(answer)))


def _facts(answer: dict[str, Any]) -> dict[str, object]:
    """Return what is known of a device, a line or lines for each name."""
    facts: dict[str, object] = {"device": f"{answer['id']} ({answer['status']})"}
    if answer["retired"]:
        retired = answer["retired"]
        why = f": {retired['reason']}" if retired["reason"] else ""
        facts["retired"] = f"{date(retired['at'])} by {retired['by']}{why}"
    if answer["ddi"]:
        facts |= _ddi_facts(answer["ddi"])
    facts |= {
        "installed": _version(answer["installed"]),
        "running": _running(answer["running"], answer["ddi"] is not None),
        "confirmed": _version(answer["confirmed"]),
        "wanted": _wanted(answer["wanted"]),
        "floor": answer["floor"],
        "attested": attested_text(answer["attested"]),
        "ROOT": answer["root_version"],
        "seen": f"{ago(answer['last_seen']) or 'never'}, last report {ago(answer['report_at']) or 'never'}",
        "key": key_text(answer["key"]),
        "groups": ", ".join(answer["groups"]) or None,
    }
    published = [
        f"{item['topic']} {json.dumps(item['value'])}, {ago(item['at'])}" for item in answer["telemetry"]
    ]
    told = [f"{date(item['at'])} {item['code']} {item['detail']}" for item in answer["events"]]
    more = {
        "attributes": attributes_text(answer["attributes"]),
        "report": answer["refused_report"],
        "refused": [refusal_text(item) for item in answer["refusals"]],
        "published": published,
        "event": told,
    }
    return facts | {name: value for name, value in more.items() if value}


def _ddi_facts(ddi: dict[str, Any]) -> dict[str, object]:
    """Return what a device says that proves nothing."""
    said = f"{ddi['said']['version']}, {ago(ddi['said']['at'])}" if ddi["said"] else "-"
    told = [f"{name} {value}" for name, value in ddi["attributes"].items()]
    facts: dict[str, object] = {"DDI": f"{ddi['controller']}, by its {ddi['by']}", "says it runs": said}
    return facts | ({"says of itself": told} if told else {})


def _running(running: dict[str, Any] | None, by_ddi: bool) -> str:
    if running is None and by_ddi:
        return "- (a DDI device cannot prove what it runs)"
    if running is None:
        return "- (no verified report yet)"
    unknown = "" if running["release"] else ", not a published release"
    return f"{running['version']} in slot {running['slot']}, {running['state']}{unknown}"


def _wanted(wanted: dict[str, Any] | None) -> str | None:
    if wanted is None:
        return None
    reason = f": {wanted['reason']}" if wanted["reason"] else ""
    paused = ", paused" if wanted["paused"] else ""
    text = f"{wanted['version']} by rollout {wanted['rollout']}, {wanted['state']}{paused}{reason}"
    return f"- (was {text})" if wanted["state"] in CLOSED else text


def _wanted_version(wanted: dict[str, Any] | None) -> str | None:
    """Return what is still wanted of a device: not what was taken back."""
    return None if wanted is None or wanted["state"] in CLOSED else str(wanted["version"])


def _version(part: dict[str, Any] | None) -> str | None:
    if part is None:
        return None
    return str(part["version"] or part["manifest_digest"][:16])


@device.command("revoke")
@click.argument("device_id", metavar="ID", type=DeviceId())
@connected
def revoke(client: OperatorClient, device_id: str, as_json: bool) -> None:
    """Shut device ID out: it gets nothing from now on."""
    _tell_status(client.post(f"devices/{quote(device_id, safe='')}/revoke"), as_json)


@device.command("admit")
@click.argument("device_id", metavar="ID", type=DeviceId())
@connected
def admit(client: OperatorClient, device_id: str, as_json: bool) -> None:
    """Let device ID in, before its first check-in or after it was revoked or got a new key."""
    _tell_status(client.post(f"devices/{quote(device_id, safe='')}/admit"), as_json)


for _command in (retire, rotate, renew, certify, refused):
    device.add_command(_command)
for _of_many in (set_attributes, list_attributes, import_devices, export_devices):
    device.add_command(_of_many)


def _tell_status(answer: dict[str, Any], as_json: bool) -> None:
    print_result(answer, as_json, f"device {answer['id']}: {answer['status']}")
