"""docs/application.md, typed in: its shell blocks in one shell, in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bootloader_make import ROOT, make
from lifeline import HANG_S


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake: Debian's package cmake")
def test_page_leads_from_a_small_application_to_its_first_update(tmp_path: Path) -> None:
    make("bootloader")
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/application.md").read_text(), re.M | re.S)
    assert len(blocks) == 5
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("FOTA", "MAKE", "MFLAGS"))
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = "set -euo pipefail\n" + "\necho NEXT BLOCK\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**clean, "PATH": path, "FOTA": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *_, factory, update = done.stdout.split("NEXT BLOCK")
    assert "fota-boot: slot A 1.0.0 confirmed" in factory
    assert [line for line in update.splitlines() if "slot" in line and line.startswith("fota-boot")] == [
        "fota-boot: slot A 1.0.0 confirmed",
        "fota-boot: slot B 1.1.0 trial",
        "fota-boot: slot B 1.1.0 confirmed",
    ]
