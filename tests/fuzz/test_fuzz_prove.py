"""What runs the proofs: no clock ends one, it says what it is at, and it leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import prove

PROVE = Path(prove.__file__)
SLOW = "echo Solving; sleep 1; echo VERIFICATION SUCCESSFUL"


def test_slow_proof_is_waited_for_and_says_what_it_is_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prove, "BREATH_S", 0.2)
    assert prove.run(["sh", "-c", SLOW], "slow") == (True, ["Solving", "VERIFICATION SUCCESSFUL"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("slow       ...")
    assert said[0].endswith("Solving")


@pytest.mark.parametrize(
    "script", ["exit 0", "echo VERIFICATION FAILED", "echo VERIFICATION SUCCESSFUL; exit 6"]
)
def test_proof_that_does_not_say_so_and_end_well_does_not_hold(script: str) -> None:
    assert prove.run(["sh", "-c", script], "bad")[0] is False


def test_proof_that_takes_too_much_memory_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "MOST_MEMORY", 1 << 30)
    hungry = [sys.executable, "-c", "bytearray(2 << 30); print('VERIFICATION SUCCESSFUL')"]
    holds, seen = prove.run(hungry, "hungry")
    assert (holds, seen[-1]) == (False, "MemoryError")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_run_that_is_ended_from_outside_leaves_no_process(tmp_path: Path, how: signal.Signals) -> None:
    """The prover here is a script that would go on for an hour."""
    prover, pid_file = tmp_path / "cbmc", tmp_path / "pid"
    prover.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && exec echo 6.0.0\necho $$ > {pid_file}\nexec sleep 3600\n"
    )
    prover.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, str(PROVE), "der"], env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL
    ) as process:
        while not (pid_file.exists() and pid_file.read_text().strip()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
    child = Path("/proc") / pid_file.read_text().strip()
    while child.exists() and "\nState:\tZ" not in (child / "status").read_text():
        time.sleep(0.02)
