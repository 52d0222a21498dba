"""The STM32L476 (1 MiB): Cortex-M4, banks swapped by SYSCFG."""

from unicorn.arm_const import UC_CPU_ARM_CORTEX_M4

from fota_vdev.cells.address_space import MemoryMap
from fota_vdev.cells.chip import Chip
from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.chips.stm32l4.board import BoardL4
from fota_vdev.parts.flash_cells import Geometry
from fota_wire.chips import stm32l476

STM32L476_FLASH = Geometry(
    page=2048,
    pages=256,
    word=8,
    options={
        "optr": 0xFFEF_F8AA,
        "wrp1ar": 0x0000_00FF,
        "wrp1br": 0x0000_00FF,
        "wrp2ar": 0x0000_00FF,
        "wrp2br": 0x0000_00FF,
    },
)

STM32L476 = Chip(
    row=stm32l476,
    cpu=UC_CPU_ARM_CORTEX_M4,
    flash=lambda: FlashArray(STM32L476_FLASH),
    board=BoardL4,
    memory=MemoryMap(
        ram=((0x2000_0000, 96 << 10), (0x1000_0000, 32 << 10)),
        registers=((0x4000_0000, 0x30000), (0x4800_0000, 0x2000), (0x5006_0000, 0x1000),
                   (0xE000_1000, 0x1000), (0xE000_E000, 0x1000), (0xE004_2000, 0x1000),
                   (0x1FFF_0000, 0x10000)),
        alias=True,
        journal=4096,
    ),
)  # fmt: skip
