/* What module `flash` has to know of the STM32L476: how large it is, and its double words. */
#include "journal_flash.h"
#include "memory.h"

enum { FLASH_SIZE = 1024 * 1024, RAM_SIZE = 96 * 1024, UNIT = 8 };

static inline fota_status_t program_unit(uint32_t address, const uint32_t *words) {
  const fota_flash_t *all = &fota_journal_bank2_runs; /* its context is the start of all flash */
  return all->program(all->context, address - BANK_LOW, words, UNIT);
}
