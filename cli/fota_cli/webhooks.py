"""``fota webhook``: other programs that are told of what changes (docs/operations.md)."""

import sys
from pathlib import Path
from urllib.parse import quote

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected, yes_option
from fota_wire.errors import TransportError
from fota_wire.files import check_output, read_text, write_output
from fota_wire.host_options import CERTIFICATE, FILE, FORCE, Group
from fota_wire.host_print import ago, print_result, table


@click.group(cls=Group)
def webhook() -> None:
    """Have other programs told of what changes: signed, in order, at least once."""


@webhook.command("add")
@click.argument("name")
@click.argument("url")
@click.option(
    "--kind", "kinds", metavar="KIND", multiple=True, help="Only events that begin so; repeat [all of them]."
)
@click.option("--receiver-ca", type=CERTIFICATE, help="Authority (PEM) of the receiver [the system's].")
@click.option("-o", "--output", type=FILE, required=True, help="File for the secret, mode 0600.")
@FORCE
@connected
def add(
    client: OperatorClient,
    name: str,
    url: str,
    kinds: tuple[str, ...],
    receiver_ca: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Tell URL of events from now on; the secret that signs them goes into a file, this once.

    https only, http to this machine. Libraries of Standard Webhooks take the secret as it is.
    """
    check_output(output, force)
    body: dict[str, object] = {"name": name, "url": url, "kinds": list(kinds)}
    if receiver_ca is not None:
        body["ca"] = read_text(receiver_ca, 65536)
    answer = client.post("webhooks", body, shown_by="fota webhook list")
    secret = answer.pop("secret", None)
    if not isinstance(secret, str):
        raise TransportError(f"{client.url}: the server's answer has no secret")
    write_output(output, secret.encode() + b"\n", secret=True, force=force)
    print_result(answer, as_json, f"webhook {name} is told from now on; its secret: {output}", output=output)


@webhook.command("list")
@connected
def list_(client: OperatorClient, as_json: bool) -> None:
    """List webhooks: how far behind each is, what fails, and how many dead letters it has."""
    answer = client.get("webhooks")
    rows = [
        (
            one["name"],
            one["url"],
            ",".join(one["kinds"]) or "all",
            one["behind"],
            one["dead"],
            ("given up: " if one["stopped"] else "") + one["failing"] if one["failing"] else "-",
        )
        for one in answer["webhooks"]
    ]
    text = table(("NAME", "URL", "KINDS", "BEHIND", "DEAD", "FAILING"), rows)
    print_result(answer, as_json, text)


@webhook.command("remove")
@click.argument("name")
@yes_option
@connected
def remove(client: OperatorClient, name: str, yes: bool, as_json: bool) -> None:
    """Tell a webhook nothing more; its dead letters go, too."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"remove webhook {name} and its dead letters?", abort=True, err=True)
    answer = client.delete(f"webhooks/{quote(name, safe='')}", shown_by="fota webhook list")
    print_result(answer, as_json, f"webhook {name} is told nothing more")


@webhook.command("dead")
@click.argument("name")
@connected
def dead(client: OperatorClient, name: str, as_json: bool) -> None:
    """List what the receiver refused for good, the oldest first."""
    letters = list(client.pages(f"webhooks/{quote(name, safe='')}/dead", "letters"))
    rows = [
        (one["event"]["data"]["id"], one["event"]["type"], one["event"]["data"]["subject"],
         ago(one["at"]), one["error"])
        for one in letters
    ]  # fmt: skip
    print_result({"letters": letters}, as_json, table(("EVENT", "KIND", "SUBJECT", "REFUSED", "WHY"), rows))


@webhook.command("redeliver")
@click.argument("name")
@connected
def redeliver(client: OperatorClient, name: str, as_json: bool) -> None:
    """Tell the dead letters again, and go on with a receiver that was given up."""
    answer = client.post(f"webhooks/{quote(name, safe='')}/redeliver", shown_by=f"fota webhook dead {name}")
    print_result(answer, as_json, f"webhook {name}: {answer['letters']} dead letter(s) are told again")
