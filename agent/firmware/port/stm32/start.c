/* Where the bootloader starts the firmware on an STM32: vectors and memory. */
#include "start.h"

#include <string.h>

#include "journal_flash.h"
#include "port/stm32/chip.h"
#include "registers.h"

extern uint8_t linker_stack_top[], linker_data_start[], linker_data_end[], linker_data_load[],
    linker_bss_start[], linker_bss_end[];

noreturn void fota_chip_restart(void) {
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}

noreturn void fota_reset(void);
noreturn void fota_reset(void) {
  __asm__ volatile("cpsid i"); /* SysTick only wakes from WFI here */
  memcpy(linker_data_start, linker_data_load, (size_t)(linker_data_end - linker_data_start));
  memset(linker_bss_start, 0, (size_t)(linker_bss_end - linker_bss_start));
  fota_firmware_start();
  fota_run();
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
