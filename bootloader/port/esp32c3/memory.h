/* Flash and memory of the ESP32-C3 (SPEC 7.4). Flash addresses are offsets in flash.
 *
 *   0x0000  bootloader, 28 KiB     Espressif's form; the mask ROM loads it
 *   0x7000  settings, one sector   SPEC 1.2, with a copy of the places below
 *   0x8000  partition table        which says where slots, OTA data and the partition `fota` are
 *
 * Partition `fota`: 0x0000 and 0x1000 the journal pages (a page of SPEC 3 is the first 2 KiB of a
 * sector), 0x2000 trust store, 0x4000 agent store. */
#ifndef FOTA_ESP32C3_MEMORY_H
#define FOTA_ESP32C3_MEMORY_H

enum {
  CHIP_ID = 5, /* in the header of images */
  PAGE_SIZE = 0x1000,
  WRITE_SIZE = 4,
  SETTINGS_OFFSET = 0x7000,
  PLACES_OFFSET = 172, /* in the settings: the copy of the places */
  TABLE_OFFSET = 0x8000,
  TABLE_SIZE = 0x1000,
  STORE_SIZE = 0x8000, /* of the partition `fota`, at least */
  JOURNAL_OFFSET = 0,
  JOURNAL_PAGE = 2048,
  JOURNAL_STRIDE = 0x1000,
  SLOT_SIZE = 0x3f0000, /* at most */
  SLOT_ALIGNMENT = 0x10000,
  MMU_PAGE = 0x10000,
  MMU_ENTRIES = 128,

  DROM_START = 0x3c000000, /* flash as data, through the MMU */
  DROM_END = 0x3c800000,
  SLOT_ADDRESS = 0x3c000000,          /* slot A, while the bootloader runs */
  INACTIVE_SLOT_ADDRESS = 0x3c400000, /* slot B */
  WINDOW = 0x3c3f0000,     /* the entry between them: flash page 0, with settings and table */
  IROM_START = 0x42000000, /* the same pages, as code */
  IROM_END = 0x42800000,

  /* RAM, as data; as code it is RAM_TO_CODE higher. What an application may load: below the end of
   * ESP-IDF's own loader. */
  RAM_START = 0x3fc80000,
  RAM_TO_CODE = 0x700000,
  RAM_END = 0x3fcce710,
  LOADER_START = 0x3fcd8000, /* our code, data and stack */
  LOADER_END = 0x3fcdc000,
  RTC_START = 0x50000000, /* RTC fast RAM, as far as the boot report */
  RTC_END = 0x50001f00,
  ROM_STACK = 0x3fcde560,   /* where the mask ROM's stack was when it started us */
  ROM_VECTORS = 0x40001d01, /* and its trap vectors */
};

#endif
