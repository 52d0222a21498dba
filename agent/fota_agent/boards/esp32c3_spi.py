"""The ESP32-C3's board for who reaches the chip from outside while its core stands still: beside a virtual
device. Its SPI flash goes through the registers of SPI1; a program on the chip cannot do it so, for its own
code is in this flash.
"""

from fota_agent.boards.esp32c3 import Esp32C3Board
from fota_agent.boards.flash_esp32c3 import NorFlash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Memory, Sleep

SPI1 = 0x60002000
CMD, ADDR, USER, USER2, MOSI_DLEN, MISO_DLEN, W0 = (SPI1 + at for at in (0, 4, 0x18, 0x20, 0x24, 0x28, 0x58))
USR = 1 << 18  # of CMD
COMMAND, ADDRESS, MISO, MOSI = 1 << 31, 1 << 30, 1 << 28, 1 << 27  # of USER
COMMAND_BITS = 7 << 28  # of USER2: eight
BUFFER, PAGE, SECTOR = 64, 256, 4096
READ, WRITE_ENABLE, READ_STATUS, PROGRAM, ERASE = 0x03, 0x06, 0x05, 0x02, 0x20
WRITING = 1  # of the flash chip's status
PATIENCE = 100_000  # readings of it
EIO = 5


class Spi1Flash:
    """The transfers, in the shape of MicroPython's module ``esp``, by ``mem32``."""

    def __init__(self, mem32: "Memory") -> None:
        self._mem32 = mem32

    def flash_read(self, offset: int, buffer: "bytearray | memoryview") -> None:
        """Fill ``buffer``."""
        for at in range(0, len(buffer), BUFFER):
            length = min(BUFFER, len(buffer) - at)
            self._mem32[MISO_DLEN] = 8 * length - 1
            self._command(READ, ADDRESS | MISO, offset + at)
            words = [self._mem32[W0 + word].to_bytes(4, "little") for word in range(0, length, 4)]
            buffer[at : at + length] = b"".join(words)[:length]

    def flash_write(self, offset: int, buffer: "bytes | bytearray | memoryview") -> None:
        """Program; a page of 256 bytes at a time at most. OSError: it does not end."""
        at = 0
        while at < len(buffer):
            length = min(BUFFER, len(buffer) - at, PAGE - (offset + at) % PAGE)
            part = bytes(buffer[at : at + length])
            for word in range(0, length, 4):
                self._mem32[W0 + word] = int.from_bytes(part[word : word + 4], "little")
            self._mem32[MOSI_DLEN] = 8 * length - 1
            self._command(WRITE_ENABLE, 0)
            self._command(PROGRAM, ADDRESS | MOSI, offset + at)
            self._wait()
            at += length

    def flash_erase(self, sector: int) -> None:
        """Erase 4096 bytes. OSError: it does not end."""
        self._command(WRITE_ENABLE, 0)
        self._command(ERASE, ADDRESS, sector * SECTOR)
        self._wait()

    def _command(self, code: int, phases: int, address: int = 0) -> None:
        self._mem32[USER] = COMMAND | phases
        self._mem32[USER2] = COMMAND_BITS | code
        self._mem32[ADDR] = address
        self._mem32[CMD] = USR

    def _wait(self) -> None:
        self._mem32[MISO_DLEN] = 7
        for _ in range(PATIENCE):
            self._command(READ_STATUS, MISO)
            if not self._mem32[W0] & WRITING:
                return
        raise OSError(EIO, "the flash chip stays busy")


class SpiNorFlash(NorFlash):
    """The flash, by ``mem32`` alone."""

    def __init__(self, mem32: "Memory", read: "Callable[[int, int], bytes]", sleep_us: "Sleep") -> None:
        super().__init__(Spi1Flash(mem32))


class Esp32C3SpiBoard(Esp32C3Board):
    """The ``Board`` of ``fota_agent.seams``."""

    flash_kind = SpiNorFlash
