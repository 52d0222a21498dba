"""``fota ddi``: devices that speak hawkBit's Direct Device Integration API (docs/hawkbit.md)."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected
from fota_wire.errors import TransportError
from fota_wire.files import check_output, place_of, read_input, write_output
from fota_wire.host_options import FILE, FORCE, FOREIGN, DeviceId, Group, OneOf
from fota_wire.host_print import print_result
from fota_wire.host_values import UsageError

MAX_FILE = 1 << 30
TOKEN_FILE = click.option(
    "-o", "--output", type=FILE, help="File for the token, mode 0600; it can be had this once."
)


@click.group(cls=Group)
def ddi() -> None:
    """Serve devices that speak hawkBit's device API: enrol them, and say which file they get."""


@ddi.command("enrol")
@click.argument("controller", metavar="NAME")
@click.option(
    "--by",
    type=OneOf("token", "gateway", "certificate"),
    default="token",
    show_default=True,
    help="How it shows who it is: a token of its own, its gateway's, or a certificate with CN NAME.",
)
@TOKEN_FILE
@FORCE
@connected
def enrol(
    client: OperatorClient, controller: str, by: str, output: Path | None, force: bool, as_json: bool
) -> None:
    """Let in the device that its client calls NAME (controllerId), and say which ID it has here."""
    if (by == "token") != (output is not None):
        raise UsageError(
            "a token needs a place: pass -o FILE"
            if by == "token"
            else f"-o: by {by} there is no token for it"
        )
    if output is not None:
        check_output(output, force)
    answer = client.post("ddi", {"controller": controller, "by": by}, shown_by="fota device list")
    token = answer.pop("token", None)
    place = _keep(token, output, force)
    print_result(answer, as_json, f"{controller} is device {answer['id']}{place}", output=output)


@ddi.command("token")
@click.argument("device_id", metavar="ID", type=DeviceId())
@click.option("-o", "--output", type=FILE, required=True, help="File for the token, mode 0600.")
@FORCE
@connected
def token(client: OperatorClient, device_id: str, output: Path, force: bool, as_json: bool) -> None:
    """Give device ID a new token; the one that it had ends at once."""
    check_output(output, force)
    answer = client.post(f"ddi/{quote(device_id, safe='')}/token")
    place = _keep(answer.pop("token", None), output, force)
    print_result(answer, as_json, f"device {device_id}{place}", output=output)


@ddi.command("gateway")
@TOKEN_FILE
@click.option("--revoke", is_flag=True, help="End the token that there is, and make none.")
@FORCE
@connected
def gateway(client: OperatorClient, output: Path | None, revoke: bool, force: bool, as_json: bool) -> None:
    """Make the token by which gateways speak for devices enrolled --by gateway; an earlier one ends."""
    if revoke == (output is not None):
        raise UsageError("pass -o FILE for a new token, or --revoke to have none")
    if output is not None:
        check_output(output, force)
    answer = client.post("ddi/gateway", {"revoke": revoke})
    place = _keep(answer.pop("token", None), output, force)
    print_result(answer, as_json, f"gateways{place or ': no token any more'}", output=output)


@ddi.command("attach")
@click.argument("version")
@click.argument("file", type=FOREIGN)
@connected
def attach(client: OperatorClient, version: str, file: Path, as_json: bool) -> None:
    """Have DDI devices get FILE (.swu, .raucb) of release VERSION, in place of its image.

    The server gives it out under its own name. Not once a DDI device was given the release.
    """
    data = read_input(file, MAX_FILE)
    digest = hashlib.sha256(data).hexdigest()
    client.upload(f"artifacts/{digest}", data, lambda _count: None)
    body: dict[str, object] = {"digest": digest, "name": file.name}
    answer = client.post(f"releases/{quote(version, safe='')}/ddi", body)
    print_result(answer, as_json, f"release {answer['version']}: DDI devices get {answer['name']}")


def _keep(secret: Any, output: Path | None, force: bool) -> str:  # noqa: ANN401 - as the server answers
    """Write a token where it was asked for; return the words that say so, none if there is no token."""
    if output is None:
        return ""
    if not isinstance(secret, str):
        raise TransportError("the server's answer has no token")
    write_output(output, secret.encode() + b"\n", force=force, secret=True)
    return f": token {place_of(output)}"
