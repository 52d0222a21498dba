"""docs/agent.md, typed in: its shell blocks in one shell, in an empty folder."""

import os
import re
import shutil
import socket
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
    blocks.insert(1, blocks[0])  # typed twice, it goes on with what is there
    script = (
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
        + "\n".join(blocks)
        + "\nwait\n"
    )
    script = script.replace("/usr/lib/softhsm/libsofthsm2.so", hsm.module)
    for option, port in (("--port", "8443"), ("--operator-port", "8444")):  # they may be taken here
        with socket.create_server(("localhost", 0)) as probe:
            free = str(probe.getsockname()[1])
        assert port in script
        script = script.replace(port, free).replace("server init ", f"server init {option} {free} ")
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


@pytest.mark.parametrize("name", ["fota-gateway.service", "fota-agent.service"])
def test_unit_files_are_what_systemd_takes_and_the_page_shows(name, tmp_path):
    unit = PAGE.parent / name
    assert name in PAGE.read_text()
    if name == "fota-gateway.service":
        assert f"```ini\n{unit.read_text()}```" in PAGE.read_text()
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: install Debian's package systemd")
    here = shutil.which("true")
    (tmp_path / name).write_text(unit.read_text().replace("/opt/fota/bin/fota", here))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / name],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert name not in done.stderr, done.stderr
