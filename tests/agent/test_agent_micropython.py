"""One source, several interpreters: what of the agent's suites needs no pytest, on MicroPython too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from lifeline import HANG_S

from fota_wire import host_crypto

REPO = Path(__file__).parents[2]
MICROPYTHON = REPO / "build/agent-firmware/unix/micropython"


def signatures():
    """Return [(x||y, digest, r||s, right)] in hex, from OpenSSL."""
    cases = []
    for number in range(1, 13):
        key = ec.derive_private_key(number**40 + 1, ec.SECP256R1())
        digest = bytes([number]) * 32
        signature = bytearray(host_crypto.signer(key)(digest))
        good = number % 3 != 0
        signature[number * 5] ^= not good
        cases.append((host_crypto.public_xy(key).hex(), digest.hex(), signature.hex(), good))
    return cases


@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_suite_without_pytest(interpreter, tmp_path):
    program = Path(sys.executable)
    if interpreter == "micropython":
        why = REPO / "build/micropython/unavailable"
        if why.exists():
            pytest.skip(why.read_text().strip())
        if not MICROPYTHON.exists():
            pytest.skip("no MicroPython for this machine: make agent-firmware")
        program = MICROPYTHON
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload/x").write_bytes(b"abcdef")
    lies = json.loads((REPO / "tests/vectors/lies.json").read_text())
    orders, genesis = (
        json.loads((REPO / f"tests/vectors/{n}.json").read_text()) for n in ("assignment", "root")
    )
    table = {"signatures": signatures(), "lies": lies, "card": str(tmp_path)}
    table |= {"orders": orders, "genesis": genesis[0]["hex"]}
    (tmp_path / "cases.json").write_text(json.dumps(table))
    command = [program, REPO / "tests/agent/micropython_suite.py", REPO, tmp_path / "cases.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.stdout.strip() == f"ok {interpreter} {len(lies['cases'])} 12", done.stdout + done.stderr
