# STM32L476: what of the port is this chip's own.
CROSS_COMPILE = arm-none-eabi-
MPY_CROSS_FLAGS += -march=armv7m
LTO := -flto=2 -flto-partition=one
CPU := -mcpu=cortex-m4 -mthumb -mfloat-abi=soft --specs=picolibc.specs
SRC_CHIP = start.c clocks.c flash.c modem_bus.c
SRC_S += shared/runtime/gchelper_thumb2.s
# the bootloader's own drivers: waits and random numbers, flash with its NMI
SRC_BOOTLOADER = core/sha256.c port/armv7m/sha256_block.S port/stm32/common.c port/stm32l4/journal_flash.c
