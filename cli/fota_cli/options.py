"""Options that the operator's commands share."""

import os
import string
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from fota_cli.client import OperatorClient
from fota_wire.errors import InputError
from fota_wire.files import name_of, read_line
from fota_wire.host_kinds import TOKEN as TOKEN_KIND
from fota_wire.host_kinds import what_is
from fota_wire.host_options import CERTIFICATE, JSON, TOKEN, DeviceId, Seconds
from fota_wire.host_values import UsageError

_OF_A_TOKEN = frozenset(string.ascii_letters + string.digits + "_-")


def connected(function: Callable[..., None], *, token_needed: bool = True) -> Callable[..., None]:
    """Give a command the options that lead to a server, and its client as first argument."""

    @click.option("--server", envvar="FOTA_SERVER", help="Operator plane, https://host:8444 [FOTA_SERVER].")
    @click.option("--token-file", type=TOKEN, help="File with an API token; or put the token in FOTA_TOKEN.")
    @click.option(
        "--ca",
        type=CERTIFICATE,
        envvar="FOTA_CA",
        help="Authority (PEM) of the server [FOTA_CA].",
    )
    @JSON
    @wraps(function)
    def command(
        *args: object, server: str | None, token_file: Path | None, ca: Path | None, **options: object
    ) -> None:
        if not server:
            raise UsageError("which server? pass --server https://host:8444, or set FOTA_SERVER")
        token = read_line(token_file, "token") if token_file else os.environ.get("FOTA_TOKEN")
        if token_needed and not (token and token.strip()):
            raise UsageError("no API token: pass --token-file FILE, or set FOTA_TOKEN")
        token = (token or "").strip()
        if not set(token) <= _OF_A_TOKEN:
            raise InputError(_no_token(token, token_file))
        function(OperatorClient(url=server, token=token, ca=ca), *args, **options)

    return command


def connected_by_anybody(function: Callable[..., None]) -> Callable[..., None]:
    """As `connected`; without a token, the server says whether it wants one."""
    return connected(function, token_needed=False)


def _no_token(text: str, token_file: Path | None) -> str:
    """Return what to say of a text that no token is; it may be a secret of another kind, and is not shown."""
    if token_file is not None:
        return f"{name_of(token_file)}: its first line has characters that no API token has: the right file?"
    if what_is(Path(text)) == TOKEN_KIND:
        return f"FOTA_TOKEN is the name of a file; it stands for the API token itself: --token-file {text}"
    return "FOTA_TOKEN has characters that no API token has: put the token itself into it"


def scope_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --device and --group."""
    function = click.option("--device", "-d", metavar="ID", type=DeviceId(), help="One device.")(function)
    return click.option("--group", "-g", metavar="NAME", help="All devices of a group.")(function)


def filter_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add --filter, as ``text``."""
    return click.option(
        "--filter",
        "-f",
        "text",
        metavar="FILTER",
        help="Only devices for which this holds: 'hardware = C and not frozen', say (docs/fleet.md).",
    )(function)


def yes_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add --yes. Questions are asked on a terminal only: a script goes on without it."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask; a script is not asked anyway.")(
        function
    )


def wait_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --wait and --timeout."""
    function = click.option(
        "--timeout",
        type=Seconds(),
        help="With --wait: seconds to wait at most.",
    )(function)
    return click.option("--wait", is_flag=True, help="Follow it to its end; exit code 1 unless all confirm.")(
        function
    )


def scope(device: str | None, group: str | None) -> dict[str, object]:
    """Return what the server calls the devices meant.

    Raises:
        click.UsageError: not exactly one of the two is given.
    """
    if (device is None) == (group is None):
        raise click.UsageError("name either --device or --group")
    return {"device": device} if device else {"group": group}
