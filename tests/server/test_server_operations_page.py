"""docs/operations.md, typed in: its shell blocks in one shell, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

from lifeline import HANG_S

PAGE = Path(__file__).parents[2] / "docs/operations.md"


def test_page_leads_from_day_one_through_a_restore_and_a_renewal(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(blocks)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**clean, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("audit trail   whole, head ") == 3
    assert "first-operator                   admin      revoked" in done.stdout
    assert "srv is as the server was on " in done.stdout.replace(str(tmp_path) + "/", "")
    assert "token.revoke" in done.stdout.rpartition("audit trail")[2]
    assert (tmp_path / "backup-1" / "backup.json").stat().st_mode & 0o777 == 0o600
