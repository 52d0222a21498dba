"""The agent beside a gateway's program: boots are the launcher's, steps are ours."""

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fota_agent.agent import Agent
from fota_agent.boards.linux.board import LinuxBoard, open_element
from fota_agent.boards.linux.gateway import Gateway
from fota_agent.boards.linux.launcher import running_launcher
from fota_agent.boards.linux.watch import Watch
from fota_agent.schedule import AUTO, NOTIFY, Schedule, parse_window
from fota_cli.agent_words import Say, Words, WordyHooks
from fota_cli.gateway import summary
from fota_wire import bootreport
from fota_wire.errors import DeviceError, InputError
from fota_wire.files import write_atomic
from fota_wire.layout import SLOT_NAMES

if TYPE_CHECKING:
    from fota_agent.seams import Element, Transport
    from fota_wire.suit import Manifest

BOOT_S = 30.0
"""How long nobody may be at work on a boot until the agent gives up waiting for one."""


class GatewaySession:
    """One gateway; use as a context manager. ``say`` takes the lines for people. ``transport``: in place
    of the network.

    Raises:
        InputError: its folder or settings are not usable.
    """

    def __init__(
        self, folder: Path, server_url: str | None, say: Say, transport: "Transport | None" = None
    ) -> None:
        self._gateway = Gateway(folder)
        self._server_url = server_url
        self._transport = transport
        self._say = say
        self._hooks = WordyHooks(say)
        self._words = Words(say)
        self._element: Element | None = None
        self._booted: bytes | None = None
        self.agent: Agent
        self._begun = False
        self._live: Agent | None = None

    def __enter__(self) -> "GatewaySession":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save and hang up."""
        self.save()

    @property
    def fell_back(self) -> str:
        """Why the gateway refused an update or went back, or an empty string."""
        return self._hooks.fell_back

    @property
    def in_trial(self) -> bool:
        """True while the program on trial is not confirmed yet."""
        return self._begun and self.agent.engine.trial

    @property
    def needs_boot(self) -> bool:
        """True once the program was started anew: the agent's world has ended."""
        return self.agent.rebooting or self._report() not in (None, self._booted)

    def boot(self) -> None:
        """Wait for the launcher to have booted, and start the agent's next life.

        Raises:
            DeviceError: no launcher boots a program, or the element is not usable.
            InputError: the settings are not usable.
        """
        self.save()
        self._booted = self._await_boot()
        updates = self._gateway.updates
        self._element = self._element or open_element(self._gateway)
        board = LinuxBoard(self._gateway, self._element, beside=True)
        self.agent = self._live = Agent(
            board,
            self._transport,
            self._hooks,
            server_url=self._server_url,
            mirror=updates.get("mirror"),
            schedule=schedule_of(self._gateway),
            tls12=updates.get("tls12") is True,
        )
        self._begun = True
        boot = board.boot_report()
        how = "trial" if boot.trial else "confirmed"
        self._say(f"agent: slot {SLOT_NAMES[boot.running]} runs {boot.version_text}, {how}")

    def _await_boot(self) -> bytes:
        """Return the boot report; a launcher that is at work on it, on a slow machine too, is waited for."""
        work, end = "", time.monotonic() + BOOT_S
        while (report := self._report()) is None:
            if (now := work_of(running_launcher(self._gateway))) != work:
                work, end = now, time.monotonic() + BOOT_S
            elif time.monotonic() > end:
                raise DeviceError(f"{self._gateway.folder}: nothing is booted: fota gateway launch")
            time.sleep(0.05)
        return report

    def step(self) -> float:
        """Let the agent do one thing; return the seconds that the next step may wait."""
        self._words.say_phase(self.agent)
        return self.agent.step() / 1000

    def idle(self, wait_s: float) -> None:
        """Let time pass: at most ``wait_s``, or until the program is started anew."""
        watch = Watch(self._gateway.report_path)
        try:
            if not self.needs_boot:  # asked once more: it may have been right before
                watch.wait(wait_s)
        finally:
            watch.close()

    def save(self) -> None:
        """End the agent's present life; what it knows is saved."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def summary(self) -> dict[str, object]:
        """Return the final state, for ``--json``."""
        engine = self.agent.engine
        return summary(self._gateway) | {
            "installed": engine.state.installed.hex() if engine.state.installed else None,
            "root_version": engine.root.version,
            "settled": engine.settled,
            "outcome": engine.outcome,
            "fell_back": self.fell_back or None,
            "error": str(engine.error) if engine.error else None,
            "events": [{"code": code, "detail": detail} for code, detail in engine.state.events],
        }

    def _report(self) -> bytes | None:
        report = self._gateway.boot_report()
        return None if report is None else bootreport.pack(report)


class Consent(Schedule):
    """A schedule whose consent is a file, for whoever types ``fota gateway approve``."""

    def __init__(self, gateway: Gateway, mode: str, until: int, windows: tuple[tuple[int, int], ...]) -> None:
        super().__init__(mode, until, windows)
        self._gateway = gateway

    def may_download(self, manifest: "Manifest") -> bool:
        """Tell whether the image may be fetched; in mode NOTIFY say in a file what there is."""
        if self.mode == NOTIFY:
            digest = manifest.manifest_digest.hex()
            version = (manifest.text or {}).get("version", "")
            write_atomic(self._gateway.available_path, f"{digest} {version}\n".encode())
            try:
                if self._gateway.approved_path.read_text(encoding="ascii").strip() == digest:
                    self.approve(manifest.manifest_digest)
            except (OSError, UnicodeDecodeError):
                pass
        return super().may_download(manifest)


def schedule_of(gateway: Gateway) -> Schedule:
    """Return the schedule in the table [updates] of gateway.toml. InputError if it makes no sense."""
    updates = gateway.updates
    windows, until = updates.get("windows", []), updates.get("until", 0)
    if not isinstance(windows, list) or type(until) is not int:
        raise InputError('[updates]: windows is a list like ["02:00-04:30"], until seconds since 1970')
    parsed = tuple(parse_window(str(window)) for window in windows)
    return Consent(gateway, str(updates.get("mode", AUTO)), until, parsed)


def work_of(pid: int | None) -> str:
    """Return the kernel's account of a process at work, which changes while it is (proc(5), schedstat)."""
    try:
        return Path(f"/proc/{pid}/schedstat").read_text() if pid else ""
    except OSError:  # it has just ended
        return ""
