/* Flash driver for the journal pages; used by the bootloader and, linked again, by applications. */
#ifndef FOTA_STM32U5_JOURNAL_FLASH_H
#define FOTA_STM32U5_JOURNAL_FLASH_H

#include <stdbool.h>

#include "flash.h"

extern const fota_flash_t fota_journal_flash; /* finds bank 2 wherever it is mapped */

/* The journal as an application sees it that runs in slot `running`. */
static inline const fota_flash_t *fota_journal_of(uint8_t running) {
  (void)running;
  return &fota_journal_flash;
}

/* Unlocks the flash controller, clears its errors and writes `control` to NSCR. */
void fota_flash_begin(uint32_t control);

/* Programs quad-words from address `at` on, where flash is mapped; `at` and `length` are multiples
 * of 16. */
fota_status_t fota_flash_program(uintptr_t at, const uint32_t *data, uint32_t length);

/* Erases a page: `page` is its number and its physical bank, as NSCR has them (PNB, BKER). */
fota_status_t fota_flash_erase(uint32_t page);

/* The NMI handler of whoever reads the journal. Flash raises NMI when a quad-word has two wrong
 * bits, as a torn write leaves it: remembers that and returns. */
void fota_flash_nmi(void);

/* True if fota_flash_nmi() ran since the last call. */
bool fota_flash_ecc_fault(void);

#endif
