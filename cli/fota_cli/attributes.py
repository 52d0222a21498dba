"""What is known of devices beside their firmware: `fota device set` and `fota device attributes`."""

from typing import Any
from urllib.parse import quote

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_wire.errors import InputError
from fota_wire.host_options import Command, DeviceId
from fota_wire.host_print import print_result, table


@click.command("set", cls=Command)
@click.argument("device_id", metavar="ID", type=DeviceId())
@click.argument("words", metavar="NAME=VALUE...", nargs=-1)
@click.option("--unset", "-u", "gone", metavar="NAME", multiple=True, help="Take this one back; repeat.")
@connected
def set_attributes(
    client: OperatorClient, device_id: str, words: tuple[str, ...], gone: tuple[str, ...], as_json: bool
) -> None:
    """Say of device ID that its attribute NAME is VALUE; NAME alone is a tag.

    What you say stands before what the device says of itself. 'hardware' is the revision of its board, 'zone'
    its time zone; all others are what you like.
    """
    body: dict[str, object] = dict.fromkeys(gone)
    for word in words:
        name, _, value = word.partition("=")
        if name in body:
            raise InputError(f"{name} is named twice")
        body[name] = value
    if not body:
        raise click.UsageError("say what of it: NAME=VALUE, NAME for a tag, or --unset NAME")
    path = f"devices/{quote(device_id, safe='')}"
    answer = client.post(f"{path}/attributes", {"attributes": body}, shown_by=f"fota device show {device_id}")
    groups = ", ".join(answer["groups"]) or "none"
    said = ", ".join(attributes_text(answer["attributes"])) or "no attributes"
    print_result(answer, as_json, f"device {device_id}: {said}; groups: {groups}")


@click.command("attributes", cls=Command)
@connected
def list_attributes(client: OperatorClient, as_json: bool) -> None:
    """List the names of all attributes, and how many devices have each."""
    listed = list(client.pages("attributes", "attributes"))
    if as_json:
        print_result({"attributes": listed}, True)
        return
    rows = [(item["name"], item["devices"], item["tags"]) for item in listed]
    click.echo(table(("ATTRIBUTE", "DEVICES", "AS A TAG"), rows))


def attributes_text(found: dict[str, Any]) -> list[str]:
    """Return each attribute of a device as `fota device set` takes it, and that it said so itself."""
    return [
        name
        + (f"={item['value']}" if item["value"] else "")
        + (" (said by it)" if item["by"] == "device" else "")
        for name, item in found.items()
    ]
