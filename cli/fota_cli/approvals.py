"""``fota approval``: what takes a second person, seen, given and denied."""

import json
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_wire.host_options import Group, Whole
from fota_wire.host_print import date, print_result, table


@click.group(cls=Group)
def approval() -> None:
    """Show, give and deny what takes a second person."""


@approval.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are decided or have expired, too.")
@connected
def list_(client: OperatorClient, everything: bool, as_json: bool) -> None:
    """List what waits for a second person, newest first."""
    state = None if everything else "pending"
    listed = list(client.pages("approvals", "approvals", most=None, state=state))
    if as_json:
        print_result({"approvals": listed}, True)
        return
    rows = [
        (
            item["id"],
            item["kind"],
            item["subject"],
            item["person"],
            item["state"],
            date(item["expires_at"]),
            item["reason"],
        )
        for item in listed
    ]
    click.echo(table(("NUMBER", "WHAT", "OF", "ASKED BY", "STATE", "UNTIL", "WHY"), rows))


@approval.command("show")
@click.argument("number", type=Whole())
@connected
def show(client: OperatorClient, number: int, as_json: bool) -> None:
    """Show request NUMBER: what would be done, who asked, why it takes two."""
    _tell(client.get(f"approvals/{number}"), as_json)


@approval.command("give")
@click.argument("number", type=Whole())
@connected
def give(client: OperatorClient, number: int, as_json: bool) -> None:
    """Have what request NUMBER asks for done now. Nobody gives what he asked for himself.

    What has changed since it was asked for is refused, as for a plan: ask again then.
    """
    _tell(client.post(f"approvals/{number}/give", {}, shown_by=f"fota approval show {number}"), as_json)


@approval.command("deny")
@click.argument("number", type=Whole())
@click.option("--reason", help="Why, for who asked.")
@connected
def deny(client: OperatorClient, number: int, reason: str | None, as_json: bool) -> None:
    """Have request NUMBER end undone; who asked takes it back so."""
    body: dict[str, object] = {"reason": reason} if reason else {}
    _tell(client.post(f"approvals/{number}/deny", body, shown_by=f"fota approval show {number}"), as_json)


def _tell(item: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_result(item, True)
        return
    click.echo(f"request {item['id']}: {item['kind']} of {item['subject']}: {item['state']}")
    click.echo(
        f"asked {date(item['asked_at'])} by {item['person']} (token {item['asked_by']}): {item['reason']}"
    )
    told = {name: value for name, value in item["body"].items() if value is not None}
    click.echo(f"what: {json.dumps(told, sort_keys=True)}")
    if item["decided_at"]:
        note = f": {item['note']}" if item["note"] else ""
        click.echo(f"{item['state']} {date(item['decided_at'])} by token {item['decided_by']}{note}")
    elif item["state"] == "pending":
        click.echo(f"waits until {date(item['expires_at'])}: 'fota approval give {item['id']}', or deny")
    if item["rollout"]:
        click.echo(f"follow it with 'fota rollout show {item['rollout']}'")
