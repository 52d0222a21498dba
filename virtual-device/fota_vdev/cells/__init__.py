"""What STM32s share: flash, memory map, clocks and peripherals, each put at its addresses by a board."""
