"""docs/agent.md, typed in: its shell blocks in one shell, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lifeline import HANG_S

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs/agent.md"


def test_page_takes_a_new_user_to_a_first_update(hsm, tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    script = (
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
        + "\n".join(blocks)
        + "\nwait\n"
    )
    script = script.replace("/usr/lib/softhsm/libsofthsm2.so", hsm.module)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("FOTA", "SOFTHSM"))
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**environment, "PATH": path},
        capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "confirmed  1.1.0" in done.stdout
    assert 'published  climate {"t": 21.5, "version": "1.1.0"}' in done.stdout
    assert (tmp_path / "gateway.log").read_text().splitlines()[
        -1
    ] == "launch: slot A 1.0.0, trial, tries left 2"
