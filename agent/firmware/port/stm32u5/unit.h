/* What module `flash` has to know of the STM32U575/U585: how large it is, and its quad-words. */
#include "journal_flash.h"
#include "memory.h"

enum { FLASH_SIZE = 2 * 1024 * 1024, RAM_SIZE = 768 * 1024, UNIT = QUAD_WORD };

static inline fota_status_t program_unit(uint32_t address, const uint32_t *words) {
  return fota_flash_program(address, words, UNIT);
}
