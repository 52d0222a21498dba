"""A board with an STM32U5 (SPEC 1): `boards.stm32` with the flash and the row of that chip."""

from fota_agent.boards.flash_stm32u5 import BankSlotU5, FlashU5
from fota_agent.boards.stm32 import Stm32Board
from fota_wire.chips import stm32u585


class Stm32U5Board(Stm32Board):
    """The ``Board`` of ``fota_agent.seams``."""

    ROW = stm32u585
    slot_kind = BankSlotU5
    flash_kind = FlashU5
