"""The I2C bus between chip and crypto element, in messages, with a place for an adversary on the wire."""

import errno
from collections.abc import Callable
from typing import Protocol

from fota_vdev.parts.bus import PowerCutError
from fota_vdev.parts.clock import PS_PER_S, PS_PER_US, Clock


class Target(Protocol):
    """A device on the bus."""

    def wake_pulse(self, low_us: float) -> None:
        """SDA was held low for ``low_us`` (a START and an address byte of zeros)."""

    def acknowledge(self, address: int, *, read: bool) -> bool:
        """Tell whether the device answers to its 7-bit address now."""

    def write(self, data: bytes) -> None:
        """Take one write message, STOP included."""

    def read(self, n: int) -> bytes:
        """Return the ``n`` bytes that the host clocks out."""


class Tamper(Protocol):
    """Somebody on the wire, who may change every message in both directions."""

    def on_write(self, address: int, data: bytes) -> bytes:
        """Return what the device shall get instead of ``data``."""

    def on_read(self, address: int, data: bytes) -> bytes:
        """Return what the host shall get instead of ``data``."""


class Listener(Protocol):
    """Somebody who only listens, at the host's end of the wire."""

    def wake(self) -> None:
        """SDA was held low."""

    def nak(self, address: int) -> None:
        """Nobody acknowledged ``address``."""

    def write(self, address: int, data: bytes) -> None:
        """The host sent ``data``."""

    def read(self, address: int, data: bytes) -> None:
        """The host got ``data``."""


class I2CBus:
    """The wire. Timing is the master's business."""

    def __init__(self, target: Target | None) -> None:
        self.target = target
        self.tamper: Tamper | None = None
        self.listener: Listener | None = None

    def select(self, address: int, *, read: bool, bit_ps: int) -> bool:
        """Send START and an address byte; return True if it was acknowledged."""
        if address == 0 and not read:
            if self.listener is not None:
                self.listener.wake()
            if self.target is not None:
                self.target.wake_pulse(8 * bit_ps / PS_PER_US)
            return False
        acknowledged = self.target is not None and self.target.acknowledge(address, read=read)
        if not acknowledged and self.listener is not None:
            self.listener.nak(address)
        return acknowledged

    def write(self, address: int, data: bytes) -> None:
        """Deliver a message to the device that acknowledged."""
        if self.listener is not None:
            self.listener.write(address, data)
        if self.tamper is not None:
            data = self.tamper.on_write(address, data)
        if self.target is not None:
            self.target.write(data)

    def read(self, address: int, n: int) -> bytes:
        """Fetch ``n`` bytes from the device that acknowledged."""
        data = self.target.read(n) if self.target is not None else b"\xff" * n
        if self.tamper is not None:
            data = self.tamper.on_read(address, data)
        data = (data + b"\xff" * n)[:n]
        if self.listener is not None:
            self.listener.read(address, data)
        return data


class HostI2C:
    """The bus in the shape of MicroPython's ``machine.I2C``; every transfer takes its virtual time.

    Raises OSError(ENODEV) when nobody acknowledges, as MicroPython does: after the wake pulse, too, which
    is ``writeto(0, b"")`` and which no device acknowledges.
    """

    def __init__(self, bus: I2CBus, clock: Clock, freq: int = 100_000) -> None:
        self._bus = bus
        self._clock = clock
        self.freq = freq
        self.on_cut: Callable[[], None] = lambda: None

    def init(self, *, freq: int) -> None:
        """Set the bit rate in Hz."""
        self.freq = freq

    def _select(self, address: int, *, read: bool) -> None:
        bit_ps = PS_PER_S // self.freq
        acknowledged = self._bus.select(address, read=read, bit_ps=bit_ps)
        self._clock.advance(11 * bit_ps)
        if not acknowledged:
            raise OSError(errno.ENODEV, "no device acknowledges on the I2C bus")

    def writeto(self, address: int, data: bytes | bytearray | memoryview) -> int:
        """Write one message; return the number of bytes acknowledged."""
        self._select(address, read=False)
        self._clock.advance(9 * len(data) * PS_PER_S // self.freq)
        try:
            self._bus.write(address, bytes(data))
        except PowerCutError:
            self.on_cut()
            raise
        return len(data)

    def readfrom(self, address: int, n: int) -> bytes:
        """Read ``n`` bytes."""
        self._select(address, read=True)
        data = self._bus.read(address, n)
        self._clock.advance(9 * n * PS_PER_S // self.freq)
        return data

    def readfrom_into(self, address: int, buffer: bytearray | memoryview) -> None:
        """Fill ``buffer`` from the bus."""
        buffer[:] = self.readfrom(address, len(buffer))
