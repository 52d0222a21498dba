"""A rehearsal of one pair of releases of the sample application, as whole processes, on all cores."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
CUTS = 200
BUDGETS = {"rehearse_pair_ms": 10_000, f"rehearse_{CUTS}_cuts_ms": 60_000}
WHOM = ("--vendor-domain", "example.com", "--model", "board")
KNOWN = {"FOTA_ALLOW_EXAMPLE_KEYS": "1"}


def measure() -> dict[str, float]:
    """Milliseconds of `fota rehearse` without cuts, and with them."""
    for what in ("bootloader", "sample VERSION=1.0.0", "sample VERSION=1.1.0"):
        subprocess.run(
            ["make", "-s", "-C", str(REPO / "bootloader"), "PORT=stm32l4", *what.split()],
            check=True, capture_output=True,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fota(folder, "keys", "example", "keys")
        three = [w for n in "123" for w in ("--root-key", f"keys/root-{n}.pub.pem",
                                            "--release-key", f"keys/release-{n}.pub.pem")]  # fmt: skip
        _fota(folder, "root", "new", "-o", "root.cbor", "--assign-key", "keys/assign.pub.pem", *three,
              "--sign", "keys/root-1.pem", "--sign", "keys/root-2.pem")  # fmt: skip
        for number, version in enumerate(("1.0.0", "1.1.0"), 1):
            _release(folder, version, number)
        line = ("rehearse", "release-1.1.0", "--from", "release-1.0.0", "--root", "root.cbor",
                "--bootloader", str(REPO / "build/bootloader/stm32l4/bootloader.elf"),
                "--image-key-a", "keys/image-a.pub.pem", "--image-key-b", "keys/image-b.pub.pem")  # fmt: skip
        return {
            what: _fota(folder, *line, "--cuts", cuts)
            for what, cuts in zip(BUDGETS, ("0", str(CUTS)), strict=True)
        }


def _release(folder: Path, version: str, sequence: int) -> None:
    elf = str(REPO / f"build/sample/app-{version}.elf")
    _fota(folder, "sign", elf, "-o", "app.img", "--key", "keys/image-a.pem", "--version", version,
          "--security-counter", "1", "--force", *WHOM)  # fmt: skip
    _fota(folder, "manifest", "new", "app.img", "-o", f"{version}.0", "--sequence", str(sequence), *WHOM)
    _fota(folder, "manifest", "sign", f"{version}.0", "--key", "keys/release-1.pem", "-o", f"{version}.1")
    _fota(folder, "manifest", "sign", f"{version}.1", "--key", "keys/release-2.pem", "-o", f"{version}.suit")
    _fota(folder, "agent", "card", "app.img", f"{version}.suit", "-o", f"release-{version}")


def _fota(folder: Path, *words: str) -> float:
    command = [str(Path(sys.executable).parent / "fota"), *words]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env={**os.environ, **KNOWN}, check=True, capture_output=True)
    return round((time.perf_counter() - started) * 1000)
