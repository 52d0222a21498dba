"""Entry of ``fota``: signing starts without the command-line library, everything else with it."""

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["sign"]:
        from fota_signer.sign_command import main as quick

        code = quick(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    from fota_cli.main import main as full

    full()
