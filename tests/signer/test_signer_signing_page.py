"""docs/signing.md, typed in, with SoftHSM2 for the HSM and openssl for the room without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hsm import MODULES

from fota_wire import suit

REPO = Path(__file__).parents[2]


def test_page_leads_from_an_empty_token_to_a_release_signed_in_three_places(tmp_path):
    if not Path(MODULES[0]).exists():
        pytest.skip("no SoftHSM2: install Debian's package softhsm2")
    if not (REPO / "build/sample/app-1.0.0.elf").exists():
        pytest.skip("no sample application: make firmware")
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (REPO / "docs/signing.md").read_text(), re.MULTILINE | re.DOTALL
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FOTA", "SOFTHSM2"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**clean, "PATH": path, "BUILD": str(REPO / "build")}
    script = ["bash", "-c", "set -euo pipefail\n" + "\n".join(blocks)]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    signers = {
        name: {signature.kid for signature in suit.parse_envelope((tmp_path / name).read_bytes()).signatures}
        for name in ("app.suit0", "app.suit1", "app.suit", "by-room.suit")
    }
    assert [len(kids) for kids in signers.values()] == [0, 1, 2, 1]
    assert signers["app.suit"] == signers["app.suit1"] | signers["by-room.suit"]
    assert "1 of 2 necessary signatures" in done.stdout  # of ROOT, when one token had signed
    assert "1 more needed" in done.stdout  # of the manifest
    private = [file.name for file in tmp_path.glob("*.pem") if b"PRIVATE" in file.read_bytes()]
    assert private == ["theirs.pem"]
    assert (tmp_path / "pin").read_text().strip() not in done.stdout + done.stderr
