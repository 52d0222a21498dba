# What all STM32s share (port/stm32, port/armv7m).
PORT_INCLUDE := -Iport/stm32
PORT_SHARED := core/image.c port/armv7m/mem.c port/armv7m/sha256_block.S \
  $(addprefix port/stm32/,startup.c common.c bus.c) $(if $(filter clang,$(COMPILER)),port/armv7m/aeabi.c)
PORT_APPLICATION := %/sample_console.c
PORT_SAMPLE := $(addprefix port/armv7m/,mem.c sha256_block.S) port/stm32/sample_board.c port/$(PORT)/sample_console.c
PORT_RECOVERY := port/stm32/recovery_port.c port/$(PORT)/recovery_flash.c
PORT_RECOVERY_LD := port/stm32/recovery.ld
PORT_SAMPLE_LD := port/stm32/sample.ld
