/* The jump: the slot that runs is mapped already (fota_port_map), so it is plain. */
#include "hardened.h"
#include "port.h"
#include "port/stm32/chip.h"
#include "port/stm32u5/journal_flash.h"
#include "port/stm32u5/memory.h"
#include "port/stm32u5/registers.h"

#define VECTORS (BANK_LOW + SLOT_OFFSET + 0x200)

const fota_flash_t *const fota_port_journal = &fota_journal_flash;

/* `proof` is of the bytes that were hashed where the core read them: only those that are mapped low
 * pass, and nothing remaps flash between the hash and here. */
noreturn void fota_port_boot(const uint8_t *base, uint32_t proof) {
  (void)base;
  const uint32_t expected = FOTA_PROOF(BANK_LOW + SLOT_OFFSET);
  const uint32_t again = fota_launder(proof);
  fota_chip_stop();
  SCB_VTOR = VECTORS;
  barrier();
  if (proof == expected) {
    if (again == fota_launder(expected)) {
      MPU_CTRL = 0; /* only here may a slot execute */
      MPU_RLAR = 0;
      barrier();
      __asm__ volatile(
          "ldrd r0, r1, [%0]\n\t"
          "msr msp, r0\n\t"
          "cpsie i\n\t"
          "bx r1\n\t"
          "udf #0" ::"r"(VECTORS)
          : "r0", "r1", "memory");
    }
  }
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}
