/* Memory of the STM32U575/U585 with 2 MiB of flash: two banks of 128 pages of 8 KiB. Offsets are
 * from the start of a physical bank, and the same in both.
 *
 *   0x00000  bootloader, 8 KiB      the same bytes in both banks, written once at the factory
 *   0x02000  factory page, 8 KiB    trust store, settings at 0x3800, the rest of the bootloader at
 *                                   0x3900, layout at 0x3fe0; both banks
 *   0x04000  slot, 960 KiB          A in bank 1, B in bank 2
 *   0xf4000  agent store, 32 KiB    bank 2
 *   0xfc000  boot journal, 2 pages  bank 2; a page of SPEC 3 is the first 2 KiB of a flash page
 *
 * Pages 0 and 1 of both banks are write-protected. The layout (core/layout.h, 24 bytes) is what
 * tells the bootloader which bank it runs from: slot A is low in that of bank 1 and high in that of
 * bank 2. All else up to 0x4000 is where the STM32L4 has it, so images and tools are the same. */
#ifndef FOTA_STM32U5_MEMORY_H
#define FOTA_STM32U5_MEMORY_H

enum {
  BANK_LOW = 0x08000000, /* the bank that the option byte maps here runs */
  BANK_HIGH = 0x08100000,
  LAYOUT_OFFSET = 0x3fe0, /* fota_layout, as it is while this bank is mapped low */
  SLOT_OFFSET = 0x4000,
  SLOT_SIZE = 960 * 1024,
  JOURNAL_OFFSET = 0xfc000,
  JOURNAL_PAGE = 2048,
  FLASH_PAGE = 8192,
  QUAD_WORD = 16, /* what flash programs at once, and what its ECC covers */
};

#endif
