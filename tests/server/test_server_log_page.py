"""docs/log.md, typed in: its shell blocks in one shell, beside a server with two releases."""

import os
import re
import subprocess
import sys
from pathlib import Path

from lifeline import HANG_S
from server_world import Server

PAGE = Path(__file__).parents[2] / "docs/log.md"


def test_page_leads_from_a_first_look_to_what_a_witness_signed(server: Server, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "srv").symlink_to(server.data)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"FOTA_SERVER": server.operator_url, "FOTA_TOKEN": server.token}
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(blocks)],
        cwd=tmp_path,
        env={**clean, "PATH": path, **ours, "FOTA_CA": str(server.keys.server_ca)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "3 release(s), 3 new; none hidden, none changed" in done.stdout
    assert "witness.example.com/fota signed fota-log/" in done.stdout
    assert done.stdout.rstrip().endswith("3 release(s), 0 new; none hidden, none changed")
    assert (tmp_path / "witness.key").stat().st_mode & 0o777 == 0o600
