/* Time of an STM32: TIM2, which goes on counting while the core sleeps. */
#include "stm32/counter.h"

// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mphal.h"

#include "port/stm32/chip.h"
// clang-format on

#define TIM2_CR1 REG(0x40000000)
#define TIM2_EGR REG(0x40000014)
#define TIM2_CNT REG(0x40000024)
#define TIM2_PSC REG(0x40000028)
#define TIM_CEN BIT(0)
#define TIM_UG BIT(0)

void fota_count(void) {
  TIM2_PSC = CORE_MHZ * 1000 - 1;
  TIM2_EGR = TIM_UG; /* takes the prescaler over */
  TIM2_CR1 = TIM_CEN;
  SCB_DEMCR = DEMCR_TRCENA;
  DWT_CTRL = 1;
}

uint64_t fota_ticks_ms(void) {
  static uint64_t total;
  static uint32_t last;
  const uint32_t now = TIM2_CNT;
  total += now - last;
  last = now;
  return total;
}

void fota_feed(void) {
  IWDG_KR = 0xaaaa;
  (void)fota_ticks_ms(); /* who keeps the device alive keeps its time, too */
}

uint32_t fota_longest_wait_ms(void) {
  return (IWDG_RLR + 1) * (4u << IWDG_PR) / 64; /* half of that many clocks of LSI, 32 kHz */
}
