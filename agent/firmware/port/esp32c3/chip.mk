# ESP32-C3: what of the port is this chip's own. There is room: nothing is optimised across files.
CROSS_COMPILE = riscv64-unknown-elf-
LTO :=
CPU := -march=rv32imc -mabi=ilp32 -msmall-data-limit=0 --specs=picolibc.specs
AS += -march=rv32imc -mabi=ilp32
SRC_CHIP = start.c clocks.c flash.c bus.c modem_bus.c
SRC_S += shared/runtime/gchelper_rv32i.s
SRC_CHIP_S = reset.S
# the bootloader's own drivers: console, waits, random numbers, flash, the element's bus, SHA-256
SRC_BOOTLOADER = core/sha256.c $(addprefix port/esp32c3/,chip.c random.c bus.c journal_flash.c sha256_engine.c)
