# STM32U575/U585: banks are swapped by an option byte and a reset.
include port/stm32/stm32.mk
PORT_CPU := -mcpu=cortex-m33 -mthumb -mfloat-abi=soft
PORT_CLANG := thumbv8m.main-none-eabi
