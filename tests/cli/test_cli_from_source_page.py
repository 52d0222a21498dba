"""docs/from-source.md, typed in: from C to a device that takes nothing less than all of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bootloader_make import ROOT, make
from hsm import MODULES
from lifeline import HANG_S

BLOCKS = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "docs/from-source.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.slow
def test_page_leads_from_a_program_in_c_to_a_device_that_runs_it(tmp_path: Path) -> None:
    if not Path(MODULES[0]).exists():
        pytest.skip("no SoftHSM2: install Debian's package softhsm2")
    make("bootloader")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FOTA", "MAKE", "MFLAGS", "GIT", "SOFTHSM2"))
    }
    names = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")]
    who = dict.fromkeys(names, "x@example.com") | {"GIT_CONFIG_GLOBAL": os.devnull}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    done = subprocess.run(
        ["bash", "-c", script + "\necho NEXT BLOCK\n".join(BLOCKS)],
        cwd=tmp_path,
        env={**clean, **who, "PATH": path, "FOTA": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, ordered, afterwards = done.stdout.split("NEXT BLOCK")
    assert "release 1.1.0 is not rehearsed: " in done.stderr
    assert "release-1.1.0 is complete" in ordered
    before, after = ordered.split("release 1.1.0: attestation verified")
    assert "rollout" not in before
    assert re.search(r"1\.1\.0 +confirmed", after), after
    assert "2 release(s), 2 new; none hidden, none changed" in afterwards
    assert "2 releases, run by 1 devices" in afterwards
    assert (tmp_path / "evidence.tar").stat().st_size
    private = [file for file in (tmp_path / "product").rglob("*.pem") if b"PRIVATE" in file.read_bytes()]
    assert private == []
    assert (tmp_path / "pin").read_text().strip() not in done.stdout + done.stderr
