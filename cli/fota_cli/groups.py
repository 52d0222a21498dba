"""``fota group``: groups of devices, that orders are given to; put in by hand, or by a filter."""

import sys
from typing import Any
from urllib.parse import quote

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected, yes_option
from fota_wire.host_options import DeviceId, Group
from fota_wire.host_print import date, print_result, table

NAME = click.argument("name")
IDS = click.argument("device_ids", metavar="ID...", type=DeviceId(), nargs=-1, required=True)
FILTER = click.option(
    "--filter", "-f", "text", metavar="FILTER", help="What its devices follow from (docs/fleet.md)."
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say for which devices the filter holds.")


@click.group(cls=Group)
def group() -> None:
    """Make groups of devices."""


@group.command("create")
@NAME
@FILTER
@DRY_RUN
@connected
def create_group(client: OperatorClient, name: str, text: str | None, dry_run: bool, as_json: bool) -> None:
    """Create group NAME, whose devices you put in, or that has all those for which a FILTER holds.

    Who is in it then follows from what is known of each device. A rollout is of the devices that are in it
    when it is given: who leaves keeps it, who comes later gets it by the same order, given again.
    """
    if text is None and dry_run:
        raise click.UsageError("--dry-run says for which devices a --filter holds: there is none")
    body: dict[str, object] = {"name": name} if text is None else {"name": name, "filter": text}
    if dry_run:
        _tell_preview(client.post("groups", body | {"dry_run": True}), as_json)
        return
    answer = client.post("groups", body, shown_by="fota group list")
    print_result(answer, as_json, f"group {name} {'created' if answer['created'] else 'exists already'}")


@group.command("set")
@NAME
@click.option("--filter", "-f", "text", metavar="FILTER", required=True, help="The filter from now on.")
@DRY_RUN
@connected
def set_filter(client: OperatorClient, name: str, text: str, dry_run: bool, as_json: bool) -> None:
    """Have group NAME, that goes by a filter, go by another. What rollouts want of its devices stays."""
    body: dict[str, object] = {"filter": text}
    if dry_run:
        _tell_preview(client.post(_path(name, "/filter"), body | {"dry_run": True}), as_json)
        return
    answer = client.post(_path(name, "/filter"), body, shown_by="fota group list")
    print_result(answer, as_json, f"group {name} goes by {text}; 'fota group list' says when it is filled")


def _tell_preview(answer: dict[str, Any], as_json: bool) -> None:
    lines = [f"it holds for {answer['devices']} device(s)", *answer["first"]]
    if answer["devices"] > len(answer["first"]):
        lines.append("...")
    print_result(answer, as_json, "\n".join(lines))


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
    rows = [
        (
            item["name"],
            f"{item['devices']}, being filled" if item["filling"] else item["devices"],
            date(item["created_at"]),
            item["filter"],
        )
        for item in listed
    ]
    click.echo(table(("GROUP", "DEVICES", "CREATED", "FILTER"), rows))


def _path(name: str, rest: str = "") -> str:
    return f"groups/{quote(name, safe='')}{rest}"
