"""Exceptions of the core. No interrupt is ever taken; an alarm only ends a WFI."""

from collections.abc import Callable

from fota_vdev.chips.esp32c3.address_space import ROM, ROM_SIZE
from fota_vdev.chips.esp32c3.board import Board
from fota_vdev.chips.esp32c3.cpu import LOAD_FAULT, Cpu
from fota_vdev.chips.esp32c3.rom import Rom
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.parts.emulator import Stop

RESET_VECTOR = ROM


class Traps:
    """How the core starts, and what follows when it stops: exceptions go through mtvec."""

    def __init__(self, cpu: Cpu, board: Board, rom: Rom | None, on_fault: Callable[[str], None]) -> None:
        self._cpu = cpu
        self._board = board
        self._rom = rom
        self._on_fault = on_fault

    def start(self) -> None:
        """Begin as after reset: in the mask ROM, or where it would leave the core."""
        if self._rom is None:
            self._cpu.reset(RESET_VECTOR)
        else:
            self._rom.boot()

    def deliver(self) -> None:
        """Between two instructions: nothing, there are no interrupts."""

    def stopped(self, stop: Stop) -> None:
        """Take the exception.

        Raises:
            UnmodelledError: mtvec is in the ROM, whose handler only reports and waits for a watchdog, or the
                first instruction of the handler is what failed.
        """
        text = f"{stop.detail} (pc 0x{self._cpu.pc:08x})"
        self._on_fault(text)
        vector = self._cpu.vector & ~0xFF
        if self._rom is not None and ROM <= vector < ROM + ROM_SIZE:
            raise UnmodelledError(f"{stop.detail}: an exception that nobody but the ROM handles")
        if self._cpu.pc == vector:
            raise UnmodelledError(f"{stop.detail} in the first instruction of the exception handler")
        self._cpu.enter(stop.number or LOAD_FAULT, stop.address)

    def awake(self) -> bool:
        """Return True if a WFI ends at once: an alarm that reaches the core is raised."""
        return self._board.interrupting
