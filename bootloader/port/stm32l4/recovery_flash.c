/* STM32L476: the flash of the slots, for recovery. */
#include "layout.h"
#include "port/stm32l4/journal_flash.h"
#include "port/stm32l4/memory.h"
#include "port/stm32l4/registers.h"
#include "recovery/recovery_port.h"

/* Slot B lies behind the journal in the same bank, so the journal's driver erases it as well. */
static fota_status_t erase_b(const void *context, uint32_t offset) {
  return fota_journal_bank1_runs.erase(context, SLOT_OFFSET + offset);
}

/* The bootloader runs from this bank and stands still meanwhile. */
static fota_status_t erase_a(const void *context, uint32_t offset) {
  (void)context;
  const uint32_t page = CR_OPTLOCK | CR_PER | CR_PNB((SLOT_OFFSET + offset) / PAGE_SIZE);
  FLASH_KEYR = 0x45670123;
  FLASH_KEYR = 0xcdef89ab;
  FLASH_SR = SR_ERRORS;
  FLASH_CR = page;
  FLASH_CR = page | CR_STRT;
  while (FLASH_SR & SR_BSY) {
  }
  const bool good = (FLASH_SR & SR_ERRORS) == 0;
  FLASH_CR = CR_OPTLOCK | CR_LOCK;
  return good ? FOTA_OK : FOTA_FLASH_ERASE;
}

void fota_port_slot_flash(uint8_t slot, fota_flash_t *flash) {
  *flash = fota_journal_bank1_runs;
  flash->context = fota_layout.slot[fota_slot_index(slot)];
  flash->erase = slot == FOTA_SLOT_A ? erase_a : erase_b;
}
