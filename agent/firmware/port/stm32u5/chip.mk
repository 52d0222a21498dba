# STM32U575/U585: what of the port is this chip's own.
include stm32/stm32.mk
CPU := -mcpu=cortex-m33 -mthumb -mfloat-abi=soft --specs=picolibc.specs
AS += -mcpu=cortex-m33
SRC_CHIP = clocks.c
