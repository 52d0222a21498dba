/* What every STM32 port does alike: time, console, random numbers, watchdog. */
#include "chip.h"
#include "journal_flash.h"
#include "port.h"
#include "registers.h"

enum {
  RNG_PATIENCE = 10000, /* register reads; a word takes about 4 us */
  IWDG_HZ = 125,        /* LSI / 256 */
};

uint32_t fota_port_time_us(void) {
  return DWT_CYCCNT / CORE_MHZ;
}

void fota_port_wait_us(uint32_t us) {
  const uint32_t start = DWT_CYCCNT;
  SYST_RVR = us * CORE_MHZ - 1;
  SYST_CVR = 0;
  SYST_CSR = SYST_ON;
  /* WFI wakes though PRIMASK is set. A timer that does not run would never wake it: rather too
   * short a wait than one for ever. */
  while ((SCB_ICSR & ICSR_PENDSTSET) == 0 && (SYST_CSR & SYST_ENABLE) != 0)
    __asm__ volatile("wfi");
  SYST_CSR = 0;
  SCB_ICSR = ICSR_PENDSTCLR;
  DWT_CYCCNT = start + us * CORE_MHZ; /* it stood still while the core slept */
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
    while ((USART_ISR & USART_TXE) == 0) {
    }
    USART_TDR = (uint8_t)*text;
  }
}

void fota_port_watchdog(uint32_t seconds) {
  IWDG_KR = 0xcccc; /* starts it, and LSI with it */
  IWDG_KR = 0x5555;
  IWDG_PR = 6; /* LSI / 256 */
  IWDG_RLR = seconds * IWDG_HZ - 1;
  while (IWDG_SR != 0) {
  }
  fota_port_feed();
}

void fota_port_feed(void) {
  IWDG_KR = 0xaaaa;
}

noreturn void fota_port_halt(void) {
  for (;;) {
    /* the second branch is for the fault that skips the first */
    __asm__ volatile("0: wfi\n\tb 0b\n\tb 0b");
  }
}
