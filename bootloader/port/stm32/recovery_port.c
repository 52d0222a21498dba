/* What recovery needs of an STM32 beside its flash: the button on PC13, the console's other half,
 * and the reset. Which pins they are, and what a held button reads as, recovery_pins.h of the port
 * says. */
#include "recovery/recovery_port.h"

#include "port.h"
#include "recovery_pins.h"
#include "registers.h"

#define GPIOA_AFR_RX REG(GPIO_BASE + 0x020 + RX_PIN / 8 * 4)
#define GPIOC_MODER REG(GPIO_BASE + 0x800)
#define GPIOC_PUPDR REG(GPIO_BASE + 0x80c)
#define GPIOC_IDR REG(GPIO_BASE + 0x810)

enum {
  AHB2_GPIOC = 1 << 2,
  CR3_OVRDIS = 1 << 12, /* a lost byte costs its frame, and nothing more */
  BUTTON = 13,
  PULL_UP = 1,
  SETTLE_US = 100, /* a weak pull against the filter of a button */
  LOOK_US = 75,    /* shorter than a byte at 115,200 baud */
  LOOKS = 13,      /* make a millisecond */
};

bool fota_port_recovery_asked(void) {
  RCC_AHB2ENR |= AHB2_GPIOC;
  (void)RCC_AHB2ENR; /* a clock is on two cycles after the write */
  GPIOC_PUPDR = (uint32_t)BUTTON_PULL << (2 * BUTTON);
  GPIOC_MODER &= ~(3u << (2 * BUTTON));
  fota_port_wait_us(SETTLE_US);
  const bool asked = (GPIOC_IDR >> BUTTON & 1) == BUTTON_HELD;
  RCC_AHB2RSTR = AHB2_GPIOC;
  RCC_AHB2RSTR = 0;
  RCC_AHB2ENR &= ~(uint32_t)AHB2_GPIOC;
  return asked;
}

void fota_port_listen(void) {
  while ((USART_ISR & USART_TC) == 0) {
  }
  GPIOA_PUPDR |= (uint32_t)PULL_UP << (2 * RX_PIN); /* an open pin must not talk */
  GPIOA_AFR_RX |= 7u << (4 * (RX_PIN % 8));
  GPIOA_MODER = (GPIOA_MODER & ~(3u << (2 * RX_PIN))) | 2u << (2 * RX_PIN);
  USART_CR1 = 0;
  USART_CR3 = CR3_OVRDIS;
  USART_CR1 = USART_UE | USART_TE | USART_RE;
}

/* The core sleeps between its looks. */
int fota_port_get(void) {
  int byte = -1;
  SYST_RVR = LOOK_US * CORE_MHZ - 1;
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

noreturn void fota_port_restart(void) {
  while ((USART_ISR & USART_TC) == 0) {
  }
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}
