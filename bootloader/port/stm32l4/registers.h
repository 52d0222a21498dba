/* STM32L47x/48x/49x registers that this port uses (RM0351), and nothing more. */
#ifndef FOTA_STM32L4_REGISTERS_H
#define FOTA_STM32L4_REGISTERS_H

#define USART_BASE 0x40004400 /* USART2 */
#define RNG_BASE 0x50060800
#define GPIO_BASE 0x48000000
#include "port/stm32/cells.h"

enum { CORE_MHZ = 48 };

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

/* ARMv7-M MPU: the base names its region; normal memory, any access to data */
#define MPU_RASR REG(0xe000eda0)
#define RBAR(base, region) ((base) | BIT(4) | (region))
#define RASR(log2_size) (3u << 24 | BIT(17) | ((uint32_t)(log2_size) - 1) << 1 | 1u)
#define RASR_XN BIT(28)

#define SYSCFG_MEMRMP REG(0x40010000)
#define MEMRMP_FB BIT(8)

#endif
