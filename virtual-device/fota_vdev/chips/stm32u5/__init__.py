"""The STM32U585 (2 MiB), as far as a bootloader sees it: Cortex-M33, banks swapped by option bytes.

Core, I2C, USART, IWDG, GPIO, random numbers, time and element are those of the STM32L4 model; what is here is
what differs: flash controller and option bytes, clocks, addresses. Bits and addresses are those of ST's CMSIS
header; what no public source settles stands in `ASSUMPTIONS`.

Not modelled: TrustZone (OPTR.TZEN = 0), ICACHE (enabling it ends the run), PLLs, HSE, LSE, MSIK, PWR, burst
programming, mass erase, RDP, single-bank mode.
"""

from unicorn.arm_const import UC_CPU_ARM_CORTEX_M33

from fota_vdev.cells.address_space import MemoryMap
from fota_vdev.cells.chip import Chip
from fota_vdev.chips.stm32u5.board import BoardU5
from fota_vdev.chips.stm32u5.flash_array import FlashArrayU5
from fota_wire.chips import stm32u585

ASSUMPTIONS = (
    "Option bytes are loaded by power-up and OBL_LAUNCH only. After any other reset the option registers"
    " read as loaded or as written (keeps_request): public reports differ, so both are modelled.",
    "A power cut while option bytes are written leaves the old ones, the new ones, or a mismatch, which"
    " loads as SWAP_BANK = 0, RDP level 1, everything write-protected.",
    "Option bytes take 50 ms to write; a quad-word 118 us; a page 1.5 ms to erase.",
    "Writing an option register while OPTLOCK is set ends the run: what silicon does is not documented.",
    "Range 4 of the core voltage allows 16 MHz with the one wait state of reset.",
    "The random number generator works with the configuration that reset leaves.",
)

STM32U585 = Chip(
    row=stm32u585,
    cpu=UC_CPU_ARM_CORTEX_M33,
    flash=FlashArrayU5,
    board=BoardU5,
    memory=MemoryMap(
        ram=((0x2000_0000, 768 << 10),),
        registers=((0x4000_0000, 0x40000), (0x4202_0000, 0x3000), (0x420C_0000, 0x1000),
                   (0x4602_0000, 0x1000), (0xE000_1000, 0x1000), (0xE000_E000, 0x1000)),
        alias=False,
    ),
)  # fmt: skip
