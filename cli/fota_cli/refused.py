"""Who was turned away on the device plane: `fota device refused`, and a part of `fota device show`."""

from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_wire.host_options import Command
from fota_wire.host_print import ago, print_result, table


@click.command("refused", cls=Command)
@connected
def refused(client: OperatorClient, as_json: bool) -> None:
    """List who was turned away, the latest first: clones, strangers, certificates that are not good.

    A name with a question mark is only what somebody claimed to be.
    """
    answer = client.get("refusals")
    if as_json:
        print_result(answer, True)
        return
    rows = [
        (
            (item["who"] or "-") + ("" if item["proved"] else " ?"),
            item["code"],
            item["count"],
            ago(item["last_at"]),
            item["address"],
            item["detail"],
        )
        for item in answer["refusals"]
    ]
    click.echo(table(("WHO", "WHY", "TIMES", "LAST", "FROM", "DETAIL"), rows))


def refusal_text(item: dict[str, Any]) -> str:
    """Return one refusal of one device, for people."""
    claimed = "" if item["proved"] else ", by somebody who claims to be it"
    times = f"{item['count']} times, last {ago(item['last_at'])}"
    return f"{item['code']}, {times}, from {item['address']}{claimed}: {item['detail']}"
