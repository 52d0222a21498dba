/* The sample application on an STM32: start-up, console, ticks, as the chip is after reset. */
#include <string.h>

#include "hash.h"
#include "journal_flash.h"
#include "memory.h"
#include "port.h"
#include "port/stm32/sample_console.h"
#include "registers.h"
#include "sample/board.h"

enum {
  TICK = 400000, /* 0.1 s at 4 MHz */
  IMAGE = BANK_LOW + SLOT_OFFSET,
};

void board_start(void) {
  console_start();
  SYST_RVR = TICK - 1;
  SYST_CVR = 0;
  SYST_CSR = SYST_ON;
}

void board_put(char byte) {
  while ((USART_ISR & USART_TXE) == 0) {
  }
  USART_TDR = (uint8_t)byte;
}

int board_get(void) {
  return USART_ISR & USART_RXNE ? (int)(USART_RDR & 0xff) : -1;
}

void board_wait_tick(void) {
  while ((SCB_ICSR & ICSR_PENDSTSET) == 0)
    __asm__ volatile("wfi");
  SCB_ICSR = ICSR_PENDSTCLR;
}

noreturn void board_restart(void) {
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}

void fota_port_feed(void) {
  IWDG_KR = 0xaaaa; /* no effect unless the bootloader started it */
}

void board_image_digest(uint8_t digest[32]) {
  const uint8_t *image = (const uint8_t *)IMAGE;
  uint32_t img_size;
  uint32_t sizes;
  memcpy(&sizes, image + 8, 4); /* header size u16, protected area u16 */
  memcpy(&img_size, image + 12, 4);
  fota_hash(image, (sizes & 0xffff) + img_size + (sizes >> 16), digest);
}

extern uint8_t linker_stack_top[], linker_data_start[], linker_data_end[], linker_data_load[],
    linker_bss_start[], linker_bss_end[];

noreturn void app_reset(void);
noreturn void app_reset(void) {
  __asm__ volatile("cpsid i"); /* SysTick only wakes from WFI here */
  memcpy(linker_data_start, linker_data_load, (size_t)(linker_data_end - linker_data_start));
  memset(linker_bss_start, 0, (size_t)(linker_bss_end - linker_bss_start));
  app_main();
}

typedef union vector {
  const void *stack;
  void (*handler)(void);
} vector_t;

__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    [0] = {.stack = linker_stack_top}, [1] = {.handler = app_reset},
    [2] = {.handler = fota_flash_nmi}, [3] = {.handler = board_restart},
    [4] = {.handler = board_restart},  [5] = {.handler = board_restart},
    [6] = {.handler = board_restart},
};
