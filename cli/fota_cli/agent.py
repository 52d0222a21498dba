"""``fota agent``: the update agent, on a Linux gateway or beside a virtual device."""

import hashlib
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_cli.no_server import NoServer
from fota_wire.errors import FormatError, FotaError, InputError, VerifyError
from fota_wire.host_options import CARD, FOLDER, GATEWAY, IMAGE, MANIFEST, ROOT, VDEV, Address, Group, Seconds
from fota_wire.host_print import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.engine.engine import Engine
    from fota_cli.agent_session import Session as DeviceSession
    from fota_cli.gateway_session import GatewaySession

    Session = DeviceSession | GatewaySession

ONCE, UNTIL_CONFIRMED, UNTIL_IDLE, OFFLINE = "once", "until-confirmed", "until-idle", "offline"
UNTIL = (UNTIL_CONFIRMED, UNTIL_IDLE)
LIMIT_S = 600.0
REFUSALS = 3
TRIAL_GOES_ON = (
    "agent: a trial is under way: run the agent again soon, or the device goes back to its old program"
)


class NotDoneError(FotaError):
    """The device did not get to where it was asked to go."""

    exit_code = 1


@click.group(cls=Group)
def agent() -> None:
    """Run the update agent."""


@agent.command()
@click.option(
    "--vdev",
    "device",
    type=VDEV,
    help="File of the virtual device.",
)
@click.option(
    "--gateway",
    "folder",
    type=GATEWAY,
    help="Folder of the gateway, whose program 'fota gateway launch' runs.",
)
@click.option(
    "--from",
    "card",
    type=CARD,
    help="Take the update in this folder instead of the server's, if it is newer: docs/agent.md.",
)
@click.option(
    "--server", type=Address(path=True), help="Base URL instead of the trust store's; trust stays the same."
)
@click.option(
    "--once",
    "mode",
    flag_value=ONCE,
    help="One check-in, and the installation that follows from it, until its trial is decided; exit code 1 "
    "if the device falls back.",
)
@click.option(
    "--until-confirmed",
    "mode",
    flag_value=UNTIL_CONFIRMED,
    help="Until what the server wants runs and is confirmed; exit code 1 if the device falls back.",
)
@click.option(
    "--until-idle", "mode", flag_value=UNTIL_IDLE, help="Until nothing is left to do, whatever came of it."
)
@click.option(
    "--offline",
    "mode",
    flag_value=OFFLINE,
    help="Take the update --from a folder, until its trial is decided, and speak to no server at all: for a "
    "rehearsal on the copy of a device, which would speak in its name.",
)
@click.option(
    "--duration", type=Seconds(), help="At most so many seconds [600 with --until-... and --offline]."
)
@click.option("--interval", type=Seconds(0.1), help="Check in at least every so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the final state as one JSON object.")
def run(
    device: Path | None,
    folder: Path | None,
    card: Path | None,
    server: str | None,
    mode: str | None,
    duration: float | None,
    interval: float | None,
    as_json: bool,
) -> None:
    """Run the agent: on a gateway beside its program, or on the device in a file, whose own machine code runs
    beside it. Nothing listens.
    """
    if (device is None) == (folder is None):
        raise click.UsageError("name one device: --vdev FILE or --gateway FOLDER")
    if mode == OFFLINE and card is None:
        raise click.UsageError("--offline is for an update --from a folder")
    if card is not None:
        _require_card(card)
    if duration is None and mode in (*UNTIL, OFFLINE):
        duration = LIMIT_S
    deadline = time.monotonic() + duration if duration is not None else float("inf")

    def say(line: str) -> None:
        click.echo(printable(line), err=as_json)  # servers, mirrors and the device's UART have words in it

    signal.signal(signal.SIGTERM, _end)
    with _open(device, folder, server, say, mode == OFFLINE) as session:
        try:
            done, installed = _drive(session, mode, deadline, interval, card)
        finally:
            session.save()
            if session.in_trial:
                say(TRIAL_GOES_ON)
        if as_json:
            import json

            click.echo(json.dumps(session.summary()))
        if mode is not None:
            _judge(session, mode, done, installed)


def _require_card(folder: Path) -> None:
    """Return if an update is in a folder, whole. What is wrong in it is the agent's to find.

    Raises:
        InputError: a file of it is missing.
    """
    from fota_wire.files import read_input
    from fota_wire.suit import MAX_ENVELOPE, unsafe_read_manifest

    place = folder / "manifest.suit"
    if not place.is_file():
        raise InputError(f"--from {folder}: no manifest.suit in it; 'fota agent card' makes such a folder")
    with suppress(FormatError):
        name = f"payload/{unsafe_read_manifest(read_input(place, MAX_ENVELOPE)).digest.hex()}"
        if not (folder / name).is_file():
            raise InputError(f"--from {folder}: no {name} in it, which its manifest is about")


