"""The agent's board for a virtual device, by its chip's name in the table of chips."""

from fota_agent.boards.esp32c3_spi import Esp32C3SpiBoard
from fota_agent.boards.flash_board import FlashBoard
from fota_agent.boards.stm32 import Stm32Board
from fota_agent.boards.stm32u5 import Stm32U5Board
from fota_wire.chips import esp32c3, stm32l476, stm32u585

BOARDS: dict[str, type[FlashBoard]] = {
    stm32l476.NAME: Stm32Board,
    stm32u585.NAME: Stm32U5Board,
    esp32c3.NAME: Esp32C3SpiBoard,
}
