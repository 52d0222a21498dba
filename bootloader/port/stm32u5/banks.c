/* Banks change places by OPTR.SWAP_BANK, which takes effect when option bytes are loaded: a reset.
 * Each bank holds the same bootloader, so it does not matter which one a reset finds low. */
#include "port/stm32u5/banks.h"

#include "port.h"
#include "port/stm32/chip.h"
#include "port/stm32u5/journal_flash.h"
#include "port/stm32u5/memory.h"
#include "port/stm32u5/registers.h"

/* The write protection that belongs to the bootloader: the first two pages of each bank by area A,
 * nothing by area B. A power cut while option bytes are written may leave "all protected", in which
 * no journal could be written any more: then they are written again. True if all areas are so;
 * `repair` makes them so, in the registers. */
static bool check_protection(bool repair) {
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < 4; i++) {
    volatile uint32_t *const area = &FLASH_WRP1AR + 4 * (i / 2) + i % 2;
    const uint32_t change = (*area ^ (i % 2 == 0 ? WRP_0_TO_1 : WRP_NONE)) & WRP_PAGES;
    wrong |= change;
    if (repair) *area ^= change;
  }
  return wrong == 0;
}

/* Hardware erases and writes all option bytes at once, so all have to be right. What is not ours
 * (RDP, brown-out level, watchdog, the lock of the protection) stays as it was loaded. */
static noreturn void program_options(uint32_t swap) {
  fota_flash_begin(0);
  FLASH_OPTKEYR = 0x08192a3b;
  FLASH_OPTKEYR = 0x4c5d6e7f;
  FLASH_OPTR = (FLASH_OPTR & ~OPTR_SWAP_BANK) | swap;
  (void)check_protection(true);
  FLASH_NSCR = CR_OPTSTRT;
  while (FLASH_NSSR & SR_BUSY) {
  }
  FLASH_NSCR = CR_OBL_LAUNCH; /* loads what is there now, whatever the outcome was: a reset */
  barrier();
  fota_chip_restart();
}

/* Once for each reset from outside: if the banks are not as wanted right after a launch, another
 * one will not help, and fota_port_boot() refuses what is not mapped. */
void fota_port_map(const uint8_t *base) {
  const bool low = (uintptr_t)base < BANK_HIGH;
  if ((fota_port_report.reset_cause & (CAUSE_OBL | CAUSE_BOR)) == CAUSE_OBL) return;
  if (low && check_protection(false)) return;
  program_options(low == fota_banks_swapped() ? OPTR_SWAP_BANK : 0);
}
