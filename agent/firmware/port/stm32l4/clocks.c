/* STM32L476 as this firmware runs it: 48 MHz from MSI, which also feeds the random number
 * generator; USART2 and I2C1 from HSI16, so that their rates do not depend on it; TIM2 counts
 * milliseconds. The bootloader has left the chip as after a reset. */
// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mphal.h"

#include "port/stm32/chip.h"
#include "port/stm32l4/registers.h"
#include "start.h"
// clang-format on

#define APB1_TIM2 BIT(0)
#define TIM2_CR1 REG(0x40000000)
#define TIM2_EGR REG(0x40000014)
#define TIM2_CNT REG(0x40000024)
#define TIM2_PSC REG(0x40000028)
#define TIM_CEN BIT(0)
#define TIM_UG BIT(0)

enum { BAUD_115200 = 139 }; /* 16 MHz / 115200 */

void fota_firmware_start(void) {
  /* two wait states; the data cache stays off: it would blame a torn cell's fault on its neighbours
   */
  FLASH_ACR = ACR_ICEN | ACR_PRFTEN | 2;
  while ((FLASH_ACR & ACR_LATENCY) != 2) {
  }
  RCC_CR = CR_MSION | CR_MSIRGSEL | CR_MSI_48MHZ | CR_HSION;
  while ((RCC_CR & CR_HSIRDY) == 0) {
  }
  RCC_CCIPR = CCIPR_USART2_HSI | CCIPR_I2C1_HSI | CCIPR_CLK48_MSI;
  RCC_AHB2ENR = AHB2_GPIOA | AHB2_GPIOB | AHB2_RNG;
  RCC_APB1ENR = APB1_USART2 | APB1_I2C1 | APB1_TIM2;
  RCC_APB2ENR = APB2_SYSCFG;
  (void)RCC_APB2ENR; /* a clock is on two cycles after the write */
  TIM2_PSC = CORE_MHZ * 1000 - 1;
  TIM2_EGR = TIM_UG; /* takes the prescaler over */
  TIM2_CR1 = TIM_CEN;
  SCB_DEMCR = DEMCR_TRCENA;
  DWT_CTRL = 1;
  GPIOA_AFRL = 7u << 8; /* PA2 = USART_TX */
  GPIOA_MODER = (0xabffffffu & ~(3u << 4)) | 2u << 4;
  GPIOB_OTYPER = BIT(8) | BIT(9);
  GPIOB_AFRH = 0x44; /* PB8, PB9 = I2C1 */
  USART_BRR = BAUD_115200;
  USART_CR1 = USART_UE | USART_TE;
  RNG_CR = RNG_RNGEN;
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
