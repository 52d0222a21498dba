"""The ESP32-C3 board as the chip itself sees it: modules ``chip``, ``esp`` and ``bus`` of the firmware."""

import bus
import chip
import esp
import machine

from fota_agent.boards.esp32c3 import Esp32C3Board
from fota_agent.boards.flash_esp32c3 import NorFlash


class ChipFlash(NorFlash):
    """Flash, with the watchdog fed: a sector may take 400 ms to erase."""

    def erase(self, address: int) -> None:
        """Erase the sector at ``address``. DeviceError FL2."""
        chip.feed()
        super().erase(address)

    def program(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        """Program erased flash, and read it back. DeviceError FL1."""
        chip.feed()
        super().program(address, data)


class ChipBoard(Esp32C3Board):
    """The ``Board`` of ``fota_agent.seams``, on the chip."""

    def __init__(self) -> None:
        flash = ChipFlash(esp)
        super().__init__(
            machine.mem32, bus, flash.read, chip.sleep_us, chip.ticks_ms, chip.random_below, flash
        )
