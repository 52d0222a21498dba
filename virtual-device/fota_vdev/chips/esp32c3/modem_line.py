"""UART1 with a modem at its other end: the modem's registers, one by one, over a serial line.

The chip sends the number of a register, plus 1 to write it, and then its four bytes, little endian; the modem
answers the reading of one with four. DATA carries as many bytes as LENGTH said instead. The line takes no
virtual time and loses nothing (RTS and CTS); which pins it is led to is not looked at.
"""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.uart import Uart
from fota_vdev.parts.bus import Peripheral

BAUD = 921_600
LENGTH, DATA = 0x10, 0x14
WRITE = 1


class ModemLine(Uart):
    """``modem`` has registers; the chip reaches them through this UART alone."""

    STATE: ClassVar[tuple[str, ...]] = (*Uart.STATE, "_request", "_length")

    def __init__(self, apb_hz: Callable[[], int], modem: Peripheral) -> None:
        self._modem = modem
        self._forget()
        super().__init__(apb_hz, "UART1", BAUD)

    def _forget(self) -> None:
        self._request = bytearray()
        self._length = 0

    def reset(self) -> None:
        """Begin anew; the modem is reset by itself."""
        super().reset()
        self._forget()

    def _sent(self, byte: int) -> None:
        self._request.append(byte)
        register, writing = self._request[0] & ~WRITE, self._request[0] & WRITE
        size = self._length if register == DATA else 4
        if len(self._request) == 1 + (size if writing else 0):
            value = bytes(self._request[1:])
            self._request.clear()
            if writing:
                self._write(register, value)
            else:
                self.receive(self._read(register, size))

    def _read(self, register: int, size: int) -> bytes:
        words = [self._modem.read(register).to_bytes(4, "little") for _ in range(0, size, 4)]
        return b"".join(words)[:size]

    def _write(self, register: int, value: bytes) -> None:
        for at in range(0, len(value), 4):
            self._modem.write(register, int.from_bytes(value[at : at + 4], "little"))
        if register == LENGTH:
            self._length = int.from_bytes(value, "little")
