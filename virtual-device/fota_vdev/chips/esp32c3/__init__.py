"""The ESP32-C3 with 4 MiB of SPI flash, as far as a second-stage bootloader and a polled application see it.

Unicorn runs RV32IMC; ROM functions answer at their real addresses, or the mask ROM itself runs (`with_rom`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fota_vdev.chips.esp32c3.address_space import ROM_SIZE, AddressSpace
from fota_vdev.chips.esp32c3.board import Board
from fota_vdev.chips.esp32c3.cpu import Cpu
from fota_vdev.chips.esp32c3.flash_array import NorFlash
from fota_vdev.chips.esp32c3.rom import Rom
from fota_vdev.chips.esp32c3.traps import Traps
from fota_wire.chips import esp32c3
from fota_wire.errors import InputError
from fota_wire.host_chips import Chip as Row

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts of one chip."""

    cpu: Cpu
    flash: NorFlash
    board: Board
    space: AddressSpace
    traps: Traps


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """An ESP32-C3. ``row`` is its row in the table of chips.

    ``rom``: its mask ROM, 384 KiB; None has functions of the model stand in for it.
    """

    row: Row = esp32c3
    rom: bytes | None = None

    def with_rom(self, rom: bytes) -> "Chip":
        """Return the chip that runs this mask ROM from reset.

        Raises:
            InputError: it does not have the size of a ROM.
        """
        if len(rom) != ROM_SIZE:
            raise InputError(f"a mask ROM of the ESP32-C3 has {ROM_SIZE} bytes, not {len(rom)}")
        return replace(self, rom=rom)

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
        )
        flash = NorFlash()
        board = Board(cpu, flash, element, seed, warn)
        space = AddressSpace(cpu, flash, board.bus, board.cache, self.rom)
        rom = Rom(cpu, space, board) if self.rom is None else None
        traps = Traps(cpu, board, rom, fault)
        return Assembly(cpu=cpu, flash=flash, board=board, space=space, traps=traps)


ESP32C3 = Chip()
