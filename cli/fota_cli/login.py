"""``fota login``: a token by the word of an identity provider (OpenID Connect), for people and for CI."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_wire.errors import TransportError, VerifyError
from fota_wire.files import STREAM, check_output, place_of, read_line, write_output
from fota_wire.host_fetch import fetch, require_url
from fota_wire.host_options import CERTIFICATE, FILE, TOKEN, Command
from fota_wire.host_print import printable
from fota_wire.host_values import UsageError

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_S = 5  # RFC 8628, 3.5


@click.command(cls=Command)
@click.option("--server", envvar="FOTA_SERVER", help="Operator plane, https://host:8444 [FOTA_SERVER].")
@click.option("--ca", type=CERTIFICATE, envvar="FOTA_CA", help="Authority (PEM) of the server [FOTA_CA].")
@click.option(
    "--id-token-file",
    "id_token",
    type=TOKEN,
    help="File with an ID token that is there already, as a CI has one; - is standard input.",
)
@click.option(
    "--scope", default="openid email profile", show_default=True, help="What to ask the provider for."
)
@click.option("-o", "--output", type=FILE, required=True, help="File for the token, mode 0600.")
@click.option("--force", is_flag=True, help="Replace a token that is in the file.")
def login(
    server: str | None, ca: Path | None, id_token: Path | None, scope: str, output: Path, force: bool
) -> None:
    """Sign in, and write a token that ends in some hours.

    It says where to go and which code to type in; any browser will do, on any machine.
    """
    if not server:
        raise UsageError("which server? pass --server https://host:8444, or set FOTA_SERVER")
    check_output(output, force=force)
    client = OperatorClient(url=server, token="", ca=ca)
    about = client.get("login")
    raw = read_line(id_token, "ID token") if id_token else _ask_provider(about, scope)
    made = client.post("login", {"id_token": raw.strip()})
    write_output(output, str(made["token"]).encode() + b"\n", secret=True, force=force)
    ends = datetime.fromtimestamp(made["expires_at"], UTC).strftime("%Y-%m-%d %H:%M")
    groups = f", for group {', '.join(made['groups'])}" if made["groups"] else ""
    place = place_of(output)
    click.echo(
        f"signed in as {made['person']} ({made['role']}{groups}): the token {place} is good until {ends}Z",
        err=output == STREAM,
    )


def _ask_provider(about: Mapping[str, Any], scope: str) -> str:
    """Return an ID token by the device authorization grant (RFC 8628): a person confirms in a browser.

    Raises:
        TransportError: the provider cannot be reached, or does not offer this. VerifyError: it said no.
    """
    issuer, client_id = str(about["issuer"]), str(about["client_id"])
    _, offers = fetch(issuer.rstrip("/") + "/.well-known/openid-configuration")
    where, at = offers.get("device_authorization_endpoint"), offers.get("token_endpoint")
    if offers.get("issuer") != issuer or not isinstance(where, str) or not isinstance(at, str):
        raise TransportError(f"{issuer} offers no sign-in for programs: pass --id-token-file")
    status, begun = fetch(where, {"client_id": client_id, "scope": scope})
    if status != 200:
        raise VerifyError(_said(issuer, begun))
    shown = str(begun.get("verification_uri_complete") or begun.get("verification_uri"))
    require_url(shown, "the provider's page")
    click.echo(f"open {printable(shown)} and confirm the code {printable(begun.get('user_code'))}", err=True)
    pause = _number(begun.get("interval"), 5)
    until = time.monotonic() + _number(begun.get("expires_in"), 600)
    while time.monotonic() < until:
        time.sleep(pause)
        form = {
            "grant_type": DEVICE_CODE,
            "device_code": str(begun.get("device_code")),
            "client_id": client_id,
        }
        status, answer = fetch(at, form)
        if status == 200 and isinstance(answer.get("id_token"), str):
            return str(answer["id_token"])
        if answer.get("error") == "slow_down":
            pause += SLOWER_S
        elif answer.get("error") != "authorization_pending":
            raise VerifyError(_said(issuer, answer))
    raise VerifyError(f"nobody confirmed at {issuer} in time: run it again")


def _said(issuer: str, answer: Mapping[str, Any]) -> str:
    why = answer.get("error_description") or answer.get("error") or json.dumps(dict(answer))[:120]
    return f"{issuer} says no: {printable(str(why)[:200])}"


def _number(value: object, default: int) -> int:
    return value if type(value) is int and 0 < value <= 3600 else default
