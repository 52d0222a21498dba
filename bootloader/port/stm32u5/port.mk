# STM32U575/U585: banks are swapped by an option byte and a reset.
PORT_CPU := -mcpu=cortex-m33
PORT_CLANG := thumbv8m.main-none-eabi
