"""R8 on Linux: through a whole update nothing listens, by the kernel's own account of every system call."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from gateway_world import FOTA, booted
from lifeline import HANG_S, until

pytestmark = pytest.mark.slow

PORT = re.compile(r"sin6?_port=htons\((\d+)\)")


@pytest.fixture
def strace(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("no strace: install Debian's package strace")
    probe = ["strace", "-f", "-o", str(tmp_path / "probe"), "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace here")
    return lambda name: ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(tmp_path / name)]


class Sockets(threading.Thread):
    """Watches the kernel's socket tables for listeners that belong to ``pids`` and their children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.roots, self.found, self.looks, self.running = set(), [], 0, True

    def run(self):
        while self.running:
            listening = self._listening()
            for pid in self._family():
                self.found += [(pid, inode) for inode in self._sockets(pid) & listening]
            self.looks += 1
            time.sleep(0.02)

    @staticmethod
    def _listening():
        rows = []
        for name in ("tcp", "tcp6"):
            rows += [line.split() for line in Path("/proc/net", name).read_text().splitlines()[1:]]
        listening = {row[9] for row in rows if row[3] == "0A"}
        for name in ("udp", "udp6"):  # a bound UDP socket without a peer is as good as one
            rows = [line.split() for line in Path("/proc/net", name).read_text().splitlines()[1:]]
            listening |= {row[9] for row in rows if row[3] == "07"}
        return listening

    def _family(self):
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        family = set(self.roots)
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return family

    @staticmethod
    def _sockets(pid):
        found = set()
        try:
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                link = str(entry.readlink())
                if link.startswith("socket:["):
                    found.add(link[8:-1])
        except OSError:
            pass
        return found


def calls(path):
    """Return [(system call, line)] of one trace."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        match = re.match(r"\d+ +(\w+)\(", line)
        if match:
            found.append((match[1], line))
    return found


def test_a_listener_would_be_seen_by_both_watches(strace, tmp_path):
    watch = Sockets()
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); input()"
    command = [*strace("guilty"), sys.executable, "-c", code]
    guilty = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    watch.roots.add(guilty.pid)
    watch.start()
    until(lambda: watch.found, "the listener", guilty)
    guilty.communicate("\n", timeout=HANG_S)
    assert guilty.returncode == 0
    watch.running = False
    watch.join()
    assert {"bind", "listen"} <= {call for call, _ in calls(tmp_path / "guilty")}


def test_nothing_listens_through_a_whole_update(world, first, strace, tmp_path):
    path = world.gateway("silent", first)
    watch = Sockets()
    command = [*strace("launcher"), *FOTA, "gateway", "launch", str(path)]
    launcher = subprocess.Popen(command, env=world.environment, stderr=subprocess.DEVNULL)
    world.processes.append(launcher)
    watch.roots.add(launcher.pid)
    watch.start()
    until(lambda: booted(path), "the launcher")
    device = world.agent(path, "--until-idle")["device"]
    world.publish("4.0.0")
    world.fota("rollout", "start", "4.0.0", "--device", device)
    run = [*FOTA, "agent", "run", "--gateway", str(path), "--until-confirmed", "--duration", str(HANG_S)]
    agent = subprocess.Popen([*strace("agent"), *run], env=world.environment)
    watch.roots.add(agent.pid)
    assert agent.wait(HANG_S) == 0
    assert world.show(path)["version"] == "4.0.0"
    watch.running = False
    watch.join()
    os.kill(world.show(path)["launcher"], signal.SIGTERM)
    launcher.wait(HANG_S)

    assert watch.looks > 20
    assert watch.found == []
    traced = {name: calls(tmp_path / name) for name in ("launcher", "agent")}
    assert not any(call.startswith(("listen", "accept")) for trace in traced.values() for call, _ in trace)
    bound = [line for trace in traced.values() for call, line in trace if call == "bind"]
    assert all("AF_NETLINK" in line for line in bound), (
        bound
    )  # the resolver asks the kernel for its addresses
    connected = [line for call, line in traced["agent"] if call == "connect" and "AF_INET" in line]
    ports = {int(PORT.search(line)[1]) for line in connected}
    assert ports == {int(world.url.rpartition(":")[2])}, "out to its server, and nowhere else"
    assert not any("AF_INET" in line for _, line in traced["launcher"]), "the launcher has no network at all"
