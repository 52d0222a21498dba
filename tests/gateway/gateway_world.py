"""A gateway as a customer has it: a SoftHSM2 token, a server, signed programs, processes of the product."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import warm
from hsm import Hsm
from lifeline import HANG_S, until

REPO = Path(__file__).parents[2]
KEYS = REPO / "keys.example"
VENDOR, MODEL = "example.com", "gateway"
FOTA = [sys.executable, "-c", "from fota_cli.main import main; main()"]

PROGRAM = """#!{python}
import os, pathlib, signal, sys, time
run = pathlib.Path(os.environ["FOTA_GATEWAY"], "run")
with open(run.parent / "lives", "a") as lives:
    lives.write("{version} " + " ".join(sys.argv[1:]) + "\\n")
{what}
signal.pause()
"""
HEALTHY = '(run / "health").write_text("good")'


class World:
    """Server, releases and gateways, through the command line only."""

    def __init__(self, folder: Path, hsm: Hsm) -> None:
        self.folder, self.hsm = folder, hsm
        self.environment = {**os.environ, "FOTA_ALLOW_EXAMPLE_KEYS": "1", **hsm.environment}
        self.processes = []
        self.sequence = 0
        self.root = folder / "root.cbor"
        keys = [arg for n in (1, 2, 3) for arg in ("--root-key", KEYS / f"root-{n}.pub.pem")]
        keys += [arg for n in (1, 2, 3) for arg in ("--release-key", KEYS / f"release-{n}.pub.pem")]
        signers = [arg for n in (1, 2) for arg in ("--sign", KEYS / f"root-{n}.pem")]
        self.fota("root", "new", *keys, "--assign-key", KEYS / "assign.pub.pem", *signers, "-o", self.root)
        self.cas = folder / "cas.pem"  # the server is found under the second
        self.cas.write_bytes((KEYS / "device-ca.crt").read_bytes() + (KEYS / "server-ca.crt").read_bytes())
        self.data = folder / "server"
        self.fota("server", "init", "--data", self.data, "--keys", KEYS, "--root", self.root, "--port", 0,
                  "--operator-port", 0, "--interval", 1)  # fmt: skip
        self.server = self.spawn("server", "run", "--data", self.data)
        ready = self.data / "server.json"
        until(ready.exists, "the server")
        urls = json.loads(ready.read_text())
        self.url = urls["device_url"]
        self.environment |= {
            "FOTA_SERVER": urls["operator_url"],
            "FOTA_CA": str(KEYS / "server-ca.crt"),
            "FOTA_TOKEN": (self.data / "operator.token").read_text().strip(),
        }

    def fota(self, *args, code=0, timeout=HANG_S):
        done = warm.run(*map(str, args), env=self.environment, timeout=timeout)
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def spawn(self, *args):
        log = (self.folder / f"{args[0]}-{args[1]}.log").open("a")
        process = subprocess.Popen(
            [*FOTA, *map(str, args)], env=self.environment, stdout=log, stderr=subprocess.STDOUT
        )
        log.close()
        self.processes.append(process)
        return process

    def program(self, version, what=HEALTHY, counter=1, name=None, template=PROGRAM):
        """Sign a program; return its image."""
        source, image = self.folder / f"{name or version}.py", self.folder / f"{name or version}.img"
        source.write_text(template.format(python=sys.executable, version=version, what=what))
        self.fota("sign", source, "--program", "-o", image, "--key", KEYS / "image-a.pem", "--force",
                  "--version", version, "--security-counter", counter, "--vendor-domain", VENDOR,
                  "--model", MODEL)  # fmt: skip
        return image

    def manifest(self, image):
        self.sequence += 1
        stages = [image.with_suffix(f".s{n}") for n in range(3)]
        self.fota("manifest", "new", image, "-o", stages[0], "--sequence", self.sequence,
                  "--vendor-domain", VENDOR, "--model", MODEL)  # fmt: skip
        for number, (before, after) in enumerate(itertools.pairwise(stages), 1):
            self.fota("manifest", "sign", before, "--key", KEYS / f"release-{number}.pem", "-o", after)
        return stages[2]

    def publish(self, version, **how):
        image = self.program(version, **how)
        envelope = self.manifest(image)
        self.fota("release", "publish", image, envelope)
        return image, envelope

    def gateway(self, name, image):
        """Set up a gateway; return its folder."""
        path = self.folder / name
        self.fota("gateway", "init", path, "--image", image, "--image-key", KEYS / "image-a.pub.pem",
                  "--root", self.root, "--server", self.url, "--server-ca", self.cas,
                  "--vendor-domain", VENDOR, "--model", MODEL, "--module", self.hsm.module, "--token", "fota",
                  "--pin-file", self.hsm.pin_file, "--label", name, "--ca-key", KEYS / "device-ca.pem",
                  "--ca-cert", KEYS / "device-ca.crt", "--allow-example-keys")  # fmt: skip
        return path

    def agent(self, path, *args, code=0, duration=HANG_S):
        """Run the agent beside the program; return the final state, or what it said if it was to fail."""
        out = self.fota("agent", "run", "--gateway", path, "--json", "--duration", duration, *args, code=code)
        return json.loads(out) if code == 0 else out

    def show(self, path):
        return json.loads(self.fota("gateway", "show", path, "--json"))

    def twin(self, path):
        return json.loads(self.fota("device", "show", self.show(path)["device"], "--json"))

    def close(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(HANG_S)


def booted(path):
    """Tell whether a launcher has left the report of a boot."""
    report = path / "run/boot-report"
    return report.exists() and any(report.read_bytes())


def wake_ups(pid):
    """Return how often all threads of a process have slept and been woken."""
    counts = [
        int(line.split()[1])
        for path in Path(f"/proc/{pid}/task").glob("*/status")
        for line in path.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    ]
    return sum(counts)
