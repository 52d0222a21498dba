"""What a test run has started does not outlive it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import lifeline
import pytest

SLEEPER = """
import signal, subprocess, sys, time
import lifeline
for heard in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):  # nohup, cron and a shell's "&" leave some deaf
    signal.signal(heard, signal.SIG_DFL)
lifeline.hold()
sleep = "import time; time.sleep(1e6)"
starter = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]);" + sleep
child = subprocess.Popen([sys.executable, "-c", starter, sleep])
print("started", flush=True)
time.sleep(1e6)
"""


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_run_that_is_ended_from_outside_leaves_no_process_behind(sig: int) -> None:
    env = {name: value for name, value in os.environ.items() if name != lifeline.MARK}
    env["PYTHONPATH"] = str(Path(lifeline.__file__).parent)
    run = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert run.stdout
    run.stdout.readline()
    family = lifeline.until(lambda: family_of(run.pid), "a grandchild", run)
    run.send_signal(sig)
    run.wait()
    run.stdout.close()
    lifeline.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def family_of(parent: int) -> set[int]:
    """Children and grandchildren, once there are both."""
    children = children_of(parent)
    grandchildren = children_of(*children)
    return children | grandchildren if grandchildren else set()


def children_of(*parents: int) -> set[int]:
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) in parents and b"lifeline.py" not in command:
            found.add(int(stat.parent.name))
    return found
