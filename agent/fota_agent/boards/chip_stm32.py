"""An STM32's own flash, as modules ``chip`` and ``flash`` of the firmware have it: read where it lies, torn
units as the NMI tells of them, stores in C.

These are methods of two classes, flash and slot, of each chip: MicroPython has no second base class here.
"""

import chip
import flash
import machine

from fota_wire.errors import DeviceError
from fota_wire.status import FL1

SHORT = 64  # bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fota_agent.boards.flash_stm32l4 import BankSlot, Flash
    from fota_agent.boards.i2c_stm32 import I2c


def take_fault(self: "Flash") -> bool:
    """Return True if a read since the last call hit a torn unit."""
    return bool(flash.ecc_fault())


def view(self: "Flash", address: int, length: int) -> "memoryview":
    """Return ``length`` bytes where they lie."""
    seen: memoryview = flash.view(address, length)
    return seen


def still(_self: "Flash", seen: "memoryview") -> bytes:
    """Return what lies there as bytes, and yet no copy: good as long as nobody writes there."""
    lies: bytes = flash.still(seen)
    return lies


def is_blank(self: "Flash", address: int) -> bool:
    """Return True if the page at the mapped ``address`` is wholly erased."""
    return bool(flash.is_blank(address, self.ROW.PAGE_SIZE))


def program(self: "Flash", address: int, data: "bytes | bytearray | memoryview") -> None:
    """Program erased flash at the mapped ``address``, whole units; DeviceError FL1."""
    chip.feed()
    try:
        flash.program(address, data)
    except OSError as exc:
        raise DeviceError(f"flash: error at 0x{address:08x}, or it does not read back", FL1) from exc


def read_page(self: "BankSlot", offset: int, length: int) -> bytes:
    """Return ``length`` bytes at ``offset``; of more than SHORT a view, good until they are erased: a copy of
    each page would cost more than its hash, and the last of an image may find no memory.
    """
    self._inside(offset, length)
    page: bytes = flash.view(self._address + offset, length)
    return page if length > SHORT else bytes(page)


def parts(i2c: "type[I2c]") -> "tuple[Any, ...]":
    """Return what a board of `fota_agent.boards.stm32` is made of."""
    return (machine.mem32, i2c(machine.mem32), flash.read, chip.sleep_us, chip.ticks_ms, chip.random_below)
