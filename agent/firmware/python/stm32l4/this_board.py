"""The board of this firmware."""

from fota_agent.boards.chip_stm32l4 import ChipBoard

ThisBoard = ChipBoard
