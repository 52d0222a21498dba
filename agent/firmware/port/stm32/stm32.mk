# What the STM32s have in common of the port; a chip's chip.mk includes it.
CROSS_COMPILE = arm-none-eabi-
MPY_CROSS_FLAGS += -march=armv7m
LTO := -flto=2 -flto-partition=one
SRC_FAMILY = $(addprefix stm32/,start.c counter.c flash.c modem_bus.c)
SRC_S += shared/runtime/gchelper_thumb2.s
# the bootloader's own drivers: waits and random numbers, flash with its NMI
SRC_BOOTLOADER = core/sha256.c port/armv7m/sha256_block.S port/stm32/common.c port/$(CHIP)/journal_flash.c
