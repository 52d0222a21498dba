/* The jump: maps the bank of the chosen slot to where it was linked for, from RAM. */
#include "hardened.h"
#include "layout.h"
#include "port.h"
#include "port/stm32/chip.h"
#include "port/stm32l4/journal_flash.h"
#include "port/stm32l4/memory.h"
#include "port/stm32l4/registers.h"
#include "port/stm32l4/report_address.h"

#define VECTORS (BANK_LOW + SLOT_OFFSET + 0x200)

const fota_flash_t *const fota_port_journal = &fota_journal_bank1_runs;

const fota_layout_t fota_layout = {
    .slot = {(const uint8_t *)(BANK_LOW + SLOT_OFFSET), (const uint8_t *)(BANK_HIGH + SLOT_OFFSET)},
    .slot_size = SLOT_SIZE,
    .run_address = BANK_LOW + SLOT_OFFSET,
    .ram_low = 0x20000000,
    .ram_high = FOTA_REPORT_ADDRESS,
};

/* Runs in RAM: the flash under the caller changes. At most 128 bytes: the MPU's region (chip.c),
 * which bootloader.ld fills up with instructions that trap. `proof` must fit the bank that is
 * mapped in the end, so a remap that did not happen starts nothing. The addresses come from the
 * caller: one that was not loaded would be the last register's, so both are compared along with the
 * proof. */
__attribute__((section(".ramfunc"), noinline)) static noreturn void enter(uint32_t remap,
                                                                          uint32_t proof,
                                                                          volatile uint32_t *memrmp,
                                                                          uint32_t vectors) {
  *memrmp = remap;
  barrier();
  const uint32_t bank = BANK_LOW + (*memrmp & MEMRMP_FB) * ((BANK_HIGH - BANK_LOW) / MEMRMP_FB);
  const uint32_t expected =
      FOTA_PROOF(bank + SLOT_OFFSET) + VECTORS + (uint32_t)(uintptr_t)&SYSCFG_MEMRMP;
  proof += vectors + (uint32_t)(uintptr_t)memrmp;
  const uint32_t again = fota_launder(proof);
  FLASH_ACR = ACR_RESET;
  RCC_APB2ENR = 0;
  if (proof == expected) {
    if (again == fota_launder(expected)) {
      MPU_CTRL = 0; /* only here may a slot execute */
      MPU_RBAR = RBAR(0, 5);
      MPU_RASR = 0;
      barrier();
      __asm__ volatile(
          "ldrd r0, r1, [%0]\n\t"
          "msr msp, r0\n\t"
          "cpsie i\n\t"
          "bx r1\n\t"
          "udf #0" ::"r"(vectors)
          : "r0", "r1", "memory");
    }
  }
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}

noreturn void fota_port_boot(const uint8_t *base, uint32_t proof) {
  /* Also here for the long call: RAM is out of reach of a branch. */
  void (*volatile const from_ram)(uint32_t, uint32_t, volatile uint32_t *, uint32_t) = enter;
  fota_chip_stop();
  FLASH_ACR = 0; /* caches off, no wait states: 4 MHz */
  FLASH_ACR = ACR_ICRST | ACR_DCRST;
  SCB_VTOR = VECTORS; /* before the remap, so that an NMI never goes through the journal */
  from_ram(base == fota_layout.slot[1] ? MEMRMP_FB : 0, proof, &SYSCFG_MEMRMP, VECTORS);
  fota_port_halt();
}
