"""``fota gateway``: set up a Linux gateway, launch its program, look at it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_wire.errors import InputError
from fota_wire.host_options import (
    CA_CERT,
    CA_KEY,
    CAMPAIGN_GROUP,
    GATEWAY,
    IMAGE,
    JSON,
    PUBLIC_KEY,
    ROOT,
    SECRET,
    SERVER_CA,
    Address,
    Group,
    Whole,
)
from fota_wire.host_print import print_result

if TYPE_CHECKING:
    from fota_agent.boards.linux.gateway import Gateway


@click.group(cls=Group)
def gateway() -> None:
    """Set up a Linux gateway, and launch its program."""


@gateway.command()
@click.argument("folder", type=GATEWAY)
@click.option("--image", type=IMAGE, required=True, help="First program: fota sign --program.")
@click.option(
    "--image-key",
    "image_keys",
    type=PUBLIC_KEY,
    multiple=True,
    required=True,
    help="Key that signs programs.",
)
@click.option("--root", type=ROOT, required=True, help="Genesis ROOT document.")
@click.option(
    "--server", type=Address(path=True), required=True, help="Base URL of the update server, https://..."
)
@SERVER_CA
@CAMPAIGN_GROUP
@click.option("--vendor-domain", required=True, help="As for fota sign.")
@click.option("--model", required=True, help="As for fota sign.")
@click.option("--module", required=True, help="PKCS#11 module, e.g. /usr/lib/softhsm/libsofthsm2.so.")
@click.option("--token", required=True, help="Label of the token.")
@click.option("--pin-file", type=SECRET, required=True, help="File with the user PIN: named, not copied.")
@click.option(
    "--label", default="device", show_default=True, help="Label of the key pair; made if it is not there."
)
@CA_KEY
@CA_CERT
@click.option("--password-file", type=SECRET, help="File whose first line is that key's password.")
@click.option("--allow-example-keys", is_flag=True, help="Accept the published throw-away keys.")
def init(folder: Path, **options: object) -> None:
    """Make the gateway in FOLDER: its key in the token, its certificate, its first program."""
    from fota_cli import gateway_setup

    click.echo(gateway_setup.make(folder, gateway_setup.Options(**options)))  # type: ignore[arg-type]


@gateway.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", type=GATEWAY)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--stop-timeout",
    type=Whole(1, 3600),
    metavar="SECONDS",
    help="How long the program may take to stop before it is killed [gateway.toml, or 60].",
)
def launch(folder: Path, arguments: tuple[str, ...], stop_timeout: int | None) -> None:
    """Verify and run the program of the gateway in FOLDER, with ARGUMENTS; the service to be started at boot.

    SIGHUP starts it anew, as a reset does a chip; SIGTERM ends it.
    """
    from fota_agent.boards.linux.gateway import Gateway
    from fota_agent.boards.linux.launcher import Launcher

    def say(line: str) -> None:
        click.echo(line, err=True)

    with Launcher(Gateway(folder), list(arguments), say, stop_timeout) as launcher:
        sys.exit(launcher.run())


@gateway.command()
@click.argument("folder", type=GATEWAY)
def approve(folder: Path) -> None:
    """Agree to the update that the agent of the gateway in FOLDER has told of (mode "notify")."""
    from fota_agent.boards.linux.gateway import Gateway
    from fota_wire.files import read_input, write_atomic

    found = Gateway(folder)
    if not found.available_path.exists():
        raise InputError(f"{folder}: no update waits for consent")
    digest, _, version = (
        read_input(found.available_path, 1024).decode("ascii", "replace").strip().partition(" ")
    )
    write_atomic(found.approved_path, f"{digest}\n".encode())
    click.echo(f"{folder}: agreed to {version or digest[:16]}; the agent goes on within a minute")


@gateway.command()
@click.argument("folder", type=GATEWAY)
@JSON
def show(folder: Path, as_json: bool) -> None:
    """Show what the gateway in FOLDER runs and holds."""
    from fota_agent.boards.linux.gateway import Gateway

    print_result(summary(Gateway(folder)), as_json)


def summary(gateway: "Gateway") -> dict[str, object]:
    """Return what journal, boot report and floor say."""
    from fota_agent.boards.linux import storage
    from fota_agent.boards.linux.launcher import running_launcher
    from fota_wire import journal, layout, status

    record = storage.JournalFile(gateway.folder / "journal").state()
    boot = gateway.boot_report()
    return {
        "device": gateway.device_id.hex(),
        "launcher": running_launcher(gateway),
        "slot": layout.SLOT_NAMES[boot.running] if boot else None,
        "version": boot.version_text if boot else None,
        "confirmed": layout.SLOT_NAMES[record.confirmed],
        "candidate": layout.SLOT_NAMES[record.candidate],
        "state": journal.STATE_NAMES[record.state],
        "reason": status.label(record.reason) if record.reason else None,
        "floor": storage.read_floor(gateway.folder / "floor"),
    }
