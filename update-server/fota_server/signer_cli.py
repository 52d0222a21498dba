"""`fota server signer`: the ASSIGN key in a process, and best of a user, of its own."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_wire.files import read_line
from fota_wire.host_kinds import PRIVATE
from fota_wire.host_options import FILE, Command, FileName
from fota_wire.host_values import UsageError

if TYPE_CHECKING:
    from fota_server.crypto import AssignSigner
    from fota_wire.host_pkcs11 import Place


class _FileOrToken(FileName):
    """A private key: a file's name, or where a token has it (RFC 7512)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the path, or the `Place`."""
        if not str(value).startswith("pkcs11:"):
            return super().convert(value, param, ctx)
        from fota_wire.host_pkcs11 import read_uri

        return read_uri(value)


@click.command(cls=Command)
@click.option(
    "--assign-key",
    "key",
    type=_FileOrToken(PRIVATE),
    required=True,
    help="Private key (PEM) to hold, or 'pkcs11:token=NAME;object=LABEL?module-path=FILE&pin-source=FILE'.",
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
        held = _of_token(key, allow_example_keys)
    log = log_to_stderr("text")
    try:
        asyncio.run(work(held))
    finally:
        log.finish()


def _of_token(place: "Place", allow_example_keys: bool) -> "AssignSigner":
    from fota_server.crypto import AssignSigner, Held
    from fota_wire.host_crypto import refuse_example_key
    from fota_wire.host_pkcs11 import Token

    if place.pin_file is not None:
        pin = read_line(place.pin_file, "PIN").strip()
    elif sys.stdin.isatty():
        pin = click.prompt(f"PIN of token {place.token}", hide_input=True, err=True)
    else:
        raise UsageError(
            "--assign-key: name the file of the token's PIN by pin-source, or be there to type it"
        )
    token = Token(place.module, place.token, pin)
    public = token.public_key(place.label)
    refuse_example_key(public, allow_example_keys, f"token {place.token}")
    return AssignSigner(Held(public, lambda digest: token.sign(place.label, digest)))
