"""The commands as a factory types them, each in its own process."""

import os
import subprocess
import sys

PASSWORD = "correct horse"


def fota(*words, code=0, password=PASSWORD, cwd=None):
    """Run the command in its own process; return (stdout, stderr)."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FOTA_")}
    if password:
        env["FOTA_KEY_PASSWORD"] = password
    done = subprocess.run(
        [sys.executable, "-m", "fota_cli", *map(str, words)],
        capture_output=True, text=True, env=env, cwd=cwd, timeout=170, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def one_line(stderr):
    lines = [line for line in stderr.splitlines() if line.startswith("fota: error: ")]
    assert len(lines) == 1, stderr
    return lines[0]
