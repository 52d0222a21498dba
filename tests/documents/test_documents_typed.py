"""The blocks of README and of docs/provisioning.md, typed in where docs/release.md leaves off."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lifeline import HANG_S

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]

WORLD = 5  # blocks of docs/release.md: keys, a CA, a server, release 1.0.0, a device that runs it
PILOTS = """
fota group create pilots
fota group add pilots $(fota device list --json | grep -o '[0-9a-f]\\{18\\}' | head -1)
cp $BUILD/sample/app-1.1.0.elf app.elf
fota agent run --vdev sensor.vdev > agent.log 2>&1 &
"""


def blocks(page: str) -> list[str]:
    """The shell blocks of a page, in order."""
    return re.findall(r"^```sh\n(.*?)^```", (REPO / page).read_text(), re.MULTILINE | re.DOTALL)


def typed(script: str, folder: Path) -> str:
    """Type a script into a shell in an empty folder; return what it said."""
    if not (REPO / "build/sample/app-1.1.0.elf").exists():
        pytest.skip("no sample application: make firmware")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    head = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    done = subprocess.run(
        ["bash", "-c", head + script], cwd=folder, env={**clean, "PATH": path, "BUILD": str(REPO / "build")},
        capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_release_of_the_readme_and_provisioning_do_what_they_say(tmp_path: Path) -> None:
    (readme,), (provisioning,) = blocks("README.md"), blocks("docs/provisioning.md")
    world = blocks("docs/release.md")[:WORLD]
    said = typed("\n".join([*world, PILOTS, readme, "echo PROVISIONING", provisioning]), tmp_path)
    release, factory = said.split("PROVISIONING\n")
    assert "fota-boot: slot B 1.1.0 trial" in (tmp_path / "agent.log").read_text()
    assert "1.1.0" in release
    assert "blank" in factory
    assert "WRP1A_END=0x07" in factory
    assert (tmp_path / "board.hex").exists()
