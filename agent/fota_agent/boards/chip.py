"""The STM32L4 reference board as the chip itself sees it: the modules ``chip`` and ``modem`` of the firmware.

The board code is that of ``board_stm32``; what differs is who reads and programs flash.
"""

import gc

import chip
import machine

from fota_agent.boards.flash_stm32l4 import Flash, FlashSlot
from fota_agent.boards.i2c_stm32l4 import I2c
from fota_agent.boards.stm32 import Stm32Board
from fota_wire.checkin import LEAST_ANSWER
from fota_wire.errors import DeviceError
from fota_wire.layout import HEALTH_BAD, HEALTH_GOOD
from fota_wire.status import FL1


class ChipFlash(Flash):
    """Flash with its stores in C, and torn double words as the NMI tells of them."""

    def take_fault(self) -> bool:
        """Return True if a read since the last call hit a torn double word."""
        return bool(chip.ecc_fault())

    def view(self, address: int, length: int) -> "memoryview":
        """Return ``length`` bytes where they lie."""
        seen: memoryview = chip.view(address, length)
        return seen

    def is_blank(self, address: int) -> bool:
        """Return True if the page at the mapped ``address`` is wholly erased."""
        return bool(chip.is_blank(address, self.ROW.PAGE_SIZE))

    def program(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        """Program erased flash at the mapped ``address``, whole double words; DeviceError FL1."""
        chip.feed()
        try:
            chip.program(address, data)
        except OSError as exc:
            raise DeviceError(f"flash: error at 0x{address:08x}, or it does not read back", FL1) from exc


class ChipSlot(FlashSlot):
    """A slot whose pages are hashed where they lie: a copy of each would cost more than its hash."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; of a whole page a view, good until it is erased."""
        if length < self.ROW.PAGE_SIZE:
            return super().read(offset, length)
        self._inside(offset, length)
        page: bytes = chip.view(self._address + offset, length)
        return page


class ChipBoard(Stm32Board):
    """The ``Board`` of ``fota_agent.seams``, on the chip."""

    slot_kind = ChipSlot
    longest_answer = LEAST_ANSWER  # what the heap has room for

    def __init__(self) -> None:
        flash = ChipFlash(machine.mem32, chip.read, chip.sleep_us)
        super().__init__(
            machine.mem32,
            I2c(machine.mem32),
            chip.read,
            chip.sleep_us,
            chip.ticks_ms,
            chip.random_below,
            flash,
        )

    def tell_health(self, healthy: bool) -> None:
        """Write the application's verdict where the agent's engine looks for it."""
        machine.mem32[self.ROW.HEALTH_ADDRESS] = HEALTH_GOOD if healthy else HEALTH_BAD


def verify(public_xy: bytes, digest: bytes, signature: bytes) -> bool:
    """P-256 verification by mbedTLS; the watchdog is fed, since a check-in may hold twenty of them. Garbage
    is collected: that takes a hundredth of the time, and what was verified is kept low in the heap.
    """
    chip.feed()
    gc.collect()
    return bool(chip.p256_verify(public_xy, digest, signature))
