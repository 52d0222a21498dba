"""The root of the ``fota`` command: finds each package's commands by name, when they are called."""

import difflib
import importlib
import os
import re

import click
from click.exceptions import NoArgsIsHelpError

from fota_cli import net
from fota_cli.examples import EXAMPLES

COMMANDS: dict[str, tuple[str, str]] = {
    # command: (module:object, one line for --help, so that help imports nothing)
    "keys": ("fota_signer.keys_cli:keys", "Make and show keys."),
    "root": ("fota_signer.root_cli:root", "Make and show the ROOT document that names all other keys."),
    "sign": ("fota_signer.cli:sign", "Pack and sign a firmware image."),
    "strip": ("fota_signer.cli:strip", "Take the firmware out of a signed image."),
    "sign-list": ("fota_signer.cli:sign_list", "Pack and sign many firmware images by one key."),
    "verify": ("fota_signer.cli:verify", "Check a signed image as the bootloader does."),
    "inspect": ("fota_signer.cli:inspect", "Show what a file of ours contains."),
    "manifest": ("fota_signer.manifest_cli:manifest", "Make, sign and check the manifest of a release."),
    "server": ("fota_server.cli:server", "Run the update server."),
    "campaign": ("fota_signer.campaign_cli:campaign", "Say which devices a release may reach, and when."),
    "login": ("fota_cli.login:login", "Sign in by an identity provider (OpenID Connect)."),
    "release": ("fota_cli.operator:release", "Build, check, publish, list and withdraw releases."),
    "log": ("fota_cli.log:log", "Check that no release was hidden, taken back or changed."),
    "rehearse": ("fota_cli.rehearse:rehearse", "Play a release on virtual devices, and attest it."),
    "rollout": (
        "fota_cli.rollouts:rollout",
        "Plan, start, watch, pause, approve and cancel rollouts, or stop all.",
    ),
    "rollback": (
        "fota_cli.rollouts:rollback",
        "Send a device, a group or a rollout's devices back to an earlier release.",
    ),
    "policy": ("fota_cli.policy:policy", "Show and set what holds for every order."),
    "approval": ("fota_cli.approvals:approval", "Show, give and deny what takes a second person."),
    "device": ("fota_cli.operator:device", "List, show and revoke devices."),
    "ddi": ("fota_cli.ddi:ddi", "Serve devices that speak hawkBit's device API."),
    "group": ("fota_cli.groups:group", "Make groups of devices."),
    "audit": ("fota_cli.audit:audit", "Export the audit trail, and check one that was exported."),
    "events": ("fota_cli.events:events", "Print what has changed, and what changes."),
    "webhook": ("fota_cli.webhooks:webhook", "Have other programs told of what changes."),
    "ca": ("fota_signer.factory.cli:ca", "Make and show the device CA of a factory."),
    "provision": ("fota_cli.provision:provision", "Take blank chips to locked, paired, certified devices."),
    "agent": ("fota_cli.agent:agent", "Run the update agent."),
    "gateway": ("fota_cli.gateway:gateway", "Set up a Linux gateway, and launch its program."),
    "vdev": ("fota_cli.vdev:vdev", "Create, provision and run virtual devices."),
}

SHOWN = 3
_ROOT_ONLY = ("-v", "--verbose", "-q", "--quiet")


class LazyRoot(click.Group):
    """A command group whose members are imported when they are called, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command.

        Raises:
            ModuleNotFoundError: the extra that the command needs is not installed.
        """
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        _add_examples(command, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _add_examples(command: click.Command, path: str) -> None:
    """Have the help of a command, and of all below it, end with an example."""
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            _add_examples(member, f"{path} {name}")
    elif path in EXAMPLES:
        command.epilog = f"\b\nExample: fota {EXAMPLES[path]}"  # whole: click would break options at hyphens


@click.group(cls=LazyRoot, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fota")
@click.option("-v", "--verbose", is_flag=True, help="Where an error comes from, too [FOTA_DEBUG=1].")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on standard error but errors.")
def cli(verbose: bool, quiet: bool) -> None:
    """Secure firmware updates: sign, publish, roll out, roll back, rehearse."""
    if verbose:
        os.environ[net.DEBUG] = "1"
    if quiet:
        net.be_quiet()


def command() -> int:
    """Run the command line of this process; return its exit code.

    Raises:
        BaseException: whatever the command raised, but click's own refusals, which are told here.
    """
    try:
        return int(cli.main(prog_name="fota", standalone_mode=False) or 0)
    except NoArgsIsHelpError as exc:
        exc.show()
        return exc.exit_code
    except click.UsageError as exc:
        where = exc.ctx.command_path if exc.ctx else "fota"
        return _refuse(f"{_said(exc)} (see '{where} --help')", exc.exit_code)
    except click.ClickException as exc:
        return _refuse(exc.format_message(), exc.exit_code)
    except click.Abort as exc:
        if isinstance(exc.__context__, EOFError):
            raise exc.__context__ from None
        raise KeyboardInterrupt from exc


def _refuse(message: str, code: int) -> int:
    net.complain(f"error: {net.one_line(message)}")
    return code


def _said(exc: click.UsageError) -> str:
    """Return what is wrong with a command line, and what was perhaps meant."""
    said, ctx = exc.format_message().rstrip("."), exc.ctx
    found = re.match("No such (command|option) '(.*?)'", said)
    if found is None or ctx is None:
        return said
    kind, word = found.groups()
    if kind == "option" and ctx.parent and word in _ROOT_ONLY:
        return f"{found[0]} here: it stands before the command, fota {word} ..."
    if kind == "option" or "Did you mean" in said:
        return said
    meant = _elsewhere(word) if ctx.parent is None else []
    if not meant and isinstance(ctx.command, click.Group):
        meant = difflib.get_close_matches(word, ctx.command.list_commands(ctx), 1, 0.5)
    return f"{said}. Did you mean {' or '.join(map(repr, meant))}?" if meant else said


def _elsewhere(word: str) -> list[str]:
    """Return what a word of ours is that is none of the root: an option, or commands and groups below it."""
    if word in ("help", "version"):
        return [f"fota --{word}"]
    found = [path.split() for path in EXAMPLES]
    meant = [" ".join(["fota", *path[: path.index(word) + 1]]) for path in found if word in path]
    return list(dict.fromkeys(meant))[:SHOWN]


def main() -> None:
    """Run the command line and end the process."""
    net.run(command)
