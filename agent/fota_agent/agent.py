"""The SDK: keep one device up to date in a few lines.

    agent = Agent(board)
    while not agent.rebooting:
        wait_ms = agent.step()
        ...  # the application's own work, for at most wait_ms

Nothing listens: each connection goes out to the server of the trust store.
"""

from fota_agent.runner import Runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine import Engine
    from fota_agent.seams import Board, Transport
    from fota_wire.seams import Verify


class Hooks:
    """What the application may decide and hear; override what it cares about."""

    def health_check(self) -> "bool | None":
        """Return True if a new image is healthy, False if it failed, None while it is not known yet."""
        return True

    def may_install(self, manifest: object) -> bool:
        """Return True if the verified and written image may be started now: the chip resets then."""
        return True

    def progress(self, done: int, total: int) -> None:
        """Hear of the bytes of an image that are written."""

    def before_reboot(self) -> None:
        """Bring the application to rest."""

    def log(self, line: str) -> None:
        """Hear of one thing that happened."""


class Agent:
    """The update agent of one device, for one boot.

    ``transport`` and ``verify`` (P-256 by public key) default to those of CPython: ``ssl`` with the key in
    the element, and ``cryptography``. ``server_url`` overrides the trust store's, for mirrors; trust stays
    the same.

    Raises:
        DeviceError: boot report, trust store or crypto element are not usable.
        InputError: a certificate of the trust store is not usable.
    """

    def __init__(
        self,
        board: "Board",
        transport: "Transport | None" = None,
        hooks: "Hooks | None" = None,
        verify: "Verify | None" = None,
        server_url: "str | None" = None,
    ) -> None:
        if transport is None:
            from fota_agent.tls_cpython import transport_for

            transport = transport_for(board, server_url)
        if verify is None:
            from fota_wire.host_crypto import verify as host_verify

            verify = host_verify
        self.server = server_url or board.server_url
        self._runner = Runner(board, transport, hooks or Hooks(), verify)

    @property
    def engine(self) -> "Engine":
        """The state machine, to look at: ``phase``, ``trial``, ``settled``, ``outcome``, ``state``."""
        return self._runner.engine

    @property
    def rebooting(self) -> bool:
        """True once the chip was told to reset."""
        return self._runner.rebooting

    def step(self) -> int:
        """Do one thing, at most one download; return how many milliseconds the next call may wait."""
        return self._runner.step()

    def check_in(self) -> None:
        """Ask the server with the next step, whenever that was due; nothing while the agent is busy."""
        self._runner.check_in()

    def close(self) -> None:
        """Close the connection to the server; the agent can go on, with a new one."""
        self._runner.close()
