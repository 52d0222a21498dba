"""The reference firmware's program: self-test, then the agent, for ever; the device only ever calls out."""

import gc

gc.threshold(1024)  # while modules load: what stays gets packed at the start of the heap

import chip
import modem

# Leaves first: an import inside an import takes a kilobyte of stack. All together take most of the second
# that the shortest watchdog gives.
import fota_wire.cose  # isort: skip
import fota_wire.suit  # isort: skip
import fota_wire.root  # isort: skip

chip.feed()
import fota_agent.engine.policy  # isort: skip
import fota_agent.engine.engine  # isort: skip

chip.feed()
from fota_agent.engine.actions import CHECKIN
from fota_agent.agent import Agent
from fota_agent.boards.chip import verify
from fota_agent.hooks import Hooks
from fota_agent.transport.tls_micropython import transport_for
from fota_wire.errors import FotaError
from fota_wire.layout import SLOT_NAMES
from this_board import ThisBoard

SELF_TEST_FAILS = chip.VERSION.endswith("-fail")  # a release that was built broken


class DeviceHooks(Hooks):
    """Says on the UART what happens, and keeps the watchdog fed while a download lasts."""

    def __init__(self) -> None:
        self._quarter = 0

    def health_check(self) -> "bool | None":
        """Return what the self-test says; a real application looks at its own parts here."""
        return not SELF_TEST_FAILS

    def progress(self, done: int, total: int) -> None:
        """Say every quarter of a download."""
        chip.feed()
        quarter = done * 4 // total
        if quarter != self._quarter:
            self._quarter = quarter
            say(f"{done} of {total} bytes")

    def log(self, line: str) -> None:
        """Say one thing that happened."""
        say(line)


def say(text: str) -> None:
    """Print one line."""
    print(f"agent {chip.VERSION}: {text}")


def open_socket(host: str, port: int) -> "modem.Socket":
    """Return a connected socket of the modem. OSError."""
    chip.feed()
    sock = modem.Socket()
    sock.connect(host, port)
    return sock


def run() -> None:
    """Start the agent and step it."""
    gc.threshold(4096)  # modules are in place; each collection takes 4 ms, hundreds a second without a feed
    board = ThisBoard()
    board.tell_health(not SELF_TEST_FAILS)
    boot = board.boot_report()
    how = "trial" if boot.trial else "confirmed" if boot.running == boot.confirmed else "fallback"
    say(f"slot {SLOT_NAMES[boot.running]} runs {boot.version_text}, {how}")
    transport = transport_for(
        board, open_socket, modem.wait, passed=lambda: agent.passed_time(), clock=modem.time
    )
    chip.feed()
    agent = Agent(board, transport, DeviceHooks(), verify)
    phase = ""
    while True:
        if agent.engine.phase != phase:
            phase = agent.engine.phase
            gc.collect()
            # large ROOT steps in an answer need a heap in one piece; between pages nothing large is made
            gc.threshold(4096 if phase == CHECKIN else 16384)
            say("settled" if agent.engine.settled and phase == "idle" else phase)
        chip.feed()
        modem.rest(agent.step())  # with the watchdog fed


try:
    run()
except FotaError as exc:
    say(f"cannot run: {exc}")
