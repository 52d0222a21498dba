# Classic ESP32 (Xtensa LX6), experimental: core and driver alone, no chip around them (ADR 49). `make PORT=esp32 core`.
# Debian's compiler is for the LX106, whose instructions the LX6 has all; calls do not use register windows.
CROSS := xtensa-lx106-elf-
PORT_CPU :=
PORT_SHARED := core/sha256_block.c core/image.c port/armv7m/mem.c
PORT_LINK := -Wl,--no-relax
PORT_ESPRESSIF := 0 4
