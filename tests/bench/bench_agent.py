"""The agent on CPython, as it runs on a gateway: key in SoftHSM2, real server, real TLS.

``bench.py`` puts this under ``agent``; what the chip takes is measured beside the firmware.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from missing import Missing

RUNS = 7
BUDGETS = {"checkin_round_trips": 1, "checkin_bytes": 1536, "import_to_first_byte_ms": 150}

FIRST_BYTE = """
import time
started = time.perf_counter()
from fota_agent import board, Agent
agent = Agent(board.detect())
import os, ssl
def shake(self, *args):
    print((time.perf_counter() - started) * 1000)   # the ClientHello goes out now
    os._exit(0)
ssl.SSLSocket.do_handshake = shake
while True:
    agent.step()
"""

CHECK_IN = """
import json
from fota_agent import board
from fota_agent.transport import tls_cpython
from fota_agent.agent import Agent, sleep_ms
seen = {"bytes": 0, "turns": 0, "last": ""}
write, readinto = tls_cpython.TlsStream.write, tls_cpython.TlsStream.readinto
def count(way, size):
    seen["bytes"] += size
    seen["turns"] += way == "out" and seen["last"] != "out"
    seen["last"] = way
def counting_write(self, data):
    count("out", len(data))
    write(self, data)
def counting_read(self, buf):
    size = readinto(self, buf)
    count("in", size)
    return size
tls_cpython.TlsStream.write, tls_cpython.TlsStream.readinto = counting_write, counting_read
agent = Agent(board.detect())
agent.sync(30)
while agent.step() == 0:
    pass
seen.update(bytes=0, turns=0, last="")
agent.check_in()
while not seen["turns"]:
    sleep_ms(agent.step())
while agent.step() == 0:
    pass
assert agent.engine.settled
print(json.dumps(seen))
agent.close()
"""


def measure() -> dict[str, float]:
    """Return the figures.

    Raises:
        Missing: there is no SoftHSM2.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))
    from gateway_world import World
    from hsm import MODULES, Hsm

    if not any(Path(module).exists() for module in MODULES):
        raise Missing("no SoftHSM2 (Debian's package softhsm2)")
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name), Hsm(Path(name) / "hsm"))
        try:
            return _measure(world)
        finally:
            world.close()


def _measure(world) -> dict[str, float]:
    path = world.gateway("bench", world.publish("1.0.0")[0])
    world.spawn("gateway", "launch", path)
    while not (path / "run/boot-report").exists():
        time.sleep(0.05)
    environment = {**world.environment, "FOTA_GATEWAY": str(path)}

    def run(script: str) -> str:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    seen = json.loads(run(CHECK_IN))
    for package in ("wire", "agent"):  # as pip installs them: with compiled bytecode
        folder = Path(__file__).parents[2] / package
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    times = [float(run(FIRST_BYTE)) for _ in range(RUNS)]
    return {
        "checkin_round_trips": seen["turns"],
        "checkin_bytes": seen["bytes"],
        "import_to_first_byte_ms": round(statistics.median(times), 1),
    }
