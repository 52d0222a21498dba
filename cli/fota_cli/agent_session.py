"""A virtual device with the agent beside it: boots, steps, lets virtual time pass, and tells what happens."""

import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fota_agent.agent import Agent
from fota_cli.agent_words import Say, Words, WordyHooks
from fota_cli.boards import BOARDS
from fota_vdev.machine import Machine, StopReason
from fota_vdev.places import places
from fota_vdev.view import journal_pages, reported
from fota_wire import journal
from fota_wire.errors import DeviceError
from fota_wire.layout import HEALTH_GOOD, SLOT_NAMES

if TYPE_CHECKING:
    from fota_agent.seams import Transport

BOOT_MS = 20_000
SETTLE_MS = 1_500
MAX_BOOTS = 16
SLICE_MS = 200


def ticks_ms() -> int:
    """Return the host's monotonic milliseconds."""
    return time.monotonic_ns() // 1_000_000


class Session:
    """One virtual device, loaded from and saved to ``path``; use as a context manager.

    ``say`` takes the lines for people: ``device|`` from its UART, ``agent:`` from the agent. ``transport``:
    in place of the network.
    """

    def __init__(
        self, path: Path, server_url: str | None, say: Say, transport: "Transport | None" = None
    ) -> None:
        self._path = path
        self._server_url = server_url
        self._transport = transport
        self._say = say
        self._machine = Machine.load(path)
        self._hooks = WordyHooks(say)
        self._words = Words(say)
        self._uart_said = 0
        self._resets = 0
        self.agent: Agent
        self._begun = False
        self._live: Agent | None = None

    def __enter__(self) -> "Session":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up, switch the device off and release its file."""
        self._hang_up()
        self._machine.power_off()
        self._machine.close()

    @property
    def fell_back(self) -> str:
        """Why the device refused an update or went back, or an empty string."""
        return self._hooks.fell_back

    @property
    def in_trial(self) -> bool:
        """True while the program on trial is not confirmed yet."""
        return self._begun and self.agent.engine.trial

    @property
    def needs_boot(self) -> bool:
        """True once the chip was reset, by the agent or by itself: the agent's world has ended."""
        return self.agent.rebooting or len(self._machine.resets) != self._resets

    def boot(self) -> None:
        """Run the chip until its application is ready, and start the agent's next life.

        Raises:
            DeviceError: no application starts, or factory data or element are not usable.
        """
        self._hang_up()
        for _ in range(MAX_BOOTS):
            if self._start_application():
                break
        else:
            raise DeviceError("the device keeps resetting itself")
        machine = self._machine
        board = BOARDS[machine.chip.row.NAME](
            machine.mem32, machine.i2c, machine.read, machine.sleep_us, ticks_ms, secrets.randbelow
        )
        self.agent = Agent(board, self._transport, self._hooks, server_url=self._server_url)
        self._live, self._begun = self.agent, True
        report = board.boot_report()
        how = "trial" if report.trial else "confirmed"
        self._say(f"agent: slot {SLOT_NAMES[report.running]} runs {report.version_text}, {how}")

    def _start_application(self) -> bool:
        """Run until the application has had time to judge itself; False if it was reset meanwhile."""
        machine = self._machine
        if not machine.powered:
            machine.power_on()
        result = machine.run(time_ms=BOOT_MS, until=reported)
        self._say_uart()
        if result.reason is not StopReason.UNTIL:
            why = result.detail or f"nothing after {BOOT_MS // 1000} s"
            raise DeviceError(f"the device does not start an application: {why}")
        self._resets = len(machine.resets)
        machine.run(time_ms=SETTLE_MS, until=lambda m: len(m.resets) != self._resets or self._healthy())
        self._say_uart()
        return len(machine.resets) == self._resets

    def step(self) -> float:
        """Let the agent do one thing; return the seconds that the next step may wait."""
        self._words.say_phase(self.agent)
        wait_s = self.agent.step() / 1000
        if not self.needs_boot:
            self._run(1)
        return wait_s

    def idle(self, wait_s: float) -> None:
        """Let real and virtual time pass: at most ``wait_s``, and never long."""
        wait_s = min(wait_s, SLICE_MS / 1000)
        started = time.monotonic()
        self._run(wait_s * 1000)
        time.sleep(max(0.0, wait_s - (time.monotonic() - started)))

    def save(self) -> None:
        """End the agent's work, and write the device back into its file."""
        self._hang_up()
        self._machine.save(self._path)

    def summary(self) -> dict[str, object]:
        """Return the final state, for ``--json``."""
        engine, boot = self.agent.engine, self.agent.engine.boot
        record = self._journal()
        return {
            "device": engine.identity.device_id.hex(),
            "slot": SLOT_NAMES[boot.running],
            "version": boot.version_text,
            "image_hash": boot.image_hash.hex(),
            "state": "trial" if engine.trial else "confirmed",
            "sec_cnt": boot.sec_cnt,
            "floor": boot.floor,
            "root_version": engine.root.version,
            "installed": engine.state.installed.hex() if engine.state.installed else None,
            "journal": {
                "sequence": record.sequence,
                "confirmed": SLOT_NAMES[record.confirmed],
                "candidate": SLOT_NAMES[record.candidate],
                "state": journal.STATE_NAMES[record.state],
            },
            "settled": engine.settled,
            "outcome": engine.outcome,
            "fell_back": self.fell_back or None,
            "error": str(engine.error) if engine.error else None,
            "events": [{"code": code, "detail": detail} for code, detail in engine.state.events],
            "resets": len(self._machine.resets),
        }

    def _hang_up(self) -> None:
        """Close the connection of the agent's last life."""
        if self._live is not None:
            self._live.close(save=self._machine.powered and not self.needs_boot)
            self._live = None

    def _run(self, time_ms: float) -> None:
        result = self._machine.run(time_ms=time_ms)
        self._say_uart()
        if result.reason not in (StopReason.TIME, StopReason.ASLEEP):
            raise DeviceError(f"the device stopped: {result.detail or result.reason.value}")

    def _healthy(self) -> bool:
        """Tell whether the application says so; one that failed gets its time to reject itself."""
        return bool(self._machine.mem32[self._machine.chip.row.HEALTH_ADDRESS] == HEALTH_GOOD)

    def _journal(self) -> journal.Record:
        return journal.scan(*journal_pages(self._machine, places(self._machine)))[0]

    def _say_uart(self) -> None:
        """Say the complete lines that the device has sent since the last time."""
        new = bytes(self._machine.uart[self._uart_said :])
        end = new.rfind(b"\n") + 1
        self._uart_said += end
        for line in new[:end].decode("ascii", "replace").splitlines():
            if line.strip():
                self._say(f"device| {line.rstrip()}")
