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

/* The NMI handler of whoever reads the journal. Flash raises NMI when a quad-word has two wrong
 * bits, as a torn write leaves it: remembers that and returns. */
void fota_flash_nmi(void);

/* True if fota_flash_nmi() ran since the last call. */
bool fota_flash_ecc_fault(void);

#endif
