"""Following a rollout to its end."""

import sys
import time
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_wire.errors import FotaError

POLL_S = 0.5


class NotReached(FotaError):
    """A rollout that was waited for did not end with all devices confirmed."""

    exit_code = 1


def follow(client: OperatorClient, rollout_id: int, timeout_s: float | None) -> dict[str, Any]:
    """Return the rollout once it has ended; tell each change on stderr, on one live line on a terminal."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    live, last = sys.stderr.isatty(), ""
    while True:
        answer = client.get(f"rollouts/{rollout_id}")
        line = progress_line(answer)
        if line != last:
            click.echo(f"\r\x1b[K{line}" if live else line, err=True, nl=not live)
            last = line
        ended = answer["status"] not in ("running", "paused")
        late = deadline is not None and time.monotonic() >= deadline
        if live and (ended or late):
            click.echo(err=True)
        if ended:
            return answer
        if late:
            raise NotReached(
                f"rollout {rollout_id} is still {answer['status']} after {timeout_s:g} s; it goes on"
            )
        time.sleep(POLL_S)


def progress_line(answer: dict[str, Any]) -> str:
    """Return how far a rollout is, on one line."""
    counts = ", ".join(f"{count} {state}" for state, count in answer["progress"].items() if count)
    return f"{answer['progress']['confirmed']}/{answer['total']} confirmed ({answer['status']}: {counts})"


def conclude(answer: dict[str, Any]) -> None:
    """Return if all devices of an ended rollout confirmed.

    Raises:
        NotReached: they did not; names the first ones and their reasons.
    """
    if answer["status"] == "done":
        return
    bad = [item for item in answer["devices"] if item["state"] in ("reverted", "rejected", "failed")]
    told = "; ".join(f"{item['device_id']} {item['state']}: {item['reason']}" for item in bad[:3])
    raise NotReached(f"{answer['kind']} {answer['id']} {answer['status']}" + (f": {told}" if told else ""))
