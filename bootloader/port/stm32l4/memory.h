/* SPEC 1 for the STM32L476, as the linker scripts have it too. */
#ifndef FOTA_STM32L4_MEMORY_H
#define FOTA_STM32L4_MEMORY_H

enum {
  BANK_LOW = 0x08000000, /* what FB_MODE maps here runs */
  BANK_HIGH = 0x08080000,
  SLOT_OFFSET = 0x4000,
  SLOT_SIZE = 496 * 1024,
  SETTINGS_OFFSET = 0x3800,
  PAGE_SIZE = 2048,
};

#endif
