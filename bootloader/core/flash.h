/* The flash that holds the boot journal, as a table of functions: tests need bad ones. */
#ifndef FOTA_FLASH_H
#define FOTA_FLASH_H

#include <stdint.h>

#include "status.h"

/* Offsets count from the first journal page. All functions return when the flash is idle again. */
typedef struct fota_flash {
  const void *context;
  uint32_t page_size; /* bytes, a multiple of 16; the journal has two pages */

  /* FOTA_FLASH_ECC if any byte of the range is damaged; `data` is then of no use. */
  fota_status_t (*read)(const void *context, uint32_t offset, void *data, uint32_t length);

  /* `offset` and `length` are multiples of what flash programs at once (8 or 16 bytes: a record of
   * the journal always is), `data` is 4-aligned and the range is erased. The lower addresses are
   * programmed first. Power loss may leave any bits of the unit that was being programmed, and
   * later ones erased. */
  fota_status_t (*program)(const void *context, uint32_t offset, const void *data, uint32_t length);

  /* Erases the page at `offset` to all ones. Power loss may leave any content. */
  fota_status_t (*erase)(const void *context, uint32_t offset);
} fota_flash_t;

#endif
