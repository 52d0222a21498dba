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
from fota_wire.host_chips import Espressif as Row

if TYPE_CHECKING:
    from fota_vdev.atecc608 import Atecc608


NOT_MODELLED = (
    "Time: one instruction is one core clock, a ROM function one instruction and what hardware takes for it.",
    "ROM functions but those that stock second stages call, and a few more: a call of another ends the run;"
    " with `--rom FILE` the mask ROM itself runs, from reset.",
    "Interrupts are never taken: the system timer's first alarm ends a WFI, and that is all. No FreeRTOS.",
    "A modem, if one is attached, is at the end of UART1, on whatever pins; that line loses nothing.",
    "Radio, DMA, LEDC, SPI2, RMT, timers of the groups, sleep modes: registers remember, or end it.",
    "The cache holds all that it ever could have: what is not invalidated is always stale.",
    "Atomic and floating-point instructions are illegal, as on the chip. The core can access misaligned words"
    " (its ROM does): here a program that does so ends the run.",
    "Code that was run at its IRAM address and is rewritten through DRAM may run on as it was.",
    "Flash: W25Q-like commands over SPI1, 4 MiB; no flash encryption, no suspend, no block protection.",
    "eFuses are read, never burnt. Physical memory protection and the world controller check nothing here.",
)
ASSUMPTIONS = (
    "A blank or broken second stage is left to the watchdog of timer group 0, 1.3 s at 20 MHz.",
    "The super watchdog bites 1.4 s after reset or feeding; its interrupt before that does not exist.",
    "In flash-boot mode the RTC watchdog bites after its 200,000 ticks; else stage 0 is twice as long as its"
    " register says, and more by eFuse WDT_DELAY_SEL.",
    "A core reset sets both flash-boot modes again and leaves the rest of the RTC watchdog as it was.",
    "A power cut in a page program leaves any of its bits, in an erase any of the sector's; what is read then"
    " is the same at each reading.",
    "The EN pin resets like a power-up: reset cause 1, RAM and RTC RAM lost.",
    "A page takes 0.5 ms to program, a sector 50 ms to erase, a block of SHA-256 72 cycles.",
    "From reset to the second stage pass 15 ms.",
    "Random numbers read while the SAR ADC does not feed the generator are the same stream, and a warning.",
)


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
        if rom is not None:
            board.keep(rom)
        traps = Traps(cpu, board, rom, fault)
        return Assembly(cpu=cpu, flash=flash, board=board, space=space, traps=traps)

    def handed_over(self, pc: int, load32: Callable[[int], int]) -> bool:
        """Tell whether the bootloader has jumped into the application: the core is where only that lies."""
        return any(begin <= pc < end for begin, end in (self.row.IROM, self.row.IRAM))


ESP32C3 = Chip()
