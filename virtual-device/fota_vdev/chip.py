"""What makes a virtual device one chip and not another: core, flash, board, memory map."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unicorn.arm_const import UC_CPU_ARM_CORTEX_M4

from fota_vdev.address_space import STM32L476_MAP, MemoryMap
from fota_vdev.board import Board
from fota_vdev.cpu import Cpu
from fota_vdev.flash_array import FlashArray

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608

MakeBoard = Callable[[Cpu, FlashArray, "Atecc608 | None", int, Callable[[str], None]], Board]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The parts that `fota_vdev.machine.Machine` is put together from. ``cpu`` is Unicorn's model."""

    name: str
    cpu: int
    flash: Callable[[], FlashArray]
    board: MakeBoard
    memory: MemoryMap


STM32L476 = Chip(
    name="STM32L476", cpu=UC_CPU_ARM_CORTEX_M4, flash=FlashArray, board=Board, memory=STM32L476_MAP
)
