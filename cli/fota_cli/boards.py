"""The agent's board for a virtual device, by its chip's name in the table of chips."""

from fota_agent.boards.stm32 import Stm32Board
from fota_agent.boards.stm32u5 import Stm32U5Board
from fota_wire.chips import stm32l476, stm32u585

BOARDS: dict[str, type[Stm32Board]] = {stm32l476.NAME: Stm32Board, stm32u585.NAME: Stm32U5Board}
