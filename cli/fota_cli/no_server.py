"""The server of who is told to speak to none: ``fota agent run --offline``."""

from typing import TYPE_CHECKING

from fota_wire.errors import TransportError

if TYPE_CHECKING:
    from fota_agent.seams import Reader


class NoServer:
    """A ``Transport`` on which nothing ever leaves this machine."""

    def request(
        self, _method: str, _path: str, _headers: dict[str, str], _body: bytes = b""
    ) -> "tuple[int, dict[str, str], Reader]":
        """Raise TransportError."""
        raise TransportError("no server is spoken to: --offline")

    def close(self) -> None:
        """Nothing is open."""
