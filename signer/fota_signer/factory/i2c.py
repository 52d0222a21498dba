"""The element on anything shaped like MicroPython's ``machine.I2C``: of a board or of a virtual device."""

import errno
from collections.abc import Callable
from typing import Protocol

from fota_signer.factory.packets import ADDRESSES
from fota_wire.errors import DeviceError

WOKEN = b"\x04\x11\x33\x43"
WAKE_DELAY_US, POLL_US, POLLS = 1500, 2000, 1300
COMMAND, IDLE = b"\x03", b"\x02"


class I2C(Protocol):
    """What is needed of ``machine.I2C``; OSError(ENODEV) when nobody acknowledges."""

    def writeto(self, address: int, data: bytes, /) -> int:
        """Write one message."""

    def readfrom(self, address: int, n: int, /) -> bytes:
        """Read ``n`` bytes."""


class I2cTransport:
    """One element at a 7-bit address of an I2C bus of at most 100 kHz, which the wake pulse needs."""

    def __init__(self, i2c: I2C, sleep_us: Callable[[int], None], address: int = 0x60) -> None:
        self._i2c = i2c
        self._sleep_us = sleep_us
        self.address = address

    def execute(self, packet: bytes) -> bytes:
        """Wake, send, poll, idle. Raises DeviceError: no answer in 2.6 s."""
        self._wake()
        self._write(COMMAND + packet)
        response = self._response()
        self._write(IDLE)
        return response

    def close(self) -> None:
        """Nothing to let go of."""

    def _wake(self) -> None:
        try:
            self._i2c.writeto(0, b"")
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise
        self._sleep_us(WAKE_DELAY_US)
        try:
            answer = self._i2c.readfrom(self.address, 4)
        except OSError as exc:
            where = f"no crypto element answers at I2C address 0x{self.address:02x}"
            raise DeviceError(f"{where}; {ADDRESSES}") from exc
        if answer != WOKEN:
            raise DeviceError(f"the crypto element woke up with {answer.hex()} instead of {WOKEN.hex()}")

    def _write(self, message: bytes) -> None:
        try:
            self._i2c.writeto(self.address, message)
        except OSError as exc:
            raise DeviceError("the crypto element does not take a message: asleep, busy or gone") from exc

    def _response(self) -> bytes:
        for _ in range(POLLS):
            self._sleep_us(POLL_US)
            try:
                count = self._i2c.readfrom(self.address, 1)
            except OSError:
                continue
            return count + self._i2c.readfrom(self.address, max(count[0], 4) - 1)
        raise DeviceError("the crypto element stayed busy for too long")
