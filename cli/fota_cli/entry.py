"""Entry of ``fota``: signing starts without the command-line library, everything else with it."""

import sys

from fota_cli import net


def main() -> None:
    """Run the command line."""
    net.prepare_streams()
    net.run(_command)


def _command() -> int | None:
    if sys.argv[1:2] == ["sign"]:
        from fota_signer.sign_command import main as quick

        code = quick(sys.argv[2:])
        if code is not None:
            return code
    from fota_cli.main import command

    return command()
