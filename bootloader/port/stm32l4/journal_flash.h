/* Flash driver for the journal pages; used by the bootloader and, linked again, by applications. */
#ifndef FOTA_STM32L4_JOURNAL_FLASH_H
#define FOTA_STM32L4_JOURNAL_FLASH_H

#include <stdbool.h>

#include "flash.h"
#include "layout.h"

extern const fota_flash_t fota_journal_bank1_runs; /* slot A runs: the journal is mapped high */
extern const fota_flash_t fota_journal_bank2_runs; /* slot B runs: it is mapped low */

/* The journal as an application sees it that runs in slot `running`. */
static inline const fota_flash_t *fota_journal_of(uint8_t running) {
  return running == FOTA_SLOT_B ? &fota_journal_bank2_runs : &fota_journal_bank1_runs;
}

/* The NMI handler of whoever reads the journal. Flash raises NMI when a double word has two wrong
 * bits, as a torn write leaves it: remembers that and returns. */
void fota_flash_nmi(void);

/* True if fota_flash_nmi() ran since the last call. */
bool fota_flash_ecc_fault(void);

#endif
