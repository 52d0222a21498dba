"""docs/release.md, typed in: its shell blocks in one shell, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lifeline import HANG_S

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]


def test_page_leads_from_own_keys_to_a_rollback(tmp_path):
    if not (REPO / "build/sample/app-1.1.0.elf").exists():
        pytest.skip("no sample application: make firmware")
    page = (REPO / "docs/release.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(blocks)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**clean, "PATH": path, "BUILD": str(REPO / "build")},
        capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fota-boot: slot B 1.1.0 trial" in done.stdout
    shown = done.stdout[done.stdout.rindex("\ndevice     ") :]
    assert "running    1.0.0 in slot A, confirmed" in shown
    assert "wanted     1.0.0 by rollout 2, confirmed" in shown
