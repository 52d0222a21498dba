# STM32L476: banks are swapped from RAM, by FB_MODE.
PORT_CPU := -mcpu=cortex-m4
