"""A world with one more device: a chip whose firmware is the agent itself (`make agent-firmware`)."""

import json
from pathlib import Path
from typing import Any

from world import BUILD, StepFailed, World

from fota_vdev.machine import Machine, StopReason
from fota_vdev.modem import peripheral as modem
from fota_vdev.modem.network import HostLink, HostNetwork
from fota_wire.bootreport import SIZE, BootReport, unpack
from fota_wire.errors import InputError
from fota_wire.host_chips import DEFAULT, ESPRESSIF, chip

RELEASES = ("release-1", "release-2")
CAMPAIGNS = ("campaign-1", "campaign-2", "campaign-3")
ALWAYS = "2020-01-01 2099-01-01"
PAINT = 0x5AC3A53C  # nobody's word
LONGEST_S = 1800  # of the chip's own time, in which waits for the server count as long as they are


def why_not() -> str:
    """Return why there is no firmware of the chip, or an empty string."""
    why = BUILD / "micropython/unavailable"
    return why.read_text().strip() if why.exists() else ""


def firmware(version: str, name: str = DEFAULT) -> Path:
    """Return the ELF of one version of the firmware for a chip.

    Raises:
        InputError: it was not built.
    """
    folder = BUILD / "agent-firmware" / ("" if name == DEFAULT else chip(name).PORT)
    elf = folder / f"firmware-{version}.elf"
    if not elf.exists():
        raise InputError(f"{elf.name} is missing: make agent-firmware")
    return elf


class CountedLink(HostLink):
    """A connection that notes the chip's count of instructions at each of its events."""

    net: "CountedNetwork"

    def send(self, data: bytes) -> None:
        """Send."""
        self.net.note("send", len(data))
        super().send(data)

    def receive(self, limit: int, wait_ms: int) -> bytes | None:
        """Receive."""
        data = super().receive(limit, wait_ms)
        if data is not None:
            self.net.note("receive", len(data))
        return data


class CountedNetwork(HostNetwork):
    """Real sockets, counted: `events` are (what, instructions so far, bytes)."""

    def __init__(self, machine: Machine, now_s: int | None = None) -> None:
        super().__init__(now_s=now_s)
        self._machine = machine
        self.events: list[tuple[str, int, int]] = []

    def note(self, what: str, size: int = 0) -> None:
        """Note one event."""
        self.events.append((what, self._machine.instructions, size))

    def connect(self, host: str, port: int) -> HostLink:
        """Open a connection; OSError."""
        self.note("connect")
        link = super().connect(host, port)
        link.__class__ = CountedLink
        link.net = self  # type: ignore[attr-defined]
        return link


