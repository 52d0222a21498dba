/* STM32U575/U585 as this firmware runs it: 16 MHz from HSI16, which voltage range and wait states
 * of reset allow; random numbers from HSI48; the instruction cache off, as the flash driver wants
 * it (confirm on silicon how much it would give). The bootloader has left the chip as after a
 * reset. */
#include "port/stm32u5/registers.h"
#include "start.h"
#include "stm32/counter.h"

enum { BAUD_115200 = 139 }; /* 16 MHz / 115200 */

void fota_firmware_start(void) {
  RCC_CR |= CR_HSI_ON;
  while ((RCC_CR & CR_HSI_READY) != CR_HSI_READY) {
  }
  RCC_CFGR1 = CFGR1_HSI16;
  RCC_AHB2ENR = AHB2_SRAM | AHB2_GPIOA | AHB2_GPIOB | AHB2_RNG;
  RCC_APB1ENR = APB1_I2C1 | APB1_TIM2;
  RCC_APB2ENR = APB2_USART1;
  (void)RCC_APB2ENR; /* a clock is on two cycles after the write */
  fota_count();
  GPIOA_AFRH = 7u << 4; /* PA9 = USART1_TX */
  GPIOA_MODER = (0xabffffffu & ~(3u << 18)) | 2u << 18;
  GPIOB_OTYPER = BIT(8) | BIT(9);
  GPIOB_AFRH = 0x44; /* PB8, PB9 = I2C1 */
  USART_BRR = BAUD_115200;
  USART_CR1 = USART_UE | USART_TE;
  RNG_CR |= RNG_RNGEN;
}
