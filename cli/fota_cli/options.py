"""Options that the operator's commands share."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from fota_cli.client import OperatorClient
from fota_wire.errors import InputError
from fota_wire.files import read_line
from fota_wire.host_options import FILE, JSON, Seconds


def connected(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that lead to a server, and its client as first argument."""

    @click.option("--server", envvar="FOTA_SERVER", help="Operator plane, https://host:8444 [FOTA_SERVER].")
    @click.option("--token-file", type=FILE, help="File with an API token; or put the token in FOTA_TOKEN.")
    @click.option(
        "--ca", type=FILE, envvar="FOTA_CA", help="Authority (PEM) of the server's certificate [FOTA_CA]."
    )
    @JSON
    @wraps(function)
    def command(
        *args: object, server: str | None, token_file: Path | None, ca: Path | None, **options: object
    ) -> None:
        if not server:
            raise InputError("which server? pass --server https://host:8444, or set FOTA_SERVER")
        token = read_line(token_file, "token") if token_file else os.environ.get("FOTA_TOKEN")
        if not token or not token.strip():
            raise InputError("no API token: pass --token-file FILE, or set FOTA_TOKEN")
        if not token.strip().isascii() or not token.strip().isprintable():
            raise InputError("the API token has characters that no token has: is it the right file?")
        function(OperatorClient(url=server, token=token.strip(), ca=ca), *args, **options)

    return command


def scope_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --device and --group."""
    function = click.option("--device", "-d", metavar="ID", help="One device.")(function)
    return click.option("--group", "-g", metavar="NAME", help="All devices of a group.")(function)


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
