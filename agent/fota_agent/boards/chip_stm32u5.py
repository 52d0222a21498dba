"""A board with an STM32U5 as the chip itself sees it."""

from fota_agent.boards import chip_stm32
from fota_agent.boards.flash_stm32u5 import BankSlotU5, FlashU5
from fota_agent.boards.i2c_stm32 import I2cU5
from fota_agent.boards.stm32u5 import Stm32U5Board


class ChipFlash(FlashU5):
    """The chip's own flash."""

    take_fault = chip_stm32.take_fault
    view = chip_stm32.view
    still = chip_stm32.still
    is_blank = chip_stm32.is_blank
    program = chip_stm32.program


class ChipSlot(BankSlotU5):
    """A slot of it."""

    read = chip_stm32.read_page


class ChipBoard(Stm32U5Board):
    """The ``Board`` of ``fota_agent.seams``, on the chip."""

    flash_kind = ChipFlash
    slot_kind = ChipSlot

    def __init__(self) -> None:
        super().__init__(*chip_stm32.parts(I2cU5))
