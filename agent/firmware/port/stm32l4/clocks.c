/* STM32L476 as this firmware runs it: 48 MHz from MSI, which also feeds the random number
 * generator; USART2 and I2C1 from HSI16, so that their rates do not depend on it; TIM2 counts
 * milliseconds. The bootloader has left the chip as after a reset. */
#include "port/stm32l4/registers.h"
#include "start.h"
#include "stm32/counter.h"

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
  fota_count();
  GPIOA_AFRL = 7u << 8; /* PA2 = USART_TX */
  GPIOA_MODER = (0xabffffffu & ~(3u << 4)) | 2u << 4;
  GPIOB_OTYPER = BIT(8) | BIT(9);
  GPIOB_AFRH = 0x44; /* PB8, PB9 = I2C1 */
  USART_BRR = BAUD_115200;
  USART_CR1 = USART_UE | USART_TE;
  RNG_CR = RNG_RNGEN;
}
