"""Builds of the bootloader as tests ask for them: one process at a time, all in one build directory."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"


def make(*arguments: str, port: str = "stm32l4") -> None:
    """Build one thing for a port; workers of a parallel run share the build directory, hence the lock."""
    command = ["make", "-C", str(ROOT / "bootloader"), f"PORT={port}", f"PYTHON={sys.executable}", *arguments]
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "bootloader.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.fail(f"make {' '.join(arguments)}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
