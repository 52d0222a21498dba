"""The board of this firmware."""

from fota_agent.boards.chip_stm32u5 import ChipBoard

ThisBoard = ChipBoard
