"""`fota server signer`: the ASSIGN key in a process, and best of a user, of its own."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_wire.host_options import FILE, SIGNING_KEY, Command
from fota_wire.host_values import UsageError

if TYPE_CHECKING:
    from fota_server.crypto import AssignSigner
    from fota_wire.host_keys import Pin, Place


@click.command(cls=Command)
@click.option(
    "--assign-key",
    "key",
    type=SIGNING_KEY,
    required=True,
    help="Private key to hold: PEM, or where a store has it, such as"
    " 'pkcs11:token=NAME;object=LABEL?module-path=FILE&pin-source=FILE' (docs/signing.md).",
)
@click.option("--socket", type=FILE, required=True, help="Where the server asks; its folder says who may.")
@click.option("--allow-example-keys", is_flag=True, help="Rehearse with a published key.")
def signer(key: "Path | Place", socket: Path, allow_example_keys: bool) -> None:
    """Sign ASSIGNMENTs for a server that does not hold their key.

    The server names the socket in place of the key: 'fota server init --assign-key SOCKET', or assign_key in
    its config.json. The password of an encrypted key comes from FOTA_ASSIGN_PASSWORD; the PIN of a token from
    the file that pin-source names, or it is asked for.
    """
    import asyncio
    import signal

    from fota_server.assign_socket import hold
    from fota_server.clock import now
    from fota_server.crypto import load_assign_signer
    from fota_server.logs import log_to_stderr

    def say_ready() -> None:
        click.echo(f"fota-signer ready: key {held.kid.hex()} signs at {socket}")

    async def work(held: "AssignSigner") -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, stop.set)
        await hold(held, socket, now, stop, say_ready)

    if isinstance(key, Path):
        password = os.environ.pop("FOTA_ASSIGN_PASSWORD", None)
        held = load_assign_signer(key, password=password, allow_example_keys=allow_example_keys)
    else:
        held = _of_store(key, allow_example_keys)
    log = log_to_stderr("text")
    try:
        asyncio.run(work(held))
    finally:
        log.finish()


def _of_store(place: "Place", allow_example_keys: bool) -> "AssignSigner":
    from fota_server.crypto import AssignSigner
    from fota_wire.host_crypto import refuse_example_key
    from fota_wire.host_keys import require_role

    require_role(place, "assign")
    key = place.open(_ask)
    refuse_example_key(key.public, allow_example_keys, key.name)
    return AssignSigner(key)


def _ask(what: str) -> "Pin":
    from fota_wire.host_keys import Pin

    if not sys.stdin.isatty():
        raise UsageError(f"--assign-key: {what}: name its file by pin-source, or be there to type it")
    return Pin(click.prompt(what, hide_input=True, err=True), typed=True)
