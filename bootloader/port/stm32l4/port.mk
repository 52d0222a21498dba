# STM32L476: banks are swapped from RAM, by FB_MODE.
include port/stm32/stm32.mk
PORT_CPU := -mcpu=cortex-m4 -mthumb -mfloat-abi=soft
PORT_CLANG := thumbv7em-none-eabi
