"""The board of this firmware."""

from fota_agent.boards.chip_esp32c3 import ChipBoard

ThisBoard = ChipBoard
