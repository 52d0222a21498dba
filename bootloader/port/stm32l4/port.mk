# STM32L476: banks are swapped from RAM, by FB_MODE.
PORT_CPU := -mcpu=cortex-m4
PORT_CLANG := thumbv7em-none-eabi
