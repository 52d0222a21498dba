"""``fota rollout``, ``fota rollback``: orders to one device or to many, previewed, followed, cancelled."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected, scope, scope_options, wait_options, yes_option
from fota_cli.progress import conclude, follow, progress_line
from fota_cli.waves import (
    POLICY,
    approve,
    halt,
    limits,
    plan,
    policy_of,
    policy_options,
    read_plan,
    tell_comparison,
    tell_lab,
    tell_left_out,
    tell_plan,
    tell_second,
    tell_waves,
    unhalt,
)
from fota_wire.errors import VerifyError
from fota_wire.host_options import ROLLOUT, Command, Group, Moment, Whole
from fota_wire.host_print import ago, date, print_result, table

HALTED = "nothing is given to any device until 'fota rollout unhalt': see 'fota rollout limits'"
SHOWN = 20
"""So many devices are listed unasked."""


@click.group(cls=Group)
def rollout() -> None:
    """Plan, start, watch, pause, resume, approve and cancel rollouts, or stop all at once."""


def order_options(function: Any) -> Any:  # noqa: ANN401 - click's own type
    """Add --dry-run, --devices and --yes."""
    function = yes_option(function)
    function = click.option("--devices", is_flag=True, help="With --dry-run: device by device.")(function)
    return click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")(function)


for _command in (plan, approve, halt, unhalt, limits):
    rollout.add_command(_command)


@rollout.command("start")
@click.argument("version", required=False)
@scope_options
@policy_options
@click.option("--plan", "plan_file", type=ROLLOUT, help="Do what this plan of 'rollout plan' promises.")
@order_options
@wait_options
@connected
def start(
    client: OperatorClient,
    version: str | None,
    device: str | None,
    group: str | None,
    plan_file: Path | None,
    **options: Any,  # noqa: ANN401 - those of `policy_of`, and those of `_order`
) -> None:
    """Have a device or a group run release VERSION, at once or in waves.

    Devices that it is wanted of already, that run firmware of another class, or whose floor is above it are
    left out, and the reasons said. On a terminal you are asked first if it is more than one device.

    Example: fota rollout start 1.1.0 --group pilots --wait
    """
    policy = policy_of(**{name: options.pop(name) for name in POLICY})
    if plan_file is not None:
        if version or device or group or policy or options["dry_run"]:
            raise click.UsageError("--plan says all of the order: no version, devices, waves or --dry-run")
        _order(client, "rollouts", read_plan(plan_file), **options)
        return
    if version is None:
        raise click.UsageError("which VERSION? or --plan FILE")
    in_waves = {"policy": policy} if policy else {}
    _order(client, "rollouts", {"version": version, **scope(device, group), **in_waves}, **options)


@click.command(cls=Command)
@scope_options
@click.option(
    "--to", "version", metavar="VERSION", help="Release to go back to; else the one confirmed before."
)
@click.option("--rollout", "number", type=Whole(), help="End this rollout and take back what it gave.")
@click.option(
    "--since",
    type=Moment(),
    help="End all rollouts since this time, and take back what was given: 2026-12-01T08:00, UTC.",
)
@policy_options
@order_options
@wait_options
@connected
def rollback(
    client: OperatorClient,
    device: str | None,
    group: str | None,
    version: str | None,
    number: int | None,
    since: int | None,
    **options: Any,  # noqa: ANN401 - those of `policy_of`, and those of `_order`
) -> None:
    """Send a device, a group, or all that a rollout or all rollouts since a time reached, back to an earlier
    release.

    Without --to each device goes back to what it had confirmed before, once: one that a rollback is under way
    for, or has brought back already, is left out. On a terminal you are asked first if it is more than one.

    With --rollout that rollout is cancelled, and each device that was given its release goes back to what it
    had confirmed; whom it has not reached yet hears nothing of it.

    With --since all rollouts that were started since then, or have given anything since, are cancelled, and
    each device that was given something goes back to what it had confirmed at that time, however many
    releases lie between (with --to: to that one).

    It goes at once, or in waves as a rollout does; --rollout always at once.

    Example: fota rollback --group pilots --dry-run
    """
    policy = policy_of(**{name: options.pop(name) for name in POLICY})
    if number is not None:
        if device or group or version or since is not None or policy or options["devices"]:
            raise click.UsageError("--rollout says all of the order: no devices, no --to, --since or waves")
        _take_back(client, number, options)
        return
    if since is not None and (device or group):
        raise click.UsageError("--since is about all devices: no --device, no --group")
    if since is None and not device and not group:
        raise click.UsageError("name --device, --group, --rollout or --since")
    said: dict[str, object] = {"since": since, "to": version, "policy": policy}
    devices = scope(device, group) if since is None else {}
    body = devices | {name: value for name, value in said.items() if value is not None}
    _order(client, "rollbacks", body, **options)


def _take_back(client: OperatorClient, number: int, options: dict[str, Any]) -> None:
    if options["dry_run"]:
        expected = client.get(f"rollouts/{number}/rollback")
        if options["as_json"]:
            print_result(expected, True)
        else:
            _tell_moves(expected)
        return
    if not options["yes"] and sys.stdin.isatty():
        _tell_moves(client.get(f"rollouts/{number}/rollback"), to_stderr=True)
        click.confirm(f"cancel rollout {number} and take back what it gave?", abort=True, err=True)
    answer = client.post(f"rollouts/{number}/rollback", shown_by="fota rollout list")
    if not options["as_json"]:
        click.echo(
            f"rollback {answer['id']}: rollout {number} is ended; each device that was given it goes back"
        )
    _end_order(client, answer, wait=options["wait"], timeout=options["timeout"], as_json=options["as_json"])


def _order(
    client: OperatorClient,
    path: str,
    body: dict[str, object],
    *,
    dry_run: bool,
    devices: bool,
    yes: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    if devices and not dry_run:
        raise click.UsageError("--devices is for --dry-run; see 'fota rollout show' afterwards")
    if dry_run:
        _preview(client, path, body, devices, as_json)
        return
    if not yes and sys.stdin.isatty() and "device" not in body:
        expected = client.post(path, body | {"dry_run": True})
        if expected["total"] > 1:
            _tell_moves(expected, to_stderr=True)
            click.confirm(f"{expected['kind']} of {expected['total']} devices: go on?", abort=True, err=True)
    answer = client.post(path, body, shown_by="fota rollout list")
    if not as_json:
        _tell_started(answer)
    _end_order(client, answer, wait=wait, timeout=timeout, as_json=as_json)


def _end_order(
    client: OperatorClient, answer: dict[str, Any], *, wait: bool, timeout: float | None, as_json: bool
) -> None:
    if wait:
        answer = follow(client, answer["id"], timeout)
    if as_json:
        print_result(answer, True)
    if wait:
        conclude(client, answer)
    elif not as_json:
        click.echo(f"follow it with 'fota rollout show {answer['id']}'")


def _preview(
    client: OperatorClient, path: str, body: dict[str, object], devices: bool, as_json: bool
) -> None:
    expected = client.post(path, body | {"dry_run": True})
    if devices:
        named = {"version" if name == "to" else name: str(value) for name, value in body.items()}
        if "policy" in body:  # the same draw as that of the waves above
            named |= {"policy": json.dumps(body["policy"]), "seed": expected["seed"]}
        expected["devices"] = list(
            client.pages("preview", "devices", most=None, **named, kind=expected["kind"])
        )
    if as_json:
        print_result(expected, True)
    else:
        _tell_moves(expected)
        if "waves" in expected:
            tell_plan(expected)
        if devices:
            rows = [
                (item["device_id"], item["runs"], None if item["reason"] else item["version"], item["reason"])
                for item in expected["devices"]
            ]
            click.echo(table(("DEVICE", "RUNS", "GETS", "LEFT OUT"), rows))
    if not expected["total"]:
        raise VerifyError("nothing would be done: every device is left out", "refused")


def _tell_moves(expected: dict[str, Any], *, to_stderr: bool = False) -> None:
    for move in sorted(expected["moves"], key=lambda move: -move["devices"]):
        line = f"{move['devices']:>7} device(s)  {move['runs'] or '?'} -> {move['version']}"
        click.echo(line, err=to_stderr)
    tell_left_out(expected["left_out"], to_stderr=to_stderr)
    tell_lab(expected["lab"], to_stderr=to_stderr)
    tell_second(expected, to_stderr=to_stderr)


def _tell_started(answer: dict[str, Any]) -> None:
    name = f"{answer['kind']} {answer['id']}"
    if answer["status"] == "planning":
        click.echo(f"{name}: taken; its devices are being planned, {answer['total']} so far")
        return
    if answer["status"] == "halted":
        click.echo(f"{name}: {HALTED}", err=True)
    click.echo(f"{name}: {', '.join(answer['versions'])} for {answer['total']} device(s)")
    tell_left_out(answer["left_out"], to_stderr=True)
    tell_lab(answer["lab"], to_stderr=True)


@rollout.command("show")
@click.argument("number", type=Whole())
@click.option("--devices", is_flag=True, help=f"List all devices, not only the first {SHOWN}.")
@click.option("--state", metavar="STATE", help="List only devices in this state; several: with commas.")
@click.option("--left-out", "left_out", is_flag=True, help="List the devices that it left out, with reasons.")
@connected
def show_rollout(
    client: OperatorClient, number: int, devices: bool, state: str | None, left_out: bool, as_json: bool
) -> None:
    """Show rollout NUMBER: how far it is, who was left out, its devices.

    Example: fota rollout show 7 --state failed,reverted --devices
    """
    answer = client.get(f"rollouts/{number}")
    limit = None if devices else SHOWN
    path = f"rollouts/{number}/{'left-out' if left_out else 'devices'}"
    listed = list(client.pages(path, "devices", most=limit, state=None if left_out else state))
    if as_json:
        print_result(answer | {"left_out_devices" if left_out else "devices": listed}, True)
        return
    click.echo(f"{answer['kind']} {number} of {', '.join(answer['versions']) or '-'} for {answer['scope']}")
    click.echo(f"started {date(answer['created_at'])} by {answer['created_by']}")
    if answer["ended_at"]:
        click.echo(f"ended   {date(answer['ended_at'])}: {answer['status']}")
    click.echo(progress_line(answer))
    if answer["status"] == "halted":
        click.echo(HALTED)
    tell_waves(answer)
    tell_lab(answer["lab"])
    tell_comparison(answer["comparison"])
    tell_left_out(answer["left_out"])
    if answer["not_covered"]:
        click.echo(f"not covered: {answer['not_covered']} device(s) that joined the group later")
    if left_out:
        click.echo(table(("DEVICE", "LEFT OUT"), [(item["device_id"], item["reason"]) for item in listed]))
        return
    rows = [
        (item["device_id"], item["version"], item["state"], ago(item["updated_at"]), item["reason"])
        for item in listed
    ]
    click.echo(table(("DEVICE", "VERSION", "STATE", "SINCE", "REASON"), rows))
    if limit is not None and len(listed) == limit and answer["total"] > limit:
        click.echo(f"the first {limit} of them; --devices lists all")


@rollout.command("list")
@connected
def list_rollouts(client: OperatorClient, as_json: bool) -> None:
    """List all rollouts and rollbacks, newest first."""
    listed = list(client.pages("rollouts", "rollouts"))
    if as_json:
        print_result({"rollouts": listed}, True)
        return
    rows = [
        (
            item["id"],
            item["kind"],
            ", ".join(item["versions"]),
            item["scope"],
            item["status"],
            f"{item['progress']['confirmed']}/{item['total']}",
            date(item["created_at"]),
        )
        for item in listed
    ]
    click.echo(table(("NUMBER", "KIND", "VERSION", "SCOPE", "STATUS", "CONFIRMED", "STARTED"), rows))


@rollout.command("pause")
@click.argument("number", type=Whole())
@connected
def pause(client: OperatorClient, number: int, as_json: bool) -> None:
    """Offer rollout NUMBER to no further device, until it is resumed."""
    _change(client, number, "pause", as_json)


@rollout.command("resume")
@click.argument("number", type=Whole())
@connected
def resume(client: OperatorClient, number: int, as_json: bool) -> None:
    """Let rollout NUMBER go on."""
    _change(client, number, "resume", as_json)


@rollout.command("cancel")
@click.argument("number", type=Whole())
@yes_option
@connected
def cancel(client: OperatorClient, number: int, yes: bool, as_json: bool) -> None:
    """End rollout NUMBER for good: it is offered to no further device.

    Devices that have confirmed keep what they run. One that has installed it may still start it.
    """
    shown = client.get(f"rollouts/{number}")
    if not yes and sys.stdin.isatty() and shown["total"] > 1:
        click.echo(progress_line(shown), err=True)
        click.confirm(f"cancel {shown['kind']} {number}?", abort=True, err=True)
    _change(client, number, "cancel", as_json)


def _change(client: OperatorClient, number: int, verb: str, as_json: bool) -> None:
    answer = client.post(f"rollouts/{number}/{verb}", shown_by=f"fota rollout show {number}")
    print_result(answer, as_json, f"rollout {number}: {progress_line(answer)}")
