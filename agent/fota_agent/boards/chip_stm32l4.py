"""The STM32L4 reference board as the chip itself sees it."""

from fota_agent.boards import chip_stm32
from fota_agent.boards.flash_stm32l4 import BankSlot, Flash
from fota_agent.boards.i2c_stm32 import I2c
from fota_agent.boards.stm32 import Stm32Board
from fota_wire.checkin import LEAST_ANSWER


class ChipFlash(Flash):
    """The chip's own flash."""

    take_fault = chip_stm32.take_fault
    view = chip_stm32.view
    still = chip_stm32.still
    is_blank = chip_stm32.is_blank
    program = chip_stm32.program


class ChipSlot(BankSlot):
    """A slot of it."""

    read = chip_stm32.read_page


class ChipBoard(Stm32Board):
    """The ``Board`` of ``fota_agent.seams``, on the chip."""

    flash_kind = ChipFlash
    slot_kind = ChipSlot
    longest_answer = LEAST_ANSWER  # what the heap has room for

    def __init__(self) -> None:
        super().__init__(*chip_stm32.parts(I2c))
