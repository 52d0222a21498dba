"""An emulated STM32L4 with an ATECC608 that runs the bootloader's real machine code."""
