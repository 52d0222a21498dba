"""docs/hawkbit.md, typed in: its shell blocks in one shell, in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lifeline import HANG_S

REPO = Path(__file__).parents[2]


def test_page_leads_from_an_enrolled_device_to_what_it_says(tmp_path: Path) -> None:
    if not (REPO / "build/sample/app-1.1.0.elf").exists():
        pytest.skip("no sample application: make firmware")
    if not shutil.which("curl"):
        pytest.skip("no curl: make oracles")
    page = (REPO / "docs/hawkbit.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(blocks)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**clean, "PATH": path, "BUILD": str(REPO / "build")},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "press-17.token").stat().st_mode & 0o777 == 0o600
    token = (tmp_path / "press-17.token").read_text().strip()
    assert token not in done.stdout + done.stderr + (tmp_path / "server.log").read_text()
    shown = done.stdout[done.stdout.rindex("\ndevice ") :]
    assert re.search(r"says it runs +1\.1\.0, ", shown)
    assert re.search(r"running +- \(a DDI device cannot prove what it runs\)", shown)
    assert re.search(r"wanted +1\.1\.0 by rollout 1, said", shown)
