"""``fota policy``: what has to hold for every order, whoever gives it and however."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_cli.waves import Duration, duration
from fota_wire.host_options import PUBLIC_KEY, Group, Whole
from fota_wire.host_print import print_result
from fota_wire.host_values import UsageError


@click.group(cls=Group)
def policy() -> None:
    """Show and set what holds for the whole fleet, whoever gives an order."""


@policy.command("show")
@connected
def show(client: OperatorClient, as_json: bool) -> None:
    """Show what holds for the whole fleet."""
    _tell(client.get("policies"), as_json, _lab, _approval, _rehearsal)


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
    _tell(client.post("policies/lab", body, shown_by="fota policy show"), as_json, _lab)


@policy.command("rehearsal")
@click.argument("keys", type=PUBLIC_KEY, nargs=-1)
@click.option("--none", is_flag=True, help="No release has to be rehearsed.")
@connected
def set_rehearsal(client: OperatorClient, keys: tuple[Path, ...], none: bool, as_json: bool) -> None:
    """Have one of these public EVIDENCE KEYS attest each release ('fota rehearse') before it is ordered.

    It holds for rollouts and orders to single devices; going back is never held up by it, and what was
    ordered before goes on.

    Example: fota policy rehearsal lab.pub
    """
    if none == bool(keys):
        raise UsageError("whose word counts? name public keys; or --none")
    from fota_wire.host_crypto import load_public_key

    publics = [load_public_key(key, "evidence").hex() for key in keys]
    body: dict[str, object] = {"keys": publics or None}
    _tell(client.post("policies/rehearsal", body, shown_by="fota policy show"), as_json, _rehearsal)


@policy.command("approval")
@click.option("--share", metavar="SHARE", help="Beyond this share of the fleet a release takes two: 20%.")
@click.option("--hours", type=Whole(), help="What is reached within so many hours counts [4].")
@click.option("--releases-back", type=Whole(), help="Going back more than so many releases takes two.")
@click.option("--unhalt", is_flag=True, help="'fota rollout unhalt' takes two.")
@click.option("--expires", type=Duration(), help="A request waits so long: 4h [1d].")
@click.option("--none", is_flag=True, help="One person is enough for everything.")
@connected
def set_approval(client: OperatorClient, none: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Say what takes a second person: 'fota approval list' shows what waits for one.

    Halting, pausing and cancelling are one person's at any time. While this is set, changing it or the lab
    takes two, too. Tokens have to say whose they are: 'fota server token create --person'.

    Example: fota policy approval --share 20% --releases-back 2 --unhalt
    """
    said = {name: value for name, value in options.items() if value is not None and value is not False}
    told = {"expires_s" if name == "expires" else name: value for name, value in said.items()}
    if none == bool(told):
        raise UsageError("what takes two? pass --share, --releases-back or --unhalt; or --none")
    body: dict[str, object] = {"policy": None if none else told}
    _tell(client.post("policies/approval", body, shown_by="fota policy show"), as_json, _approval)


def _tell(answer: dict[str, Any], as_json: bool, *lines: Callable[[dict[str, Any]], str]) -> None:
    if as_json:
        print_result(answer, True)
        return
    for line in lines:
        click.echo(line(answer))


def _lab(answer: dict[str, Any]) -> str:
    lab = answer["lab"]
    if lab is None:
        return "lab: none, releases go to any device"
    told = f"{lab['devices']} device(s) of group {lab['group']} confirm each release first"
    return f"lab: {told}; {lab['in_force']} are in force"


def _rehearsal(answer: dict[str, Any]) -> str:
    kids = answer.get("rehearsal")
    return "rehearsal: " + (f"attested by {' or '.join(kids)}" if kids else "no release has to be rehearsed")


def _approval(answer: dict[str, Any]) -> str:
    found = answer["approval"]
    if found is None:
        return "approval: one person is enough for everything"
    rules = []
    if found["share"] is not None:
        rules.append(f"a release to more than {found['share']} of the fleet within {found['hours']} h")
    if found["releases_back"] is not None:
        rules.append(f"going back more than {found['releases_back']} release(s)")
    if found["unhalt"]:
        rules.append("lifting a halt")
    return f"approval: two persons for {', '.join(rules)}; requests wait {duration(found['expires_s'])}"
