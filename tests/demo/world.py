"""The demo's world: `fota` as a person would type it, a server, one device, and an attacker's hands.

Nothing here is a mock: commands are processes, the server listens on loopback, the device runs the
bootloader's machine code. Only the attacker reaches into the device: with its own flash controller, as
somebody with a debug probe or with code execution in the application would.
"""

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fota_agent import Hooks
from fota_agent.agent import Agent
from fota_agent.engine.actions import FETCH
from fota_agent.seams import Board
from fota_agent.transport.download import UNIT
from fota_cli.boards import BOARDS
from fota_vdev.machine import Machine
from fota_vdev.view import PAGES, UNITS
from fota_wire.bootreport import SIZE, BootReport, unpack
from fota_wire.errors import FotaError, StorageError
from fota_wire.host_chips import DEFAULT
from fota_wire.host_chips import chip as chip_of

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests"))

from lifeline import HANG_S, hold, until  # noqa: E402, until

BUILD = REPO / "build"
VENDOR = "fota.example"
VENDOR_ID = uuid.uuid5(uuid.NAMESPACE_DNS, VENDOR)
BOOT_MS = 5_000


class StepFailed(FotaError):
    """A command of the story did not end as it had to."""


class World:
    """One demo in ``folder``, which is emptied first; a second one at the same time is refused. ``chip``: the
    device's, by its name in the table of chips.
    """

    def __init__(self, folder: Path, chip: str = DEFAULT) -> None:
        hold()  # whatever we start ends with us
        self.row = chip_of(chip)
        self.model = f"{self.row.PORT}-demo"
        self._samples = BUILD / "sample" / ("" if chip == DEFAULT else self.row.PORT)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / "lock").exists():
            raise StorageError(f"{folder} holds something that no demo made: name an empty folder")
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StorageError(f"a demo is running in {folder}: wait for it to end") from exc
        for old in folder.iterdir():
            if old.name != "lock":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        self.folder = folder
        self.keys = folder / "keys"
        self.root = folder / "root.cbor"
        self.device = folder / "device.vdev"
        self.device_id = ""
        self._server: subprocess.Popen[bytes] | None = None
        self.environment = {**os.environ, "FOTA_ALLOW_EXAMPLE_KEYS": "1"}

    # -- commands ----------------------------------------------------------------------------------------

    def fota(self, *args: object, ends: int = 0) -> str:
        """Run one command; return what it printed (its error line, if it was to fail).

        Raises:
            StepFailed: it did not end with exit code ``ends``.
        """
        command = [sys.executable, "-m", "fota_cli", *map(str, args)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, check=False, timeout=HANG_S
        )
        if done.returncode != ends:
            words = " ".join(map(str, args[:3]))
            raise StepFailed(
                f"fota {words}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()}"
            )
        return done.stdout if ends == 0 else done.stderr

    def json(self, *args: object) -> Any:
        """Run one command with --json and return its object."""
        return json.loads(self.fota(*args, "--json"))

    # -- what a team has ---------------------------------------------------------------------------------

    def make_keys(self) -> Any:
        """Write the throw-away keys and a ROOT over them, signed by two of three."""
        self.fota("keys", "example", self.keys)
        three = [
            arg
            for n in (1, 2, 3)
            for arg in (
                "--root-key",
                self.keys / f"root-{n}.pem",
                "--release-key",
                self.keys / f"release-{n}.pem",
            )
        ]
        three += ["--image-key", self.keys / "image-a.pem", "--image-key", self.keys / "image-b.pem"]
        signers = ["--sign", self.keys / "root-1.pem", "--sign", self.keys / "root-3.pem"]
        return self.json(
            "root", "new", *three, "--assign-key", self.keys / "assign.pem", *signers, "-o", self.root
        )

    def start_server(self, port: int = 0, *options: object) -> None:
        """Set up and start the server on the loopback, for devices at ``port``, 0: any that is free; as
        ``options`` of `fota server init` say.

        Raises:
            StepFailed: it is not ready in 20 s.
        """
        data = self.folder / "server"
        self.fota("server", "init", "--data", data, "--keys", self.keys, "--root", self.root, "--port", port,
                  "--operator-port", 0, "--interval", 1, *options)  # fmt: skip
        self.run_server()

    def run_server(self, *options: object) -> None:
        """Start the server that was set up; ``options`` of `fota server run`.

        Raises:
            StepFailed: it is not ready in 20 s.
        """
        data = self.folder / "server"
        (data / "server.json").unlink(missing_ok=True)
        with (self.folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "fota_cli", "server", "run", "--data", str(data), *map(str, options)],
                stdout=log, stderr=log, env=self.environment,
            )  # fmt: skip
        ready = data / "server.json"
        try:
            until(ready.exists, "the server's address", self._server)
        except AssertionError as exc:
            log_text = (self.folder / "server.log").read_text().strip()
            raise StepFailed(f"the server did not start: {log_text}") from exc
        urls = json.loads(ready.read_text())
        self.device_url = urls["device_url"]
        self.environment |= {
            "FOTA_SERVER": urls["operator_url"],
            "FOTA_CA": str(self.keys / "server-ca.crt"),
            "FOTA_TOKEN": (data / "operator.token").read_text().strip(),
        }

    def stop(self) -> None:
        """Stop what was started."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(timeout=HANG_S)
            self._server = None

    def leave(self) -> None:
        """Stop what was started, and let another demo into the folder."""
        self.stop()
        self._lock.close()

    def sign(
        self,
        version: str,
        counter: int,
        *,
        key: str = "image-a",
        model: str = "",
        app: str = "",
        elf: Path | None = None,
    ) -> Path:
        """Pack and sign the sample application of ``version``, or ``elf``; return the image's file."""
        model = model or self.model
        elf = elf or self._samples / f"app-{app or version}.elf"
        image = self.folder / f"{version}-{counter}-{key}-{model}.img"
        if image.exists():
            return image
        self.fota("sign", elf, "-o", image, "--key", self.keys / f"{key}.pem", "--version", version,
                  "--security-counter", counter, "--vendor-domain", VENDOR, "--model", model,
                  "--chip", self.row.NAME)  # fmt: skip
        return image

    def manifest(self, image: Path, sequence: int, signers: tuple[str, ...]) -> Path:
        """Make a manifest about ``image`` and have it signed by each of ``signers`` in turn."""
        last = image.with_suffix(".suit0")
        self.fota("manifest", "new", image, "-o", last, "--sequence", sequence, "--vendor-domain", VENDOR,
                  "--model", self.model)  # fmt: skip
        for number, signer in enumerate(signers, start=1):
            signed = image.with_suffix(f".suit{number}")
            self.fota("manifest", "sign", last, "--key", self.keys / f"{signer}.pem", "-o", signed)
            last = signed
        return last

    def countersign(self, envelope: Path, signer: str) -> Path:
        """Add one signature more to ``envelope``."""
        signed = envelope.with_suffix(".suit")
        self.fota("manifest", "sign", envelope, "--key", self.keys / f"{signer}.pem", "-o", signed)
        return signed

    def provision(self, image: Path, *more: object) -> Any:
        """Make the device: as in the factory, its TLS key born inside the element. ``more``: options."""
        self.fota("vdev", "create", self.device, "--chip", self.row.NAME)
        report = self.json(
            "vdev", "provision", self.device,
            "--bootloader", BUILD / "bootloader" / self.row.PORT / "bootloader.elf",
            "--image", image, "--class", uuid.uuid5(VENDOR_ID, self.model), "--vendor-id", VENDOR_ID,
            "--image-key-a", self.keys / "image-a.pub.pem", "--image-key-b", self.keys / "image-b.pub.pem",
            "--root", self.root, "--server-ca", self.keys / "server-ca.crt",
            "--server-url", self.device_url, "--ca-key", self.keys / "device-ca.pem",
            "--ca-cert", self.keys / "device-ca.crt", *more,
        )  # fmt: skip
        self.device_id = report["device_id"]
        return report

    def slot_writes(self) -> tuple[int, int]:
        """Return (page erases in both slots, words programmed in the whole flash) of the device so far."""
        flash = self.json("vdev", "status", self.device)["flash"]
        erases = flash["slot A"]["erases"] + flash["slot B"]["erases"]
        written = next(flash[unit] for unit in (*UNITS.values(), PAGES) if unit in flash)
        return erases, sum(written.values())

    # -- an attacker's hands -----------------------------------------------------------------------------

    def stage_by_force(self, image: bytes, tamper: Any = None) -> tuple[list[str], BootReport]:
        """Write ``image`` into the inactive slot, request it, reset; past agent, server and manifest.

        ``tamper`` sits on the I2C bus from the reset on. Returns the bootloader's UART lines and the boot
        report that it left.
        """
        with self._device() as machine:
            board = self._board(machine)
            for at in range(0, len(image), board.inactive.page_size):
                page = image[at : at + board.inactive.page_size]
                board.inactive.erase(at)
                board.inactive.program(at, bytearray(page + b"\xff" * (-len(page) % UNIT)))
            board.request()
            said = len(machine.uart)
            machine.i2c_tamper = tamper
            board.reset()
            self._boot(machine)
            return self._bootloader_lines(machine, said), self._report(machine)

    def boot_lines(self) -> list[str]:
        """Switch the device on; return what its bootloader says."""
        with self._device() as machine:
            return self._bootloader_lines(machine, 0)

    def check_in_through(self, between_of: Any) -> str:
        """Run the device's own agent for one check-in, with ``between_of(its transport)`` in between.

        Returns why it refused the answer, or what it wants to do next.
        """
        from fota_agent.transport.tls_cpython import transport_for

        with self._device() as machine:
            board = self._board(machine)
            between = between_of(transport_for(board, None))
            agent = Agent(board, transport=between, hooks=Hooks())
            self._steps(agent, lambda: bool(between.answers))
            agent.close()
            return str(agent.engine.error or agent.engine.phase)

    def power_fails_in_download(self, after: int, torn: int) -> None:
        """Run the device's own agent until it fetches an image, and cut the power in the middle of the
        ``after``-th flash operation from then; ``torn`` seeds what is left there.
        """
        with self._device() as machine:
            agent = Agent(self._board(machine), hooks=Hooks())
            self._steps(agent, lambda: agent.engine.phase == FETCH)
            machine.cut_power_at(flash_op=after, torn=torn)
            self._steps(agent, lambda: not machine.powered)
            agent.close(save=False)

    def power_fails_at_reset(self) -> None:
        """Run the device's own agent until it has asked for the trial, and take the power away."""
        with self._device() as machine:
            agent = Agent(self._board(machine), hooks=Hooks())
            self._steps(agent, lambda: agent.rebooting)
            agent.close(save=False)

    def cut_in_bootloader(self, at: int, torn: int) -> list[str]:
        """Switch on, cut the power in the middle of the ``at``-th flash operation, switch on again; return
        what was cut and what the bootloader said. Raises StepFailed: there was no such operation.
        """
        done = self.json("vdev", "cut", self.device, "--at", at, "--torn", torn, "--time-ms", BOOT_MS)
        return [done["cut"], *(line for line in done["uart"].splitlines() if line.startswith("fota-boot: "))]

    @staticmethod
    def _steps(agent: Agent, there: Callable[[], bool]) -> None:
        """Let the agent work. Raises StepFailed: it does not get there."""
        try:
            until(lambda: there() or (agent.step() and False), pause_s=0)
        except AssertionError as exc:
            said = agent.engine.error or agent.engine.phase
            raise StepFailed(f"the agent did not get there: {said}") from exc

    @contextmanager
    def _device(self) -> Iterator[Machine]:
        """The device, switched on and booted; switched off and saved afterwards."""
        machine = Machine.load(self.device)
        try:
            machine.power_on()
            self._boot(machine)
            yield machine
        finally:
            machine.power_off()
            machine.save(self.device)
            machine.close()

    @staticmethod
    def _boot(machine: Machine) -> None:
        """Run until the application has printed its status, or the bootloader has halted."""
        said = len(machine.uart)
        machine.run(
            time_ms=BOOT_MS,
            until=lambda m: b"journal: " in m.uart[said:] or b"fota-boot: halt" in m.uart[said:],
        )
        machine.run(time_ms=200)

    @staticmethod
    def _bootloader_lines(machine: Machine, said: int) -> list[str]:
        lines = bytes(machine.uart[said:]).decode("ascii", "replace").splitlines()
        return [line for line in lines if line.startswith("fota-boot: ")]

    def _report(self, machine: Machine) -> BootReport:
        return unpack(machine.read(self.row.BOOT_REPORT_ADDRESS, SIZE))

    def _board(self, machine: Machine) -> Board:
        return BOARDS[self.row.NAME](
            machine.mem32,
            machine.i2c,
            machine.read,
            machine.sleep_us,
            lambda: time.monotonic_ns() // 1_000_000,
            secrets.randbelow,
        )
