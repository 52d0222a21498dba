"""What makes a virtual device one chip and not another: core, flash, board, memory map."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fota_vdev.cells.address_space import MemoryMap
from fota_vdev.cells.board import Board
from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.cortex_m.cpu import Cpu
from fota_wire.host_chips import Stm32

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608

MakeBoard = Callable[[Cpu, FlashArray, "Atecc608 | None", int, Callable[[str], None]], Board]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The parts that `fota_vdev.machine.Machine` is put together from. ``row`` is the chip's in the table of
    chips, ``cpu`` Unicorn's model.
    """

    row: Stm32
    cpu: int
    flash: Callable[[], FlashArray]
    board: MakeBoard
    memory: MemoryMap
