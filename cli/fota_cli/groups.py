"""``fota group``: groups of devices, that orders are given to."""

import sys
from urllib.parse import quote

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected, yes_option
from fota_wire.host_options import DeviceId, Group
from fota_wire.host_print import date, print_result, table

NAME = click.argument("name")
IDS = click.argument("device_ids", metavar="ID...", type=DeviceId(), nargs=-1, required=True)


@click.group(cls=Group)
def group() -> None:
    """Make groups of devices."""


@group.command("create")
@NAME
@connected
def create_group(client: OperatorClient, name: str, as_json: bool) -> None:
    """Create group NAME."""
    answer = client.post("groups", {"name": name})
    print_result(answer, as_json, f"group {name} {'created' if answer['created'] else 'exists already'}")


@group.command("add")
@NAME
@IDS
@connected
def add_to_group(client: OperatorClient, name: str, device_ids: tuple[str, ...], as_json: bool) -> None:
    """Add devices to group NAME. Rollouts that are under way for it do not reach them."""
    body: dict[str, object] = {"devices": list(device_ids)}
    answer = client.post(_path(name, "/devices"), body, shown_by=f"fota device list --group {name}")
    if as_json:
        print_result(answer, True)
        return
    click.echo(f"group {name}: {answer['added']} device(s) added")
    if answer["rollouts"]:
        numbers = ", ".join(map(str, answer["rollouts"]))
        click.echo(
            f"under way without them: rollout {numbers}; 'fota rollout start VERSION --group {name}' "
            "reaches those that it is not wanted of yet",
            err=True,
        )


@group.command("remove")
@NAME
@IDS
@connected
def remove_from_group(client: OperatorClient, name: str, device_ids: tuple[str, ...], as_json: bool) -> None:
    """Take devices out of group NAME. What rollouts want of them already stays."""
    body: dict[str, object] = {"devices": list(device_ids)}
    answer = client.post(_path(name, "/remove"), body, shown_by=f"fota device list --group {name}")
    print_result(answer, as_json, f"group {name}: {answer['removed']} device(s) removed")


@group.command("delete")
@NAME
@yes_option
@connected
def delete_group(client: OperatorClient, name: str, yes: bool, as_json: bool) -> None:
    """Delete group NAME. Its devices stay, and what rollouts want of them."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"delete group {name}?", abort=True, err=True)
    answer = client.delete(_path(name), shown_by="fota group list")
    print_result(answer, as_json, f"group {name} deleted; {answer['devices']} device(s) were in it")


@group.command("list")
@connected
def list_groups(client: OperatorClient, as_json: bool) -> None:
    """List groups."""
    listed = list(client.pages("groups", "groups"))
    if as_json:
        print_result({"groups": listed}, True)
        return
    rows = [(item["name"], item["devices"], date(item["created_at"])) for item in listed]
    click.echo(table(("GROUP", "DEVICES", "CREATED"), rows))


def _path(name: str, rest: str = "") -> str:
    return f"groups/{quote(name, safe='')}{rest}"