def _end(*_: object) -> None:
    """A service is told to end: save, and do; it need not be told twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


@agent.command()
@click.argument("image", type=IMAGE)
@click.argument("envelope", type=MANIFEST)
@click.option("--root", "roots", multiple=True, type=ROOT, help="ROOT that devices may lack.")
@click.option("-o", "--output", required=True, type=FOLDER, help="Folder.")
def card(image: Path, envelope: Path, roots: tuple[Path, ...], output: Path) -> None:
    """Put a release (IMAGE and signed ENVELOPE) into a folder, for updates without a server."""
    from fota_wire.files import making_folder, read_input, write_atomic
    from fota_wire.root import unsafe_read_root

    data, manifest = read_input(image), read_input(envelope, 65536)
    digest = hashlib.sha256(data).hexdigest()
    if digest.encode() not in manifest:
        raise VerifyError(f"{envelope} is not about {image}: it names another file digest")
    steps = [read_input(path, 65536) for path in roots]
    names = [f"root-{unsafe_read_root(raw).version}.cbor" for raw in steps]
    with making_folder(output / "payload"):
        write_atomic(output / "payload" / digest, data)
        for name, raw in zip(names, steps, strict=True):
            write_atomic(output / name, raw)
        write_atomic(output / "manifest.suit", manifest)
    click.echo(f"{output}: {image.name}, file digest {digest[:16]}")


def _open(
    device: Path | None, folder: Path | None, server: str | None, say: "Callable[[str], None]", offline: bool
) -> "Session":
    transport = NoServer() if offline else None
    if folder is not None:
        from fota_cli.gateway_session import GatewaySession

        return GatewaySession(folder, server, say, transport)
    from fota_cli.agent_session import Session as DeviceSession

    return DeviceSession(device or Path(), server, say, transport)


def _drive(
    session: "Session", mode: str | None, deadline: float, interval: float | None, card: Path | None
) -> tuple[bool, bool]:
    """Step until ``mode`` is satisfied (True), or cannot be or the deadline has passed (False); tell too
    whether the device was started anew meanwhile.
    """
    session.boot()
    if card is not None:
        session.agent.install_from(str(card))
    asked, installed = time.monotonic(), False
    while (now := time.monotonic()) < deadline:
        wait_s = session.step()
        engine = session.agent.engine
        if session.needs_boot:
            session.boot()
            asked, installed = time.monotonic(), True
            continue
        if session.agent.renewing:
            continue
        done = None if engine.trial else _verdict(engine, mode, wait_s, installed)
        if done is not None:
            return done, installed
        if wait_s == 0:
            continue
        if interval is not None and now - asked >= interval:
            session.agent.check_in()
            asked = now
        else:
            session.idle(min(wait_s, interval or wait_s, max(0.0, deadline - time.monotonic())))
    return False, installed


def _verdict(engine: "Engine", mode: str | None, wait_s: float, installed: bool) -> bool | None:
    """Return whether ``mode`` is satisfied (True) or cannot be (False), None: not yet. Never within a trial,
    which nobody would be there to confirm.
    """
    if mode == OFFLINE:
        return False if engine.error is not None else True if engine.wanted is None else None
    if mode == ONCE and installed:  # the server may hear of it; a card's update needs none
        return True if engine.settled or engine.error is not None else None
    if mode == ONCE:
        return None if wait_s == 0 else engine.error is None and not engine.deferred
    if mode in UNTIL and (engine.settled or _refuses(engine.error, engine.failures)):
        return engine.settled
    return True if mode == UNTIL_IDLE and engine.deferred else None


def _refuses(error: FotaError | None, failures: int) -> bool:
    """Tell whether the device goes on refusing what the server sends: asking again will not help."""
    return isinstance(error, VerifyError | InputError) and failures >= REFUSALS


def _judge(session: "Session", mode: str, done: bool, installed: bool) -> None:
    """Turn what happened into the exit code.

    Raises:
        FotaError: it did not end as ``mode`` asks for; of the class of the last error where there is one.
    """
    error = session.agent.engine.error
    if not done and error is not None:
        kind = VerifyError if isinstance(error, FormatError) else type(error)  # what came, not what was typed
        raise kind(f"not done: {error}", error.code)
    if (mode == UNTIL_CONFIRMED or installed) and mode != UNTIL_IDLE and session.fell_back:
        raise NotDoneError(f"the device did not take the update: {session.fell_back}")
    if not done:
        waits = session.agent.engine.deferred
        raise NotDoneError("the update waits for consent, or its window" if waits else "not done in time")
