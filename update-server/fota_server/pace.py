"""How often one device may ask: a stolen one, with its key, is slowed down to what an honest one needs. Pure.

A check-in that is written costs the server many times what a range of a payload costs, so they count 10 and
1, whatever the check-in says; a handshake counts 5, though whose it was is known when it is over: what is
asked next waits for it. A device may ask for 1,200 at once (a release in ranges of 4 KiB, many check-ins of a
person at work on it), and for 20 a second after that. It is not refused: its answers come later.

An address has as many connections on which TLS began and nothing was asked: beyond that it is closed before
the next handshake costs anything, for whose it would be is not known yet.
"""

from dataclasses import dataclass, field

CHECK_IN, HANDSHAKE, RANGE, BARE = 10.0, 5.0, 1.0, 1.0
BURST = 1200.0
PER_SECOND = 20.0
MAX_WAIT_S = 20.0
MAX_KNOWN = 65536


@dataclass(slots=True)
class Pace:
    """What each device has left, and when that was; or each address (`listener.py`)."""

    left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, device_id: str, cost: float, now: float) -> float:
        """Count one request; return for how many seconds its answer has to wait, 0 for most."""
        left, then = self.left.get(device_id, (BURST, now))
        left = min(BURST, left + (now - then) * PER_SECOND) - cost
        left = max(left, -MAX_WAIT_S * PER_SECOND)
        if device_id not in self.left and len(self.left) >= MAX_KNOWN:
            self._forget(now)
        self.left[device_id] = left, now
        return max(0.0, -left / PER_SECOND)

    def is_late(self, device_id: str, now: float, cost: float = 0.0) -> bool:
        """Tell whether it would have to wait for this, and count nothing."""
        left, then = self.left.get(device_id, (BURST, now))
        return left + (now - then) * PER_SECOND < cost

    def _forget(self, now: float) -> None:
        """Drop the devices that have all of it again; if there are none, the one longest known."""
        full = [
            device_id
            for device_id, (left, then) in self.left.items()
            if left + (now - then) * PER_SECOND >= BURST
        ]
        for device_id in full or [next(iter(self.left))]:
            del self.left[device_id]
