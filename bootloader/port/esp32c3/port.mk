# ESP32-C3: one RISC-V core, SPI flash behind an MMU, segments loaded into RAM.
CROSS := riscv64-unknown-elf-
PORT_CPU := -march=rv32imc -mabi=ilp32
PORT_CLANG := riscv32-unknown-elf
# SHA=software: the compression function in C in place of the chip's engine
PORT_APPLICATION := %/application.c %/sample_board.c %/sample_start.S \
  %/sha256_$(if $(filter software,$(SHA)),engine,software).c
PORT_SAMPLE := $(addprefix port/esp32c3/,sha256_engine.c sample_start.S)
PORT_SAMPLE_OWN := port/esp32c3/sample_board.c
PORT_SAMPLE_LD := port/esp32c3/sample.ld
# the journal is opened through messages.c; no variable is reached by gp, which applications own
PORT_LINK := -Wl,--wrap=fota_journal_open
GCC_ONLY ?= -fstack-usage -msmall-data-limit=0 -msave-restore \
  $(if $(filter software,$(SHA)),--param max-completely-peel-times=0)
# what the mask ROM loads: chip id and MiB of flash in its header, by which partitions are bounded (places.c)
PORT_FLASHED := bin
PORT_ESPRESSIF := 5 4
