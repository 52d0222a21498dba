"""Commands of the engineer on call: releases, rollouts, rollbacks, devices, groups."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fota_cli.client import OperatorClient
from fota_cli.device_keys import attested_text, certify, key_text, renew, retire, rotate
from fota_cli.options import connected, print_json, scope, scope_options, wait_options
from fota_cli.progress import conclude, follow, progress_line
from fota_cli.refused import refusal_line, refused
from fota_cli.table import ago, date, table
from fota_wire.errors import VerifyError
from fota_wire.files import read_input
from fota_wire.host_options import FILE, Whole

PROGRESS_FROM = 128 << 10


# Releases


@click.group()
def release() -> None:
    """Publish and list releases."""


@release.command("publish")
@click.argument("image", type=FILE)
@click.argument("envelope", type=FILE)
@connected
def publish(client: OperatorClient, image: Path, envelope: Path, as_json: bool) -> None:
    """Upload a signed IMAGE and the signed ENVELOPE of its manifest; the server checks both."""
    data, manifest = read_input(image), read_input(envelope, 65536)
    digest = hashlib.sha256(data).hexdigest()
    # Its uri names the file digest in hex; the server checks all the rest.
    if b"payload/" in manifest and digest.encode() not in manifest:
        raise VerifyError(f"{envelope} is not about {image}: it names another file digest")
    if len(data) > PROGRESS_FROM and sys.stderr.isatty():
        with click.progressbar(length=len(data), label=f"uploading {image.name}", file=sys.stderr) as bar:
            client.upload(f"artifacts/{digest}", data, bar.update)
    else:
        client.upload(f"artifacts/{digest}", data, lambda _count: None)
    answer = client.post("releases", manifest)
    if as_json:
        print_json(answer)
        return
    said = "published" if answer["created"] else "is published already:"
    click.echo(
        f"{said} {answer['version']} (sequence {answer['sequence']}, security counter {answer['sec_cnt']})"
    )
    if answer.get("image_signature") == "unchecked":
        click.echo(
            "fota: warning: the server knows no IMAGE key, and has not checked the image's signature:"
            " name the keys in ROOT (fota root new --image-key)",
            err=True,
        )


@release.command("list")
@connected
def list_releases(client: OperatorClient, as_json: bool) -> None:
    """List the releases that devices can be given."""
    answer = client.get("releases")
    if as_json:
        print_json(answer)
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
        )
        for item in answer["releases"]
    ]
    click.echo(
        table(("VERSION", "SEQUENCE", "SEC_CNT", "BYTES", "CLASS", "MANIFEST", "PUBLISHED", "BY"), rows)
    )


@release.command("root")
@click.argument("document", type=FILE)
@connected
def add_root(client: OperatorClient, document: Path, as_json: bool) -> None:
    """Hand the next ROOT DOCUMENT to the server, for all devices."""
    answer = client.post("roots", read_input(document, 65536))
    if as_json:
        print_json(answer)
    else:
        click.echo(f"ROOT {answer['version']} is in force; devices take it at their next check-in")


# Rollouts


@click.group()
def rollout() -> None:
    """Start, watch, pause and resume rollouts."""


@rollout.command("start")
@click.argument("version")
@scope_options
@wait_options
@connected
def start(
    client: OperatorClient,
    version: str,
    device: str | None,
    group: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Have a device or a group run release VERSION."""
    answer = client.post("rollouts", {"version": version, **scope(device, group)})
    _started(client, answer, wait, timeout, as_json)


