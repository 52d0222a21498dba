/* STM32U575/U585: the flash of the slots, for recovery. Addresses are of what is mapped now, pages
 * those of physical banks, so it does not matter which bank runs. */
#include "layout.h"
#include "port/stm32u5/journal_flash.h"
#include "port/stm32u5/memory.h"
#include "port/stm32u5/registers.h"
#include "recovery/recovery_port.h"

static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  return fota_flash_program((uintptr_t)context + offset, data, length);
}

static fota_status_t erase_a(const void *context, uint32_t offset) {
  (void)context;
  return fota_flash_erase(CR_PNB((SLOT_OFFSET + offset) / FLASH_PAGE));
}

static fota_status_t erase_b(const void *context, uint32_t offset) {
  (void)context;
  return fota_flash_erase(CR_BKER | CR_PNB((SLOT_OFFSET + offset) / FLASH_PAGE));
}

void fota_port_slot_flash(uint8_t slot, fota_flash_t *flash) {
  *flash = fota_journal_flash;
  flash->context = fota_layout.slot[fota_slot_index(slot)];
  flash->page_size = FLASH_PAGE;
  flash->program = program;
  flash->erase = slot == FOTA_SLOT_A ? erase_a : erase_b;
}
