"""The SDK: connect, publish and stay up to date in a few lines.

    from fota_agent import board, Agent

    agent = Agent(board.detect())
    agent.start()
    agent.publish("climate", {"t": 21.5})

``start`` steps from a thread where there are threads. Elsewhere, and in a loop of one's own:

    while not agent.rebooting:
        wait_ms = agent.step()
        ...  # the application's own work, for at most wait_ms

``run`` is that loop for scripts, ``fota_agent.aio.serve`` for asyncio. Nothing listens: each connection goes
out to the server of the trust store.

Every call checks its arguments: TypeError or InputError, and nothing has happened. Where there are threads
each call may come from any of them.
"""

from fota_agent.engine import telemetry
from fota_agent.hooks import Hooks
from fota_agent.runner.runner import LONGEST_SLEEP_MS, Runner, sleep_ms
from fota_wire.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike

    from fota_agent.engine.engine import Engine
    from fota_agent.schedule import Schedule
    from fota_agent.seams import Board, Transport
    from fota_agent.seams import Hooks as AnyHooks
    from fota_wire.seams import Verify

LATE_MS = 600_000  # longer than any step takes
LONGEST_S = 10 * 366 * 86_400


class Agent:
    """The update agent of one device, for one boot.

    ``transport`` and ``verify`` (P-256 by public key) default to the board's own, ``board.transport(url)``
    and ``board.verify``, where it has them; else to those of CPython: ``ssl`` with the key in the element,
    and ``cryptography``. ``server_url`` overrides the trust store's; trust stays the same.
    ``mirror``: base URL, http too, of a copy of the server's payloads nearby, which is asked first; what it
    sends is checked like everything else. ``schedule``: when updates are welcome. ``tls12``: offer TLS 1.2
    too, where a network needs it.

    Raises:
        TypeError: an argument is of another type.
        DeviceError: boot report, trust store or crypto element are not usable.
        InputError: a certificate of the trust store is not usable.
        TransportError: a URL is not usable.
    """

    def __init__(
        self,
        board: "Board",
        transport: "Transport | None" = None,
        hooks: "AnyHooks | None" = None,
        verify: "Verify | None" = None,
        server_url: "str | None" = None,
        *,
        mirror: "str | None" = None,
        schedule: "Schedule | None" = None,
        tls12: bool = False,
    ) -> None:
        import sys

        make = Runner
        if sys.implementation.name == "cpython":
            from fota_agent.runner.background import ThreadedRunner, check_parts

            check_parts(board, transport, hooks, verify, server_url, mirror, schedule, tls12)
            make = ThreadedRunner
        if transport is None and hasattr(board, "transport"):
            transport = board.transport(server_url)
        if transport is None:
            from fota_agent.transport.tls_cpython import transport_for

            transport = transport_for(board, server_url, tls12, self.passed_time)
        if mirror is not None:
            from fota_agent.transport.mirror import Mirrored, plain_transport

            transport = Mirrored(transport, plain_transport(mirror, board.ticks_ms))
        verify = verify or getattr(board, "verify", None)
        if verify is None:
            from fota_wire.host_crypto import verify as host_verify

            verify = host_verify
        self.server = server_url or board.server_url
        self._board = board
        self._runner = make(board, transport, hooks or Hooks(), verify, server_url)
        self._runner.schedule = schedule
        self._threaded = False

    @property
    def engine(self) -> "Engine":
        """The state machine, to look at: ``phase``, ``trial``, ``settled``, ``outcome``, ``state``."""
        return self._runner.engine

    @property
    def rebooting(self) -> bool:
        """True once the chip was told to reset."""
        return self._runner.rebooting

    @property
    def alive(self) -> bool:
        """True while somebody steps: the last step began, or the next is due, less than ten minutes ago."""
        due = self._runner.due
        return due is not None and self._board.ticks_ms() < due + LATE_MS

    def start(self) -> None:
        """Connect and stay up to date: from a thread where there are threads, which ends with the process;
        elsewhere by the ``step`` calls of the application.
        """
        import sys

        if sys.implementation.name == "cpython" and not self._threaded:
            from fota_agent.runner.background import keep_stepping

            keep_stepping(self._runner)
            self._threaded = True

    def run(self, seconds: "float | None" = None) -> None:
        """Step until the chip is told to reset, or for so many seconds. TypeError, InputError."""
        end = None if seconds is None else self._ticks_after(seconds)
        while not self.rebooting and (end is None or self._board.ticks_ms() < end):
            wait_ms = self.step()
            left = wait_ms if end is None else max(0, end - self._board.ticks_ms())
            self._runner.rest_for(min(wait_ms, left))

    def sync(self, seconds: float = 60) -> bool:
        """Check in now, and wait until the server has all that was published, and a report of what runs;
        False if that was not so in time. TypeError, InputError; RuntimeError: called by a hook.
        """
        end = self._ticks_after(seconds)
        self._runner.not_in_a_step()
        self.check_in()
        while not self.rebooting and self._board.ticks_ms() < end:
            wait_ms = LONGEST_SLEEP_MS if self._threaded else self.step()
            if self.engine.settled and self._runner.all_delivered:
                return True
            sleep_ms(min(wait_ms, LONGEST_SLEEP_MS))
        return False

    @property
    def renewing(self) -> bool:
        """True while the next step is about the device's key, its certificate, or the key epoch."""
        return self._runner.renewing

    def step(self) -> int:
        """Do one thing, of a download at most one page; return how many milliseconds the next call may
        wait. What fails is tried again later. RuntimeError: called by a hook.
        """
        return self._runner.step()

    def publish(self, topic: "str | dict[str, object]", value: object, urgent: bool = False) -> None:
        """Have the server show ``value``, anything that JSON says in 256 bytes, as the last of ``topic``.

        It goes with the next check-in, soon if ``urgent``, and is kept over a reset and without network:
        the last 24 values, 2 KiB. A power cut may lose those of the last half hour, and want of memory all:
        an update comes first. A map in front of a text is the value, as other SDKs have it.

        Raises:
            TypeError: topic is no text, or urgent not True or False.
            InputError: topic or value are not usable.
        """
        if isinstance(topic, dict) and isinstance(value, str):
            topic, value = value, topic  # no topic is a map
        is_a("urgent", urgent, bool)
        name, text = telemetry.encode(topic, value)
        self._runner.publish((name, self.time() or 0, text))
        if urgent:
            self.check_in()

    def time(self) -> "int | None":
        """Return s since 1970 as the server told it in this boot, or None."""
        return self.engine.clock.time(self._board.ticks_ms())

    def check_in(self) -> None:
        """Ask the server with the next step, whenever that was due: once a second at most, and not before a
        failure, or a server that wants to be left alone, allow it.
        """
        self._runner.check_in()

    def install_from(self, folder: "str | PathLike[str]") -> None:
        """Take the update on a card or disk (docs/agent.md), verified like the server's, if it is newer than
        what was installed last. The next steps carry it out.

        Raises:
            TypeError: folder is no path.
            FotaError: it is not there, not for this device, not signed, not newer; or an update is under way.
        """
        from fota_agent.transport.folder import Folder

        path = folder if isinstance(folder, str) else getattr(folder, "__fspath__", lambda: folder)()
        is_a("folder", path, str)
        self._runner.offer(Folder(str(path)))

    def close(self, save: bool = True) -> None:
        """Save what is not saved yet, and close the connection; the agent can go on, with a new one."""
        if save:
            self._runner.save()
        self._runner.close()

    def _ticks_after(self, seconds: float) -> int:
        """Return the time that is so many seconds ahead. TypeError, InputError."""
        if isinstance(seconds, bool):
            raise TypeError("seconds is a bool, not a number")
        try:
            good = 0 <= seconds <= LONGEST_S
        except ArithmeticError:  # decimal's NaN
            good = False
        if not good:
            raise InputError(f"seconds is not 0 to {LONGEST_S}")
        return self._board.ticks_ms() + int(seconds * 1000)

    def passed_time(self) -> int:
        """Return a time in s since 1970 that has passed for sure, 0 = none known: certificates that ended
        before it are refused.
        """
        return self.engine.clock.passed(self._board.ticks_ms())


def is_a(name: str, value: object, kind: type) -> None:
    """Raise TypeError unless ``value`` is of type ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}, not a {kind.__name__}")
