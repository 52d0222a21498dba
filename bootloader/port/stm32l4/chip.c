/* STM32L476: clocks and pins. */
#include "port/stm32/chip.h"

#include "port/stm32l4/registers.h"

enum { BAUD_115200 = 139 }; /* 16 MHz / 115200 */

/* Nothing executes but the bootloader: its 16 KiB of flash, and its function in RAM. That has the
 * 128 bytes of its region for itself (bootloader.ld). Code and SRAM areas are 1 GiB, the alias of
 * flash at 0 with them. The highest regions, which go first: whether those of an application
 * survive a reset is not for us to find out. */
static void fence(void) {
  MPU_RBAR = RBAR(0, 5);
  MPU_RASR = RASR_XN | RASR(30);
  MPU_RBAR = RBAR(0x08000000, 6);
  MPU_RASR = RASR(14);
  MPU_RBAR = RBAR(0x20000400, 7); /* bootloader.ld */
  MPU_RASR = RASR(7);
  MPU_CTRL = MPU_ON;
  barrier();
}

void fota_chip_start(void) {
  fence();
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
  GPIOA_AFRL = 7u << 8; /* PA2 = USART_TX */
  GPIOA_MODER = (0xabffffffu & ~(3u << 4)) | 2u << 4;
  GPIOB_OTYPER = BIT(8) | BIT(9);
  GPIOB_AFRH = 0x44; /* PB8, PB9 = I2C1 */
  USART_BRR = BAUD_115200;
  USART_CR1 = USART_UE | USART_TE;
  RNG_CR = RNG_RNGEN;
}

/* Everything above taken back; after it the core runs at 4 MHz as after reset. */
void fota_chip_stop(void) {
  while ((USART_ISR & USART_TC) == 0) {
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
