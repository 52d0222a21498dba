"""An STM32: what makes one differ from another, and how its parts are put together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fota_vdev.cells.address_space import AddressSpace, MemoryMap
from fota_vdev.cells.board import Board
from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.cortex_m.cpu import Cpu
from fota_vdev.cortex_m.exceptions import Exceptions
from fota_wire.host_chips import Stm32

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608

VTOR = 0xE000_ED08
MakeBoard = Callable[[Cpu, FlashArray, "Atecc608 | None", int, Callable[[str], None]], Board]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts of one chip."""

    cpu: Cpu
    flash: FlashArray
    board: Board
    space: AddressSpace
    traps: Exceptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One STM32. ``row`` is its row in the table of chips, ``cpu`` Unicorn's model."""

    row: Stm32
    cpu: int
    flash: Callable[[], FlashArray]
    board: MakeBoard
    memory: MemoryMap

    def assemble(
        self,
        element: "Atecc608 | None",
        seed: int,
        warn: Callable[[str], None],
        fault: Callable[[str], None],
    ) -> Assembly:
        """Return the parts of a new chip. ``warn`` and ``fault`` are told what goes wrong."""
        cpu = Cpu(
            lambda address, size: board.bus.read(address, size),
            lambda address, value, size: board.bus.write(address, value, size),
            self.cpu,
        )
        flash = self.flash()
        board = self.board(cpu, flash, element, seed, warn)
        space = AddressSpace(cpu, flash, board, warn, self.memory)
        traps = Exceptions(cpu, board.scs, space.words, fault)
        board.scs.on_reset_request = lambda: board.request_reset("software")
        board.scs.on_pend = lambda: cpu.limit(0)
        return Assembly(cpu=cpu, flash=flash, board=board, space=space, traps=traps)

    def handed_over(self, pc: int, load32: Callable[[int], int]) -> bool:
        """Tell whether the bootloader has jumped into the application: it has set its vector table."""
        return load32(VTOR) == self.row.VECTOR_ADDRESS
