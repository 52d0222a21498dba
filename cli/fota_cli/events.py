"""``fota events``: what has changed on a server, and what changes."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_wire.errors import TransportError
from fota_wire.host_options import Command, Whole

AGAIN_S = 5
"""How long after the end of a stream it is asked for again."""


@click.command("events", cls=Command)
@click.option("--follow", "-f", is_flag=True, help="Go on with what changes from now on, until stopped.")
@click.option("--after", metavar="NUMBER", type=Whole(0, (1 << 63) - 1), help="Begin behind this event [0].")
@click.option(
    "--kind", metavar="KIND", help="Only those that begin so: 'rollout.', say; commas between more."
)
@connected
def events(client: OperatorClient, follow: bool, after: int | None, kind: str | None, as_json: bool) -> None:
    """Print what has changed, oldest first: what operators did, and what devices came to.

    With --follow and without --after only what changes from now on. The number before each line is where
    --after goes on. --json: one object a line.
    """
    found = _follow(client, after, kind) if follow else _stored(client, after or 0, kind)
    for event in found:
        click.echo(json.dumps(event) if as_json else _line(event))


def _stored(client: OperatorClient, after: int, kind: str | None) -> Iterator[dict[str, Any]]:
    while True:
        page = client.get("events", after=str(after), kind=kind)
        yield from page["events"]
        if page["next"] is None:
            return
        after = int(page["next"])


def _follow(client: OperatorClient, after: int | None, kind: str | None) -> Iterator[dict[str, Any]]:
    """Yield events as they come; a stream that breaks off is asked for again, behind the last one."""
    heard = False
    while True:
        try:
            for event in client.stream("events/stream", last=after, kind=kind):
                heard = True
                if event is not None:
                    after = int(event["id"])
                    yield event
        except TransportError:
            if not heard:  # there never was one
                raise
        time.sleep(AGAIN_S)


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    detail = " ".join(f"{name}={value}" for name, value in event["detail"].items() if value is not None)
    return f"{event['id']:>7}  {at}  {event['kind']:<18} {event['subject']}  {detail}"
