"""A board with an STM32 (SPEC 1): `fota_agent.boards.flash_board` with two banks, of which the slot that runs
is mapped low. What is the STM32L4's, and what another chip's board has in its place, is in ``ROW`` and in
the flash.
"""

from fota_agent.boards.flash_board import FlashBoard
from fota_agent.boards.flash_stm32l4 import BankSlot, Flash
from fota_wire.chips import stm32l476


class Stm32Board(FlashBoard):
    """The ``Board`` of ``fota_agent.seams``."""

    ROW = stm32l476
    RESET_REGISTER, RESET_VALUE = 0xE000ED0C, 0x05FA0004  # AIRCR.SYSRESETREQ
    slot_kind = BankSlot
    flash_kind = Flash

    def slots(self) -> "tuple[tuple[int, int], tuple[int, int]]":
        """Return (address, size) of the slot that runs, and of the other one."""
        size = self.ROW.SLOT_SIZE
        return (self.ROW.SLOT_ADDRESS, size), (self.ROW.INACTIVE_SLOT_ADDRESS, size)
