"""docs/rehearsal.md, typed in: its ```sh blocks in one shell; its stand-ins are read by who reads them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bootloader_make import ROOT, make
from lifeline import HANG_S

from fota_vdev import stand_in
from fota_wire import host_rehearsal
from fota_wire.cose import kid_of
from fota_wire.host_crypto import load_public_key
from fota_wire.suit import unsafe_read_manifest

PAGE = (ROOT / "docs/rehearsal.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_page_leads_from_two_releases_to_an_attestation_that_verifies(tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0", "1.3.0"):
        make("bootloader", "sample", f"VERSION={version}")
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("FOTA", "MAKE", "MFLAGS"))
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\necho NEXT BLOCK\n".join(blocks("sh"))], cwd=tmp_path,
        env={**clean, "PATH": path, "BUILD": str(ROOT / "build")},
        capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.split("NEXT BLOCK")
    assert "1.1.0: passed; attestation in rehearsal.json" in first
    assert (
        "no way back: the floor is 2 now, and its security counter 1 (if that is meant: --no-way-back)"
        in second
    )
    assert second.rstrip().endswith("1.3.0: passed")
    manifest = unsafe_read_manifest((tmp_path / "release-1.1.0/manifest.suit").read_bytes())
    public = load_public_key(tmp_path / "evidence.pub.pem", "evidence")
    predicate = host_rehearsal.require(
        (tmp_path / "rehearsal.json").read_bytes(), "it", {kid_of(public): public}, manifest.digest,
        manifest.manifest_digest,
    )  # fmt: skip
    assert predicate["setting"] == {"seed": 7, "cuts": 20, "way_back": True}


def test_stand_ins_of_the_page_are_stand_ins(tmp_path: Path) -> None:
    for language, name in (("toml", "adc.toml"), ("python", "adc.py")):
        (tmp_path / name).write_text(blocks(language)[0])
        (one,) = stand_in.load(tmp_path / name)
        one.reset()
        one.write(0x08, 1)
        assert (one.name, one.base, one.read(0x40)) == ("ADC1", 0x50040000, 1234)
