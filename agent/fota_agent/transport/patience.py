"""How long one wait for the peer may last: measured in time, and begun anew with each sign of it. No I/O."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Clock

IDLE_MS = 15_000  # without a byte from the peer
WRITE_MS = 60_000  # a handshake, or a request: some 6 KiB at 256 bytes per second, twice
READ_MS = 150_000  # a TLS record of 16 KiB, of which nothing can be read before its end, at half of that


class Patience:
    """One wait of at most ``total_ms``, in which the peer is silent for at most ``IDLE_MS`` at a time.

    The second limit is what a dead line costs, the first what somebody on the path costs who lets through
    a byte now and then.
    """

    def __init__(self, now_ms: "Clock", total_ms: int) -> None:
        self._now_ms = now_ms
        self._heard = now_ms()
        self._end = self._heard + total_ms

    def wait(self, wait: "Callable[[int], object]") -> None:
        """Let ``wait(ms)`` pass the time; it returns early once there is something from the peer.

        Raises:
            OSError: the patience is at its end.
        """
        started = self._now_ms()
        left = min(self._end, self._heard + IDLE_MS) - started
        if left <= 0:
            raise OSError("timed out")
        wait(left)
        now = self._now_ms()
        if now - started < left:
            self._heard = now
