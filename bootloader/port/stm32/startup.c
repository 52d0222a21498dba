/* Vector table and reset. */
#include <string.h>

#include "boot.h"
#include "chip.h"
#include "journal_flash.h"
#include "port.h"
#include "registers.h"

extern uint8_t linker_stack_top[], linker_data_start[], linker_data_end[], linker_data_load[],
    linker_bss_start[], linker_bss_end[];

/* Also the handler of any fault: what led there was not good, and a hang would be for ever. */
noreturn void fota_chip_restart(void) {
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}

/* Brings the function in RAM. Not inlined: each call finds place and length anew. */
__attribute__((noinline)) static void load_data(void) {
  memcpy(linker_data_start, linker_data_load, (size_t)(linker_data_end - linker_data_start));
}

noreturn void fota_reset(void);
noreturn void fota_reset(void) {
  __asm__ volatile("cpsid i");
  load_data();
  load_data(); /* twice: an application may have left code of its own there */
  memset(linker_bss_start, 0, (size_t)(linker_bss_end - linker_bss_start));
  const uint32_t cause = RCC_CSR >> 24;
  RCC_CSR = CSR_RMVF;
  fota_chip_start();
  fota_boot((uint8_t)cause);
}

typedef union vector {
  const void *stack;
  void (*handler)(void);
} vector_t;

__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    [0] = {.stack = linker_stack_top},     [1] = {.handler = fota_reset},
    [2] = {.handler = fota_flash_nmi},     [3] = {.handler = fota_chip_restart},
    [4] = {.handler = fota_chip_restart},  [5] = {.handler = fota_chip_restart},
    [6] = {.handler = fota_chip_restart},  [11] = {.handler = fota_chip_restart},
    [12] = {.handler = fota_chip_restart}, [14] = {.handler = fota_chip_restart},
    [15] = {.handler = fota_chip_restart},
};
