"""The STM32L4 reference board as the chip itself sees it: modules ``chip`` and ``flash`` of the firmware.

The board code is that of `fota_agent.boards.stm32`; what differs is who reads and programs flash.
"""

import chip
import flash
import machine

from fota_agent.boards.flash_stm32l4 import BankSlot, Flash
from fota_agent.boards.i2c_stm32l4 import I2c
from fota_agent.boards.stm32 import Stm32Board
from fota_wire.checkin import LEAST_ANSWER
from fota_wire.errors import DeviceError
from fota_wire.status import FL1


class ChipFlash(Flash):
    """Flash with its stores in C, and torn double words as the NMI tells of them."""

    def take_fault(self) -> bool:
        """Return True if a read since the last call hit a torn double word."""
        return bool(flash.ecc_fault())

    def view(self, address: int, length: int) -> "memoryview":
        """Return ``length`` bytes where they lie."""
        seen: memoryview = flash.view(address, length)
        return seen

    def is_blank(self, address: int) -> bool:
        """Return True if the page at the mapped ``address`` is wholly erased."""
        return bool(flash.is_blank(address, self.ROW.PAGE_SIZE))

    def program(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        """Program erased flash at the mapped ``address``, whole double words; DeviceError FL1."""
        chip.feed()
        try:
            flash.program(address, data)
        except OSError as exc:
            raise DeviceError(f"flash: error at 0x{address:08x}, or it does not read back", FL1) from exc


class ChipSlot(BankSlot):
    """A slot whose pages are hashed where they lie: a copy of each would cost more than its hash."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; of a whole page a view, good until it is erased."""
        if length < self.ROW.PAGE_SIZE:
            return super().read(offset, length)
        self._inside(offset, length)
        page: bytes = flash.view(self._address + offset, length)
        return page


class ChipBoard(Stm32Board):
    """The ``Board`` of ``fota_agent.seams``, on the chip."""

    slot_kind = ChipSlot
    longest_answer = LEAST_ANSWER  # what the heap has room for

    def __init__(self) -> None:
        super().__init__(
            machine.mem32,
            I2c(machine.mem32),
            flash.read,
            chip.sleep_us,
            chip.ticks_ms,
            chip.random_below,
            ChipFlash(machine.mem32, flash.read, chip.sleep_us),
        )
