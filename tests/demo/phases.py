"""``make demo [CHIP=NAME]``: prepares in phases, each with number, expected time and a log of its own; then
the story, of one chip.

Needs nothing but Python: it is what installs the rest.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests"))

from kits import why_no_story  # noqa: E402
from lifeline import hold  # noqa: E402

from fota_wire.host_chips import CHIPS, DEFAULT  # noqa: E402

LOGS = REPO / "build" / "logs"
SAY_S = 15
TAIL = 20
STORY = ".venv/bin/python", "tests/demo/demo.py", "build/demo"
PHASES = (  # name, what for, expected time where all is new, targets of make
    ("tools", "compilers, SoftHSM2 and such, from Debian", "1 to 3 min", ("toolchain", "oracles")),
    ("python", "a virtual environment with our libraries", "1 min", (".venv/.ready",)),
    ("bootloader", "bootloader and sample application", "1 min", ("firmware",)),
    ("firmware", "MicroPython, mbedTLS and the agent, for the chips", "4 min", ("agent-firmware-if-any",)),
)


def main(chip: str = DEFAULT) -> int:
    """Run all phases for a chip; return the exit code."""
    if why := why_no_story(chip):
        print(f"demo: {why}", file=sys.stderr)
        return 2
    hold()
    LOGS.mkdir(parents=True, exist_ok=True)
    total = len(PHASES) + 1
    picture = Path(__file__).with_name("picture.txt").read_text()
    print(picture.replace("CHIP", CHIPS[chip].TITLE))
    print(f"{total} phases; what was built before is not built again. The compilers' words go into")
    print(f"{LOGS.relative_to(REPO)}/.\n", flush=True)
    for number, (name, what, expected, targets) in enumerate(PHASES, 1):
        print(f"[{number}/{total}] {name:10}  {what} (new: {expected})", flush=True)
        code = prepare(LOGS / f"{name}.log", targets)
        if code:
            return code
    print(f"[{total}/{total}] {'story':10}  what this is about (3 to 5 min)", flush=True)
    return subprocess.run((*STORY, chip), cwd=REPO).returncode


def prepare(log: Path, targets: tuple[str, ...]) -> int:
    """Make ``targets``; tell how it goes, and the end of the log if it fails."""
    began = said = time.monotonic()
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = [os.environ.get("MAKE") or shutil.which("make") or "make", "--no-print-directory", *targets]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=REPO, stdout=out, stderr=subprocess.STDOUT, env=env)
    while process.poll() is None:
        time.sleep(0.2)
        if time.monotonic() - said >= SAY_S:
            said = time.monotonic()
            print(f"      {said - began:4.0f} s  {last_line(log)}", flush=True)
    if process.returncode:
        print(f"demo: this did not work. The end of {log.relative_to(REPO)}:", file=sys.stderr)
        lines = log.read_text(errors="replace").splitlines()[-TAIL:]
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
        return 1
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("make: without") or "unavailable" in line:
            print(f"      {line}", flush=True)
    return 0


def last_line(log: Path) -> str:
    """Return the last line of a log, short enough for the terminal."""
    lines = log.read_text(errors="replace").splitlines() or [""]
    return "".join(character for character in lines[-1] if character.isprintable())[:64]


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:2]))
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        sys.exit(130)
