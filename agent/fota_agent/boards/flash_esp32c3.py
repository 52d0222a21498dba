"""SPI flash of the ESP32-C3 by its offsets: sectors of 4 KiB are erased, words programmed.

Who does the transfers has the functions ``flash_read(offset, buffer)``, ``flash_write(offset, buffer)`` and
``flash_erase(sector)``, as MicroPython's module ``esp`` has them; OSError if they failed. Nothing tells of
cells that a power cut left torn: CRC and hash do.
"""

from fota_wire import esp_partitions, settings
from fota_wire.chips import esp32c3
from fota_wire.errors import DeviceError, FormatError, VerifyError
from fota_wire.layout import SLOT_B
from fota_wire.status import FL1, FL2, SE1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import SpiFlash


class NorFlash:
    """The whole flash, and where in it things are: as the partition table says, or the settings' copy of it
    where the table is damaged. The bootloader does the same, and its report says what it found.

    Raises:
        DeviceError: SE1, neither says it.
    """

    ROW = esp32c3

    def __init__(self, esp: "SpiFlash") -> None:
        self._esp = esp
        self._places = self._find()

    def _find(self) -> "tuple[int, int, int, int, int]":
        try:
            table = esp_partitions.parse(self.read(self.ROW.TABLE_OFFSET, esp_partitions.MAX_SIZE), self.ROW)
            return esp_partitions.places(table, self.ROW).copy()
        except VerifyError as damaged:
            try:
                copy = settings.unpack(self.read(self.ROW.SETTINGS_OFFSET, settings.SIZE)).places
                esp_partitions.check_copy(copy, self.ROW)
            except FormatError as exc:
                raise DeviceError(f"factory data: {exc}", SE1) from exc
            except VerifyError:
                raise DeviceError(str(damaged), SE1) from damaged
            return copy

    # -- places ------------------------------------------------------------------------------------------

    def settings(self) -> int:
        """Return where the settings page is."""
        return self.ROW.SETTINGS_OFFSET

    def trust_store(self) -> int:
        """Return where the trust store is."""
        return self._places[0] + self.ROW.TRUST_STORE_OFFSET

    def journal(self) -> int:
        """Return where the boot journal is."""
        return self._places[0] + self.ROW.JOURNAL_OFFSET

    def agent_store(self) -> int:
        """Return where the agent store is."""
        return self._places[0] + self.ROW.AGENT_STORE_OFFSET

    def slots(self, running: int) -> "tuple[tuple[int, int], tuple[int, int]]":
        """Return (address, size) of the slot that runs, and of the other one."""
        _, a, a_size, b, b_size = self._places
        both = (a, a_size), (b, b_size)
        return (both[1], both[0]) if running == SLOT_B else both

    # -- access ------------------------------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes."""
        data = bytearray(length)
        self._esp.flash_read(address, data)
        return bytes(data)

    read_sound = view = read

    def take_fault(self) -> bool:
        """Return False: no reading of this flash fails."""
        return False

    def is_blank(self, address: int) -> bool:
        """Return True if the sector at ``address`` is wholly erased."""
        return self.read(address, self.ROW.PAGE_SIZE) == b"\xff" * self.ROW.PAGE_SIZE

    def erase(self, address: int) -> None:
        """Erase the sector at ``address``. A power cut leaves any of its bits. DeviceError FL2."""
        try:
            self._esp.flash_erase(address // self.ROW.PAGE_SIZE)
        except OSError as exc:
            raise DeviceError(f"flash: erase at 0x{address:06x} failed", FL2) from exc

    def program(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        """Program erased flash, whole words, and read it back. A power cut leaves any bits of a page of 256
        bytes, and all pages before it. DeviceError FL1.
        """
        if address % self.ROW.WRITE_SIZE or len(data) % self.ROW.WRITE_SIZE:
            raise ValueError("not a whole number of flash words")
        try:
            self._esp.flash_write(address, data)
        except OSError as exc:
            raise DeviceError(f"flash: program at 0x{address:06x} failed", FL1) from exc
        if self.read(address, len(data)) != bytes(data):
            raise DeviceError(f"flash: 0x{address:06x} does not read back", FL1)
