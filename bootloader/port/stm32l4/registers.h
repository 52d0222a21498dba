/* STM32L47x/48x/49x registers that this port uses (RM0351), and nothing more. */
#ifndef FOTA_STM32L4_REGISTERS_H
#define FOTA_STM32L4_REGISTERS_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define BIT(n) (1u << (n))

#define FLASH_ACR REG(0x40022000)
#define FLASH_KEYR REG(0x40022008)
#define FLASH_SR REG(0x40022010)
#define FLASH_CR REG(0x40022014)
#define FLASH_ECCR REG(0x40022018)
#define ACR_LATENCY 7u
#define ACR_PRFTEN BIT(8)
#define ACR_ICEN BIT(9)
#define ACR_DCEN BIT(10)
#define ACR_ICRST BIT(11)
#define ACR_DCRST BIT(12)
#define ACR_RESET (ACR_ICEN | ACR_DCEN) /* value after reset */
#define SR_ERRORS 0xc3fau               /* every error flag, write 1 to clear */
#define SR_BSY BIT(16)
#define CR_PG BIT(0)
#define CR_PER BIT(1)
#define CR_PNB(n) ((uint32_t)(n) << 3)
#define CR_BKER BIT(11)
#define CR_STRT BIT(16)
#define CR_OPTLOCK BIT(30) /* stays set: option bytes are not touched here */
#define CR_LOCK BIT(31)
#define ECCR_ECCD BIT(31)

#define RCC_CR REG(0x40021000)
#define RCC_AHB2RSTR REG(0x4002102c)
#define RCC_APB1RSTR REG(0x40021038)
#define RCC_AHB2ENR REG(0x4002104c)
#define RCC_APB1ENR REG(0x40021058)
#define RCC_APB2ENR REG(0x40021060)
#define RCC_CCIPR REG(0x40021088)
#define RCC_CSR REG(0x40021094)
#define CR_MSION BIT(0)
#define CR_MSIRGSEL BIT(3)
#define CR_MSI_4MHZ (6u << 4)
#define CR_MSI_48MHZ (11u << 4)
#define CR_HSION BIT(8)
#define CR_HSIRDY BIT(10)
#define AHB2_GPIOA BIT(0)
#define AHB2_GPIOB BIT(1)
#define AHB2_RNG BIT(18)
#define APB1_USART2 BIT(17)
#define APB1_I2C1 BIT(21)
#define APB2_SYSCFG BIT(0)
#define CSR_RMVF BIT(23)
/* kernel clocks: USART2 and I2C1 from HSI16, 48 MHz domain from MSI */
#define CCIPR_USART2_HSI (2u << 2)
#define CCIPR_I2C1_HSI (2u << 12)
#define CCIPR_CLK48_MSI (3u << 26)

#define SYSCFG_MEMRMP REG(0x40010000)
#define MEMRMP_FB BIT(8)

#define GPIOA_MODER REG(0x48000000)
#define GPIOA_AFRL REG(0x48000020)
#define GPIOB_MODER REG(0x48000400)
#define GPIOB_OTYPER REG(0x48000404)
#define GPIOB_BSRR REG(0x48000418)
#define GPIOB_AFRH REG(0x48000424)

#define USART2_CR1 REG(0x40004400)
#define USART2_BRR REG(0x4000440c)
#define USART2_ISR REG(0x4000441c)
#define USART2_RDR REG(0x40004424)
#define USART2_TDR REG(0x40004428)
#define USART_UE BIT(0)
#define USART_RE BIT(2)
#define USART_TE BIT(3)
#define USART_RXNE BIT(5)
#define USART_TC BIT(6)
#define USART_TXE BIT(7)

#define I2C1_CR1 REG(0x40005400)
#define I2C1_CR2 REG(0x40005404)
#define I2C1_TIMINGR REG(0x40005410)
#define I2C1_ISR REG(0x40005418)
#define I2C1_ICR REG(0x4000541c)
#define I2C1_RXDR REG(0x40005424)
#define I2C1_TXDR REG(0x40005428)
#define I2C_PE BIT(0)
#define I2C_RD_WRN BIT(10)
#define I2C_START BIT(13)
#define I2C_AUTOEND BIT(25)
#define I2C_TXIS BIT(1)
#define I2C_RXNE BIT(2)
#define I2C_NACKF BIT(4)
#define I2C_STOPF BIT(5)
#define I2C_BERR BIT(8)
#define I2C_ARLO BIT(9)
#define I2C_BUSY BIT(15)
#define I2C_FLAGS 0x3f38u       /* every flag that ICR clears */
#define I2C_100_KHZ 0x30420f13u /* TIMINGR with a 16 MHz kernel clock */
#define I2C_400_KHZ 0x10320309u

#define RNG_CR REG(0x50060800)
#define RNG_SR REG(0x50060804)
#define RNG_DR REG(0x50060808)
#define RNG_RNGEN BIT(2)
#define RNG_DRDY BIT(0)
#define RNG_FAULT (BIT(1) | BIT(2) | BIT(5) | BIT(6)) /* CECS, SECS, CEIS, SEIS */

#define IWDG_KR REG(0x40003000)
#define IWDG_PR REG(0x40003004)
#define IWDG_RLR REG(0x40003008)
#define IWDG_SR REG(0x4000300c)

#define SYST_CSR REG(0xe000e010)
#define SYST_RVR REG(0xe000e014)
#define SYST_CVR REG(0xe000e018)
#define SYST_ENABLE BIT(0)
#define SYST_ON 7u /* core clock, pend on zero, run */
#define SCB_ICSR REG(0xe000ed04)
#define SCB_VTOR REG(0xe000ed08)
#define SCB_AIRCR REG(0xe000ed0c)
#define SCB_DEMCR REG(0xe000edfc)
#define DWT_CTRL REG(0xe0001000)
#define DWT_CYCCNT REG(0xe0001004)
#define ICSR_PENDSTCLR BIT(25)
#define ICSR_PENDSTSET BIT(26)
#define AIRCR_RESET 0x05fa0004u
#define DEMCR_TRCENA BIT(24)

static inline void barrier(void) {
  __asm__ volatile("dsb\n\tisb" ::: "memory");
}

#endif
