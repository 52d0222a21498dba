"""``fota device rotate``, ``renew``, ``certify``: keys and certificates over the air; ``retire``."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_cli.station import device_ca
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.host_options import CA_CERT, CA_KEY, SECRET, Command, DeviceId, Seconds, Whole
from fota_wire.host_print import ago, date, print_result

if TYPE_CHECKING:
    from fota_signer.factory.ca import DeviceCa
    from fota_wire.host_keys import Place

IDS = click.argument("device_ids", metavar="[ID...]", type=DeviceId(), nargs=-1)
GROUP = click.option("--group", "-g", metavar="NAME", help="All devices of a group, retired ones left out.")


@click.command(cls=Command)
@click.argument("device_id", metavar="ID", type=DeviceId())
@click.option("--reason", default="", help="Why, for whoever looks it up later.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where no terminal is there to ask on.")
@connected
def retire(client: OperatorClient, device_id: str, reason: str, yes: bool, as_json: bool) -> None:
    """End the life of device ID, for good: its handshakes and check-ins are refused from now on."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(f"nobody can be asked whether to retire {device_id} for good: pass --yes")
    if not yes:
        click.confirm(f"Retire {device_id}? There is no way back", abort=True, err=True)
    answer = client.post(f"devices/{quote(device_id, safe='')}/retire", {"reason": reason})
    print_result(answer, as_json, f"device {answer['id']}: {answer['status']}")


@click.command(cls=Command)
@IDS
@GROUP
@connected
def rotate(client: OperatorClient, device_ids: tuple[str, ...], group: str | None, as_json: bool) -> None:
    """Have devices make a new TLS key in their element and order a certificate for it."""
    _want(client, device_ids, group, "rotate", as_json)


@click.command(cls=Command)
@IDS
@GROUP
@connected
def renew(client: OperatorClient, device_ids: tuple[str, ...], group: str | None, as_json: bool) -> None:
    """Have devices order a new certificate for the key that they use."""
    _want(client, device_ids, group, "renew", as_json)


def _want(
    client: OperatorClient, named: tuple[str, ...], group: str | None, kind: str, as_json: bool
) -> None:
    if bool(named) == (group is not None):
        raise click.UsageError("name devices by their ids, or one --group")
    if group is not None:
        _want_of_group(client, group, kind, as_json)
        return
    answers = [client.post(f"devices/{quote(one, safe='')}/key", {"kind": kind}) for one in named]
    if as_json:
        print_result({"devices": answers}, True)
        return
    for answer in answers:
        click.echo(f"device {answer['id']}: will {kind} at its next check-in")


def _want_of_group(client: OperatorClient, group: str, kind: str, as_json: bool) -> None:
    path, look = f"groups/{quote(group, safe='')}/key", f"fota device list --group {group}"
    answer = client.post(path, {"kind": kind}, shown_by=look)
    if as_json:
        print_result(answer, True)
        return
    click.echo(f"group {group}: {answer['wanted']} device(s) will {kind} at their next check-ins")
    if answer["shut_out"]:
        click.echo(f"left out: {answer['shut_out']} device(s) that are revoked or retired", err=True)


@click.command(cls=Command)
@CA_KEY
@CA_CERT
@click.option(
    "--ca-password-file", type=SECRET, help="First line is the CA key's password (else FOTA_KEY_PASSWORD)."
)
@click.option("--allow-example-keys", is_flag=True, help="Accept the published throw-away keys.")
@click.option("--days", type=Whole(1, 36500), help="Validity of the certificates; without it, no end.")
@click.option("--watch", type=Seconds(0.1), metavar="S", help="Go on, asking every S seconds.")
@connected
def certify(
    client: OperatorClient,
    ca_key: "Path | Place",
    ca_cert: Path,
    ca_password_file: Path | None,
    allow_example_keys: bool,
    days: int | None,
    watch: float | None,
    as_json: bool,
) -> None:
    """Sign what devices ordered. The CA's key stays in this process; the server never sees it.

    Every order is checked against this CA, not believed. Exit code 1 if one was refused.
    """
    from fota_signer.factory.ca import require_in_force
    from fota_signer.factory.certify import end_of

    ca = device_ca(ca_key, ca_cert, ca_password_file, allow_example_keys)
    require_in_force(ca, end_of(days))
    while True:
        try:
            result = _round(client, ca, days)
        except FotaError as exc:
            if watch is None:
                raise
            click.echo(f"fota: error: {exc}; going on", err=True)
        else:
            _tell(result, as_json, quiet=watch is not None)
            if watch is None:
                click.get_current_context().exit(1 if result["refused"] else 0)
        time.sleep(watch or 0)


def _round(client: OperatorClient, ca: "DeviceCa", days: int | None) -> dict[str, Any]:
    from fota_signer.factory.certify import certify_order

    certified, refused = [], {}
    for item in list(client.pages("orders", "orders")):
        device_id = str(item.get("device"))
        try:
            certificate = certify_order(bytes.fromhex(str(item.get("order"))), device_id, ca, days)
            client.post(f"devices/{quote(device_id, safe='')}/certificate", certificate)
        except (VerifyError, InputError, ValueError) as exc:  # of this order; the next one may be good
            refused[device_id] = str(exc)
            continue
        certified.append(device_id)
    return {"certified": certified, "refused": refused}


def _tell(result: dict[str, Any], as_json: bool, *, quiet: bool) -> None:
    if as_json:
        print_result(result, True)
        return
    for device_id in result["certified"]:
        click.echo(f"device {device_id}: certified")
    for device_id, reason in result["refused"].items():
        click.echo(f"device {device_id}: refused: {reason}", err=True)
    if not quiet and not result["certified"] and not result["refused"]:
        click.echo("no orders")


def attested_text(said: dict[str, Any] | None) -> str:
    """Return what the element said itself, in one line."""
    return "no" if said is None else f"by the element {ago(said['at'])}: floor {said['floor']}"


def key_text(key: dict[str, Any]) -> str:
    """Return which key a device acts by, and what is under way with it, in one line."""
    since = f" since {date(key['since'])}" if key["since"] else ""
    wanted = f", to {key['wanted']}" if key["wanted"] else ""
    order = f", certificate {key['order']}" if key["order"] else ""
    return f"{key['in_use']}{since}{wanted}{order}"
