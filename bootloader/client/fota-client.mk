# The client, for an application's own Makefile (docs/application.md):
#   FOTA_PORT := stm32l4                      # a folder of bootloader/port
#   include .../bootloader/client/fota-client.mk
# FOTA_CLIENT_SOURCES, FOTA_CLIENT_CFLAGS: what to compile, and the include folders for it and for what calls it.
# FOTA_MCUBOOT_SOURCES: MCUboot's names for it, if wanted (mcuboot.h).
# FOTA_NO_LIBC_SOURCES, FOTA_NO_LIBC_CFLAGS: memcpy, memset and memcmp, where there is no C library.
FOTA_PORT ?= stm32l4
FOTA_BOOTLOADER := $(patsubst %client/,%,$(dir $(lastword $(MAKEFILE_LIST))))
FOTA_CLIENT_SOURCES := $(addprefix $(FOTA_BOOTLOADER),client/fota.c client/record.c core/crc32.c core/journal.c \
  port/$(FOTA_PORT)/journal_flash.c) $(wildcard $(FOTA_BOOTLOADER)port/$(FOTA_PORT)/application.c)
FOTA_CLIENT_CFLAGS := $(addprefix -I$(FOTA_BOOTLOADER),client core port/$(FOTA_PORT) port/stm32) \
  -I$(or $(FOTA_BOOTLOADER),.)
FOTA_MCUBOOT_SOURCES := $(FOTA_BOOTLOADER)client/mcuboot.c
FOTA_NO_LIBC_SOURCES := $(FOTA_BOOTLOADER)port/armv7m/mem.c
FOTA_NO_LIBC_CFLAGS := -isystem $(FOTA_BOOTLOADER)port/armv7m/libc
