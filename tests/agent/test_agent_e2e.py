"""The whole product around the agent: bootloader machine code, signer, server, operator's command line."""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from lifeline import HANG_S

from fota_wire.errors import DeviceError

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
KEYS = REPO / "keys.example"
VENDOR, MODEL = "example.com", "sensor"


def fota(*args, code=0, env=None):
    """Run one command; return its standard output."""
    environment = {**os.environ, "FOTA_ALLOW_EXAMPLE_KEYS": "1", **(env or {})}
    done = warm.run(*map(str, args), env=environment, timeout=HANG_S)
    assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Factory:
    """Builds, signs and publishes releases, and provisions devices against one running server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root.cbor"
        keys = [arg for n in (1, 2, 3) for arg in ("--root-key", KEYS / f"root-{n}.pub.pem")]
        keys += [arg for n in (1, 2, 3) for arg in ("--release-key", KEYS / f"release-{n}.pub.pem")]
        signers = [arg for n in (1, 2) for arg in ("--sign", KEYS / f"root-{n}.pem")]
        fota("root", "new", *keys, "--assign-key", KEYS / "assign.pub.pem", *signers, "-o", self.root)
        self.data = folder / "server"
        fota("server", "init", "--data", self.data, "--keys", KEYS, "--root", self.root, "--port", 0,
             "--operator-port", 0, "--interval", 1, "--allow-example-keys")  # fmt: skip
        self.configure()
        self.server = warm.start("server", "run", "--data", str(self.data), stdout=warm.PIPE)
        assert "ready" in self.server.stdout.readline()
        urls = json.loads((self.data / "server.json").read_text())
        self.device_url = urls["device_url"]
        self.operator = {
            "FOTA_SERVER": urls["operator_url"],
            "FOTA_CA": str(KEYS / "server-ca.crt"),
            "FOTA_TOKEN": (self.data / "operator.token").read_text().strip(),
        }

    def configure(self):
        """For who wants the server otherwise than it was set up."""

    def operate(self, *args, code=0):
        return fota(*args, code=code, env=self.operator)

    def image(self, version, counter, self_test="pass", key="image-a"):
        command = ["make", "-s", "-C", str(REPO / "bootloader"), "bootloader", "sample"]
        (REPO / "build").mkdir(exist_ok=True)
        with (REPO / "build/bootloader.lock").open("w") as lock:  # other test processes build the same files
            fcntl.flock(lock, fcntl.LOCK_EX)
            variables = [f"VERSION={version}", f"SELF_TEST={self_test}"]
            subprocess.run([*command, *variables], check=True, capture_output=True)
        suffix = "-fail" if self_test == "fail" else ""
        out = self.folder / f"{version}.bin"
        named = [
            "--vendor-domain",
            VENDOR,
            "--model",
            MODEL,
            "--key",
            KEYS / f"{key}.pem",
            "-o",
            out,
            "--force",
        ]
        elf = REPO / f"build/sample/app-{version}{suffix}.elf"
        fota("sign", elf, "--version", version, "--security-counter", counter, *named)
        return out

    def publish(self, version, counter, sequence, **how):
        image = self.image(version, counter, **how)
        envelope = self.folder / f"{version}.suit"
        signed = [envelope.with_suffix(f".s{n}") for n in (1, 2)]
        fota("manifest", "new", image, "-o", envelope, "--sequence", sequence, "--vendor-domain", VENDOR,
             "--model", MODEL)  # fmt: skip
        fota("manifest", "sign", envelope, "--key", KEYS / "release-1.pem", "-o", signed[0])
        fota("manifest", "sign", signed[0], "--key", KEYS / "release-3.pem", "-o", signed[1])
        self.operate("release", "publish", image, signed[1])

    def device(self, image, seed=21):
        from emulated_factory import example_device

        from fota_signer.identity import device_class
        from fota_vdev.atecc608 import Atecc608
        from fota_vdev.machine import Machine

        made = device_class(class_uuid=None, domain=VENDOR, model=MODEL)
        machine = Machine(element=Atecc608(seed=seed), seed=seed)
        example_device(
            machine,
            bootloader=REPO / "build/bootloader/stm32l4/bootloader.elf",
            image=image.read_bytes(),
            class_id=made.class_id,
            vendor_id=made.vendor_id,
            genesis_root=self.root.read_bytes(),
            server_url=self.device_url,
        )
        path = self.folder / f"device-{seed}.vdev"
        machine.save(path)
        machine.close()
        return path, machine.element.serial.hex()

    def close(self):
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(HANG_S)
        self.server.stdout.close()


@pytest.fixture(scope="module")
def factory(tmp_path_factory):
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc: install gcc-arm-none-eabi")
    made = Factory(tmp_path_factory.mktemp("factory"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def device_file(factory):
    """A provisioned device that runs 1.0.0, which the server knows; and its id."""
    made = factory.device(factory.image("1.0.0", 1))
    factory.publish("1.0.0", 1, 1)
    return made


def agent(path, *args, code=0):
    out = fota("agent", "run", "--vdev", path, "--json", "--duration", HANG_S, *args, code=code)
    return json.loads(out) if out.strip() else {}


def test_update_rollback_and_revert_from_end_to_end(factory, device_file):
    path, device = device_file

    # 1.0.0 boots, and the server hears of it
    state = agent(path, "--until-idle")
    assert (state["slot"], state["version"], state["state"], state["settled"]) == (
        "A",
        "1.0.0",
        "confirmed",
        True,
    )
    assert state["device"] == device

    # 1.1.0 is downloaded, tried and confirmed
    factory.publish("1.1.0", 1, 2)
    factory.operate("rollout", "start", "1.1.0", "--device", device)
    state = agent(path, "--until-confirmed")
    assert (state["slot"], state["version"], state["state"]) == ("B", "1.1.0", "confirmed")
    assert state["journal"]["confirmed"] == "B"
    shown = json.loads(factory.operate("device", "show", device, "--json"))
    assert "1.1.0" in json.dumps(shown["confirmed"])

    # back to 1.0.0, which still lies in slot A: nothing is copied
    from fota_vdev.machine import Machine

    before = Machine.load(path)
    work = sum(op.offset >= 0x4000 for op in before.flash.log), before.flash.counters.double_words[1]
    before.close()
    factory.operate("rollback", "--device", device)
    state = agent(path, "--until-confirmed")
    assert (state["slot"], state["version"], state["state"]) == ("A", "1.0.0", "confirmed")
    after = Machine.load(path)
    assert (sum(op.offset >= 0x4000 for op in after.flash.log), after.flash.counters.double_words[1]) == work
    after.close()

    # 1.2.0 fails its self-test, reverts by itself, and the server shows why
    factory.publish("1.2.0", 2, 3, self_test="fail")
    factory.operate("rollout", "start", "1.2.0", "--device", device)
    state = agent(path, "--until-confirmed", code=1)
    assert (state["slot"], state["version"], state["state"]) == ("A", "1.0.0", "confirmed")
    assert state["fell_back"] == "reverted: AP1 self-test"
    assert "AP1 self-test" in factory.operate("device", "show", device, "--json")

    # 1.3.0 raises the floor; then 1.1.0 is refused by the device itself
    factory.publish("1.3.0", 2, 4)
    factory.operate("rollout", "start", "1.3.0", "--device", device)
    state = agent(path, "--until-confirmed")
    assert (state["slot"], state["version"], state["floor"]) == ("B", "1.3.0", 1)
    factory.operate("rollback", "--device", device, "--to", "1.1.0")
    state = agent(path, "--until-confirmed", code=1)
    assert (state["slot"], state["version"], state["floor"]) == ("B", "1.3.0", 2)
    assert "PO1 rollback" in state["fell_back"]
    assert "PO1 rollback" in factory.operate("device", "show", device, "--json")


def drive_through_cuts(session, machine, cuts):
    """Run until settled, with a power cut armed in each life; return the versions that ran meanwhile."""
    seen = set()
    for operation, torn in cuts:
        machine.power_off()
        machine.power_on()
        machine.cut_power_at(flash_op=operation, torn=torn)
        try:
            session.boot()
            while machine.powered and not session.agent.engine.settled:
                wait_s = session.step()
                if session.needs_boot:
                    session.boot()
                elif wait_s:
                    session.idle(wait_s)
        except DeviceError:
            assert not machine.powered
        seen.add(session.agent.engine.boot.version_text)
        if machine.powered:
            break
    return seen


def test_power_cuts_through_a_whole_update_never_lose_the_device(factory, device_file):
    path, _ = device_file
    from fota_cli.agent_session import Session

    before = agent(path, "--until-idle")
    factory.publish("1.5.0", 2, 6)
    factory.operate("rollout", "start", "1.5.0", "--device", before["device"])
    generator = random.Random(8)
    cuts = [(generator.randrange(1, 500), generator.choice([None, n])) for n in range(10)]
    cuts += [(generator.randrange(1, 12), n) for n in range(4)] + [(100_000, None)]
    lines = []
    with Session(path, None, lines.append) as session:
        seen = drive_through_cuts(session, session._machine, cuts)
        state = session.summary()
        session.save()
    assert seen <= {before["version"], "1.5.0"}
    assert (state["version"], state["state"], state["settled"]) == ("1.5.0", "confirmed", True)
    assert not any("halt" in line for line in lines)
    assert any(line.startswith("agent: resuming at") for line in lines)


def test_key_is_rotated_over_the_air_and_used_by_the_next_boot(factory, device_file, tmp_path):
    shutil.copy(device_file[0], path := tmp_path / "device.vdev")
    device = device_file[1]
    agent(path, "--until-idle")
    assert "attested   by the element" in factory.operate("device", "show", device)
    factory.operate("device", "rotate", device)
    agent(path, "--until-idle")
    assert "to rotate, certificate pending" in factory.operate("device", "show", device)
    ca = "--ca-key", KEYS / "device-ca.pem", "--ca-cert", KEYS / "device-ca.crt"
    assert f"device {device}: certified" in factory.operate("device", "certify", *ca)
    agent(path, "--until-idle")
    assert "key        rotated since" in factory.operate("device", "show", device)
    state = agent(path, "--until-idle")  # the next boot: TLS and REPORT by slot 2, attested by slot 1
    assert (state["settled"], state["error"]) == (True, None)
    shown = json.loads(factory.operate("device", "show", device, "--json"))
    assert (shown["refused_report"], shown["attested"]["floor"]) == (None, state["floor"])


def test_root_b_takes_over_and_images_of_root_a_are_refused_afterwards(factory, tmp_path):
    """ROOT says epoch 1 early: a device on root A must not brick itself; on root B it retires root A."""
    path, device = factory.device(factory.image("1.0.0", 1), seed=33)
    agent(path, "--until-idle")
    keys = [arg for n in (1, 2, 3) for arg in ("--root-key", KEYS / f"root-{n}.pub.pem")]
    keys += [arg for n in (1, 2, 3) for arg in ("--release-key", KEYS / f"release-{n}.pub.pem")]
    signers = [arg for n in (1, 3) for arg in ("--sign", KEYS / f"root-{n}.pem")]
    second = tmp_path / "root2.cbor"
    fota("root", "new", *keys, "--assign-key", KEYS / "assign.pub.pem", *signers, "-o", second,
         "--previous", factory.root, "--key-epoch", 1)  # fmt: skip
    factory.operate("release", "root", second)
    state = agent(path, "--until-idle")
    assert (state["root_version"], counter1(path)) == (2, 0), "it runs an image of root A"
    agent(path, "--until-idle")
    assert counter1(path) == 0

    factory.publish("1.6.0", 2, 9, key="image-b")
    factory.operate("rollout", "start", "1.6.0", "--device", device)
    state = agent(path, "--until-confirmed")
    assert (state["version"], counter1(path)) == ("1.6.0", 0), "its trial is not the time"
    state = agent(path, "--until-idle")
    assert counter1(path) == 8
    assert any(event["code"] == "epoch" for event in state["events"]) or "epoch" in factory.operate(
        "device", "show", device
    )

    factory.publish("1.7.0", 2, 10)  # root A again
    factory.operate("rollout", "start", "1.7.0", "--device", device)
    state = agent(path, "--until-confirmed", code=1)
    assert (state["version"], state["state"]) == ("1.6.0", "confirmed")
    assert "IM9 image-key-retired" in state["fell_back"]


def counter1(path):
    status = json.loads(fota("vdev", "status", path, "--json"))
    return status["element"]["counter1"]


WATCH = """
import os, sys
from pathlib import Path

