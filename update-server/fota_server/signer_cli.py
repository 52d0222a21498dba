"""`fota server signer`: the ASSIGN key in a process, and best of a user, of its own."""

import os
from pathlib import Path

import click

from fota_wire.host_options import FILE, PRIVATE_KEY, Command


@click.command(cls=Command)
@click.option("--assign-key", "key", type=PRIVATE_KEY, required=True, help="Private key (PEM) to hold.")
@click.option("--socket", type=FILE, required=True, help="Where the server asks; its folder says who may.")
@click.option("--allow-example-keys", is_flag=True, help="Rehearse with a published key.")
def signer(key: Path, socket: Path, allow_example_keys: bool) -> None:
    """Sign ASSIGNMENTs for a server that does not hold their key.

    The server names the socket in place of the key: 'fota server init --assign-key SOCKET', or assign_key in
    its config.json. The password of an encrypted key comes from FOTA_ASSIGN_PASSWORD.
    """
    import asyncio
    import signal

    from fota_server.assign_socket import hold
    from fota_server.clock import now
    from fota_server.crypto import AssignSigner, load_assign_signer
    from fota_server.logs import log_to_stderr

    def say_ready() -> None:
        click.echo(f"fota-signer ready: key {held.kid.hex()} signs at {socket}")

    async def work(held: AssignSigner) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, stop.set)
        await hold(held, socket, now, stop, say_ready)

    password = os.environ.pop("FOTA_ASSIGN_PASSWORD", None)
    held = load_assign_signer(key, password=password, allow_example_keys=allow_example_keys)
    log = log_to_stderr("text")
    try:
        asyncio.run(work(held))
    finally:
        log.finish()
