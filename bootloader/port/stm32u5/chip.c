/* STM32U575/U585: clocks and pins. The core runs at 16 MHz from HSI16, which the voltage range and
 * the wait states of reset allow, and which the buses take as well: little to set up and to take
 * back. */
#include "port/stm32/chip.h"

#include "port/stm32u5/memory.h"
#include "port/stm32u5/registers.h"

enum {
  BAUD_115200 = 139, /* 16 MHz / 115200 */
  OURS = AHB2_GPIOA | AHB2_GPIOB | AHB2_RNG,
};

/* Nothing executes but the bootloader and what the factory wrote behind it (memory.h): region 0 is
 * all of code and SRAM areas from the slot on. */
static void fence(void) {
  for (uint32_t region = 8; region-- != 0;) { /* regions must not overlap: none of an application */
    MPU_RNR = region;
    MPU_RLAR = 0;
  }
  MPU_MAIR0 = MAIR_NORMAL;
  MPU_RBAR = (BANK_LOW + SLOT_OFFSET) | RBAR_RW_XN;
  MPU_RLAR = 0x3fffffe0 | 1u;
  MPU_CTRL = MPU_ON;
  barrier();
}

void fota_chip_start(void) {
  fence();
  RCC_CR |= CR_HSI_ON;
  while ((RCC_CR & CR_HSI_READY) != CR_HSI_READY) {
  }
  RCC_CFGR1 = CFGR1_HSI16;
  RCC_AHB2ENR = AHB2_SRAM | OURS;
  RCC_APB1ENR = APB1_I2C1;
  RCC_APB2ENR = APB2_USART1;
  (void)RCC_APB2ENR; /* a clock is on two cycles after the write */
  SCB_DEMCR = DEMCR_TRCENA;
  DWT_CTRL = 1;
  GPIOA_AFRH = 7u << 4; /* PA9 = USART1_TX */
  GPIOA_MODER = (0xabffffffu & ~(3u << 18)) | 2u << 18;
  GPIOB_OTYPER = BIT(8) | BIT(9);
  GPIOB_AFRH = 0x44; /* PB8, PB9 = I2C1 */
  USART_BRR = BAUD_115200;
  USART_CR1 = USART_UE | USART_TE;
  RNG_CR |= RNG_RNGEN; /* with the noise source as reset leaves it: confirm on silicon */
}

/* Everything above taken back; after it the core runs from MSI at 4 MHz as after reset. */
void fota_chip_stop(void) {
  while ((USART_ISR & USART_TC) == 0) {
  }
  RCC_AHB2RSTR = OURS;
  RCC_APB1RSTR = APB1_I2C1;
  RCC_APB2RSTR = APB2_USART1;
  RCC_AHB2RSTR = 0;
  RCC_APB1RSTR = 0;
  RCC_APB2RSTR = 0;
  RCC_AHB2ENR = AHB2_SRAM;
  RCC_APB1ENR = 0;
  RCC_APB2ENR = 0;
  RCC_CFGR1 = 0;
  RCC_CR &= ~CR_HSI_ON;
  SYST_CSR = 0;
  SYST_RVR = 0;
  SYST_CVR = 0;
  DWT_CTRL = 0;
  SCB_DEMCR = 0;
}