class ChipWorld(World):
    """One server, and a chip that is kept switched on in ``machine``."""

    machine: Machine
    net: CountedNetwork
    modem: modem.Modem

    def release_chip(self, version: str, sequence: int, app: Any = "") -> Path:
        """Sign and publish one release of the firmware, of the ELF or binary ``app``; return its image."""
        elf = app if isinstance(app, Path) else firmware(app or version, self.row.NAME)
        image = self.sign(version, 2, elf=elf)
        self.fota("release", "publish", image, self.manifest(image, sequence, RELEASES))
        return image

    def ask_for_campaigns(self) -> None:
        """Publish ROOT 2: two of three people say whom a release may reach. The device takes such a ROOT."""
        self.environment["FOTA_KEY_PASSWORD"] = "correct horse battery"
        words: list[Any] = []
        for name in CAMPAIGNS:
            pem, public = self.folder / f"{name}.pem", self.folder / f"{name}.pub"
            self.fota("keys", "new", name.replace("-", "/"), "-o", pem)
            self.fota("keys", "public", pem, "-o", public)
            words += ["--campaign-key", public]
        signers = [word for n in (1, 2) for word in ("--sign", self.keys / f"root-{n}.pem")]
        self.fota("root", "new", "--previous", self.root, *words, *signers, "-o", self.campaign_root)
        self.fota("release", "root", self.campaign_root)

    def ask_for_the_log(self) -> None:
        """Give the server a LOG key, and publish ROOT 2, which asks for it. The device takes such a ROOT."""
        pem, public, data = self.folder / "log.pem", self.folder / "log.pub", self.folder / "server"
        password = "correct horse battery"
        self.environment |= {"FOTA_KEY_PASSWORD": password, "FOTA_RECEIPT_PASSWORD": password}
        self.fota("keys", "new", "log/chip", "-o", pem)
        self.fota("keys", "public", pem, "-o", public)
        settings = json.loads((data / "config.json").read_text()) | {"receipt_key": str(pem)}
        (data / "config.json").write_text(json.dumps(settings))
        self.set_interval(1)
        signers = [word for n in (1, 2) for word in ("--sign", self.keys / f"root-{n}.pem")]
        raw = self.folder / "root-2.cbor"
        self.fota("root", "new", "--previous", self.root, "--log-key", public, *signers, "-o", raw)
        self.fota("release", "root", raw)

    @property
    def campaign_root(self) -> Path:
        """ROOT 2 of `ask_for_campaigns`."""
        return self.folder / "root-2.cbor"

    def let_reach(self, version: str, wave: str) -> None:
        """Have two people sign for ``wave`` of a release, and the server told."""
        file, manifest = self.folder / f"{version}.campaign", next(self.folder.glob(f"*{version}*.suit2"))
        self.fota("campaign", "new", manifest, "--wave", wave, "-o", file, "--force")
        for name in CAMPAIGNS[:2]:
            by = "--key", self.folder / f"{name}.pem", "--root", self.campaign_root
            self.fota("campaign", "sign", file, *by, "-o", file, "--force")
        self.fota("release", "campaign", version, file)

    def set_interval(self, interval_s: int) -> None:
        """Start the server anew, at the same ports, with another time between check-ins (a fifth either way).

        Raises:
            StepFailed: it is not ready in 20 s.
        """
        self.stop()
        ports = [
            url.rpartition(":")[2].strip("/") for url in (self.device_url, self.environment["FOTA_SERVER"])
        ]
        options = ["--interval", interval_s, "--port", ports[0], "--operator-port", ports[1]]
        self.run_server(*options)

    def switch_on(self, now_s: int | None = None) -> None:
        """Load the device, give it a modem and power."""
        self.machine = Machine.load(self.device)
        self.net = CountedNetwork(self.machine, now_s)
        self.modem = modem.attach(self.machine, self.net)
        if self.row.NAME in ESPRESSIF:  # it costs as much as all the rest; tests/ports runs with it
            self.machine.cpu.check_alignment(on=False)
        self.machine.power_on()

    def switch_off(self) -> None:
        """Take the power away, and let go of the device's file."""
        self.machine.power_off()
        self.machine.close()

    def run_chip(self, text: str, longest_s: int = LONGEST_S) -> str:
        """Run the chip until its UART says ``text`` anew; return what it said since.

        Raises:
            StepFailed: it did not say that in ``longest_s`` of virtual time, or stopped.
        """
        said = len(self.machine.uart)
        wanted = text.encode()
        result = self.machine.run(until=lambda m: m.uart.find(wanted, said) >= 0, time_ms=longest_s * 1000)
        new = bytes(self.machine.uart[said:]).decode()
        if result.reason is not StopReason.UNTIL or text not in new:
            raise StepFailed(f"the chip did not say '{text}': {result.reason.value} {result.detail}\n{new}")
        return new

    def paint_stack(self) -> None:
        """Fill the firmware's stack before it runs; the bootloader's is elsewhere; resets clear no RAM."""
        low, high = self._stack()
        for at in range(low, high, 4):
            self.machine.store32(at, PAINT)

    def stack_used(self) -> int:
        """Return how deep the stack has been since `paint_stack`, bytes."""
        low, high = self._stack()
        words = self.machine.read(low, high - low)
        untouched = next(
            at for at in range(0, high - low + 4, 4) if words[at : at + 4] != PAINT.to_bytes(4, "little")
        )
        return high - low - untouched

    def _stack(self) -> tuple[int, int]:
        names = Machine.symbols(firmware("1.0.0", self.row.NAME))
        return names["linker_stack_top"] - names["linker_stack_size"], names["linker_stack_top"]

    def boot_report(self) -> BootReport:
        """Return what the bootloader left in RAM."""
        return unpack(self.machine.read(self.row.BOOT_REPORT_ADDRESS, SIZE))

    def twin(self) -> Any:
        """Return what the server knows of the device."""
        return self.json("device", "show", self.device_id)
