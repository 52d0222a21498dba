"""``fota policy``: what has to hold for every order, whoever gives it and however."""

from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_wire.host_options import Group, Whole
from fota_wire.host_print import print_result
from fota_wire.host_values import UsageError


@click.group(cls=Group)
def policy() -> None:
    """Show and set what holds for the whole fleet, whoever gives an order."""


@policy.command("show")
@connected
def show(client: OperatorClient, as_json: bool) -> None:
    """Show what holds for the whole fleet."""
    _tell(client.get("policies"), as_json)


@policy.command("lab")
@click.argument("group", required=False)
@click.option("--devices", type=Whole(), help="So many of them have to confirm a release [all of them].")
@click.option("--none", is_flag=True, help="No lab: releases go to any device.")
@connected
def set_lab(
    client: OperatorClient, group: str | None, devices: int | None, none: bool, as_json: bool
) -> None:
    """Have devices of GROUP, the lab, confirm each release before any other device is given it.

    It holds for rollouts, orders to single devices and rollbacks alike; a device may always have what it has
    confirmed before. What was given before the lab was named stays. A lab that has lost devices proves
    nothing until it has as many again.

    Example: fota policy lab bench --devices 3
    """
    if none == (group is not None) or (none and devices is not None):
        raise UsageError("which GROUP? or --none")
    body: dict[str, object] = {"group": group, "devices": devices}
    _tell(client.post("policies/lab", body, shown_by="fota policy show"), as_json)


def _tell(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_result(answer, True)
        return
    lab = answer["lab"]
    if lab is None:
        click.echo("lab: none, releases go to any device")
    else:
        click.echo(
            f"lab: {lab['devices']} device(s) of group {lab['group']} confirm each release first; "
            f"{lab['in_force']} are in force"
        )
