"""Following a rollout to its end."""

import time
from typing import Any

import click

from fota_cli import net
from fota_cli.client import OperatorClient
from fota_wire.errors import FotaError, TransportError

FIRST_POLL_S, LONGEST_POLL_S, GROWTH = 0.5, 10.0, 1.3
"""Only counts are asked for, and ever more seldom; from the start again whenever they have changed."""
NAMED = 3
NOT_CONFIRMED = "failed,rejected,reverted,withdrawn,gone,cancelled,superseded"


class NotReached(FotaError):
    """A rollout that was waited for did not end with all devices confirmed."""

    exit_code = 1


def follow(client: OperatorClient, rollout_id: int, timeout_s: float | None) -> dict[str, Any]:
    """Return the rollout once it has ended; tell each change on stderr, on one live line on a terminal.

    Raises:
        NotReached: it has not after ``timeout_s`` seconds (None: any time).
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    live, last, poll_s = net.live(), "", FIRST_POLL_S
    try:
        while True:
            answer = client.get(f"rollouts/{rollout_id}")
            line = progress_line(answer)
            if line != last:
                click.echo(f"\r\x1b[K{line}" if live else line, err=True, nl=not live)
                last, poll_s = line, FIRST_POLL_S
            if answer["ended_at"] is not None:
                return answer
            if answer.get("held"):
                raise NotReached(f"rollout {rollout_id} paused itself: {answer['held']}")
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise NotReached(
                    f"rollout {rollout_id} is still {answer['status']} after {timeout_s:g} s; it goes on, "
                    f"see 'fota rollout show {rollout_id}'"
                )
            time.sleep(poll_s if left_s is None else min(poll_s, left_s))
            poll_s = min(poll_s * GROWTH, LONGEST_POLL_S)
    except (KeyboardInterrupt, TransportError):  # nobody follows it any more, or the server cannot be asked
        said = f"rollout {rollout_id} goes on: 'fota rollout show {rollout_id}', 'fota rollout cancel'"
        click.echo(f"\n{said}" if live else said, err=True)
        live = False
        raise
    finally:
        if live:
            click.echo(err=True)


def progress_line(answer: dict[str, Any]) -> str:
    """Return how far a rollout is, on one line."""
    counts = ", ".join(f"{count} {state}" for state, count in answer["progress"].items() if count)
    status = f"{answer['status']}: {counts}" if counts else answer["status"]
    return f"{answer['progress']['confirmed']}/{answer['total']} confirmed ({status})"


def conclude(client: OperatorClient, answer: dict[str, Any]) -> None:
    """Return if all devices of an ended rollout confirmed, or said so where its policy counts that.

    Raises:
        NotReached: they did not; names the first ones and their reasons.
    """
    said = answer["progress"].get("said", 0)
    if answer["status"] == "done" or (answer["status"] == "said" and answer.get("policy", {}).get("said")):
        return
    if answer["status"] == "said":
        what = (
            f"{answer['kind']} {answer['id']}: {said} device(s) say that they are done, and cannot prove it"
        )
        raise NotReached(f"{what}; --waves rest --said counts that")
    path = f"rollouts/{answer['id']}/devices"
    bad = client.pages(path, "devices", most=NAMED, state=NOT_CONFIRMED)
    told = "; ".join(f"{item['device_id']} {item['state']}: {item['reason']}" for item in bad)
    raise NotReached(f"{answer['kind']} {answer['id']} {answer['status']}" + (f": {told}" if told else ""))
