"""Rollouts in waves on the command line: the plan, approval, and what stops everything at once."""

import json
import re
import secrets
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected, scope, scope_options
from fota_wire.errors import InputError
from fota_wire.files import read_text, write_output
from fota_wire.host_json import read_json
from fota_wire.host_options import FILE as ANY_FILE
from fota_wire.host_options import FORCE, Command, OneOf, Whole, label_of
from fota_wire.host_options import POLICY as POLICY_FILE
from fota_wire.host_print import date, print_result, table
from fota_wire.host_values import UsageError

PLAN_KIND = "fota rollout plan"
_DURATION = re.compile(r"([0-9]{1,8})([smhd])")
_PRICE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Price(click.ParamType[float]):
    """What a megabyte costs, in whatever money."""

    name = "price"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return the number."""
        if not _PRICE.fullmatch(str(value)):
            raise InputError(f"{label_of(param)}: {value!r} is no price such as 0.05")
        return float(value)


class Duration(click.ParamType[int]):
    """A time such as 90s, 30m, 4h or 2d, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Return the seconds."""
        match = _DURATION.fullmatch(str(value))
        if not match:
            raise InputError(f"{label_of(param)}: {value!r} is no time such as 90s, 30m, 4h or 2d")
        return int(match[1]) * _SECONDS[match[2]]


_OPTIONS = (
    click.option("--waves", metavar="LIST", help="Waves in order: group:lab,100,25%,rest."),
    click.option(
        "--policy", type=POLICY_FILE, help="JSON with all that a rollout can be told (docs/operations.md)."
    ),
    click.option("--confirmed", metavar="SHARE", help="Share of a wave that has to confirm [95%]."),
    click.option("--errors", metavar="SHARE", help="Share that may fail or fall silent [5%]."),
    click.option("--silence", type=Duration(), help="So long without a call is an error: 90m, 2d."),
    click.option("--soak", type=Duration(), help="Wait so long between a wave and the next: 4h."),
    click.option("--said", is_flag=True, help="Take in devices that can only say that they are done (DDI)."),
    click.option("--approval", is_flag=True, help="A person opens each wave after the first."),
    click.option(
        "--on-failure", type=OneOf("pause", "rollback"), help="What follows if a wave fails [pause]."
    ),
)


POLICY = ("waves", "policy", "confirmed", "errors", "silence", "soak", "said", "approval", "on_failure")
"""What `policy_of` takes."""


def policy_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that `policy_of` takes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def policy_of(
    *,
    waves: str | None,
    policy: Path | None,
    silence: int | None,
    soak: int | None,
    said: bool,
    approval: bool,
    **shares: str | None,
) -> dict[str, Any] | None:
    """Return the policy that the options say, those on the command line over those of the file; None: none.

    Raises:
        InputError: the file is no JSON object.
        UsageError: something about waves is said, but not which.
    """
    found = _read_object(policy, "a policy") if policy else {}
    flags = {"said": said or None, "approval": approval or None}
    told = {"silence_s": silence, "soak_s": soak, **flags, **shares}
    found |= {name: value for name, value in told.items() if value is not None}
    if waves is not None:
        found["waves"] = [part.strip() for part in waves.split(",")]
    if found and "waves" not in found:
        raise UsageError("which waves? pass --waves 10,25%,rest, or 'waves' in the file of --policy")
    return found or None


def _read_object(path: Path, what: str) -> dict[str, Any]:
    found = read_json(read_text(path), str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} is not {what}: it has to be a JSON object")
    return found


def read_plan(path: Path) -> dict[str, object]:
    """Return the order that a plan is of, with seed and digest.

    Raises:
        InputError: the file is none.
    """
    found = _read_object(path, "a plan")
    order = found.get("order")
    if found.get("kind") != PLAN_KIND or not isinstance(order, dict):
        raise InputError(f"{path} is not a plan: 'fota rollout plan' makes one")
    return {str(name): value for name, value in order.items()}


# -- the plan ------------------------------------------------------------------------------------------------


@click.command("plan", cls=Command)
@click.argument("version")
@scope_options
@policy_options
@click.option("-o", "--output", type=ANY_FILE, help="Write the plan, device by device, for 'start --plan'.")
@click.option("--price", type=Price(), help="Price of a megabyte, for what the bytes cost.")
@FORCE
@connected
def plan(
    client: OperatorClient,
    version: str,
    device: str | None,
    group: str | None,
    output: Path | None,
    price: float | None,
    force: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - those of `policy_of`
) -> None:
    """Say what a rollout of release VERSION in waves would do: who, in which wave and order, who not and why.

    Nothing is done. A rollout that is started from the plan (-o) gives these devices this release in these
    waves and this order, or is refused because something has changed.

    Example: fota rollout plan 1.1.0 --group pilots --waves 1%,10%,rest -o plan.json
    """
    policy = policy_of(**options)
    if policy is None:
        raise UsageError("which waves? pass --waves 10,25%,rest, or --policy FILE")
    order = {"version": version, **scope(device, group), "policy": policy, "seed": secrets.token_hex(8)}
    found = client.post("rollouts", order | {"dry_run": True})
    if output is not None:
        _write_plan(client, output, order, found, force)
    if as_json:
        print_result(found, True)
        return
    tell_left_out(found["left_out"])
    tell_lab(found["lab"])
    tell_second(found)
    tell_plan(found, price)
    if output is not None:
        click.echo(f"written: {output}; start it with 'fota rollout start --plan {output}'", err=True)


def tell_left_out(left_out: list[dict[str, Any]], *, to_stderr: bool = False) -> None:
    """Print who is left out of an order, and why."""
    for item in left_out:
        others = f" (and {item['devices'] - 1} more)" if item["devices"] > 1 else ""
        click.echo(f"left out: device {item['first']}{others}: {item['reason']}", err=to_stderr)


def tell_lab(waiting: list[dict[str, Any]], *, to_stderr: bool = False) -> None:
    """Print which devices of an order wait for the lab."""
    for item in waiting:
        click.echo(f"{item['version']} for {item['devices']} device(s) {item['reason']}", err=to_stderr)


def tell_second(expected: dict[str, Any], *, to_stderr: bool = False) -> None:
    """Print why an order would take a second person, if it would."""
    if expected["second_person"]:
        click.echo(f"takes a second person: {expected['second_person']}", err=to_stderr)


def tell_plan(found: dict[str, Any], price: float | None = None) -> None:
    """Print what a rollout in waves would do."""
    rows = [
        (
            wave["number"],
            wave["size"],
            wave["devices"],
            wave["bytes"],
            None if price is None else f"{wave['bytes'] / 1e6 * price:.2f}",
            duration(wave["longest_s"]),
            terms_text(wave["terms"]),
        )
        for wave in found["waves"]
    ]
    click.echo(table(("WAVE", "SIZE", "DEVICES", "BYTES", "COST", "GIVEN AND SOAKED", "OVER WHEN"), rows))
    if found["held_back"]:
        click.echo(f"held back for comparison: {found['held_back']} device(s)")
    total, longest = sum(wave["devices"] for wave in found["waves"]), duration(found["longest_s"])
    click.echo(f"{total} device(s), {found['bytes']} bytes, up to {longest} by how often devices call;")
    click.echo("what they take to install and confirm comes to that")
    click.echo(f"digest {found['digest']}")


def _write_plan(
    client: OperatorClient, output: Path, order: dict[str, Any], found: dict[str, Any], force: bool
) -> None:
    """Write the plan with every device, in the order in which waves open to them."""
    query = {"kind": str(found["kind"]), "policy": json.dumps(order["policy"])}
    query |= {name: str(order[name]) for name in ("version", "device", "group", "seed") if name in order}
    listed = list(client.pages("preview", "devices", most=None, **query))
    last = [wave["last_rank"] for wave in found["waves"]]
    going = sorted((item for item in listed if item["reason"] is None), key=lambda item: item["rank"])
    devices = [
        {
            "device": item["device_id"],
            "wave": found["waves"][bisect_left(last, item["rank"])]["number"],
            "runs": item["runs"],
            "gets": item["version"],
        }
        for item in going
    ]
    left = [
        {"device": item["device_id"], "reason": item["reason"]}
        for item in listed
        if item["reason"] is not None
    ]
    kept = order | {"digest": found["digest"]}
    whole = {"kind": PLAN_KIND, "order": kept, "waves": found["waves"], "devices": devices, "left_out": left}
    write_output(output, json.dumps(whole, indent=1).encode() + b"\n", force=force)


def terms_text(terms: dict[str, Any]) -> str:
    """Return for people when a wave is over, and what stops it."""
    found = [f"{terms['confirmed']} confirmed", f"up to {terms['errors']} in error"]
    if terms["silence_s"] is not None:
        found.append(f"silent after {duration(terms['silence_s'])}")
    if terms["soak_s"]:
        found.append(f"soaked {duration(terms['soak_s'])}")
    return ", ".join(found + (["approved"] if terms["approval"] else []))


def duration(seconds: int) -> str:
    """Return a time for people, to two places: 2 d 4 h."""
    parts: list[str] = []
    for name, unit in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= unit and len(parts) < 2:
            parts.append(f"{seconds // unit} {name}")
            seconds %= unit
    return " ".join(parts) or "0 s"


# -- as it goes ----------------------------------------------------------------------------------------------


def tell_waves(answer: dict[str, Any]) -> None:
    """Print the waves of a rollout, and why it paused itself."""
    if answer.get("held"):
        click.echo(f"paused itself: {answer['held']}" if answer["paused"] else f"ended: {answer['held']}")
    if answer.get("approval"):
        number = answer["id"]
        click.echo(f"wave {answer['approval']} waits for a person: 'fota rollout approve {number}'")
    rows = [
        (
            wave["number"],
            wave["size"],
            wave["phase"],
            f"{wave['confirmed']}/{wave['devices']}" + (f", {wave['said']} said" if wave["said"] else ""),
            wave["on_trial"],
            wave["silent"],
            wave["failed"],
            wave["closed"],
            date(wave["since"]),
            terms_text(wave["terms"]),
        )
        for wave in answer.get("waves") or []
    ]
    if rows:
        numbers = ("CONFIRMED", "ON TRIAL", "SILENT", "FAILED", "CLOSED")
        click.echo(table(("WAVE", "SIZE", "PHASE", *numbers, "SINCE", "OVER WHEN"), rows))


def tell_comparison(found: dict[str, Any] | None) -> None:
    """Print what came of those who were given a release, and of those held back."""
    if found is None:
        return
    click.echo("compared with those held back" + (":" if found["final"] else ", so far:"))
    rows = [
        (item["question"], *(_arm(item[name]) for name in ("updated", "held_back")), item["p"], item["word"])
        for item in found["questions"]
    ]
    click.echo(table(("", "UPDATED", "HELD BACK", "CHANCE", "VERDICT"), rows))


def _arm(arm: dict[str, Any]) -> str:
    low, high = (f"{100 * share:.1f}" for share in arm["interval"])
    return f"{arm['cases']} of {arm['devices']} ({low} to {high} %)"


@click.command("approve", cls=Command)
@click.argument("number", type=Whole())
@connected
def approve(client: OperatorClient, number: int, as_json: bool) -> None:
    """Open the next wave of rollout NUMBER, which waits for it."""
    answer = client.post(f"rollouts/{number}/approve", shown_by=f"fota rollout show {number}")
    opened = [wave["number"] for wave in answer["waves"] if wave["phase"] != "waiting"]
    print_result(answer, as_json, f"rollout {number}: wave {max(opened)} is open")


# -- all of them ---------------------------------------------------------------------------------------------


@click.command("halt", cls=Command)
@click.option("--reason", help="Why, for those who find it so.")
@connected
def halt(client: OperatorClient, reason: str | None, as_json: bool) -> None:
    """Stop all rollouts and rollbacks at once: no device is given anything until 'fota rollout unhalt'.

    Asks nothing. Devices that have installed something may still start it, and confirm or go back.
    """
    answer = client.post("halt", {"reason": reason} if reason else {}, shown_by="fota rollout limits")
    print_result(answer, as_json, "halted: no device is given anything until 'fota rollout unhalt'")


@click.command("unhalt", cls=Command)
@connected
def unhalt(client: OperatorClient, as_json: bool) -> None:
    """Let all rollouts and rollbacks go on as they were before 'fota rollout halt'."""
    answer = client.post("unhalt", shown_by="fota rollout limits")
    print_result(answer, as_json, "rollouts go on")


@click.command("limits", cls=Command)
@click.option("--trials", type=Whole(), help="So many devices may be on trial at once, over all rollouts.")
@click.option("--no-trials", is_flag=True, help="Any number may.")
@click.option(
    "--counter-step",
    type=Whole(),
    help="Devices take a security counter of up to so much above their floor: what factories have set [255].",
)
@connected
def limits(
    client: OperatorClient, trials: int | None, no_trials: bool, counter_step: int | None, as_json: bool
) -> None:
    """Show, or set, what holds for all rollouts: the stop, the budget of devices on trial, and how far above
    a device's floor the security counter of a release may be.

    On trial is a device that was given a release and of which no verdict is known yet.
    """
    if trials is not None and no_trials:
        raise UsageError("either --trials or --no-trials")
    wanted: dict[str, object] = {"trials": trials} if trials is not None or no_trials else {}
    if counter_step is not None:
        wanted["counter_step"] = counter_step
    answer = client.post("limits", wanted) if wanted else client.get("limits")
    if as_json:
        print_result(answer, True)
        return
    halted = answer["halted"]
    if halted:
        click.echo(f"halted {date(halted['at'])} by {halted['by']}: {halted['reason']}")
    most = "any number" if answer["trials"] is None else f"at most {answer['trials']}"
    click.echo(f"on trial: {answer['on_trial']} device(s), {most} at once")
    click.echo(f"security counters: up to {answer['counter_step']} above a device's floor")
