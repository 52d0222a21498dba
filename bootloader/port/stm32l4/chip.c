/* STM32L476: clocks, time, console, random numbers, watchdog. */
#include "port/stm32l4/chip.h"

#include "port.h"
#include "port/stm32l4/journal_flash.h"
#include "port/stm32l4/memory.h"
#include "port/stm32l4/registers.h"

enum {
  MHZ = 48,
  BAUD_115200 = 139,    /* 16 MHz / 115200 */
  RNG_PATIENCE = 10000, /* register reads; a word takes about 4 us */
  IWDG_HZ = 125,        /* LSI / 256 */
};

void fota_chip_start(void) {
  FLASH_ACR =
      ACR_ICEN | ACR_PRFTEN | 2; /* two wait states; data cache off: journal_flash.c says why */
  while ((FLASH_ACR & ACR_LATENCY) != 2) {
  }
  RCC_CR = CR_MSION | CR_MSIRGSEL | CR_MSI_48MHZ | CR_HSION;
  while ((RCC_CR & CR_HSIRDY) == 0) {
  }
  RCC_CCIPR = CCIPR_USART2_HSI | CCIPR_I2C1_HSI | CCIPR_CLK48_MSI;
  RCC_AHB2ENR = AHB2_GPIOA | AHB2_GPIOB | AHB2_RNG;
  RCC_APB1ENR = APB1_USART2 | APB1_I2C1;
  RCC_APB2ENR = APB2_SYSCFG;
  (void)RCC_APB2ENR; /* a clock is on two cycles after the write */
  SCB_DEMCR = DEMCR_TRCENA;
  DWT_CTRL = 1;
  GPIOA_AFRL = 7u << 8; /* PA2 = USART2_TX */
  GPIOA_MODER = (0xabffffffu & ~(3u << 4)) | 2u << 4;
  GPIOB_OTYPER = BIT(8) | BIT(9);
  GPIOB_AFRH = 0x44; /* PB8, PB9 = I2C1 */
  USART2_BRR = BAUD_115200;
  USART2_CR1 = USART_UE | USART_TE;
  RNG_CR = RNG_RNGEN;
}

/* Everything above taken back; after it the core runs at 4 MHz as after reset. */
void fota_chip_stop(void) {
  while ((USART2_ISR & USART_TC) == 0) {
  }
  RCC_AHB2RSTR = AHB2_GPIOA | AHB2_GPIOB | AHB2_RNG;
  RCC_APB1RSTR = APB1_USART2 | APB1_I2C1;
  RCC_AHB2RSTR = 0;
  RCC_APB1RSTR = 0;
  RCC_AHB2ENR = 0;
  RCC_APB1ENR = 0;
  RCC_CCIPR = 0;
  RCC_CR = CR_MSION | CR_MSIRGSEL | CR_MSI_4MHZ;
  SYST_CSR = 0;
  SYST_RVR = 0;
  SYST_CVR = 0;
  DWT_CTRL = 0;
  SCB_DEMCR = 0;
}

uint32_t fota_port_time_us(void) {
  return DWT_CYCCNT / MHZ;
}

void fota_port_wait_us(uint32_t us) {
  const uint32_t start = DWT_CYCCNT;
  SYST_RVR = us * MHZ - 1;
  SYST_CVR = 0;
  SYST_CSR = SYST_ON;
  /* WFI wakes though PRIMASK is set. A timer that does not run would never wake it: rather too
   * short a wait than one for ever. */
  while ((SCB_ICSR & ICSR_PENDSTSET) == 0 && (SYST_CSR & SYST_ENABLE) != 0)
    __asm__ volatile("wfi");
  SYST_CSR = 0;
  SCB_ICSR = ICSR_PENDSTCLR;
  DWT_CYCCNT = start + us * MHZ; /* it stood still while the core slept */
}

fota_status_t fota_port_random(uint8_t random[32]) {
  uint32_t last = 0; /* a stuck source repeats itself, or is dead at zero */
  for (uint32_t i = 0; i < 32; i += 4) {
    uint32_t patience = RNG_PATIENCE;
    uint32_t status;
    while (((status = RNG_SR) & (RNG_DRDY | RNG_FAULT)) == 0 && --patience != 0) {
    }
    const uint32_t word = RNG_DR;
    if ((status & (RNG_DRDY | RNG_FAULT)) != RNG_DRDY || word == last) return FOTA_RANDOM;
    for (uint32_t j = 0; j < 4; j++)
      random[i + j] = (uint8_t)(word >> (8 * j));
    last = word;
  }
  return FOTA_OK;
}

bool fota_port_ecc_fault(void) {
  return fota_flash_ecc_fault();
}

void fota_port_put(const char *text) {
  for (; *text != '\0'; text++) {
    while ((USART2_ISR & USART_TXE) == 0) {
    }
    USART2_TDR = (uint8_t)*text;
  }
}

void fota_port_watchdog(uint32_t seconds) {
  IWDG_KR = 0xcccc; /* starts it, and LSI with it */
  IWDG_KR = 0x5555;
  IWDG_PR = 6; /* LSI / 256 */
  IWDG_RLR = seconds * IWDG_HZ - 1;
  while (IWDG_SR != 0) {
  }
  IWDG_KR = 0xaaaa;
}

noreturn void fota_port_halt(void) {
  for (;;) {
    /* the second branch is for the fault that skips the first */
    __asm__ volatile("0: wfi\n\tb 0b\n\tb 0b");
  }
}
