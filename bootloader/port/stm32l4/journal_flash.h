/* Flash driver for the journal pages; used by the bootloader and, linked again, by applications. */
#ifndef FOTA_STM32L4_JOURNAL_FLASH_H
#define FOTA_STM32L4_JOURNAL_FLASH_H

#include <stdbool.h>

#include "flash.h"

extern const fota_flash_t fota_journal_bank1_runs; /* slot A runs: the journal is mapped high */
extern const fota_flash_t fota_journal_bank2_runs; /* slot B runs: it is mapped low */

/* The NMI handler of whoever reads the journal. Flash raises NMI when a double word has two wrong
 * bits, as a torn write leaves it: remembers that and returns. */
void fota_flash_nmi(void);

/* True if fota_flash_nmi() ran since the last call. */
bool fota_flash_ecc_fault(void);

#endif
