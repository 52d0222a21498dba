"""A SoftHSM2 for tests of gateways and of the server's signer."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so")
PIN = "493827"


class Hsm:
    """A SoftHSM2 of its own; ``environment`` leads to it."""

    def __init__(self, folder: Path) -> None:
        self.module = next((path for path in MODULES if Path(path).exists()), None)
        if self.module is None or shutil.which("softhsm2-util") is None:
            pytest.skip("no SoftHSM2: install Debian's package softhsm2")
        (folder / "tokens").mkdir(parents=True)
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
        self.environment = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
        self.pin_file = folder / "pin"
        self.pin_file.write_text(PIN + "\n")
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "fota",
            "--pin",
            PIN,
            "--so-pin",
            PIN,
        ]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **self.environment})


@cache
def of_process() -> Hsm:
    """Return the one that this process may use: a module is loaded once, with the tokens of then."""
    folder = tempfile.TemporaryDirectory()
    made = Hsm(Path(folder.name) / "hsm")
    made.keep = folder
    os.environ.update(made.environment)
    return made
