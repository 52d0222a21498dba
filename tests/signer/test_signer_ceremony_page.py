"""docs/ceremony.md, typed in: three ROOTs by four tokens; who begins with the first takes the others."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hsm import MODULES

from fota_wire import host_crypto
from fota_wire import root as roots
from fota_wire.errors import VerifyError

REPO = Path(__file__).parents[2]


def kid_of(folder: Path, name: str) -> bytes:
    shown = subprocess.run(
        [Path(sys.executable).parent / "fota", "keys", "show", folder / name, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return bytes.fromhex(re.search(r'"kid": "(\w+)"', shown.stdout)[1])


def test_page_leads_from_empty_tokens_to_a_root_that_a_device_follows(tmp_path):
    if not Path(MODULES[0]).exists():
        pytest.skip("no SoftHSM2: install Debian's package softhsm2")
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (REPO / "docs/ceremony.md").read_text(), re.MULTILINE | re.DOTALL
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FOTA", "SOFTHSM2"))}
    environment = {**clean, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = ["bash", "-c", "set -euo pipefail\n" + "\n".join(blocks)]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    raw = {number: (tmp_path / f"root-{number}.cbor").read_bytes() for number in (1, 2, 3)}
    first = roots.open_genesis(raw[1], host_crypto.verify)
    second = roots.step(first, raw[2], host_crypto.verify)
    third = roots.step(second, raw[3], host_crypto.verify)
    with pytest.raises(VerifyError):  # none is left out
        roots.step(first, raw[3], host_crypto.verify)

    lost, came = (kid_of(tmp_path, f"holder-{n}/root.pub.pem") for n in (2, 4))
    assert [lost in one.role_keys(roots.ROOT) for one in (first, second, third)] == [True, False, False]
    assert [came in one.role_keys(roots.ROOT) for one in (first, second, third)] == [False, True, True]
    stolen, new = (kid_of(tmp_path, f"release-{name}.pub.pem") for name in ("ci", "new"))
    assert [stolen in one.role_keys(roots.RELEASE) for one in (second, third)] == [True, False]
    assert [new in one.role_keys(roots.RELEASE) for one in (second, third)] == [False, True]
    assert (third.min_sequence, third.min_secver, len(third.revoked)) == (12, 3, 1)
    assert not [file for file in tmp_path.rglob("*.pem") if b"PRIVATE" in file.read_bytes()]
    pins = [file.read_text().strip() for file in (tmp_path / "pin", *tmp_path.glob("holder-*/pin"))]
    assert not [pin for pin in pins if pin in done.stdout + done.stderr]