@click.command()
@scope_options
@click.option(
    "--to", "version", metavar="VERSION", help="Release to go back to; else the one confirmed before."
)
@wait_options
@connected
def rollback(
    client: OperatorClient,
    device: str | None,
    group: str | None,
    version: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Send a device or a group back to an earlier release."""
    body = scope(device, group) | ({"to": version} if version else {})
    _started(client, client.post("rollbacks", body), wait, timeout, as_json)


def _started(
    client: OperatorClient, answer: dict[str, Any], wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    if not as_json:
        versions = ", ".join(answer["versions"])
        click.echo(f"{answer['kind']} {answer['id']}: {versions} for {answer['total']} device(s)")
        for device_id, reason in answer["refused"].items():
            click.echo(f"left out: device {device_id}: {reason}", err=True)
    if wait:
        answer = follow(client, answer["id"], timeout_s) | {"refused": answer["refused"]}
    if as_json:
        print_json(answer)
    if wait:
        conclude(answer)
    elif not as_json:
        click.echo(f"follow it with 'fota rollout show {answer['id']}'")


@rollout.command("show")
@click.argument("number", type=Whole())
@connected
def show_rollout(client: OperatorClient, number: int, as_json: bool) -> None:
    """Show rollout NUMBER with its devices."""
    answer = client.get(f"rollouts/{number}")
    if as_json:
        print_json(answer)
        return
    click.echo(f"{answer['kind']} {number} of {', '.join(answer['versions'])} for {answer['scope']}")
    click.echo(f"started {date(answer['created_at'])} by {answer['created_by']}")
    click.echo(progress_line(answer))
    rows = [
        (item["device_id"], item["version"], item["state"], ago(item["updated_at"]), item["reason"])
        for item in answer["devices"]
    ]
    click.echo(table(("DEVICE", "VERSION", "STATE", "SINCE", "REASON"), rows))


@rollout.command("list")
@connected
def list_rollouts(client: OperatorClient, as_json: bool) -> None:
    """List all rollouts and rollbacks, newest first."""
    answer = client.get("rollouts")
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            item["id"],
            item["kind"],
            ", ".join(item["versions"]),
            item["scope"],
            item["status"],
            f"{item['progress']['confirmed']}/{item['total']}",
            date(item["created_at"]),
        )
        for item in answer["rollouts"]
    ]
    click.echo(table(("NUMBER", "KIND", "VERSION", "SCOPE", "STATUS", "CONFIRMED", "STARTED"), rows))


@rollout.command("pause")
@click.argument("number", type=Whole())
@connected
def pause(client: OperatorClient, number: int, as_json: bool) -> None:
    """Offer rollout NUMBER to no further device."""
    _set_paused(client, number, "pause", as_json)


@rollout.command("resume")
@click.argument("number", type=Whole())
@connected
def resume(client: OperatorClient, number: int, as_json: bool) -> None:
    """Let rollout NUMBER go on."""
    _set_paused(client, number, "resume", as_json)


def _set_paused(client: OperatorClient, number: int, verb: str, as_json: bool) -> None:
    answer = client.post(f"rollouts/{number}/{verb}")
    if as_json:
        print_json(answer)
    else:
        click.echo(f"rollout {number}: {progress_line(answer)}")


# Devices


@click.group()
def device() -> None:
    """List, show, admit, revoke and retire devices; renew their keys and certificates."""


@device.command("list")
@click.option("--group", "-g", metavar="NAME", help="Only devices of this group.")
@connected
def list_devices(client: OperatorClient, group: str | None, as_json: bool) -> None:
    """List devices: installed, running and confirmed apart."""
    devices: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = client.get("devices", group=group, after=after)
        devices += page["devices"]
        after = page["next"]
        if after is None:
            break
    if as_json:
        print_json({"devices": devices})
        return
    rows = [
        (
            item["id"],
            _version(item["installed"]),
            _version(item["running"]),
            _version(item["confirmed"]),
            (item["wanted"] or {}).get("version"),
            item["status"],
            ago(item["last_seen"]),
            ", ".join(item["groups"]) or None,
        )
        for item in devices
    ]
    headings = ("DEVICE", "INSTALLED", "RUNNING", "CONFIRMED", "WANTED", "STATUS", "SEEN", "GROUPS")
    click.echo(table(headings, rows))


@device.command("show")
@click.argument("device_id", metavar="ID")
@connected
def show_device(client: OperatorClient, device_id: str, as_json: bool) -> None:
    """Show what is known of device ID, and what it told."""
    answer = client.get(f"devices/{quote(device_id, safe='')}")
    if as_json:
        print_json(answer)
        return
    wanted, running = answer["wanted"], answer["running"]
    click.echo(f"device     {answer['id']} ({answer['status']})")
    if answer["retired"]:
        retired = answer["retired"]
        why = f": {retired['reason']}" if retired["reason"] else ""
        click.echo(f"retired    {date(retired['at'])} by {retired['by']}{why}")
    click.echo(f"installed  {_version(answer['installed']) or '-'}")
    if running:
        unknown = "" if running["release"] else ", not a published release"
        click.echo(f"running    {running['version']} in slot {running['slot']}, {running['state']}{unknown}")
    else:
        click.echo("running    - (no verified report yet)")
    click.echo(f"confirmed  {_version(answer['confirmed']) or '-'}")
    if wanted:
        reason = f": {wanted['reason']}" if wanted["reason"] else ""
        paused = ", paused" if wanted["paused"] else ""
        where = f"by rollout {wanted['rollout']}, {wanted['state']}{paused}{reason}"
        click.echo(f"wanted     {wanted['version']} {where}")
    else:
        click.echo("wanted     -")
    click.echo(f"floor      {_or_dash(answer['floor'])}")
    click.echo(f"attested   {attested_text(answer['attested'])}")
    click.echo(f"ROOT       {_or_dash(answer['root_version'])}")
    click.echo(
        f"seen       {ago(answer['last_seen']) or 'never'}, last report {ago(answer['report_at']) or 'never'}"
    )
    click.echo(f"key        {key_text(answer['key'])}")
    click.echo(f"groups     {', '.join(answer['groups']) or '-'}")
    if answer["refused_report"]:
        click.echo(f"report     {answer['refused_report']}")
    for item in answer["refusals"]:
        click.echo(refusal_line(item))
    for item in answer["telemetry"]:
        click.echo(f"published  {item['topic']} {json.dumps(item['value'])}, {ago(item['at'])}")
    for told in answer["events"]:
        click.echo(f"event      {date(told['at'])} {told['code']} {told['detail']}")


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _version(part: dict[str, Any] | None) -> str | None:
    if part is None:
        return None
    return str(part["version"] or part["manifest_digest"][:16])


@device.command("revoke")
@click.argument("device_id", metavar="ID")
@connected
def revoke(client: OperatorClient, device_id: str, as_json: bool) -> None:
    """Shut device ID out: it gets nothing from now on."""
    _tell_status(client.post(f"devices/{quote(device_id, safe='')}/revoke"), as_json)


@device.command("admit")
@click.argument("device_id", metavar="ID")
@connected
def admit(client: OperatorClient, device_id: str, as_json: bool) -> None:
    """Let device ID in, before its first check-in or after it was revoked or got a new key."""
    _tell_status(client.post(f"devices/{quote(device_id, safe='')}/admit"), as_json)


for _command in (retire, rotate, renew, certify, refused):
    device.add_command(_command)


def _tell_status(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(f"device {answer['id']}: {answer['status']}")


# Groups


@click.group()
def group() -> None:
    """Make groups of devices."""


@group.command("create")
@click.argument("name")
@connected
def create_group(client: OperatorClient, name: str, as_json: bool) -> None:
    """Create group NAME."""
    answer = client.post("groups", {"name": name})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"group {name} {'created' if answer['created'] else 'exists already'}")


@group.command("add")
@click.argument("name")
@click.argument("device_ids", metavar="ID...", nargs=-1, required=True)
@connected
def add_to_group(client: OperatorClient, name: str, device_ids: tuple[str, ...], as_json: bool) -> None:
    """Add devices to group NAME."""
    answer = client.post(f"groups/{quote(name, safe='')}/devices", {"devices": list(device_ids)})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"group {name}: {answer['added']} device(s) added")


@group.command("list")
@connected
def list_groups(client: OperatorClient, as_json: bool) -> None:
    """List groups."""
    answer = client.get("groups")
    if as_json:
        print_json(answer)
        return
    rows = [(item["name"], item["devices"], date(item["created_at"])) for item in answer["groups"]]
    click.echo(table(("GROUP", "DEVICES", "CREATED"), rows))
