# STM32L476: what of the port is this chip's own.
include stm32/stm32.mk
CPU := -mcpu=cortex-m4 -mthumb -mfloat-abi=soft --specs=picolibc.specs
SRC_CHIP = clocks.c
