/* STM32L476: what recovery needs of the chip. The button is PC13 to ground, as on the Nucleo board;
 * the console receives on PA3. */
#include "recovery/recovery_port.h"

#include "layout.h"
#include "port.h"
#include "port/stm32l4/journal_flash.h"
#include "port/stm32l4/memory.h"
#include "port/stm32l4/registers.h"

#define GPIOC_MODER REG(0x48000800)
#define GPIOC_PUPDR REG(0x4800080c)
#define GPIOC_IDR REG(0x48000810)

enum {
  MHZ = 48,
  AHB2_GPIOC = 1 << 2,
  CR3_OVRDIS = 1 << 12, /* a lost byte costs its frame, and nothing more */
  PA3 = 3,
  PC13 = 13,
  PULL_UP = 1,
  SETTLE_US = 100, /* a weak pull-up against the filter of a button */
  LOOK_US = 75,    /* shorter than a byte at 115,200 baud */
  LOOKS = 13,      /* make a millisecond */
};

bool fota_port_recovery_asked(void) {
  RCC_AHB2ENR |= AHB2_GPIOC;
  (void)RCC_AHB2ENR; /* a clock is on two cycles after the write */
  GPIOC_PUPDR = (uint32_t)PULL_UP << (2 * PC13);
  GPIOC_MODER &= ~(3u << (2 * PC13));
  fota_port_wait_us(SETTLE_US);
  const bool asked = (GPIOC_IDR & BIT(PC13)) == 0;
  RCC_AHB2RSTR = AHB2_GPIOC;
  RCC_AHB2RSTR = 0;
  RCC_AHB2ENR &= ~(uint32_t)AHB2_GPIOC;
  return asked;
}

void fota_port_listen(void) {
  while ((USART_ISR & USART_TC) == 0) {
  }
  GPIOA_PUPDR |= (uint32_t)PULL_UP << (2 * PA3); /* an open pin must not talk */
  GPIOA_AFRL |= 7u << (4 * PA3);
  GPIOA_MODER = (GPIOA_MODER & ~(3u << (2 * PA3))) | 2u << (2 * PA3);
  USART_CR1 = 0;
  USART_CR3 = CR3_OVRDIS;
  USART_CR1 = USART_UE | USART_TE | USART_RE;
}

/* The core sleeps between its looks. */
int fota_port_get(void) {
  int byte = -1;
  SYST_RVR = LOOK_US * MHZ - 1;
  SYST_CVR = 0;
  SYST_CSR = SYST_ON;
  for (int look = 0; look < LOOKS && byte < 0; look++) {
    if (USART_ISR & USART_RXNE) {
      byte = (int)(USART_RDR & 0xff);
    } else {
      while ((SCB_ICSR & ICSR_PENDSTSET) == 0)
        __asm__ volatile("wfi");
      SCB_ICSR = ICSR_PENDSTCLR;
    }
  }
  SYST_CSR = 0;
  SCB_ICSR = ICSR_PENDSTCLR;
  return byte;
}

/* Slot B lies behind the journal in the same bank, so the journal's driver erases it as well. */
static fota_status_t erase_b(const void *context, uint32_t offset) {
  (void)context;
  return fota_journal_bank1_runs.erase(NULL, SLOT_OFFSET + offset);
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

noreturn void fota_port_restart(void) {
  while ((USART_ISR & USART_TC) == 0) {
  }
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}
