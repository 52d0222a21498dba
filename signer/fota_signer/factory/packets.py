"""Packets of the ATECC608 as the factory sends them, and the seam to whatever carries them."""

from typing import Protocol

from fota_wire.element import crc16
from fota_wire.errors import DeviceError

ADDRESSES = "a blank chip is at 0x60, TrustFLEX at 0x36, Trust&GO at 0x35 (--address)"
MISCOMPARE = 0x01
STATUS_TEXT = {
    MISCOMPARE: "miscompare",
    0x03: "parse error",
    0x05: "ECC fault",
    0x07: "self-test failed",
    0x08: "health test failed",
    0x0F: "refused by configuration or state",
    0x11: "it woke up instead of answering",
    0xFF: "damaged command",
}


class ElementStatusError(DeviceError):
    """The element answered with a status other than success; ``status`` is that byte."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(
            f"the crypto element refused {name}: {STATUS_TEXT.get(status, f'status {status:02x}')}"
        )
        self.status = status


class Transport(Protocol):
    """Carries one packet to one element: on I2C, over a USB kit, into a model.

    ``execute`` wakes the chip, sends ``packet`` (count byte to CRC), waits, returns the whole response (count
    byte to CRC), and sends the chip to idle, which keeps TempKey. It raises DeviceError if nobody answers.
    """

    def execute(self, packet: bytes) -> bytes:
        """Return the response to one command packet."""

    def close(self) -> None:
        """Let go of the bus."""


def packet(opcode: int, p1: int, p2: int, data: bytes = b"") -> bytes:
    """Return a command packet: count, opcode, p1, p2 (LE), data, CRC."""
    body = bytes([len(data) + 7, opcode, p1]) + p2.to_bytes(2, "little") + data
    return body + crc16(body)


def payload(response: bytes, name: str) -> bytes:
    """Return the output of a response; empty for a plain success.

    Raises:
        DeviceError: the response is damaged.
        ElementStatusError: the element refused command ``name``.
    """
    if len(response) < 4 or response[0] != len(response) or crc16(response[:-2]) != response[-2:]:
        raise DeviceError(f"the crypto element's answer to {name} is damaged: check the bus, then run again")
    out = response[1:-2]
    if len(out) > 1:
        return out
    if out[0]:
        raise ElementStatusError(name, out[0])
    return b""
