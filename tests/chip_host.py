"""A host of the element that is no part of the product: packets over anything shaped like machine.I2C."""

import errno
from collections.abc import Callable
from typing import Protocol

from fota_vdev.atecc608.crc import crc16
from fota_vdev.wires.bus_words import STATUS_TEXT
from fota_wire.errors import DeviceError

WOKEN = b"\x04\x11\x33\x43"
POLL_US, POLLS = 2000, 1300
WAKE_DELAY_US = 1500


class I2C(Protocol):
    """What is needed of ``machine.I2C``."""

    def writeto(self, address: int, data: bytes, /) -> int:
        """Write one message."""

    def readfrom(self, address: int, n: int, /) -> bytes:
        """Read ``n`` bytes."""


class ElementStatusError(DeviceError):
    """The element answered with a status other than success; ``status`` is that byte."""

    def __init__(self, command: str, status: int) -> None:
        super().__init__(f"the crypto element refused {command}: {STATUS_TEXT.get(status, hex(status))}")
        self.status = status


class ChipHost:
    """One element at a 7-bit address. Every command runs in its own awake session unless in `session`.

    Raises DeviceError when the chip does not answer or answers with damaged packets, ElementStatusError
    when it refuses.
    """

    def __init__(self, i2c: I2C, sleep_us: Callable[[int], None], address: int = 0x60) -> None:
        self._i2c = i2c
        self._sleep_us = sleep_us
        self.address = address

    def wake(self) -> None:
        """Wake the chip: address 0 holds SDA low; then it tells that it woke."""
        try:
            self._i2c.writeto(0, b"")
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise
        self._sleep_us(WAKE_DELAY_US)
        try:
            answer = self._i2c.readfrom(self.address, 4)
        except OSError as exc:
            raise DeviceError(f"no crypto element answers at I2C address 0x{self.address:02x}") from exc
        if answer != WOKEN:
            raise DeviceError(f"the crypto element woke up with {answer.hex()} instead of {WOKEN.hex()}")

    def idle(self) -> None:
        """Send the chip to idle: it keeps TempKey."""
        self._write(b"\x02")

    def sleep(self) -> None:
        """Send the chip to sleep: it forgets all SRAM."""
        self._write(b"\x01")

    def _write(self, message: bytes) -> None:
        try:
            self._i2c.writeto(self.address, message)
        except OSError as exc:
            raise DeviceError("the crypto element does not take a message: asleep, busy or gone") from exc

    def exchange(self, opcode: int, p1: int, p2: int, data: bytes = b"") -> bytes:
        """Send one command to the awake chip and return the payload of its response.

        Raises:
            DeviceError: no answer in 2.6 s, or a damaged one.
        """
        body = bytes([len(data) + 7, opcode, p1]) + p2.to_bytes(2, "little") + data
        self._write(b"\x03" + body + crc16(body))
        for _ in range(POLLS):
            self._sleep_us(POLL_US)
            try:
                count = self._i2c.readfrom(self.address, 1)[0]
            except OSError:
                continue
            rest = self._i2c.readfrom(self.address, max(count, 4) - 1)
            if count < 4 or crc16(bytes([count]) + rest[:-2]) != rest[-2:]:
                raise DeviceError("the crypto element's answer is damaged: check the bus")
            return rest[:-2]
        raise DeviceError("the crypto element stayed busy for too long")

    def command(self, opcode: int, p1: int, p2: int, data: bytes = b"", *, name: str = "") -> bytes:
        """Wake, run one command, idle; return its output (empty for a plain success)."""
        self.wake()
        payload = self.exchange(opcode, p1, p2, data)
        self.idle()
        if len(payload) == 1:
            if payload[0]:
                raise ElementStatusError(name or f"command {opcode:02x}", payload[0])
            return b""
        return payload

    # -- commands --------------------------------------------------------------------------------------------

    def read_config(self) -> bytes:
        """The 128 bytes of the configuration zone."""
        return b"".join(self.command(0x02, 0x80, block << 3, name="Read") for block in range(4))

    def serial(self) -> bytes:
        """SN0..SN8."""
        block = self.command(0x02, 0x80, 0, name="Read")
        return block[0:4] + block[8:13]

    def write_config_word(self, offset: int, data: bytes) -> None:
        """Write four bytes of the configuration zone at a multiple of four."""
        self.command(
            0x12, 0x00, offset // 32 << 3 | offset % 32 // 4, data, name="Write of the configuration"
        )

    def write_slot(self, slot: int, data: bytes) -> None:
        """Write a slot in 32-byte blocks, the last one filled with zeros."""
        for block in range(0, len(data), 32):
            part = data[block : block + 32].ljust(32, b"\0")
            self.command(0x12, 0x82, block // 32 << 8 | slot << 3, part, name=f"Write of slot {slot}")

    def lock_config(self, crc: bytes) -> None:
        """Lock the configuration zone if its checksum is ``crc``."""
        self.command(0x17, 0x00, int.from_bytes(crc, "little"), name="Lock of the configuration")

    def lock_data(self) -> None:
        """Lock data and OTP zones."""
        self.command(0x17, 0x81, 0, name="Lock of the data zone")

    def generate_key(self, slot: int) -> bytes:
        """Make a new private key in the slot; return its X||Y."""
        return self.command(0x40, 0x04, slot, name=f"GenKey in slot {slot}")

    def public_key(self, slot: int) -> bytes:
        """X||Y of the private key in the slot."""
        return self.command(0x40, 0x00, slot, name=f"GenKey in slot {slot}")

    def random(self) -> bytes:
        """32 random bytes."""
        return self.command(0x1B, 0, 0, name="Random")

    def counter(self, index: int) -> int:
        """Value of a monotonic counter, not authenticated."""
        return int.from_bytes(self.command(0x24, 0, index, name="Counter"), "little")

    def increment(self, index: int) -> int:
        """Increment a counter; return its new value."""
        return int.from_bytes(self.command(0x24, 1, index, name="Counter"), "little")

    def sign(self, slot: int, digest: bytes) -> bytes:
        """Sign a 32-byte digest with a private slot; return r||s."""
        self.command(0x16, 0x43, 0, digest, name="Nonce")
        return self.command(0x41, 0xA0, slot, name=f"Sign with slot {slot}")
