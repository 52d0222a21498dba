"""docs/ci.md, typed in on the server and device of docs/release.md (its sections 1 to 4)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]


def blocks_of(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", (REPO / page).read_text(), re.MULTILINE | re.DOTALL)


def test_page_leads_from_a_commit_to_a_published_and_rehearsed_release(tmp_path):
    if not (REPO / "build/sample/app-1.1.0.elf").exists():
        pytest.skip("no sample application: make firmware")
    before = blocks_of("docs/release.md")[:5]  # keys, server certificate, server, first release, device
    secrets = "export IMAGE_KEY=$(cat image-a.pem) CI_KEY=$(cat release-ci.pem)"
    blocks = [
        *before,
        secrets,
        *blocks_of("docs/ci.md"),
        "fota release list",
        "echo the fleet:; fota device list",
        "cmp sensor.vdev rehearsal.vdev",
    ]
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(blocks)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**clean, "PATH": path, "BUILD": str(REPO / "build")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr  # cmp: the rehearsal was the copy's alone
    assert "differ" in done.stdout
    listed = done.stdout[done.stdout.rindex("1.0.0") - 400 :]
    assert "1.1.0" in listed
    assert "fota-boot: slot B 1.1.0 trial" in done.stdout
    assert "not checked" not in done.stdout + done.stderr
    _, fleet = done.stdout.split("the fleet:")
    assert "1.0.0" in fleet
    assert "1.1.0" not in fleet, "the server takes the copy for the device"
