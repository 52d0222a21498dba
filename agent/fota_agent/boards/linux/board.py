"""A Linux gateway as the ``Board`` of ``fota_agent.seams``."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fota_agent.boards.linux import storage
from fota_agent.boards.linux.gateway import Gateway
from fota_agent.boards.linux.late import LateElement
from fota_wire import bootreport, der, journal, layout
from fota_wire.errors import DeviceError, InputError, StorageError
from fota_wire.files import read_input
from fota_wire.status import CE1

if TYPE_CHECKING:
    from fota_agent.seams import Element, Slot

DEFAULT_FOLDER = "/var/lib/fota"
STORE_SIZE = 65536
HEALTH_TIMEOUT_S = 10


class LinuxBoard:
    """``beside``: the agent is a process of its own beside the program, which says how it is in
    ``run/health`` or is asked by the health command. Else the agent is part of it, and its hooks say.

    ``element`` holds the device key; by default the one that gateway.toml names.

    Raises:
        DeviceError: no launcher has booted the program, or the element is not usable.
        StorageError: another agent is running.
        InputError: the settings are not usable.
    """

    save_ms = 10_000  # a disk takes more than flash does

    def __init__(self, gateway: Gateway, element: "Element | None" = None, beside: bool = False) -> None:
        self._gateway = gateway
        self._beside = beside
        self._journal = storage.JournalFile(gateway.folder / "journal")
        trust = gateway.trust
        self.device_id = gateway.device_id
        self.vendor_id, self.class_id = trust.vendor_id, trust.class_id
        self.group = trust.group
        self.genesis_root, self.server_url = trust.genesis_root, trust.server_url
        self.server_cas = [bytes(ca) for ca in der.split(trust.server_ca)]
        self.certificate = bytes(trust.device_cert)
        self.max_counter_step = gateway.max_step
        self.slot_size = gateway.slot_size
        self.proxy = gateway.updates.get("proxy")
        self.store_size = STORE_SIZE
        running = self.boot_report().running
        storage.claim(gateway.agent_lock_path)
        self.running: Slot = self._slot(running)
        self.inactive: Slot = self._slot(layout.other_slot(running))
        self.element: Element = element or open_element(gateway)
        if self.element.serial_number() != self.device_id:
            raise DeviceError("the crypto element is not the one of this gateway", CE1)
        self.public_key = self.element.public_key()

    def boot_report(self) -> bootreport.BootReport:
        """Return what the launcher left; DeviceError if there is nothing.

        An agent may be started anew within one boot: a trial that was confirmed since is none any more.
        """
        report = self._gateway.boot_report()
        if report is None:
            raise DeviceError(f"{self._gateway.folder}: no boot report: fota gateway launch")
        if not report.trial:
            return report
        state = self._journal.state()
        if not state.in_trial(report.running):
            report.trial = False
            report.confirmed, report.candidate, report.state = state.confirmed, state.candidate, state.state
        return report

    def health(self) -> bool | None:
        """Return the program's own verdict: healthy, failed, or None while it is not known."""
        if not self._beside:
            return True
        if self._gateway.health_command is not None:
            return self._ask_health(self._gateway.health_command)
        try:
            word = storage.read_plain(self._gateway.health_path).decode("ascii", "replace").strip()
        except OSError:
            return None
        return {"good": True, "bad": False}.get(word)

    @staticmethod
    def _ask_health(command: list[str]) -> bool | None:
        """Return True for exit code 0; anything else may still become that."""
        import subprocess

        quiet = subprocess.DEVNULL
        try:
            done = subprocess.run(
                command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=HEALTH_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return True if done.returncode == 0 else None

    # -- boot journal ------------------------------------------------------------------------------------

    def request(self) -> None:
        """Ask for a trial of the inactive slot. VerifyError JO2, JO3; DeviceError JO1."""
        running, state = self.boot_report().running, self._journal.state()
        self._journal.append(journal.request(state, running, layout.other_slot(running)), state)

    def confirm(self) -> None:
        """Make the running slot the confirmed one; nothing is written if it is. DeviceError JO1."""
        state = self._journal.state()
        self._journal.append(journal.confirm(state, self.boot_report().running), state)

    def reject(self, reason: int) -> None:
        """End the trial with ``reason``. VerifyError JO4; DeviceError JO1."""
        state = self._journal.state()
        self._journal.append(journal.reject(state, self.boot_report().running, reason), state)

    # -- the rest ----------------------------------------------------------------------------------------

    def load_store(self) -> bytes | None:
        """Return what was saved last, or None."""
        return storage.read_store(self._gateway.folder / "store")

    def save_store(self, data: "list[bytes | memoryview]") -> None:
        """Replace what was saved. DeviceError."""
        storage.write_store(self._gateway.folder / "store", b"".join(data))

    def ticks_ms(self) -> int:
        """Return milliseconds of a clock that never goes back."""
        return time.monotonic_ns() // 1_000_000

    def random_below(self, limit: int) -> int:
        """Return an integer from 0 to ``limit`` - 1, for jitter; not for keys."""
        return int.from_bytes(os.urandom(8), "big") % limit

    def reset(self) -> None:
        """Have the launcher boot anew; this boot's report is taken away first. DeviceError: none runs."""
        from fota_agent.boards.linux import launcher  # brings what a start need not wait for

        pid = launcher.running(self._gateway)
        try:
            storage.blank(self._gateway.report_path)
        except StorageError as exc:
            raise DeviceError(str(exc)) from exc
        launcher.reset(pid)

    def _slot(self, slot: int) -> storage.FileSlot:
        return self._gateway.slot(slot)


def open_element(gateway: Gateway) -> "Element":
    """Return the element that gateway.toml names.

    Raises:
        InputError: the table is not usable. DeviceError: the element is not.
    """
    table, where = gateway.element, f"{gateway.folder}/gateway.toml: [element]"
    try:
        if table["kind"] == "pkcs11":
            from fota_agent.boards.linux.pkcs11 import Pkcs11Element

            pin = read_input(gateway.folder / table["pin_file"], 4096).decode().strip()
            place = (str(table["module"]), str(table["token"]), str(table["label"]))
            return Pkcs11Element(*place, pin, gateway.device_id)
        if table["kind"] == "atecc608":
            from fota_agent.boards.atecc608 import Atecc608
            from fota_agent.boards.linux.i2c import LinuxI2c

            bus = LinuxI2c(str(table["bus"]))
            return Atecc608(bus, lambda us: time.sleep(us / 1e6), int(table.get("address", 0x60)))
    except (KeyError, ValueError, TypeError) as exc:
        raise InputError(f"{where}: missing or unusable: {exc}") from exc
    raise InputError(f"{where}: kind is pkcs11 or atecc608")


def detect() -> LinuxBoard:
    """Return the gateway in the folder that FOTA_GATEWAY names, else /var/lib/fota; to its own program.

    An element that is missing, or does not answer, ends no program: it is looked for again (``LateElement``).
    """
    gateway = Gateway(Path(os.environ.get("FOTA_GATEWAY", DEFAULT_FOLDER)))
    element = LateElement(lambda: open_element(gateway), gateway.device_id, _factory_key(gateway))
    return LinuxBoard(gateway, element)


def _factory_key(gateway: Gateway) -> bytes:
    """Return x || y of the key that the factory's certificate names. InputError: it names none."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from fota_wire import host_ca, host_crypto

    where = f"{gateway.folder}/trust.cbor: the device certificate"
    key = host_ca.der_certificate(bytes(gateway.trust.device_cert), where).public_key()
    if not isinstance(key, EllipticCurvePublicKey):
        raise InputError(f"{where}: its key is not on P-256")
    return host_crypto.public_xy(key)