def listening():
    tables = [Path("/proc/self/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    inodes = {row[9] for row in rows if row[3] == "0A"}
    mine = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            mine.add(os.readlink("/proc/self/fd/" + fd))
        except OSError:
            pass
    return [inode for inode in inodes if "socket:[" + inode + "]" in mine]

seen = {"connect": 0}

def watch(event, args):
    if event == "socket.bind":
        print("BOUND", file=sys.stderr)
        os._exit(99)
    if event in ("socket.connect", "os.rename"):
        seen["connect"] += event == "socket.connect"
        if listening():
            print("LISTENING", file=sys.stderr)
            os._exit(99)

sys.addaudithook(watch)
from fota_cli.main import cli
cli.main(sys.argv[1:], standalone_mode=False)
assert seen["connect"] > 0
"""


def test_agent_opens_no_listening_socket_during_a_whole_update(factory, device_file):
    path, _ = device_file
    device = agent(path, "--until-idle")["device"]
    factory.publish("1.4.0", 2, 11)
    factory.operate("rollout", "start", "1.4.0", "--device", device)
    run = [sys.executable, "-c", WATCH, "agent", "run", "--vdev", str(path), "--until-confirmed", "--json"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "1.4.0"


def test_device_finds_its_server_under_the_second_of_its_cas(factory, device_file, tmp_path):
    """Both CAs come in one file; with the first alone, the server is nobody the device trusts."""
    cas, alone = tmp_path / "cas.pem", KEYS / "device-ca.crt"
    cas.write_bytes(alone.read_bytes() + (KEYS / "server-ca.crt").read_bytes())
    for name, ca, code in (("alone", alone, 4), ("both", cas, 0)):
        path = tmp_path / f"{name}.vdev"
        fota("vdev", "create", path)
        fota("vdev", "provision", path, "--bootloader", REPO / "build/bootloader/stm32l4/bootloader.elf",
             "--image", factory.folder / "1.0.0.bin", "--vendor-domain", VENDOR, "--root", factory.root,
             "--image-key-a", KEYS / "image-a.pub.pem", "--image-key-b", KEYS / "image-b.pub.pem",
             "--server-ca", ca, "--server-url", factory.device_url,
             "--ca-key", KEYS / "device-ca.pem", "--ca-cert", KEYS / "device-ca.crt")  # fmt: skip
        state = agent(path, "--once", code=code)
        assert ("certificate" in (state["error"] or "")) is (code == 4), state


def test_server_that_is_down_ends_in_one_line_and_exit_code_4(factory, device_file):
    path, _ = device_file
    before = agent(path, "--until-idle")
    state = agent(path, "--server", "https://localhost:1", "--once", code=4)
    assert "refused" in state["error"]
    assert (state["version"], state["journal"]) == (before["version"], before["journal"])
