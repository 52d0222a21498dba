"""A Linux gateway as a board: slots in files or block devices, a launcher in the bootloader's place."""
