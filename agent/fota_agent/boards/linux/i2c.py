"""An ATECC608 on an I2C adapter of Linux, as ``machine.I2C`` of MicroPython has it."""

import fcntl
import os
from types import TracebackType

from fota_wire.errors import DeviceError
from fota_wire.status import CE1

I2C_SLAVE = 0x0703  # linux/i2c-dev.h


class LinuxI2c:
    """The bus ``/dev/i2c-N``. A NAK is an OSError. Not run on hardware.

    Raises:
        DeviceError: CE1, there is no such bus.
    """

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            raise DeviceError(f"I2C bus {path}: {exc.strerror}", CE1) from exc

    def __enter__(self) -> "LinuxI2c":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bus."""
        os.close(self._fd)

    def writeto(self, addr: int, buf: bytes) -> int:
        """Write ``buf`` with START and STOP; to address 0 it is the wake pulse."""
        fcntl.ioctl(self._fd, I2C_SLAVE, addr)
        return os.write(self._fd, buf or b"\0")

    def readfrom_into(self, addr: int, buf: bytearray) -> None:
        """Fill ``buf`` from the 7-bit address ``addr``."""
        fcntl.ioctl(self._fd, I2C_SLAVE, addr)
        data = os.read(self._fd, len(buf))
        buf[: len(data)] = data
