"""``fota agent``: the update agent on a virtual device, over real sockets and TLS."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_wire.errors import FotaError, InputError, VerifyError

if TYPE_CHECKING:
    from fota_cli.agent_session import Session

ONCE, UNTIL_CONFIRMED, UNTIL_IDLE = "once", "until-confirmed", "until-idle"
UNTIL = (UNTIL_CONFIRMED, UNTIL_IDLE)
LIMIT_S = 600.0
REFUSALS = 3


class NotDoneError(FotaError):
    """The device did not get to where it was asked to go."""

    exit_code = 1


@click.group()
def agent() -> None:
    """Run the update agent."""


@agent.command()
@click.option(
    "--vdev",
    "path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File of the virtual device.",
)
@click.option("--server", help="Base URL instead of the trust store's; trust stays the same.")
@click.option(
    "--once", "mode", flag_value=ONCE, help="One check-in, and the installation that follows from it."
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
    "--duration", type=click.FloatRange(min=0), help="At most so many seconds [600 with --until-...]."
)
@click.option("--interval", type=click.FloatRange(min=0.1), help="Check in at least every so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the final state as one JSON object.")
def run(
    path: Path,
    server: str | None,
    mode: str | None,
    duration: float | None,
    interval: float | None,
    as_json: bool,
) -> None:
    """Run the device in a file: its own machine code, and the agent beside it. Nothing listens."""
    from fota_cli.agent_session import Session

    if duration is None and mode in UNTIL:
        duration = LIMIT_S
    deadline = time.monotonic() + duration if duration is not None else float("inf")

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    with Session(path, server, say) as session:
        try:
            done = _drive(session, mode, deadline, interval)
        finally:
            session.save()
        if as_json:
            import json

            click.echo(json.dumps(session.summary()))
        if mode is not None:
            _judge(session, mode, done)


def _drive(session: "Session", mode: str | None, deadline: float, interval: float | None) -> bool:
    """Step until ``mode`` is satisfied (True), or cannot be or the deadline has passed (False)."""
    session.boot()
    asked = time.monotonic()
    while time.monotonic() < deadline:
        wait_s = session.step()
        engine = session.agent.engine
        if session.needs_boot:
            session.boot()
            if mode == ONCE:
                return True
            asked = time.monotonic()
        elif session.agent.renewing:
            continue
        elif mode in UNTIL and (engine.settled or _refuses(engine.error, engine.failures)):
            return engine.settled
        elif wait_s == 0:
            continue
        elif mode == ONCE and (engine.error is not None or not engine.trial):
            return engine.error is None
        elif interval is not None and time.monotonic() - asked >= interval:
            session.agent.check_in()
            asked = time.monotonic()
        else:
            session.idle(wait_s if interval is None else min(wait_s, interval))
    return False


def _refuses(error: FotaError | None, failures: int) -> bool:
    """Tell whether the device goes on refusing what the server sends: asking again will not help."""
    return isinstance(error, VerifyError | InputError) and failures >= REFUSALS


def _judge(session: "Session", mode: str, done: bool) -> None:
    """Turn what happened into the exit code.

    Raises:
        FotaError: it did not end as ``mode`` asks for; of the class of the last error where there is one.
    """
    error = session.agent.engine.error
    if not done and error is not None:
        kind = VerifyError if isinstance(error, InputError) else type(error)
        raise kind(f"not done: {error}", error.code)
    if mode == UNTIL_CONFIRMED and session.fell_back:
        raise NotDoneError(f"the device did not take the update: {session.fell_back}")
    if not done:
        raise NotDoneError("not done in time")
